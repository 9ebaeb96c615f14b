package tests

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/firebuzz/caddy-sessionctx/tests/browser"
)

const (
	// pageNonce is what the upstream puts on its own script.
	pageNonce = "cGFnZSBub25jZQ=="
	// hashedScript is the script whose hash is in some policies.
	hashedScript  = `ran("hash")`
	handlerScript = `ran("handler")`
)

func hashOf(script string) string {
	sum := sha256.Sum256([]byte(script))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// probePage tries what a policy can forbid. `ran` comes from the recorder,
// which no policy touches.
const probePage = `<!doctype html>
<html>
<head>
META
<title>probes</title>
<style>#style { color: rgb(1, 2, 3) }</style>
<script>ran("inline")</script>
<script nonce="` + pageNonce + `">ran("nonce"); insert("nonce"); copyNonce()</script>
<script>` + hashedScript + `</script>
<script src="/probe.js"></script>
</head>
<body>
<p id=style>a style element</p>
<p id=copied>a style element with a nonce found in the page</p>
<p id=attribute style="color: rgb(4, 5, 6)">a style attribute</p>
<button id=button onclick='` + handlerScript + `'>an event handler</button>
<img id=image src="/pixel.svg">
</body>
</html>
`

const probeScript = `ran("external"); insert("external");
try { eval('ran("eval")') } catch {}
`

// recorder runs before the page does. A policy's violations come as events on
// the document, and some of them late.
const recorder = `
window.__ran = [];
window.__violations = [];
window.ran = what => window.__ran.push(what);
window.insert = by => {
	window.__inserted = by;
	const script = document.createElement("script");
	try { script.src = "/inserted.js?" + by; document.head.append(script) } catch {}
};
window.copyNonce = () => {
	for (const [name, text] of [["script", 'ran("copied")'], ["style", "#copied { color: rgb(7, 8, 9) }"]]) {
		const element = document.createElement(name);
		element.nonce = document.querySelector("[nonce]").nonce;
		try { element.textContent = text; document.head.append(element) } catch {}
	}
};
document.addEventListener("securitypolicyviolation", e => {
	window.__violations.push([e.disposition, e.effectiveDirective, e.blockedURI.replace(/^https?:\/\/[^\/]*/, "")].join(" "));
});
`

// look runs after the load event. It works where scripts are forbidden too:
// Chromium evaluates what its driver asks for all the same, but for promises.
const look = `(() => {
	const ran = window.__ran ?? [];
	document.getElementById("button").click();
	for (const [id, color] of [["style", "rgb(1, 2, 3)"], ["attribute", "rgb(4, 5, 6)"], ["copied", "rgb(7, 8, 9)"]])
		if (getComputedStyle(document.getElementById(id)).color == color) ran.push(id == "copied" ? "copied:style" : id);
	if (document.getElementById("image").naturalWidth > 0) ran.push("image");
	return {Ran: ran, Violations: window.__violations ?? [], Context: typeof window.__FIREBUZZ_SESSION_CONTEXT__ == "object"};
})()`

// settled waits for the violations: they are dispatched by tasks of their own.
const settled = `(async () => {
	for (let i = 0; i < 3; i++) await new Promise(done => { const c = new MessageChannel(); c.port1.onmessage = done; c.port2.postMessage(0) });
	return window.__violations;
})()`

// probed is what became of a page in the browser.
type probed struct {
	Ran        []string
	Violations []string
	Context    bool
}

// probe opens the page and gives the debug header that came with it too. With
// scripts false the page runs none, and no event tells of violations.
func probe(p *browser.Page, url string, scripts bool) (probed, string) {
	res := browser.Run(p, chromedp.NavigateResponse(url))
	got := browser.Run(p, chromedp.Evaluate[probed](look))
	if scripts {
		got.Violations = browser.Eval[[]string](p, settled)
	}
	slices.Sort(got.Ran)
	slices.Sort(got.Violations)
	outcome := ""
	for name, value := range res.Headers {
		if strings.EqualFold(name, "Session-Context") {
			outcome = fmt.Sprint(value)
		}
	}
	return got, outcome
}

func recordedPage(t testing.TB, b *browser.Browser) *browser.Page {
	t.Helper()
	p := b.Page(t)
	protocol(p, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: recorder})
	return p
}

const (
	injected  = "injected"
	forbidden = "skipped; reason=csp"
)

// policyRow is a page with its policies.
type policyRow struct {
	name       string
	policies   []string // headers of the upstream
	reportOnly []string
	meta       string
	// by is how the operator's Caddy sets another policy, operatorPolicy:
	// a key of operatorHeaders, "" for not at all.
	by string

	// ran are the page's own probes that run, with the module and without.
	ran string
	// want is what becomes of the page; loader likewise with `inject loader`,
	// "" where that is not tried.
	want, loader string
	// reported are violations that our script adds: reports, nothing blocked.
	reported []string
	gzip     bool
}

const everything = "attribute copied copied:style eval external handler hash image inline inserted:external inserted:nonce nonce style"

var policyRows = []policyRow{
	{name: "no policy",
		ran: everything, want: injected, loader: injected, gzip: true},
	{name: "empty policy", policies: []string{""},
		ran: everything, want: injected, loader: injected},
	{name: "nothing about scripts", policies: []string{"img-src 'none'; report-uri /r"},
		ran: "attribute copied copied:style eval external handler hash inline inserted:external inserted:nonce nonce style", want: injected, loader: injected},
	{name: "nonce", policies: []string{"script-src 'nonce-PAGE'"},
		ran: "attribute copied copied:style image nonce style", want: injected, loader: injected, gzip: true},
	{name: "nonce and style nonce", policies: []string{"script-src 'nonce-PAGE'; style-src 'nonce-PAGE'"},
		ran: "copied copied:style image nonce", want: injected, loader: injected},
	{name: "hash", policies: []string{"script-src 'sha256-HASH'"},
		ran: "attribute hash image style", want: injected, loader: forbidden},
	{name: "'unsafe-inline' alone", policies: []string{"script-src 'unsafe-inline'"},
		ran: "attribute copied copied:style handler hash image inline nonce style", want: injected, loader: forbidden, gzip: true},
	{name: "'unsafe-inline' and 'self'", policies: []string{"script-src 'self' 'unsafe-inline'"},
		ran: "attribute copied copied:style external handler hash image inline inserted:external inserted:nonce nonce style", want: injected, loader: injected},
	{name: "'unsafe-inline' with nonce", policies: []string{"script-src 'unsafe-inline' 'nonce-PAGE'"},
		ran: "attribute copied copied:style image nonce style", want: injected, loader: injected},
	{name: "'unsafe-inline' with hash", policies: []string{"script-src 'unsafe-inline' 'sha256-HASH'"},
		ran: "attribute hash image style", want: injected, loader: forbidden},
	{name: "'unsafe-inline' with a nonce that is none", policies: []string{"script-src 'unsafe-inline' 'nonce-{0}'"},
		ran: "attribute copied copied:style handler hash image inline nonce style", want: injected},
	{name: "'unsafe-inline' with a hash that is none", policies: []string{"script-src 'unsafe-inline' 'sha256-{0}'"},
		ran: "attribute copied copied:style handler hash image inline nonce style", want: injected},
	{name: "'unsafe-inline' with 'strict-dynamic'", policies: []string{"script-src 'unsafe-inline' 'strict-dynamic'"},
		ran: "attribute image style", want: injected, loader: forbidden},
	{name: "'none'", policies: []string{"script-src 'none'"},
		ran: "attribute image style", want: injected, loader: forbidden, gzip: true},
	{name: "'self'", policies: []string{"script-src 'self'"},
		ran: "attribute external image inserted:external style", want: injected, loader: injected, gzip: true},
	{name: "'self' with 'unsafe-eval'", policies: []string{"script-src 'self' 'unsafe-eval'"},
		ran: "attribute eval external image inserted:external style", want: injected, loader: injected},
	{name: "'unsafe-hashes'", policies: []string{"script-src 'unsafe-hashes' 'sha256-HANDLER'"},
		ran: "attribute handler image style", want: injected, loader: forbidden},
	{name: "'strict-dynamic' with nonce", policies: []string{"script-src 'strict-dynamic' 'nonce-PAGE'"},
		ran: "attribute copied copied:style image inserted:nonce nonce style", want: injected, loader: injected},
	{name: "'strict-dynamic' with hash", policies: []string{"script-src 'strict-dynamic' 'sha256-HASH'"},
		ran: "attribute hash image style", want: injected, loader: forbidden},
	{name: "script-src-elem", policies: []string{"script-src-elem 'self'"},
		ran: "attribute eval external handler image inserted:external style", want: injected, loader: injected},
	{name: "script-src-elem beside script-src", policies: []string{"script-src 'self' 'unsafe-inline'; script-src-elem 'self' 'nonce-PAGE'"},
		ran: "attribute copied copied:style external handler image inserted:external inserted:nonce nonce style", want: injected, loader: injected},
	{name: "script-src-elem allows, script-src does not", policies: []string{"script-src 'none'; script-src-elem 'unsafe-inline'"},
		ran: "attribute copied copied:style hash image inline nonce style", want: injected, loader: forbidden},
	{name: "script-src-elem does not, script-src allows", policies: []string{"script-src 'unsafe-inline' 'self'; script-src-elem 'none'"},
		ran: "attribute handler image style", want: injected, loader: forbidden},
	{name: "script-src-attr", policies: []string{"script-src-attr 'none'"},
		ran: "attribute copied copied:style eval external hash image inline inserted:external inserted:nonce nonce style", want: injected, loader: injected},
	{name: "script-src-attr allows", policies: []string{"script-src-attr 'unsafe-inline'; script-src 'nonce-PAGE'"},
		ran: "attribute copied copied:style handler image nonce style", want: injected},
	{name: "script-src-attr and default-src", policies: []string{"default-src 'self'; script-src-attr 'unsafe-inline'"},
		ran: "external handler image inserted:external", want: injected},
	{name: "default-src 'self'", policies: []string{"default-src 'self'"},
		ran: "external image inserted:external", want: injected, loader: injected, gzip: true},
	{name: "default-src 'none'", policies: []string{"default-src 'none'"},
		want: injected, loader: forbidden},
	{name: "default-src with 'unsafe-inline'", policies: []string{"default-src 'self' 'unsafe-inline'"},
		ran: "attribute copied copied:style external handler hash image inline inserted:external inserted:nonce nonce style", want: injected, loader: injected},
	{name: "default-src with nonce", policies: []string{"default-src 'self' 'nonce-PAGE'"},
		ran: "copied copied:style external image inserted:external inserted:nonce nonce", want: injected, loader: injected},
	{name: "default-src with 'unsafe-eval'", policies: []string{"default-src 'self' 'unsafe-eval'"},
		ran: "eval external image inserted:external", want: injected},
	{name: "several headers", policies: []string{"script-src 'self' 'unsafe-inline'", "default-src 'self' 'nonce-PAGE'"},
		ran: "copied copied:style external image inserted:external inserted:nonce nonce", want: injected, loader: injected},
	{name: "different nonces", policies: []string{"script-src 'nonce-PAGE'", "script-src 'self' 'nonce-b3RoZXI='"},
		ran: "attribute image style", want: injected},
	{name: "comma-joined", policies: []string{"script-src 'self', script-src 'nonce-PAGE' 'self', img-src 'none'"},
		ran: "attribute external inserted:external style", want: injected, loader: injected},
	{name: "report-only alone", reportOnly: []string{"script-src 'self'"},
		ran: everything, want: injected, loader: injected, reported: []string{"report script-src-elem inline"}},
	{name: "report-only beside an enforced one", policies: []string{"script-src 'nonce-PAGE'"}, reportOnly: []string{"script-src 'nonce-PAGE'; img-src 'none'"},
		ran: "attribute copied copied:style image nonce style", want: injected, reported: []string{"report script-src-elem inline"}},
	{name: "meta", meta: "script-src 'self'",
		ran: "attribute external image inserted:external style", want: injected, loader: injected},
	{name: "meta beside a header", meta: "script-src 'self' 'unsafe-inline'", policies: []string{"default-src 'self' 'nonce-PAGE'"},
		ran: "copied copied:style external image inserted:external inserted:nonce nonce", want: injected},
	{name: "meta with a nonce", meta: "script-src 'nonce-PAGE'",
		ran: "attribute copied copied:style image nonce style", want: injected},
	{name: "upper case and odd white space", policies: []string{" ;; Script-Src\t'SELF'   'NONCE-PAGE' ;IMG-SRC   'NONE' ; "},
		ran: "attribute copied copied:style external inserted:external inserted:nonce nonce style", want: injected, loader: injected},
	{name: "a directive twice", policies: []string{"script-src 'self'; script-src 'unsafe-inline'"},
		ran: "attribute external image inserted:external style", want: injected, loader: injected},
	{name: "sandbox", policies: []string{"sandbox; script-src 'self'"},
		ran: "attribute image style", want: forbidden, loader: forbidden, gzip: true},
	{name: "sandbox in a second policy", policies: []string{"script-src 'self', sandbox allow-forms"},
		ran: "attribute image style", want: forbidden, loader: forbidden},
	{name: "sandbox that allows scripts", policies: []string{"sandbox allow-scripts; script-src 'nonce-PAGE'"},
		ran: "attribute copied copied:style image nonce style", want: injected},
	{name: "sandbox that allows scripts and the origin", policies: []string{"sandbox allow-scripts allow-same-origin; default-src 'self'"},
		ran: "external image inserted:external", want: injected, loader: injected},
	{name: "require-trusted-types-for", policies: []string{"require-trusted-types-for 'script'"},
		ran: "attribute copied:style external handler hash image inline nonce style", want: injected, loader: injected},
	{name: "trusted-types", policies: []string{"trusted-types 'none'; require-trusted-types-for 'script'; script-src 'nonce-PAGE' 'strict-dynamic'"},
		ran: "attribute copied:style image nonce style", want: injected, loader: injected},

	{name: "header", by: "header",
		ran: "attribute external image inserted:external style", want: injected},
	{name: "header, and the upstream's", by: "header", policies: []string{"script-src 'self' 'nonce-PAGE'"},
		ran: "attribute external image inserted:external style", want: injected},
	{name: "deferred header", by: "deferred",
		ran: "attribute external image inserted:external style", want: injected},
	{name: "deferred header over the upstream's", by: "deferred", policies: []string{"script-src 'self' 'nonce-PAGE'"},
		ran: "attribute external image inserted:external style", want: injected},
	{name: "deferred header block over the upstream's", by: "block", policies: []string{"script-src 'self' 'nonce-PAGE'"},
		ran: "attribute external image inserted:external style", want: injected},
	{name: "deferred header beside the upstream's", by: "added", policies: []string{"script-src 'self' 'nonce-PAGE'"},
		ran: "attribute external image inserted:external style", want: injected},
}

// operatorHeaders are the ways in which a Caddyfile sets a policy.
var operatorHeaders = map[string]string{
	"":         "",
	"header":   `header Content-Security-Policy "script-src 'self'"`,
	"deferred": `header >Content-Security-Policy "script-src 'self' 'nonce-{session.csp_nonce}'"`,
	"block": `header {
		Content-Security-Policy "script-src 'self' 'nonce-{session.csp_nonce}'"
		-Server
	}`,
	"added": `header {
		+Content-Security-Policy "script-src 'self' 'nonce-{session.csp_nonce}'"
		defer
	}`,
}

// TestPoliciesInChromium: under every policy the page's own scripts, styles
// and images fare as they do without the module, and our script runs or the
// page is left alone.
func TestPoliciesInChromium(t *testing.T) {
	t.Parallel()
	fill := strings.NewReplacer("PAGE", pageNonce, "HASH", hashOf(hashedScript), "HANDLER", hashOf(handlerScript))
	rows := make(map[string]policyRow)
	for _, row := range policyRows {
		rows[row.name] = row
	}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/probe.js":
			w.Header().Set("Content-Type", "text/javascript")
			io.WriteString(w, probeScript)
		case "/inserted.js":
			w.Header().Set("Content-Type", "text/javascript")
			fmt.Fprintf(w, "ran(%q)", "inserted:"+r.URL.RawQuery)
		case "/pixel.svg":
			w.Header().Set("Content-Type", "image/svg+xml")
			io.WriteString(w, `<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>`)
		case "/":
			row := rows[r.URL.Query().Get("row")]
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			for _, policy := range row.policies {
				w.Header().Add("Content-Security-Policy", fill.Replace(policy))
			}
			for _, policy := range row.reportOnly {
				w.Header().Add("Content-Security-Policy-Report-Only", fill.Replace(policy))
			}
			meta := ""
			if row.meta != "" {
				meta = `<meta http-equiv="Content-Security-Policy" content="` + fill.Replace(row.meta) + `">`
			}
			io.WriteString(w, strings.Replace(probePage, "META", meta, 1))
		default:
			http.NotFound(w, r)
		}
	}))
	defer upstream.Close()

	const inline, loader = `session_context {
		workspace ws_1
		project pr_1
		campaign cmp_1
		debug
	}`, `session_context {
		workspace ws_1
		project pr_1
		campaign cmp_loader
		inject loader
		debug
	}`
	c := newCaddy(t)
	var caddyfile strings.Builder
	caddyfile.WriteString(globals("") + "SITE {\n\trespond 404\n}\n")
	site := func(lines ...string) string {
		address := "http://" + freeAddr(t)
		fmt.Fprintf(&caddyfile, "%s {\n\t%s\n\treverse_proxy %s\n}\n", address, strings.Join(lines, "\n\t"), strings.TrimPrefix(upstream.URL, "http://"))
		return address
	}
	plain, with := make(map[string]string), make(map[string]string)
	for by, header := range operatorHeaders {
		plain[by], with[by] = site(header), site(header, inline)
	}
	zipped, loading := site("encode {\n\t\tgzip\n\t\tminimum_length 1\n\t}", inline), site(loader)
	c.write(caddyfile.String())
	c.start()

	b := browser.Start(t)
	var forbids atomic.Int64 // pages without loader
	t.Run("rows", func(t *testing.T) { testPolicies(t, b, plain, with, zipped, loading, &forbids) })
	if n := c.metric(`caddy_session_context_pages_total{campaign="cmp_loader",outcome="csp"}`); n != float64(forbids.Load()) {
		t.Errorf("%v pages without loader were counted, want %d", n, forbids.Load())
	}
}

func testPolicies(t *testing.T, b *browser.Browser, plain, with map[string]string, zipped, loading string, forbids *atomic.Int64) {
	for _, row := range policyRows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			tab := recordedPage(t, b)
			scripts := row.want == injected
			query := "/?row=" + url.QueryEscape(row.name)
			own, _ := probe(tab, plain[row.by]+query, scripts)
			if got := strings.Join(own.Ran, " "); got != row.ran {
				t.Errorf("without the module there ran\n%s, want\n%s", got, row.ran)
			}
			check := func(t *testing.T, site, want string, reported ...string) {
				t.Helper()
				got, outcome := probe(tab, site+query, scripts)
				if outcome != want || got.Context != (want == injected) {
					t.Errorf("outcome %q, context set: %v; want %q", outcome, got.Context, want)
				}
				if !slices.Equal(got.Ran, own.Ran) {
					t.Errorf("there ran %q, without the module %q", got.Ran, own.Ran)
				}
				expected := slices.Sorted(slices.Values(append(slices.Clone(own.Violations), reported...)))
				if !slices.Equal(got.Violations, expected) {
					t.Errorf("violations\n%q\nwithout the module\n%q", got.Violations, own.Violations)
				}
			}
			check(t, with[row.by], row.want, row.reported...)
			if row.gzip {
				check(t, zipped, row.want, row.reported...)
			}
			if row.loader != "" {
				check(t, loading, row.loader)
				if row.loader == forbidden {
					forbids.Add(1)
				}
			}
		})
	}
}
