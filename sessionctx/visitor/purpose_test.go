package visitor

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

func TestPurpose(t *testing.T) {
	for _, c := range []struct {
		name, method, headers string
		want                  sessionctx.Purpose
	}{
		{"a navigation", "GET", "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document", sessionctx.PurposeNavigate},
		{"a form's POST", "POST", "Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document", sessionctx.PurposeNavigate},
		{"an old browser", "GET", "Accept: text/html,*/*", sessionctx.PurposeNavigate},
		{"no header at all", "GET", "", sessionctx.PurposeNavigate},
		{"an Android web view", "GET", "X-Requested-With: com.example.app|Accept: text/html", sessionctx.PurposeNavigate},
		{"HEAD", "HEAD", "Sec-Fetch-Dest: document", sessionctx.PurposeHead},
		{"prefetch", "GET", "Sec-Purpose: prefetch|Sec-Fetch-Dest: empty", sessionctx.PurposePrefetch},
		{"prefetch through a proxy", "GET", "Sec-Purpose: prefetch;anonymous-client-ip", sessionctx.PurposePrefetch},
		{"prerender", "GET", "Sec-Purpose: prefetch;prerender|Sec-Fetch-Dest: document", sessionctx.PurposePrerender},
		{"prerender with blanks and capitals", "GET", "Sec-Purpose: Prefetch ; Prerender", sessionctx.PurposePrerender},
		{"an unknown Sec-Purpose", "GET", "Sec-Purpose: dreaming|Sec-Fetch-Dest: document", sessionctx.PurposeNavigate},
		{"older Chrome's prefetch", "GET", "Purpose: prefetch", sessionctx.PurposePrefetch},
		{"older Firefox's prefetch", "GET", "X-Moz: prefetch", sessionctx.PurposePrefetch},
		{"Safari's preview", "GET", "X-Purpose: preview", sessionctx.PurposePrefetch},
		{"an in-app browser's preview", "GET", "X-Purpose: preview|X-FB-HTTP-Engine: Liger|Accept: text/html", sessionctx.PurposePrefetch},
		{"older Chrome's prerendering", "GET", "Purpose: prefetch|X-Purpose: preview|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document", sessionctx.PurposePrefetch},
		{"Firefox's prefetch of a link", "GET", "Sec-Purpose: prefetch|Sec-Fetch-Site: same-origin|Sec-Fetch-Mode: no-cors|Sec-Fetch-Dest: empty", sessionctx.PurposePrefetch},
		{"Firefox's, where both are sent", "GET", "X-moz: prefetch|Sec-Purpose: prefetch|Sec-Fetch-Dest: empty", sessionctx.PurposePrefetch},
		{"an older word for it", "GET", "X-Moz: prerender", sessionctx.PurposePrerender},
		{"speculation rules, prefetch", "GET", "Sec-Purpose: prefetch|Sec-Speculation-Tags: null|Sec-Fetch-Site: none|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document", sessionctx.PurposePrefetch},
		{"prerender through a proxy", "GET", "Sec-Purpose: prefetch;anonymous-client-ip;prerender", sessionctx.PurposePrerender},
		{"Chrome's preview of a link", "GET", "Sec-Purpose: prefetch;prerender;preview|Sec-Fetch-Dest: document", sessionctx.PurposePrerender},
		{"an unknown older purpose", "GET", "Purpose: dreaming|Accept: text/html", sessionctx.PurposeNavigate},
		{"prefetch with a worker's preload", "GET", "Sec-Purpose: prefetch|Service-Worker-Navigation-Preload: true|Sec-Fetch-Dest: document", sessionctx.PurposePrefetch},
		{"HEAD ahead of time", "HEAD", "Sec-Purpose: prefetch", sessionctx.PurposeHead},
		{"a part", "GET", "Range: bytes=0-99|Accept: text/html", sessionctx.PurposeRange},
		{"a part of a page that is navigated to", "GET", "Range: bytes=0-|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document", sessionctx.PurposeRange},
		{"another site's frame", "GET", "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: iframe", sessionctx.PurposeIframe},
		{"another site's old frame", "GET", "Sec-Fetch-Site: cross-site|Sec-Fetch-Dest: frame", sessionctx.PurposeIframe},
		{"a frame of unknown site", "GET", "Sec-Fetch-Dest: iframe", sessionctx.PurposeIframe},
		{"one's own frame", "GET", "Sec-Fetch-Site: same-origin|Sec-Fetch-Dest: iframe", sessionctx.PurposeNavigate},
		{"one's own frame within another site's", "GET", "Sec-Fetch-Site: same-origin|Sec-Fetch-Dest: iframe|Sec-Fetch-Storage-Access: none", sessionctx.PurposeIframe},
		{"a click in it", "GET", "Sec-Fetch-Site: same-origin|Sec-Fetch-Dest: iframe|Sec-Fetch-Storage-Access: active|Sec-Fetch-User: ?1", sessionctx.PurposeNavigate},
		{"another site's frame that a click there opens", "GET", "Sec-Fetch-Site: cross-site|Sec-Fetch-Dest: iframe|Sec-Fetch-Storage-Access: none|Sec-Fetch-User: ?1", sessionctx.PurposeIframe},
		{"a sibling's frame", "GET", "Sec-Fetch-Site: same-site|Sec-Fetch-Dest: iframe", sessionctx.PurposeNavigate},
		{"a prefetched frame", "GET", "Sec-Purpose: prefetch|Sec-Fetch-Site: cross-site|Sec-Fetch-Dest: iframe", sessionctx.PurposePrefetch},
		{"a service worker's script", "GET", "Sec-Fetch-Dest: serviceworker", sessionctx.PurposeServiceWorker},
		{"the same in older words", "GET", "Service-Worker: script", sessionctx.PurposeServiceWorker},
		{"navigation preload", "GET", "Service-Worker-Navigation-Preload: true|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document", sessionctx.PurposeServiceWorker},
		{"a navigation that a worker passes on", "GET", "Sec-Fetch-Site: same-origin|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: empty", sessionctx.PurposeServiceWorker},
		{"what a worker fetches for its cache", "GET", "Sec-Fetch-Site: same-origin|Sec-Fetch-Mode: cors|Sec-Fetch-Dest: empty", sessionctx.PurposeSubresource},
		{"fetch", "GET", "Sec-Fetch-Mode: cors|Sec-Fetch-Dest: empty", sessionctx.PurposeSubresource},
		{"an image", "GET", "Sec-Fetch-Mode: no-cors|Sec-Fetch-Dest: image", sessionctx.PurposeSubresource},
		{"XMLHttpRequest of old", "GET", "X-Requested-With: XMLHttpRequest", sessionctx.PurposeSubresource},
		{"JSON wanted", "GET", "Accept: application/json", sessionctx.PurposeSubresource},
		{"a websocket", "GET", "Upgrade: websocket", sessionctx.PurposeSubresource},
		{"mode without destination", "GET", "Sec-Fetch-Mode: cors", sessionctx.PurposeSubresource},
	} {
		r := httptest.NewRequest(c.method, "/", nil)
		for line := range strings.SplitSeq(c.headers, "|") {
			if name, v, ok := strings.Cut(line, ": "); ok {
				r.Header.Set(name, v)
			}
		}
		var rd Reader
		if got := rd.Read(Request{HTTP: r}).Purpose; got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestSignalsAndFetchMetadata(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Sec-GPC", "1")
	r.Header.Set("DNT", "1")
	r.Header.Set("Sec-Fetch-Site", "same-site")
	r.Header.Set("Sec-Fetch-Mode", "navigate\x01")
	r.Header.Set("Sec-Fetch-Dest", strings.Repeat("d", 1e5))
	r.Header.Set("Sec-Fetch-User", "?1")
	r.Header.Set("Sec-Fetch-Storage-Access", "inactive")
	r.Header.Set("Sec-Purpose", "prefetch; Anonymous-Client-IP")
	var rd Reader
	f := rd.Read(Request{HTTP: r})
	want := sessionctx.Fetch{ThirdParty: true, AnonymousIP: true, Site: "same-site", Mode: "navigate", Dest: strings.Repeat("d", 32), User: true}
	if !f.GPC || !f.DNT || f.Fetch != want {
		t.Errorf("%v %v %+v", f.GPC, f.DNT, f.Fetch)
	}
	r.Header.Set("Sec-GPC", "0")
	r.Header.Set("DNT", "null")
	if f := rd.Read(Request{HTTP: r}); f.GPC || f.DNT {
		t.Error("signals that were not given")
	}
}
