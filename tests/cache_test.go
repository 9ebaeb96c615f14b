package tests

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sharedCache is an nginx that keeps what it may, as an operator sets one up.
// It has a server for each site behind it.
type sharedCache struct {
	t       testing.TB
	dir     string
	servers strings.Builder
	addrs   []string
}

func newSharedCache(t testing.TB) *sharedCache { return &sharedCache{t: t, dir: t.TempDir()} }

// before adds a server in front of the site, with settings of its own, and
// gives its URL.
func (n *sharedCache) before(site string, settings ...string) string {
	addr := freeAddr(n.t)
	n.addrs = append(n.addrs, addr)
	fmt.Fprintf(&n.servers, `
	server {
		listen %s;
		location / {
			proxy_pass %s;
			proxy_set_header Host $http_host;
			proxy_cache shared;
			proxy_cache_valid 200 10m;
			proxy_cache_revalidate on;
			add_header X-Cache-Status $upstream_cache_status always;
			%s
		}
	}`, addr, site, strings.Join(settings, "\n\t\t\t"))
	return "http://" + addr
}

func (n *sharedCache) start() {
	n.t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil { // it lies in sbin, which is not in everyone's PATH
		if path, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			n.t.Fatal("nginx is not installed: run make setup")
		}
	}
	user := ""
	if os.Geteuid() == 0 { // or the workers could not read the directory
		user = "user root;\n"
	}
	config := user + `daemon off;
pid nginx.pid;
events {}
http {
	access_log off;
	client_body_temp_path temp/body;
	proxy_temp_path temp/proxy;
	fastcgi_temp_path temp/fastcgi;
	uwsgi_temp_path temp/uwsgi;
	scgi_temp_path temp/scgi;
	proxy_cache_path cache keys_zone=shared:1m;
` + n.servers.String() + "\n}\n"
	if err := os.Mkdir(filepath.Join(n.dir, "temp"), 0o700); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.dir, "nginx.conf"), []byte(config), 0o600); err != nil {
		n.t.Fatal(err)
	}
	log := &logBuffer{}
	cmd := exec.Command(path, "-p", n.dir, "-e", "stderr", "-c", "nginx.conf")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		cmd.Wait()
		close(done)
	}()
	n.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) // a killed master would leave its workers
		<-done
		if n.t.Failed() {
			n.t.Logf("log of nginx:\n%s", log.String())
		}
	})
	eventually(n.t, 30*time.Second, "nginx answers", func() error {
		select {
		case <-done:
			n.t.Fatalf("nginx ended at its start:\n%s", log.String())
		default:
		}
		for _, addr := range n.addrs {
			res, err := http.Get("http://" + addr + "/there-is-no-such-page")
			if err != nil {
				return err
			}
			res.Body.Close()
		}
		return nil
	})
}

// cacheRow is what an upstream says about its page to caches.
type cacheRow struct {
	name   string
	header []string
}

var cacheRows = []cacheRow{
	{"nothing", nil},
	{"max-age", []string{"Cache-Control", "public, max-age=600"}},
	{"two lines", []string{"Cache-Control", "public", "Cache-Control", "max-age=600, immutable"}},
	{"s-maxage", []string{"Cache-Control", "s-maxage=600"}},
	{"stale answers", []string{"Cache-Control", "max-age=600, stale-while-revalidate=600, stale-if-error=600"}},
	{"Expires", []string{"Expires", "Fri, 31 Dec 2100 23:59:59 GMT"}},
	{"X-Accel-Expires", []string{"X-Accel-Expires", "600"}},
	{"X-Accel-Expires, a time", []string{"X-Accel-Expires", "@4133980799"}},
	{"Surrogate-Control", []string{"Surrogate-Control", "max-age=600", "Surrogate-Key", "pages"}},
	{"CDN-Cache-Control", []string{"CDN-Cache-Control", "max-age=600"}},
	{"vendors", []string{
		"Cloudflare-CDN-Cache-Control", "max-age=600", "Vercel-CDN-Cache-Control", "max-age=600", "Netlify-CDN-Cache-Control", "public, durable, max-age=600",
		"Akamai-Cache-Control", "max-age=600", "Edge-Control", "cache-maxage=600", "X-LiteSpeed-Cache-Control", "public,max-age=600",
	}},
	{"validators", []string{"Cache-Control", "max-age=600", "ETag", `"x"`, "Last-Modified", "Fri, 01 Jan 2021 00:00:00 GMT"}},
	{"Vary", []string{"Cache-Control", "max-age=600", "Vary", "Accept-Encoding, Accept-Language"}},
}

// cachedUpstream serves a page for each row, and what belongs to pages.
func cachedUpstream(t testing.TB) (addr string) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		switch r.URL.Path {
		case "/app.js":
			h.Set("Content-Type", "text/javascript")
			h.Set("Cache-Control", "public, max-age=600")
			h.Set("ETag", `"js"`)
			io.WriteString(w, "let x")
			return
		case "/image.svg":
			h.Set("Content-Type", "image/svg+xml")
			io.WriteString(w, `<svg xmlns="http://www.w3.org/2000/svg"/>`)
			return
		}
		for i, row := range cacheRows {
			if r.URL.Path != fmt.Sprintf("/%d", i) {
				continue
			}
			for i := 0; i < len(row.header); i += 2 {
				h.Add(row.header[i], row.header[i+1])
			}
			if etag := h.Get("ETag"); etag != "" && r.Header.Get("If-None-Match") == etag {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			h.Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, plainPage)
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(upstream.Close)
	return strings.TrimPrefix(upstream.URL, "http://")
}

func campaignLines(campaign string, more ...string) string {
	return "session_context {\n\t\tworkspace ws_1\n\t\tproject pr_1\n\t\tcampaign " + campaign + "\n\t\t" + strings.Join(more, "\n\t\t") + "\n\t}"
}

// cachedSites starts a Caddy of several sites in front of the upstream, and
// gives their URLs.
func cachedSites(t testing.TB, upstream string, sites map[string]string) map[string]string {
	t.Helper()
	c := newCaddy(t)
	config := globals("") + "SITE {\n\trespond 404\n}\n"
	urls := make(map[string]string)
	for name, lines := range sites {
		site := "http://" + freeAddr(t)
		config += site + " {\n\t" + lines + "\n\treverse_proxy " + upstream + "\n}\n"
		urls[name] = site
	}
	c.write(config)
	c.start()
	return urls
}

func cacheStatus(res *http.Response) string { return res.Header.Get("X-Cache-Status") }

// TestSharedCache: whatever an upstream says, a cache in front keeps no page
// of one visitor for another, and everything else as before.
func TestSharedCache(t *testing.T) {
	t.Parallel()
	upstream := cachedUpstream(t)
	n := newSharedCache(t)
	sites := cachedSites(t, upstream, map[string]string{
		"cookieless": campaignLines("cmp_1", "identity cookieless"),
		"cookie":     campaignLines("cmp_2"),
	})
	plain := n.before("http://" + upstream)
	// Without cookies no Set-Cookie keeps nginx from storing.
	cookieless, cookie := n.before(sites["cookieless"]), n.before(sites["cookie"])
	n.start()

	for i, row := range cacheRows {
		t.Run(row.name, func(t *testing.T) {
			path := fmt.Sprintf("/%d", i)
			alone := newVisitor(t, plain, desktop, false)
			alone.page(path)
			if res, _ := alone.page(path); cacheStatus(res) != "HIT" {
				t.Errorf("without the module nginx says %q: the row proves nothing", cacheStatus(res))
			}
			for _, site := range []string{cookieless, cookie} {
				seen := make(map[string]bool)
				for i := range 3 {
					v := newVisitor(t, site, desktop, site == cookie)
					res, body := v.page(path, "If-None-Match", `"x"`)
					s := parseContext(t, body)
					if res.StatusCode != 200 || seen[s.Session.SessionID] || cacheStatus(res) == "HIT" {
						t.Errorf("visitor %d: %d, nginx says %q, session seen before: %v", i, res.StatusCode, cacheStatus(res), seen[s.Session.SessionID])
					}
					seen[s.Session.SessionID] = true
					// A visitor who comes again has no new cookie.
					if res, body := v.page(path); site == cookie {
						if again := parseContext(t, body); again.Session.SessionID != s.Session.SessionID || len(res.Header["Set-Cookie"]) > 0 {
							t.Errorf("the visitor came again, with session %s after %s and %q", again.Session.SessionID, s.Session.SessionID, res.Header["Set-Cookie"])
						}
					}
				}
			}
		})
	}
	for _, path := range []string{"/app.js", "/image.svg"} {
		v := newVisitor(t, cookieless, desktop, false)
		asset := func(header ...string) *http.Response {
			res, _ := v.page(path, append(header, "Accept", "*/*", "Sec-Fetch-Dest", "script", "Sec-Fetch-Mode", "no-cors")...)
			return res
		}
		asset()
		if res := asset(); cacheStatus(res) != "HIT" {
			t.Errorf("%s: nginx says %q", res.Request.URL, cacheStatus(res))
		}
		if etag := asset().Header.Get("ETag"); etag != "" {
			if res := asset("If-None-Match", etag); res.StatusCode != 304 {
				t.Errorf("%s: the cache answers %d to its own validator", res.Request.URL, res.StatusCode)
			}
		}
	}
}

// TestSharedCacheAndLoader: pages with the loader are kept as they were, what
// it loads is not.
func TestSharedCacheAndLoader(t *testing.T) {
	t.Parallel()
	upstream := cachedUpstream(t)
	n := newSharedCache(t)
	sites := cachedSites(t, upstream, map[string]string{"loader": campaignLines("cmp_1", "inject loader")})
	front := n.before(sites["loader"])
	n.start()
	for i, row := range cacheRows {
		v := newVisitor(t, front, desktop, false)
		path := fmt.Sprintf("/%d", i)
		v.page(path)
		res, body := v.page(path)
		if cacheStatus(res) != "HIT" || !strings.Contains(body, `src="/client-api/v1/session/context.js"`) {
			t.Errorf("%s: nginx says %q, the page is\n%s", row.name, cacheStatus(res), body)
		}
		if etag := res.Header.Get("ETag"); etag != "" {
			if res, _ := v.page(path, "If-None-Match", etag); res.StatusCode != 304 {
				t.Errorf("%s: the cache answers %d to its own validator", row.name, res.StatusCode)
			}
		} else if row.name == "validators" {
			t.Error("the page lost its validator")
		}
	}
	seen := make(map[string]bool)
	for range 3 {
		v := newVisitor(t, front, desktop, true)
		var sessions [2]string
		for i := range sessions {
			res, body := v.page("/client-api/v1/session/context.js", "Accept", "*/*", "Sec-Fetch-Dest", "script", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Site", "same-origin", "Referer", front+"/1")
			_, rest, _ := strings.Cut(body, `"sessionId":"`)
			sessions[i], _, _ = strings.Cut(rest, `"`)
			if sessions[i] == "" || cacheStatus(res) == "HIT" {
				t.Fatalf("nginx says %q, the script is\n%s", cacheStatus(res), body)
			}
		}
		if sessions[0] != sessions[1] || seen[sessions[0]] {
			t.Errorf("a visitor has the sessions %q, seen before: %v", sessions, seen[sessions[0]])
		}
		seen[sessions[0]] = true
	}
}

// TestOverriddenCacheRules: nginx keeps no page of one visitor for another
// where an operator's rules replace ours, or where it is told to go by
// X-Accel-Expires alone. Told to ignore that as well, it does: README warns.
func TestOverriddenCacheRules(t *testing.T) {
	t.Parallel()
	upstream := cachedUpstream(t)
	n := newSharedCache(t)
	sites := cachedSites(t, upstream, map[string]string{
		"header":   "header Cache-Control \"public, max-age=600\"\n\t" + campaignLines("cmp_1", "identity cookieless"),
		"deferred": "header >Cache-Control \"public, max-age=600\"\n\t" + campaignLines("cmp_2", "identity cookieless"),
		"inside":   campaignLines("cmp_3", "identity cookieless"),
	})
	const ignoring, deaf = "proxy_ignore_headers Cache-Control Expires;", "proxy_ignore_headers Cache-Control Expires X-Accel-Expires;"
	rows := []struct{ name, url, path, want, cacheControl string }{
		{"header", n.before(sites["header"]), "/0", "MISS", "private, no-cache"},
		{"deferred header", n.before(sites["deferred"]), "/0", "MISS", "public, max-age=600"},
		{"Cache-Control is ignored", n.before(sites["inside"], ignoring), "/0", "MISS", "private, no-cache"},
		{"X-Accel-Expires alone counts", n.before(sites["inside"], ignoring), rowPath("X-Accel-Expires"), "MISS", "private, no-cache"},
		{"without the module", n.before("http://"+upstream, ignoring), rowPath("X-Accel-Expires"), "HIT", ""},
		{"everything is ignored", n.before(sites["inside"], deaf), "/0", "HIT", "private, no-cache"},
	}
	n.start()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			_, first := newVisitor(t, row.url, desktop, false).page(row.path)
			res, second := newVisitor(t, row.url, desktop, false).page(row.path)
			if cacheStatus(res) != row.want || (first == second) != (row.want == "HIT") {
				t.Errorf("nginx says %q, want %q; the same page twice: %v", cacheStatus(res), row.want, first == second)
			}
			if row.cacheControl == "" {
				return
			}
			for name, want := range map[string]string{"Cache-Control": row.cacheControl, "CDN-Cache-Control": "no-store", "Surrogate-Control": "no-store"} {
				if got := res.Header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

// rowPath is where the upstream has the page of the row.
func rowPath(name string) string {
	return fmt.Sprintf("/%d", slices.IndexFunc(cacheRows, func(row cacheRow) bool { return row.name == name }))
}

// TestSharedCacheAndOtherRequests: an answer that was not for a page request
// has no session in it, so a cache keeps it, for requests of that kind: visitors
// of that URL get a page with a context of their own all the same.
func TestSharedCacheAndOtherRequests(t *testing.T) {
	t.Parallel()
	for name, other := range map[string][]string{
		"by a script":   {"Sec-Fetch-Dest", "empty", "Sec-Fetch-Mode", "cors"},
		"by no browser": {"Sec-Fetch-Dest", "", "Sec-Fetch-Mode", "", "Accept", "application/json"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newSharedCache(t)
			sites := cachedSites(t, cachedUpstream(t), map[string]string{"site": campaignLines("cmp_1", "identity cookieless", "debug")})
			front := n.before(sites["site"])
			n.start()
			v := newVisitor(t, front, desktop, false)
			for _, want := range []string{"MISS", "HIT"} {
				res, body := v.page("/0", other...)
				if got := res.Header.Get("Session-Context"); got != "skipped; reason=not_a_page_request" || cacheStatus(res) != want || body != plainPage {
					t.Errorf("%q, nginx says %q, want %q", got, cacheStatus(res), want)
				}
			}
			first, body := v.page("/0")
			one := parseContext(t, body)
			res, body := v.page("/0")
			if two := parseContext(t, body); one.Session.SessionID == two.Session.SessionID {
				t.Errorf("a session comes out of the cache: %q, then %q", cacheStatus(first), cacheStatus(res))
			}
		})
	}
}
