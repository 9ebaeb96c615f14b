package tests

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// doctorFinding is one of what `caddy session-context doctor --json` prints.
type doctorFinding struct{ Level, Code, Text, Remedy string }

func (f doctorFinding) bad() bool { return f.Level == "warning" || f.Level == "error" }

// doctor runs the command for a URL.
func (c *caddy) doctor(args ...string) (findings []doctorFinding, code int) {
	c.t.Helper()
	cmd := c.command(append([]string{"session-context", "doctor", "--json", "--address", c.admin}, args...)...)
	cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+c.path("data/caddy/pki/authorities/local/root.crt"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	code = exitCode(c.t, err)
	var document struct{ Findings []doctorFinding }
	if err := json.Unmarshal(out, &document); err != nil {
		c.t.Fatalf("doctor %v: %v\n%s%s", args, err, out, stderr.String())
	}
	for _, f := range document.Findings {
		if f.bad() && f.Remedy == "" {
			c.t.Errorf("a %s without remedy: %+v", f.Level, f)
		}
	}
	return document.Findings, code
}

// TestDoctorOfAHealthySite: nothing is wrong, all is looked at, and no visit is
// counted.
func TestDoctorOfAHealthySite(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := newCaddy(t)
	site := secureOrigin(t)
	writePage(t, c, "index.html", plainPage)
	c.write("{\n\tadmin ADMIN\n\tpersist_config off\n\tauto_https disable_redirects\n\tlocal_certs\n\tskip_install_trust\n\tsession_context {\n" + tinybirdSink(tb) + "\n\t}\n}\n" +
		site + " {\n\tencode zstd gzip\n\theader Content-Security-Policy \"default-src 'self'\"\n\t" + campaignLines("cmp_1", "client on", "consent {", "\trequire always", "}") + "\n\troot DIR/www\n\tfile_server\n}\n")
	c.start()
	waitCertificate(t, site)
	findings, code := c.doctor(site, "--to", strings.Replace(address(site), "localhost", "127.0.0.1", 1))
	looked := map[string]bool{}
	for _, f := range findings {
		looked[f.Code] = true
		if f.bad() {
			t.Errorf("%+v", f)
		}
	}
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, code := range []string{"address", "certificate", "page", "context", "policy", "runtime", "sharing", "api", "tokens", "status", "geo"} {
		if !looked[code] {
			t.Errorf("%s was not looked at", code)
		}
	}
	for _, row := range waitRows(t, tb, "traffic_v1", 2) {
		expect(t, "page of a doctor", row, map[string]any{"purpose": "prefetch", "counted": 0})
	}
	c.stop() // delivers
	if rows, _ := tb.Distinct("session_v1"); len(rows) > 0 {
		t.Errorf("visits: %v", rows)
	}

	// Nor where a proxy passes on no header that says what a request is for.
	bare := startLanding(t, globals(tinybirdSink(tb))+landing("30m", "visit page"))
	before := startCaddy(t, "{\n\tadmin ADMIN\n\tauto_https off\n\tpersist_config off\n}\nSITE {\n\treverse_proxy "+address(bare.site)+" {\n\t\theader_up -Sec-*\n\t\theader_up Host {hostport}\n\t}\n}\n")
	if _, code := bare.doctor(before.site); code != 0 {
		t.Errorf("exit code %d behind a proxy", code)
	}
	for _, row := range waitRows(t, tb, "traffic_v1", 4) {
		expect(t, "page of a doctor", row, map[string]any{"counted": 0})
	}
	bare.stop()
	if rows, _ := tb.Distinct("session_v1"); len(rows) > 0 {
		t.Errorf("visits: %v", rows)
	}

	out, err := c.command("session-context", "doctor", site, "--address", c.admin).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "connection") || !strings.Contains(string(out), "→ see that Caddy runs") {
		t.Errorf("of a site that is down: %v\n%s", err, out)
	}
}

// sick is a site with something wrong with it, and what doctor has to find.
type sick struct {
	name  string
	block string // of the Caddyfile, less its address
	page  string // default: /
	args  []string
	// level and code of what is found, with a part of its text.
	level, code, text string
	// front stands before the site and gives the URL that is asked.
	front func(site string) string
}

// TestDoctorFinds what is wrong, and nothing else.
func TestDoctorFinds(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	writePage(t, c, "meta.html", strings.Replace(plainPage, "<title>", `<meta http-equiv="Content-Security-Policy" content="connect-src https://elsewhere.example"><title>`, 1))
	writePage(t, c, "app.js", "let x")
	cache := newSharedCache(t)
	files := "\n\troot DIR/www\n\tfile_server"
	apart := freeAddr(t)
	closed := "\n\t@closed not header X-Key secret\n\trespond @closed 403"
	sites := []sick{
		{name: "nothing", block: campaignLines("cmp_well") + files},
		{name: "nothing with a loader", block: campaignLines("cmp_loader", "inject loader", "client on") + files},
		{name: "no directive", block: strings.TrimSpace(files), level: "error", code: "context", text: "no context"},
		{name: "an API without pages", block: "session_context_api" + files, level: "error", code: "context", text: "no context"},
		{name: "off", block: campaignLines("cmp_off", "inject off") + files, level: "error", code: "context", text: "no context"},
		{name: "no page", block: campaignLines("cmp_js") + files, page: "/app.js", level: "error", code: "page", text: "text/javascript"},
		{name: "missing page", block: campaignLines("cmp_404") + files, page: "/missing", level: "error", code: "page", text: "404"},
		{name: "a copy with its script", block: "root DIR/www/copy\n\tfile_server", level: "error", code: "sharing", text: "the same session"},
		{name: "a late policy", block: campaignLines("cmp_late") + "\n\theader >Content-Security-Policy \"script-src 'self'\"" + files, level: "error", code: "policy", text: "script-src 'self'"},
		{name: "a late policy and a loader", block: campaignLines("cmp_late_loader", "inject loader") + "\n\theader >Content-Security-Policy \"script-src 'nonce-YWJj'\"" + files, level: "error", code: "policy", text: "the loader may not run"},
		{name: "no connections", block: campaignLines("cmp_connect") + "\n\theader Content-Security-Policy \"connect-src 'none'\"" + files, level: "error", code: "policy", text: "may not call the API"},
		{name: "no connections by meta", block: campaignLines("cmp_meta") + files, page: "/meta.html", level: "error", code: "policy", text: "elsewhere.example"},
		{name: "connections to the API alone", block: campaignLines("cmp_only") + "\n\theader Content-Security-Policy \"connect-src SELF/client-api/v1/\"" + files},
		{name: "shared pages", block: campaignLines("cmp_shared") + "\n\theader >Cache-Control \"public, max-age=60\"" + files, level: "warning", code: "sharing", text: "should be private"},
		{name: "no way to the API", block: "@pages not path /client-api/*\n\t" + strings.Replace(campaignLines("cmp_way"), "session_context", "session_context @pages", 1) + files, level: "error", code: "api", text: "404, and not the API's"},
		{name: "another path of the API", block: campaignLines("cmp_path", "api_path /s", "client on") + files},
		{name: "an API on another host", block: campaignLines("cmp_apart", "api_base_url http://"+apart, "allow_origin SELF") + files},
		{name: "an API on a host that is closed", block: campaignLines("cmp_closed", "api_base_url http://"+apart) + files, level: "error", code: "api", text: "origin_not_allowed"},
		{name: "an API that is down", block: campaignLines("cmp_down", "api_base_url http://127.0.0.1:1") + files, level: "error", code: "api", text: "refused"},
		{name: "a closed site", block: campaignLines("cmp_closed_site") + closed + files, level: "error", code: "page", text: "403"},
		{name: "a closed site that is let in", block: campaignLines("cmp_let_in") + closed + files, args: []string{"-H", "X-Key: secret", "-H", "X-Other:a: b"}},
		{name: "a redirect", block: "redir /old /\n\t" + campaignLines("cmp_redirect") + files, page: "/old"},
		{name: "a cache behind", block: campaignLines("cmp_behind") + "\n\thandle {\n\t\theader X-Cache HIT\n\t\theader Age 99\n\t\theader Via \"1.1 varnish\"\n" + files + "\n\t}"},
		{name: "off, as is wanted", block: campaignLines("cmp_off_debug", "inject off", "debug") + files},
		{name: "a firewall before events", block: "@events path /client-api/v1/events/track\n\troute {\n\t\trespond @events 403\n\t\t" + campaignLines("cmp_wall") + "\n\t}" + files, level: "error", code: "api", text: "takes no events at events/track"},
		{name: "a proxy that is not trusted", block: campaignLines("cmp_proxy") + files, front: func(site string) string { return cache.before(site) }, level: "warning", code: "trusted_proxies", text: "a cache stands before Caddy"},
		{name: "a cache that obeys nothing", block: campaignLines("cmp_cache") + files, front: func(site string) string {
			return cache.before(site, "proxy_ignore_headers Cache-Control Expires X-Accel-Expires Set-Cookie Vary;")
		}, level: "error", code: "sharing", text: "the same session"},
	}
	config := globals("") + "SITE {\n\trespond ok\n}\nhttp://" + apart + " {\n\tsession_context_api\n}\n"
	urls := map[string]string{}
	for _, s := range sites {
		site := "http://" + freeAddr(t)
		config += site + " {\n\t" + strings.Replace(s.block, "SELF", site, 1) + "\n}\n"
		urls[s.name] = site
		if s.front != nil {
			urls[s.name] = s.front(site)
		}
	}
	c.write(config)
	c.start()
	cache.start()
	_, copy := newVisitor(t, urls["nothing"], desktop, false).page("/")
	writePage(t, c, "copy/index.html", copy)
	for _, s := range sites {
		t.Run(s.name, func(t *testing.T) {
			findings, code := c.doctor(append([]string{urls[s.name] + s.page}, s.args...)...)
			found := s.code == ""
			for _, f := range findings {
				switch {
				case !f.bad():
				case f.Level == s.level && f.Code == s.code && strings.Contains(f.Text, s.text):
					found = true
				case slices.Contains(consequences[s.code], f.Code):
				default:
					t.Errorf("it found %+v", f)
				}
			}
			if want := map[bool]int{true: 0, false: 1}[s.code == ""]; !found || code != want {
				t.Errorf("exit code %d, want %d with a %s %s about %q: it found\n%+v", code, want, s.level, s.code, s.text, findings)
			}
		})
	}
}

// consequences are what else is wrong where the first is.
var consequences = map[string][]string{
	"page":    {"api", "tokens"},
	"context": {"api", "tokens"},
	// The nginx before is not trusted there either.
	"sharing": {"trusted_proxies", "api"},
	"policy":  {"policy"},
}

// TestDoctorOfNodesWithoutOneStorage: what one makes the other refuses.
func TestDoctorOfNodesWithoutOneStorage(t *testing.T) {
	t.Parallel()
	var nodes []string
	for range 2 {
		c := newCaddy(t)
		writePage(t, c, "index.html", plainPage)
		c.write(globals("") + landing("30m"))
		c.start()
		nodes = append(nodes, address(c.site))
	}
	balancer := startCaddy(t, "{\n\tadmin ADMIN\n\tauto_https off\n\tpersist_config off\n}\nSITE {\n\treverse_proxy "+strings.Join(nodes, " ")+" {\n\t\tlb_policy round_robin\n\t}\n}\n")
	findings, code := balancer.doctor(balancer.site)
	if code != 1 || !slices.ContainsFunc(findings, func(f doctorFinding) bool {
		return f.Code == "tokens" && f.Level == "error" && strings.Contains(f.Text, "invalid_session")
	}) {
		t.Errorf("exit code %d\n%+v", code, findings)
	}
	// Its own admin API knows nothing of session_context: that is said, and wrong is something else.
	if !slices.ContainsFunc(findings, func(f doctorFinding) bool { return f.Code == "server" && f.Level == "note" }) {
		t.Errorf("nothing about the admin API: %+v", findings)
	}
}

// TestDoctorOfAServerWithTrouble: what status warns of is among the findings,
// and so is that the admin API is another's.
func TestDoctorOfAServerWithTrouble(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startLanding(t, globals(strings.Replace(tinybirdSink(tb), standin.DefaultToken, "p.wrong", 1))+landing("30m"))
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	v.post("events/track", map[string]any{"token": s.Session.Token, "event_id": "a", "event_type": "system"}).ok(t)
	eventually(t, time.Minute, "status warns", func() error {
		if st, _ := c.status(); len(st.Warnings) == 0 {
			return errors.New("of nothing")
		}
		return nil
	})
	findings, code := c.doctor(c.site)
	if code != 1 || !slices.ContainsFunc(findings, func(f doctorFinding) bool {
		return f.Code == "status" && strings.HasPrefix(f.Text, "delivery_failing: ")
	}) {
		t.Errorf("exit code %d\n%+v", code, findings)
	}
	other := startLanding(t, globals("")+strings.Replace(landing("30m"), "cmp_1", "cmp_2", 1))
	findings, code = other.doctor(c.site)
	if code != 1 || !slices.ContainsFunc(findings, func(f doctorFinding) bool { return f.Code == "server" && strings.Contains(f.Text, "another server") }) {
		t.Errorf("exit code %d\n%+v", code, findings)
	}
}
