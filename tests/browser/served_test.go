package browser_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/inject"
	"github.com/firebuzz/caddy-sessionctx/tests/browser"
)

// served is a page that Chromium is to open twice, as it is and injected.
type served struct {
	name        string
	contentType string
	body        string
	cuts        []int // where the upstream flushes
	quiet       bool  // a policy keeps the page's own scripts from running
	want        inject.Reason
	charset     string // that Chromium takes the original to be in, if it matters
	text        string // that it says
}

// firstScript notes whether it was the only script when it ran, and where. It is
// as long as a real one, which matters for what browsers look for in the first
// bytes of a page.
var firstScript = `<script data-session-context=""%s>window.firstScript=document.scripts.length+" "+(document.currentScript===document.head.firstChild)/*` +
	strings.Repeat("x", 2<<10) + `*/</script>`

// serve serves the pages, page i at /original/i and /injected/i, and at /loud/i
// injected and never quiet. A page that has another outcome than it should
// fails the test.
func serve(t *testing.T, pages []served) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var how string
		var i int
		if _, err := fmt.Sscanf(strings.ReplaceAll(r.URL.Path, "/", " "), "%s %d", &how, &i); err != nil || i >= len(pages) {
			// What the pages ask for besides is not here.
			http.NotFound(w, r)
			return
		}
		p := pages[i]
		p.quiet = p.quiet && how != "loud"
		if how == "original" {
			p.write(w)
			return
		}
		iw := inject.NewResponseWriter(w, r, inject.Options{
			Script: func(dst []byte, nonce string) []byte {
				if nonce != "" {
					nonce = ` nonce="` + nonce + `"`
				}
				return fmt.Appendf(dst, firstScript, nonce)
			},
			Nonce: func() string { return "ours" },
		})
		defer iw.Abort()
		p.write(iw)
		if err := iw.Close(); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
		if iw.Outcome() != p.want {
			t.Errorf("%s: the outcome is %s, want %s", p.name, iw.Outcome(), p.want)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func (p served) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", p.contentType)
	if p.quiet {
		w.Header().Set("Content-Security-Policy", "script-src 'none'")
	}
	from := 0
	for _, cut := range p.cuts {
		_, _ = w.Write([]byte(p.body[from:cut]))
		_ = http.NewResponseController(w).Flush()
		from = cut
	}
	_, _ = w.Write([]byte(p.body[from:]))
}

// seen is what Chromium made of a page.
type seen struct {
	Ready, Mode, Charset, Title, Text string
	Elements                          int
	Tree                              string // without our script
	First                             string // what our script noted
}

// look tells what there is to see, the tree as text. Of a large one a hash is
// enough. Names are looked up before a page's elements may hide them.
const look = `(() => {
	const ours = [...document.querySelectorAll("script[data-session-context]")].filter((s) => s === document.head.firstChild);
	const parts = [];
	const walk = (node, depth) => {
		if (ours.includes(node)) return;
		parts.push("\n" + depth + " " + node.nodeType + " " + node.nodeName + " " + (node.namespaceURI ?? ""));
		if (node.nodeType === Node.DOCUMENT_TYPE_NODE) parts.push(JSON.stringify([node.publicId, node.systemId]));
		if (node.nodeType !== Node.DOCUMENT_NODE && node.nodeValue !== null) parts.push(JSON.stringify(node.nodeValue));
		if (node.attributes instanceof NamedNodeMap)
			for (const a of node.attributes) parts.push(" " + a.namespaceURI + " " + a.name + "=" + JSON.stringify(a.value));
		if (node instanceof HTMLTemplateElement) walk(node.content, depth + ".");
		for (const child of [...Node.prototype.__lookupGetter__("childNodes").call(node)]) walk(child, depth + ".");
	};
	walk(document, "");
	let tree = parts.join("");
	if (tree.length > 20000) {
		let hash = 0;
		for (let i = 0; i < tree.length; i++) hash = (Math.imul(hash, 31) + tree.charCodeAt(i)) | 0;
		tree = tree.length + " characters, hash " + hash;
	}
	return {
		ready: document.readyState, mode: document.compatMode, charset: document.characterSet,
		title: document.title, text: (document.body?.textContent ?? "").slice(0, 300),
		elements: document.getElementsByTagName("*").length, tree, first: window.firstScript ?? "",
	};
})()`

func open(p *browser.Page, url string) seen {
	p.Open(url)
	return browser.Run(p, chromedp.Evaluate[seen](look))
}

// compare opens each page twice, in two tabs at a time.
func compare(t *testing.T, pages []served) {
	t.Helper()
	site := serve(t, pages)
	// What pages load from elsewhere fails at once.
	b := browser.Start(t, chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"))
	const tabs = 2
	for tab := range tabs {
		t.Run(fmt.Sprint("tab ", tab), func(t *testing.T) {
			t.Parallel()
			tabPage := b.Page(t)
			for i := tab; i < len(pages); i += tabs {
				original := open(tabPage, fmt.Sprintf("%s/original/%d", site, i))
				injected := open(tabPage, fmt.Sprintf("%s/injected/%d", site, i))
				same(t, pages[i], original, injected)
				if pages[i].quiet {
					loud := open(tabPage, fmt.Sprintf("%s/loud/%d", site, i))
					first(t, pages[i], injected, loud)
				}
			}
		})
	}
}

// same checks that only our script was added, and that it ran first.
func same(t *testing.T, page served, original, injected seen) {
	t.Helper()
	if original.Ready != "complete" {
		t.Errorf("%s: the original is %s, not complete", page.name, original.Ready)
	}
	if page.charset != "" && original.Charset != page.charset {
		t.Errorf("%s: Chromium takes the original for %s, want %s", page.name, original.Charset, page.charset)
	}
	if !strings.Contains(original.Text, page.text) {
		t.Errorf("%s: the original says %q, want %q", page.name, original.Text, page.text)
	}
	if strings.Contains(original.Tree, "parsererror") {
		t.Errorf("%s: the original is not well-formed", page.name)
	}
	want := original
	if page.want == inject.Injected {
		want.First = "1 true"
		want.Elements++
	}
	if injected != want {
		t.Errorf("%s: Chromium sees\n%+v\nwant\n%+v", page.name, injected, want)
	}
}

// first checks that our script runs before those of the page, which may change
// whatever else there is.
func first(t *testing.T, page served, quiet, loud seen) {
	t.Helper()
	if loud.First != "1 true" || loud.Ready != quiet.Ready || loud.Mode != quiet.Mode || loud.Charset != quiet.Charset {
		loud.Tree, loud.Text = "", ""
		t.Errorf("%s: with its scripts Chromium sees %+v, without %s %s %s", page.name, loud, quiet.Ready, quiet.Mode, quiet.Charset)
	}
}
