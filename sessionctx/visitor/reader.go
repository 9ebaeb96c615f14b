package visitor

import (
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// Caps on what is kept of a request, in bytes.
const (
	maxUserAgent = 512
	maxURI       = 1024
)

// Geography knows where an address is.
type Geography interface {
	// Locate tells where the visitor of r is; trusted says that the request
	// came from a proxy whose headers count, ip is the zero Addr if unknown.
	// False means that this source does not know the country. What it knows
	// none the less (a continent) may be in the Geo. It is called for every
	// page, by many goroutines at once, and must not wait for I/O.
	Locate(r *http.Request, trusted bool, ip netip.Addr) (sessionctx.Geo, bool)
}

// Reader reads requests. Its zero value works, with the default lists. The
// fields must not change after first use; a Reader must not be copied then.
type Reader struct {
	// Geo are the sources of places, in order; the first that knows wins.
	Geo []Geography
	// AlsoEU are countries, by ISO 3166-1 alpha-2 code, whose visitors' Geo has
	// IsEU set as if they were members; see EUIncludes.
	AlsoEU []string
	// ClickIDs are the parameters that carry click ids, by the name that
	// the advertising network sends ("gclid", "ScCid"). Nil means
	// DefaultClickIDs.
	ClickIDs []string
	// IgnoreReferrers are domains (with their subdomains) that a visitor
	// only passes through, as payment and sign-in pages. Nil means
	// DefaultIgnoreReferrers, an empty list means none.
	IgnoreReferrers []string
	// KeepParams are further query parameters to keep in URLs.
	KeepParams []string
	// Crawlers checks those that name themselves; nil checks none.
	Crawlers *Verifier
	// Datacenters are where programs live, CorporateProxies the exits that
	// companies' people share; nil knows none.
	Datacenters, CorporateProxies *RangeFile
	// CacheSize is how many user agents and how many languages are
	// remembered at most. Zero means 4096: common are hundreds, now that
	// browsers send reduced user agents, and a flood that fills it with the
	// longest takes about 5 MB in 10,000 objects.
	CacheSize int

	once sync.Once
	st   *state
}

// state is what a Reader works out once from its settings.
type state struct {
	params    *paramSet
	clickIDs  []string // by column
	ignored   map[string]struct{}
	alsoEU    map[string]struct{}
	agents    *cache[agentKey, agent]
	languages *cache[string, string]
}

// Request is one request with what the server knows about it.
type Request struct {
	HTTP *http.Request
	// OriginalURL is the URL before any rewrite; nil means HTTP.URL.
	OriginalURL *url.URL
	// ClientIP is the visitor's address, the zero Addr if unknown.
	ClientIP netip.Addr
	// TrustedProxy says that the peer is a proxy whose headers count.
	TrustedProxy bool
	// OwnHosts reports whether a host (lower case, no port) belongs to the
	// same operator, so that a visitor coming from it has no referrer. The
	// request's own host always belongs. Nil means no others.
	OwnHosts func(host string) bool
	// Now becomes the touch's time.
	Now time.Time
}

// Read tells what q tells. It may be called by many goroutines at once.
func (rd *Reader) Read(q Request) sessionctx.Facts {
	st := rd.state()
	r, h := q.HTTP, q.HTTP.Header
	u := q.OriginalURL
	if u == nil {
		u = r.URL
	}

	var f sessionctx.Facts
	f.ClientIP = q.ClientIP.Unmap().WithZone("")
	f.UserAgent = sessionctx.CleanText(field(h, "User-Agent"), maxUserAgent)
	f.Language = st.language(acceptLanguage(h))
	f.Scheme, f.Host = Origin(r, q.TrustedProxy)
	path := u.EscapedPath()
	f.URI = cutURL(path, maxURI)
	f.Touch = st.touch(path, u.RawQuery, q.Now)
	referer := field(h, "Referer")
	f.Touch.Referrer, f.FromWithin = rd.referrer(referer, hostname(f.Host), q.OwnHosts)
	f.Touch = f.Touch.Clean()
	f.Geo = rd.locate(r, q.TrustedProxy, f.ClientIP)
	if _, also := st.alsoEU[f.Geo.Country]; also {
		f.Geo.IsEU = true
	}
	f.Fetch = fetchMetadata(h)
	if referer == "" { // left out by the page's Referrer-Policy
		f.FromWithin = f.Fetch.Site == "same-origin"
	}
	f.Purpose = purpose(r, &f.Fetch)
	f.GPC = field(h, "Sec-Gpc") == "1"
	f.DNT = field(h, "Dnt") == "1"

	a := st.agent(f.UserAgent, h)
	f.Device = refine(a.device, h)
	f.Bot = rd.bot(r, q.TrustedProxy, &f, a)
	return f
}

// TouchFromURL is the touch of a page known by its URL only, as where the
// context is asked for by a script whose Referer names the page. Its referrer
// is empty: a server that did not see the page's request cannot know it.
func (rd *Reader) TouchFromURL(pageURL string, now time.Time) sessionctx.Touch {
	p := splitURL(pageURL)
	return rd.state().touch(p.path, p.query, now).Clean()
}

// ClientTouches reads what a client reports by the reader's lists. host is the
// request's host[:port]; own is as Request.OwnHosts.
func (rd *Reader) ClientTouches(host string, own func(host string) bool) sessionctx.ClientTouches {
	return sessionctx.ClientTouches{
		ClickIDs:    rd.state().clickIDs,
		LandingPage: func(page string) string { return rd.TouchFromURL(page, time.Time{}).LandingPage },
		Referrer: func(referrer string) string {
			r, _ := rd.referrer(referrer, hostname(host), own)
			return r
		},
	}
}

// CampaignURL is the function of that name with the reader's own lists.
func (rd *Reader) CampaignURL(rawURL string) string {
	return rd.state().params.reduce(rawURL)
}

func (rd *Reader) state() *state {
	rd.once.Do(func() {
		clickIDs, ignore, size := rd.ClickIDs, rd.IgnoreReferrers, rd.CacheSize
		if clickIDs == nil {
			clickIDs = defaultClickIDs
		}
		if ignore == nil {
			ignore = defaultIgnoreReferrers
		}
		if size <= 0 {
			size = 4096
		}
		rd.st = &state{
			params:    newParamSet(clickIDs, rd.KeepParams),
			ignored:   domainSet(ignore),
			alsoEU:    make(map[string]struct{}),
			agents:    newCache[agentKey, agent](size),
			languages: newCache[string, string](size),
		}
		for _, code := range rd.AlsoEU {
			rd.st.alsoEU[code] = struct{}{}
		}
		for _, p := range rd.st.params.list {
			if p.kind == paramClickID {
				rd.st.clickIDs = append(rd.st.clickIDs, p.column)
			}
		}
	})
	return rd.st
}

// locate asks the sources in turn. A source that knows only the continent is
// remembered for the case that none knows the country.
func (rd *Reader) locate(r *http.Request, trusted bool, ip netip.Addr) sessionctx.Geo {
	var rest sessionctx.Geo
	for _, source := range rd.Geo {
		g, ok := source.Locate(r, trusted, ip)
		if ok = ok && completeGeo(&g); ok {
			return g
		}
		if rest.Continent == "" {
			rest.Continent = continentCode(g.Continent)
		}
	}
	return rest
}

// field is the first value of a header. The name must be in canonical form,
// which saves Header.Get's check of it, two dozen times a request.
func field(h http.Header, canonical string) string {
	if v := h[canonical]; len(v) > 0 {
		return v[0]
	}
	return ""
}
