package caddymodule

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/visitor"
)

// aContext is the statement of a page, with a session of that id.
func aContext(id string, serverTime int64) string {
	return fmt.Sprintf(`window.dataLayer=window.dataLayer||[];window.X={"userId":"u","campaignId":"c","campaignEnvironment":"preview","serverTime":%d,"apiBaseUrl":"nowhere","session":{"sessionId":%q}};window.dispatchEvent(new Event("y"));`, serverTime, id)
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// examined is what doctor finds of a site that answers so.
func examined(t *testing.T, server *httptest.Server, at string, change func(*doctor)) map[string][]finding {
	t.Helper()
	d := &doctor{page: mustURL(t, at), now: at2026, to: server.Listener.Addr().String()}
	if change != nil {
		change(d)
	}
	out := map[string][]finding{}
	for _, f := range d.examine(t.Context()) {
		out[f.Code] = append(out[f.Code], f)
	}
	return out
}

func at2026() time.Time { return noon }

func TestDoctorReadsPages(t *testing.T) {
	sessions := 0
	fresh := func() string {
		sessions++
		return fmt.Sprint("s", sessions)
	}
	now := noon.UnixMilli()
	for name, tt := range map[string]struct {
		page        func() string
		header      []string
		level       level
		code, parts string
	}{
		"well": {func() string {
			return `<!doctype html><script data-session-context="">` + aContext(fresh(), now) + `</script><title>x</title>`
		}, []string{"Cache-Control", "no-cache, Private"}, levelOK, "sharing", "a session of one's own"},
		"two": {func() string {
			return `<script data-session-context>` + aContext(fresh(), now) + `</script><script data-session-context>` + aContext(fresh(), now) + `</script>`
		}, nil, levelError, "context", "2 contexts"},
		"none, from a cache":       {func() string { return "<p>" }, []string{"Age", "7"}, levelError, "context", "Age: 7"},
		"none, though it was":      {func() string { return "<p>" }, []string{debugHeader, "injected"}, levelError, "context", "took it out"},
		"none, and why":            {func() string { return "<p>" }, []string{debugHeader, "skipped; reason=csp"}, levelError, "context", "reason=csp"},
		"a script without":         {func() string { return `<script data-session-context="">let a={}</script>` }, nil, levelError, "context", "sets no context"},
		"an empty script":          {func() string { return `<script data-session-context=""></script>` }, nil, levelError, "context", "sets no context"},
		"a script that was cut":    {func() string { return `<script data-session-context>window.X={"userId":"u",` }, nil, levelError, "context", "unexpected EOF"},
		"a script that was spoilt": {func() string { return `<script data-session-context>window.X={userId:"u"}</script>` }, nil, levelError, "context", "minifiers"},
		"another clock": {func() string {
			return `<script data-session-context>` + aContext(fresh(), now-60_000) + `</script>`
		}, nil, levelWarning, "clock", "1m0s apart"},
		"a preview": {func() string { return `<script data-session-context>` + aContext(fresh(), now) + `</script>` }, nil, levelNote, "preview", ""},
		"a base URL that is none": {func() string {
			return `<script data-session-context>` + aContext(fresh(), now) + `</script>`
		}, nil, levelError, "api", `"nowhere"`},
		"a hit": {func() string {
			return `<script data-session-context>` + aContext(fresh(), now) + `</script>`
		}, []string{"CF-Cache-Status", "HIT", "Age", "7", "Cache-Control", "private"}, levelOK, "sharing", ""}, // of what Caddy asks
		"another at the second try": {func() string {
			if fresh(); sessions%2 == 0 {
				return "<p>"
			}
			return `<script data-session-context>` + aContext("a", now) + `</script>`
		}, nil, levelWarning, "sharing", "a second time"},
		"none, as is wanted": {func() string { return "<p>" }, []string{debugHeader, "skipped; reason=off"}, levelNote, "context", "ask for it itself"},
		"policies that no browser heeds": {func() string {
			no := `<meta http-equiv=Content-Security-Policy content="connect-src 'none'">`
			sandbox := strings.Replace(no, "connect-src 'none'", "sandbox", 1)
			return `<!doctype html><head><script data-session-context>` + strings.Replace(aContext(fresh(), now), "nowhere", "http://127.0.0.1:1", 1) + `</script>` + sandbox + `<template>` + no + `</template><title>` + no + `</title></head>` + no
		}, nil, levelOK, "policy", "the context's script"},
		"a policy after the first words": {func() string {
			return `<!doctype html><script data-session-context>` + strings.Replace(aContext(fresh(), now), "nowhere", "http://127.0.0.1:1", 1) + `</script><p><meta http-equiv=Content-Security-Policy content="connect-src 'none'">`
		}, nil, levelOK, "policy", "the context's script"},
		"plain text": {func() string { return "" }, []string{"Content-Type", "text/plain"}, levelError, "page", "text/plain"},
	} {
		t.Run(name, func(t *testing.T) {
			sessions = 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/" || r.Header.Get("Sec-Purpose") != "prefetch" {
					http.NotFound(w, r)
					return
				}
				w.Header().Set("Content-Type", "text/html")
				for i := 0; i < len(tt.header); i += 2 {
					w.Header().Set(tt.header[i], tt.header[i+1])
				}
				fmt.Fprint(w, tt.page())
			}))
			defer server.Close()
			got := examined(t, server, "http://lp.test/", nil)
			if f := got["policy"]; len(f) > 1 {
				t.Errorf("it found %+v", f)
			}
			for _, f := range got[tt.code] {
				if f.Level == tt.level && strings.Contains(f.Text+f.Remedy, tt.parts) {
					return
				}
			}
			t.Errorf("no %s %s with %q: %+v", tt.level, tt.code, tt.parts, got)
		})
	}
}

// secured is a server with a certificate of its own making.
func secured(t *testing.T, from, until time.Time) (server *httptest.Server, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "us"}, DNSNames: []string{"lp.test"},
		NotBefore: from, NotAfter: until, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	server = httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.Config.ErrorLog = nil
	server.StartTLS()
	t.Cleanup(server.Close)
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(leaf)
	return server, roots
}

func TestDoctorLooksAtCertificates(t *testing.T) {
	now := time.Now()
	day := 24 * time.Hour
	fresh, roots := secured(t, now.Add(-day), now.Add(89*day))
	old, oldRoots := secured(t, now.Add(-80*day), now.Add(10*day))
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	unknown := httptest.NewUnstartedServer(http.NotFoundHandler())
	unknown.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, errNoContext }}
	unknown.StartTLS()
	defer unknown.Close()
	for name, tt := range map[string]struct {
		server *httptest.Server
		url    string
		change func(*doctor)
		level  level
		text   string
	}{
		"good":               {fresh, "https://lp.test/", func(d *doctor) { d.roots = roots }, levelOK, "by CN=us"},
		"not renewed":        {old, "https://lp.test/", func(d *doctor) { d.roots = oldRoots }, levelWarning, "only, by CN=us"},
		"of a stranger":      {fresh, "https://lp.test/", nil, levelError, "certificate"},
		"of an unknown name": {unknown, "https://lp.test/", nil, levelError, "internal error"},
		"of another name":    {fresh, "https://other.test/", func(d *doctor) { d.roots = roots }, levelError, "other.test"},
		"taken as it is":     {fresh, "https://lp.test/", func(d *doctor) { d.skipVerify = true }, levelNote, "would not trust it"},
		"no TLS at all":      {plain, "https://lp.test/", nil, levelError, "HTTP response to HTTPS client"},
		"plain":              {plain, "http://lp.test/", nil, levelError, "plain HTTP"},
		"plain, at home":     {plain, "http://localhost/", nil, levelNote, "like HTTPS"},
		"plain, at home 6":   {plain, "http://[::1]/", nil, levelNote, "like HTTPS"},
	} {
		t.Run(name, func(t *testing.T) {
			got := examined(t, tt.server, tt.url, func(d *doctor) {
				d.now = time.Now
				if tt.change != nil {
					tt.change(d)
				}
			})
			if c := got["certificate"]; len(c) != 1 || c[0].Level != tt.level || !strings.Contains(c[0].Text, tt.text) {
				t.Errorf("want a %s with %q: %+v", tt.level, tt.text, got)
			}
		})
	}
}

func TestDoctorOfNobody(t *testing.T) {
	u := mustURL(t, "https://nobody.invalid/")
	d := &doctor{page: u, now: time.Now}
	if got := d.examine(t.Context()); len(got) != 1 || got[0].Code != "address" || got[0].Level != levelError {
		t.Errorf("%+v", got)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	d = &doctor{page: u, now: time.Now, to: l.Addr().String()}
	if got := d.examine(t.Context()); len(got) != 2 || got[1].Code != "connection" || got[1].Level != levelError {
		t.Errorf("%+v", got)
	}
}

// TestDoctorKeepsHeaders: what is for one host is told to no other, wherever
// the page sends the reader.
func TestDoctorKeepsHeaders(t *testing.T) {
	here, elsewhere := 0, 0
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		elsewhere++
		if v := r.Header.Get("X-Key"); v != "" || r.UserAgent() != visitor.ProbeAgent {
			t.Errorf("%s got it: %v", r.URL, r.Header)
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<script data-session-context>%s</script>", strings.Replace(aContext("s", noon.UnixMilli()), "nowhere", "http://"+r.Host, 1))
	}))
	defer other.Close()
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		here++
		if r.Header.Get("X-Key") != "secret" || r.UserAgent() != "us" {
			t.Errorf("%s did not get it", r.URL)
		}
		http.Redirect(w, r, map[string]string{"/": other.URL, "/round": "/round"}[r.URL.Path], http.StatusFound)
	}))
	defer site.Close()
	header := http.Header{"X-Key": {"secret"}, "User-Agent": {"us"}}
	got := examined(t, site, "http://lp.test/", func(d *doctor) { d.header = header })
	if here == 0 || elsewhere < 3 || len(got["page"]) != 1 || !strings.Contains(got["page"][0].Text, "redirect to "+other.URL) {
		t.Errorf("asked here %d times, elsewhere %d: %+v", here, elsewhere, got)
	}
	got = examined(t, site, "http://lp.test/round", func(d *doctor) { d.header = header })
	if c := got["connection"]; len(c) != 1 || !strings.Contains(c[0].Text, "10 redirects") || !strings.Contains(c[0].Remedy, "by plain HTTP") {
		t.Errorf("%+v", got)
	}
}

// TestWhoMayKnowTheHeaders of `-H`.
func TestWhoMayKnowTheHeaders(t *testing.T) {
	for _, tt := range []struct {
		page, asked string
		may         bool
	}{
		{"https://a.test/", "https://a.test/client-api/v1", true},
		{"https://a.test/", "http://a.test/", false},
		{"http://a.test/", "https://a.test/", true},
		{"http://a.test:81/", "https://a.test/", true},
		{"https://a.test/", "https://A.test:443/x", true},
		{"http://a.test/", "http://b.test/", false},
		{"https://a.test/", "https://a.test:444/", false},
		{"https://a.test/", "https://api.a.test/", false},
	} {
		page, asked := mustURL(t, tt.page), mustURL(t, tt.asked)
		if got := (&doctor{page: page}).mayKnow(asked); got != tt.may {
			t.Errorf("%s of the page %s: %v", asked, page, got)
		}
	}
}

// TestDoctorOfACutPage: what came is looked at.
func TestDoctorOfACutPage(t *testing.T) {
	n := 0
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Content-Length", "100000")
		fmt.Fprintf(w, "<script data-session-context>%s</script>", aContext(fmt.Sprint(n), noon.UnixMilli()))
	}))
	defer site.Close()
	got := examined(t, site, "http://lp.test/", nil)
	if p := got["page"]; len(p) != 2 || p[1].Level != levelNote || len(got["context"]) != 1 || got["context"][0].Level != levelOK {
		t.Errorf("%+v", got)
	}
}

// TestDoctorOfMixedContent: browsers would not make the call at all.
func TestDoctorOfMixedContent(t *testing.T) {
	server, roots := secured(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	for base, mixed := range map[string]bool{
		"http://lp.test": true, "http://up.test": false, "https://lp.test": false, "http://127.0.0.1:1": false, "http://app.localhost:1": false,
	} {
		server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			if base == "http://up.test" {
				w.Header().Set("Content-Security-Policy", "upgrade-insecure-requests")
			}
			fmt.Fprintf(w, "<script data-session-context>%s</script>", strings.Replace(aContext("s", 0), "nowhere", base, 1))
		})
		got := examined(t, server, "https://lp.test/", func(d *doctor) { d.roots, d.now = roots, time.Now })
		if a := got["api"]; len(a) != 1 || strings.Contains(a[0].Text, "mixed content") != mixed {
			t.Errorf("%s: %+v", base, got)
		}
	}
}

// TestDoctorTellsRefusalsApart: keys that differ are one reason of many.
func TestDoctorTellsRefusalsApart(t *testing.T) {
	refusal := func(status int, code string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.WriteHeader(status)
			if code != "" {
				fmt.Fprintf(w, `{"success":false,"error":"no","code":%q}`, code)
			}
		}
	}
	for name, tt := range map[string]struct {
		route  string // whose answer it is
		answer func(http.ResponseWriter)
		level  level
		code   string
	}{
		"keys":       {"init", refusal(401, "invalid_session"), levelError, "tokens"},
		"campaigns":  {"init", refusal(403, "unknown_campaign"), levelError, "tokens"},
		"limit":      {"init", refusal(429, "rate_limited"), levelWarning, "api"},
		"store":      {"init", refusal(503, "store_unavailable"), levelError, "api"},
		"firewall":   {"track", refusal(403, ""), levelError, "api"},
		"firewall 2": {"batch-track", refusal(200, ""), levelError, "api"},
		"all well":   {"", nil, levelOK, "tokens"},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n++
				context := strings.Replace(aContext(fmt.Sprint(n), noon.UnixMilli()), "nowhere", "http://"+r.Host, 1)
				_, route, _ := strings.Cut(r.URL.Path, "/client-api/v1/")
				route = route[strings.LastIndexByte(route, '/')+1:]
				if tt.route != "" && route == tt.route {
					tt.answer(w)
					return
				}
				switch route {
				case "":
					w.Header().Set("Content-Type", "text/html")
					fmt.Fprintf(w, "<script data-session-context>%s</script>", context)
				case "context":
					w.Header().Set("Content-Type", "application/json")
					_, document, _ := strings.Cut(context, ".X=")
					document, _, _ = strings.Cut(document, ";window")
					fmt.Fprint(w, document)
				case "init":
					w.Header().Set("Content-Type", "application/json")
					fmt.Fprint(w, `{"success":true}`)
				default:
					refusal(400, "invalid_event")(w)
				}
			}))
			defer site.Close()
			got := examined(t, site, "http://lp.test/", nil)
			bad := 0
			for _, f := range append(got["api"], got["tokens"]...) {
				if f.Level != levelOK {
					bad++
				}
			}
			c := got[tt.code]
			if len(c) == 0 || c[len(c)-1].Level != tt.level || tt.level == levelOK && bad > 0 || tt.level != levelOK && bad != 1 {
				t.Errorf("want one %s %s: %+v", tt.level, tt.code, got)
			}
		})
	}
}

func TestWhichServersTrustProxies(t *testing.T) {
	trusting, not := httpServer{Listen: []string{":443"}, TrustedProxies: []byte(`{"source":"static"}`)}, httpServer{Listen: []string{"tcp/127.0.0.1:8443"}}
	for name, tt := range map[string]struct {
		page    string
		servers map[string]httpServer
		level   level
	}{
		"the page's":         {"https://a.test/", map[string]httpServer{"a": trusting, "b": not}, levelOK},
		"not the page's":     {"https://a.test:8443/", map[string]httpServer{"a": trusting, "b": not}, levelWarning},
		"of another port":    {"https://a.test:1/", map[string]httpServer{"a": trusting, "b": not}, levelNote},
		"no server":          {"https://a.test/", nil, levelNote},
		"all, another port":  {"https://a.test:1/", map[string]httpServer{"a": trusting}, levelOK},
		"none, another port": {"https://a.test:1/", map[string]httpServer{"b": not}, levelWarning},
	} {
		page := mustURL(t, tt.page)
		d := &doctor{front: "Cloudflare", frontPort: portOf(page), servers: func() (map[string]httpServer, error) { return tt.servers, nil }}
		d.lookAtProxies()
		if len(d.findings) != 1 || d.findings[0].Level != tt.level {
			t.Errorf("%s: %+v", name, d.findings)
		}
	}
}

// TestDoctorPrints for terminals, whatever the site answers.
func TestDoctorPrints(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprint(w, `{"error":"\u001b[2J\u0085","code":"a\u001b"}`)
	}))
	defer site.Close()
	var b strings.Builder
	for _, fs := range examined(t, site, "http://lp.test/", nil) {
		if err := printFindings(&b, examination{fs}); err != nil {
			t.Fatal(err)
		}
	}
	if strings.ContainsAny(b.String(), "\x1b\u0085") || !strings.Contains(b.String(), "gives no context: 418 [2J") {
		t.Errorf("%q", b.String())
	}
}

func TestWhatStandsBeforeCaddy(t *testing.T) {
	for _, tt := range []struct {
		header []string
		front  string
	}{
		{nil, ""},
		{[]string{"Server", "Caddy", "Via", "1.1 Caddy"}, ""},
		{[]string{"Via", "1.1 Caddy, 1.1 varnish"}, "varnish"},
		{[]string{"Via", "HTTP/2.0 abc.cloudfront.net (CloudFront)"}, "abc.cloudfront.net"},
		{[]string{"Via", "1.1"}, ""},
		{[]string{"CF-Ray", "8f", "Via", "1.1 Caddy"}, "Cloudflare"},
		{[]string{"X-Cache", "Miss from cloudfront", "X-Amz-Cf-Id", "a"}, "CloudFront"},
		{[]string{"X-Served-By", "cache-fra-1"}, "Fastly or Varnish"},
	} {
		h := http.Header{}
		for i := 0; i < len(tt.header); i += 2 {
			h.Add(tt.header[i], tt.header[i+1])
		}
		if got := frontOf(h); got != tt.front {
			t.Errorf("%v: %q, want %q", tt.header, got, tt.front)
		}
	}
}

func TestURLsAndHeadersOfDoctor(t *testing.T) {
	for in, want := range map[string]string{
		"lp.example.com": "https://lp.example.com/", "http://a.test:8080/x?y#z": "http://a.test:8080/x?y", "lp.example.com/a": "https://lp.example.com/a",
		"HTTPS://LP.Example.com:443": "https://lp.example.com/", "http://a.test:80/": "http://a.test/", "http://a.test:443/": "http://a.test:443/",
		"http://[::1]:80/": "http://[::1]/", "http://[::1]:81/": "http://[::1]:81/", "münchen.de": "https://xn--mnchen-3ya.de/", "a_b.test": "https://a_b.test/",
		"ftp://a.test": "", "https://": "", "": "", "https://a b/": "", "https://:80/": "", "https://ü_\u0000.de/": "",
	} {
		if u, err := pageURL(in, http.Header{}); (err != nil) != (want == "") || err == nil && u.String() != want {
			t.Errorf("%q: %v %v, want %q", in, u, err, want)
		}
	}
	h := http.Header{}
	if u, err := pageURL("https://bob:s3cret@a.test/", h); err != nil || u.String() != "https://a.test/" || h.Get("Authorization") != "Basic Ym9iOnMzY3JldA==" {
		t.Errorf("%v %v %v", u, err, h)
	}
	if h, err := parseHeaders([]string{"a: b", "A:c: d"}); err != nil || len(h["A"]) != 2 || h["A"][1] != "c: d" {
		t.Errorf("%v %v", h, err)
	}
	for _, line := range []string{"s3cret", ": s3cret", "host: s3cret", "Authorization Basic s3cret", "a: s3cret\x00"} {
		if h, err := parseHeaders([]string{line}); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v %v", line, h, err)
		}
	}
	if _, err := pageURL("htps://user:s3cret@lp.example.com/", http.Header{}); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("%v", err)
	}
	d := &doctor{page: &url.URL{Scheme: "http", Host: "lp.test"}, to: "[::1]:8080"}
	for addr, want := range map[string]string{"lp.test:80": "[::1]:8080", "LP.test:443": "[::1]:443", "api.lp.test:80": "api.lp.test:80"} {
		if got := d.dialed(addr); got != want {
			t.Errorf("%s is dialed at %s, want %s", addr, got, want)
		}
	}
}

func FuzzDoctorReadsAPage(f *testing.F) {
	f.Add([]byte(`<script data-session-context nonce=a>window.X={"userId":"u","session":{"sessionId":"s"}};</script>`))
	f.Add([]byte(`<meta http-equiv=content-security-policy content="a"><script data-session-context src="/session/context.js"></script><script data-session-context src="::">`))
	f.Add([]byte(`<script data-session-context><!--<script></script>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		p := &shownPage{url: &url.URL{Scheme: "https", Host: "lp.test"}, header: http.Header{}}
		readPage(p, body)
		for _, c := range p.contexts {
			if (c.context == nil) != (c.err != nil) {
				t.Errorf("%+v", c)
			}
		}
		missingRemedy(p)
	})
}
