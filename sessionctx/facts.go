package sessionctx

import "net/netip"

// Facts is what one request tells about its visitor. Geo, device and bot data
// come from sources that the operator trusts; everything else is the client's
// word, already cut to its cap and freed of control characters.
type Facts struct {
	// ClientIP is the visitor's address as Caddy determined it (trusted
	// proxies resolved, IPv6 zone stripped, IPv4-mapped forms unmapped).
	// The zero Addr means unknown, as on a UNIX socket.
	ClientIP netip.Addr
	// UserAgent is at most 512 bytes.
	UserAgent string
	// Language is the best language of Accept-Language as it was sent
	// ("de-DE"), "en-US" where none is usable.
	Language string
	// Scheme is "https" for TLS or a trusted proxy's word, else "http".
	Scheme string
	// Host is host[:port] as the browser sees it.
	Host string
	// URI is the path that the browser asked for, before any rewrite.
	URI string
	// Touch holds the campaign parameters, referrer and landing page of
	// this request.
	Touch Touch
	// FromWithin is whether the visitor came from a page of the operator's
	// own, or back from a provider that visits only pass through. Nothing
	// new led here then.
	FromWithin bool

	Geo    Geo
	Device Device
	Bot    Bot
	// Purpose says what made the browser ask; see the constants.
	Purpose Purpose
	// GPC and DNT are the visitor's Global Privacy Control and Do Not
	// Track signals (Sec-GPC: 1, DNT: 1).
	GPC, DNT bool
	// Fetch is the request's Fetch Metadata, empty where it was not sent.
	Fetch Fetch
	// VisitorDay is VisitorKey.Day where the visitor has one and no cookies,
	// else empty. It is computed once consent is decided.
	VisitorDay string
}

// Origin is scheme://host[:port], as in the Origin header of a request that
// comes from this site itself.
func (f *Facts) Origin() string { return f.Scheme + "://" + f.Host }

// Framed reports whether the page is in a frame of another site, and nobody
// has done anything in it yet, as far as the request tells.
func (f *Facts) Framed() bool {
	return f.Purpose == PurposeIframe || f.Fetch.ThirdParty && f.Purpose != PurposeNavigate
}

// Fetch is the Fetch Metadata of a request (W3C Fetch Metadata), and what
// browsers say beside it. Scripts can set none of it.
type Fetch struct {
	Site, Mode, Dest string
	// User is whether the visitor's own act led here (Sec-Fetch-User).
	User bool
	// ThirdParty is whether the site in the address bar is another one
	// (Sec-Fetch-Storage-Access is sent then, whatever its value).
	ThirdParty bool
	// AnonymousIP is whether a proxy of the browser asked (Sec-Purpose:
	// prefetch;anonymous-client-ip), so that ClientIP is nobody's.
	AnonymousIP bool
}

// Purpose is why a page was asked for.
type Purpose string

const (
	// PurposeNavigate is a page that somebody looks at.
	PurposeNavigate Purpose = "navigate"
	// PurposePrefetch is a page fetched ahead (Sec-Purpose: prefetch).
	PurposePrefetch Purpose = "prefetch"
	// PurposePrerender is a page rendered ahead (Sec-Purpose: prefetch;prerender).
	PurposePrerender Purpose = "prerender"
	// PurposeIframe is a page in a frame of another site.
	PurposeIframe Purpose = "iframe"
	// PurposeServiceWorker is a fetch by a service worker: navigation preload,
	// a navigation that it passes on, its own script. What it shows may be
	// something else, out of its cache.
	PurposeServiceWorker Purpose = "service-worker"
	// PurposeHead is a HEAD request.
	PurposeHead Purpose = "head"
	// PurposeRange asks for a part (Range). Pages are answered whole.
	PurposeRange Purpose = "range"
	// PurposeSubresource is a page fetched by script (Sec-Fetch-Dest: empty
	// and the like).
	PurposeSubresource Purpose = "subresource"
	// PurposeRetried is a page that the browser throws away unseen, since it
	// asks for client hints that the request lacked (Critical-CH): the page is
	// asked for again with them.
	PurposeRetried Purpose = "retried"
)

// Speculative reports whether the page may never be looked at.
func (p Purpose) Speculative() bool {
	return p == PurposePrefetch || p == PurposePrerender || p == PurposeRetried
}

// Geo is where a visitor's address is. Empty fields are unknown.
type Geo struct {
	// Country is an ISO 3166-1 alpha-2 code.
	Country string
	// Region is the name of the first-level subdivision, RegionCode its
	// ISO 3166-2 code without the country ("CA").
	Region, RegionCode string
	City               string
	// Continent is a two-letter code (AF AN AS EU NA OC SA).
	Continent string
	// Timezone is an IANA name.
	Timezone string
	// Latitude and Longitude are decimal degrees as text, as the
	// traffic_v1 datasource stores them.
	Latitude, Longitude string
	// IsEU is true for member states of the European Union, and for the
	// countries that the operator counts with them.
	IsEU bool
}

// Known reports whether any source knew the address's country.
func (g *Geo) Known() bool { return g.Country != "" }

// IsCalifornian reports whether the visitor is in California.
func (g *Geo) IsCalifornian() bool { return g.Country == "US" && g.RegionCode == "CA" }

// Device is what the user agent and the client hints tell. Each field holds
// one word of the vocabularies of the session_v1 datasource.
type Device struct {
	Type           string // desktop, mobile, tablet, unknown
	OS             string // Windows, macOS, Linux, Android, iOS, Unknown
	Browser        string // Chrome, Firefox, Safari, Edge, Opera, Unknown
	BrowserVersion string // empty if unknown
	Mobile         bool
	ConnectionType string // slow-2g, 2g, 3g, 4g, wifi, unknown
}

// Bot is how likely the visitor is a program.
type Bot struct {
	// Score is 1 (bot) … 99 (human); 0 is unknown.
	Score int
	// CorporateProxy is an exit that the people of companies share.
	CorporateProxy bool
	// Verified is a crawler that proved by DNS to be the one it names.
	// Refuted is one that DNS proved to be another; most are neither.
	Verified, Refuted bool
}
