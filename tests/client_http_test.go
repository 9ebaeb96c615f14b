package tests

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/firebuzz/caddy-sessionctx/client"
)

// TestClientIsServed: the runtime comes by its own name for ever, by others for
// the moment, to everyone and without cookies.
func TestClientIsServed(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	alone := "http://" + freeAddr(t)
	c.write(globals("") + "SITE {\n\t" + campaignLines("cmp_1", "client on", "api_path /s") + "\n\troot DIR/www\n\tfile_server\n}\n" +
		alone + " {\n\tsession_context_api\n\trespond nobody 404\n}\n")
	c.start()

	const forever, now = "public, max-age=31536000, immutable", "no-cache"
	type request struct {
		name, method, url, match string
		status                   int
		cache                    string
		script                   *client.Script
	}
	tests := []request{
		{"no script of ours", "GET", c.site + "/s/runtime-other.js", "", 404, "", nil},
	}
	for _, s := range client.Modules {
		below, plain := c.site+"/s/", s.Name+".js"
		tests = append(tests, []request{
			{"by its own name", "GET", below + s.File(), "", 200, forever, s},
			{"below the default path", "GET", c.site + "/client-api/v1/" + s.File(), "", 200, forever, s},
			{"by session_context_api", "GET", alone + "/client-api/v1/" + s.File(), "", 200, forever, s},
			{"by another build's name", "GET", below + s.Name + "." + strings.Repeat("0", len(s.Hash)) + ".js", "", 200, now, s},
			{"by a name that stays", "GET", below + plain, "", 200, now, s},
			{"unchanged", "GET", below + plain, `"` + s.Hash + `"`, 304, now, s},
			{"its head", "HEAD", below + s.File(), "", 200, forever, s},
			{"posted to", "POST", below + s.File(), "", 405, "no-store", s},
			{"by a name that is no hash", "GET", below + s.Name + ".0000000000000zzz.js", "", 404, "", s},
			{"by half a name", "GET", below + s.Name + "." + s.Hash, "", 404, "", s},
		}...)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequest(tt.method, tt.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Origin", "https://elsewhere.example")
			req.Header.Set("If-None-Match", tt.match)
			res, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			h := res.Header
			if res.StatusCode != tt.status || tt.cache != "" && h.Get("Cache-Control") != tt.cache {
				t.Fatalf("%d, header %v", res.StatusCode, h)
			}
			if tt.status == 200 && tt.method == "GET" && string(body) != string(tt.script.Body) {
				t.Errorf("it is another script, of %d bytes", len(body))
			}
			if tt.status == 200 && (h.Get("Content-Type") != "text/javascript; charset=utf-8" || h.Get("X-Content-Type-Options") != "nosniff" ||
				h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Cross-Origin-Resource-Policy") != "cross-origin") {
				t.Errorf("header %v", h)
			}
			if len(h.Values("Set-Cookie")) > 0 {
				t.Errorf("it sets cookies: %v", h.Values("Set-Cookie"))
			}
		})
	}
}

// TestClientTag: pages get the runtime's script with their context, as one
// piece, in each way that they get that.
func TestClientTag(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	loader := "http://" + freeAddr(t)
	c.write(globals("") + "SITE {\n\t" + campaignLines("cmp_1", "client on", "web_vitals on", "variable other$Name") + "\n\theader Content-Security-Policy \"script-src 'nonce-own'\"\n\troot DIR/www\n\tfile_server\n}\n" +
		loader + " {\n\t" + campaignLines("cmp_2", "client on", "inject loader") + "\n\troot DIR/www\n\tfile_server\n}\n")
	c.start()

	_, body := newVisitor(t, c.site, desktop, false).page("/")
	head, rest, _ := strings.Cut(body, "<head>")
	tag, rest, _ := strings.Cut(rest, "</script>")
	want := `<script data-session-context="" type="module" async="" nonce="`
	nonce, ok := strings.CutPrefix(tag, want)
	nonce, src, _ := strings.Cut(nonce, `"`)
	if !ok || src != ` src="/client-api/v1/`+client.Runtime.File()+`#other$Name,`+client.RuntimeIdle.File()+`">` {
		t.Errorf("the tag is %s", tag)
	}
	context := `<script data-session-context="" nonce="` + nonce + `">document.currentScript.removeAttribute("nonce");document.currentScript.previousSibling.removeAttribute("nonce");window.other$Name=`
	if !strings.HasPrefix(rest, context) {
		t.Errorf("behind it stands %.200s", rest)
	}
	if _, rest, _ = strings.Cut(rest, "</script>"); head+"<head>"+rest != plainPage {
		t.Errorf("the page differs by more than the scripts:\n%s", body)
	}

	_, body = newVisitor(t, loader, desktop, false).page("/")
	want = `<head><script data-session-context="" type="module" async="" src="/client-api/v1/` + client.Runtime.File() + `"></script><script data-session-context="" src="/client-api/v1/session/context.js?campaign_id=cmp_2"></script>`
	if strings.Replace(body, want, "<head>", 1) != plainPage {
		t.Errorf("the page with a loader:\n%s", body)
	}
}
