package tests

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/geodb"
	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// behindProxy is the head of a Caddyfile whose site trusts this machine.
func behindProxy(app string) string {
	return strings.Replace(globals(app), "\tsession_context", "\tservers :PORT {\n\t\ttrusted_proxies static 127.0.0.1/32\n\t}\n\tsession_context", 1)
}

// TestGeoHeadersOfStrangersAreToldOnce: ignored, counted each time, and logged
// once with the remedy.
func TestGeoHeadersOfStrangersAreToldOnce(t *testing.T) {
	t.Parallel()
	c := startLanding(t, globals("\t\tgeo headers cloudflare\n\t\tgeo headers fastly")+"SITE {\n\t"+campaignLines("cmp_1")+"\n\troot DIR/www\n\tfile_server\n}\n")
	const told = "geo headers of a peer that is no trusted proxy are ignored"
	v := newVisitor(t, c.site, desktop, false)
	if s := v.visit("/"); s.GDPRSettings["isEU"] != false || c.log.count(told) != 0 {
		t.Errorf("without headers: %v\n%s", s.GDPRSettings, c.log)
	}
	for range 3 {
		if s := v.visit("/", "CF-IPCountry", "DE", "CF-Region", "Bavaria"); s.GDPRSettings["isEU"] != false {
			t.Errorf("believed: %v", s.GDPRSettings)
		}
	}
	v.visit("/", "CF-Region", "Bavaria") // not what the CDN always sends
	for layout, want := range map[string]float64{"cloudflare": 3, "fastly": 0} {
		if n := c.metric(`caddy_session_context_geo_untrusted_total{layout="` + layout + `"}`); n != want {
			t.Errorf("%v requests with headers of %s were counted, want %v", n, layout, want)
		}
	}
	if n := c.log.count(told); n != 1 || !strings.Contains(c.log.String(), "trusted_proxies") {
		t.Errorf("told %d times", n)
	}
}

// TestRulesByPlace: matchers on what is known of the visitor's place decide
// who is asked for consent and into which segment who falls.
func TestRulesByPlace(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := startLanding(t, behindProxy("\t\tgeo headers vercel\n\t\teu_includes eea gb\n"+tinybirdSink(tb))+`
SITE {
	@eu vars session.geo.is_eu true
	@california expression `+"`"+`{session.geo.country} == "US" && {session.geo.region_code} == "CA"`+"`"+`
	@americas vars session.geo.continent NA SA
	`+campaignLines("cmp_1", "consent {\n\t\t\trequire @eu @california\n\t\t}", "segment california @california", "segment americas @americas", "segment eu @eu", "segment rest")+`
	root DIR/www
	file_server
}
`)
	v := newVisitor(t, c.site, desktop, false)
	want := map[string]map[string]any{}
	for _, p := range []struct {
		country, region, segment string
		asked, eu, californian   bool
	}{
		{"DE", "BY", "eu", true, true, false},
		{"NO", "03", "eu", true, true, false},  // by eea
		{"GB", "ENG", "eu", true, true, false}, // by its name
		{"CH", "ZH", "rest", false, false, false},
		{"US", "CA", "california", true, false, true},
		{"US", "TX", "americas", false, false, false},
		{"CA", "ON", "americas", false, false, false}, // Canada is not California
		{"BR", "CA", "americas", false, false, false},
		{"", "", "rest", false, false, false},
	} {
		s := v.visit("/", "X-Vercel-IP-Country", p.country, "X-Vercel-IP-Country-Region", p.region)
		g := s.GDPRSettings
		if g["isRequiredConsent"] != p.asked || g["isEU"] != p.eu || g["isCalifornian"] != p.californian || s.SegmentID == nil || *s.SegmentID != p.segment {
			t.Errorf("%+v: %v, segment %v", p, g, *s.SegmentID)
		}
		row := map[string]any{"country": "Unknown", "region_code": nil, "is_eu_country": 0}
		if p.country != "" {
			row["country"], row["region_code"] = p.country, p.region
		}
		if p.eu {
			row["is_eu_country"] = 1
		}
		want[s.Session.SessionID] = row
	}
	for _, row := range waitRows(t, tb, "traffic_v1", len(want)) {
		expect(t, "row", row["geo"].(map[string]any), want[row["session_id"].(string)])
	}
}

// TestTheGeoDatabaseChangesUnderRequests takes the file through all that can
// happen to it, and the config through reloads, while pages are asked for: each
// knows its place, by one whole database or another.
func TestTheGeoDatabaseChangesUnderRequests(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	database := c.path("geo.mmdb")
	of := func(country string) geodb.DB {
		return geodb.DB{Type: "GeoLite2-Country", Places: map[string]geodb.Record{"192.0.2.0/24": geodb.Country(country)}}
	}
	of("DE").Write(t, database)
	site := func(lines ...string) string {
		return behindProxy("\t\tgeo mmdb "+database) + "SITE {\n\t" + campaignLines("cmp_1", lines...) + "\n\troot DIR/www\n\tfile_server\n}\n"
	}
	c.write(site())
	c.start()

	var asked atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	ask := func(v *visitor) (string, error) {
		res, body, err := v.tryPage("/", "X-Forwarded-For", "192.0.2.7")
		if errors.Is(err, syscall.ECONNRESET) {
			// A reload of Caddy's resets connections that nobody has accepted yet.
			res, body, err = v.tryPage("/", "X-Forwarded-For", "192.0.2.7")
		}
		if err != nil || res.StatusCode != http.StatusOK {
			return "", fmt.Errorf("%v: %s", err, body)
		}
		return parseContext(t, body).GDPRSettings["countryCode"].(string), nil
	}
	for range 2 {
		wg.Go(func() {
			v := newVisitor(t, c.site, desktop, false)
			for {
				select {
				case <-stop:
					return
				default:
				}
				country, err := ask(v)
				if err != nil || !strings.Contains("DE FR JP BR NL", country) {
					t.Errorf("a page whose country is %q: %v", country, err)
					return
				}
				asked.Add(1)
				time.Sleep(5 * time.Millisecond) // leaves the machine to the rest
			}
		})
	}
	v := newVisitor(t, c.site, desktop, false)
	becomes := func(what, want string) {
		t.Helper()
		eventually(t, 30*time.Second, what, func() error {
			if country, err := ask(v); err != nil || country != want {
				return fmt.Errorf("country %q, %v", country, err)
			}
			return nil
		})
	}
	const unreadable = "geo database's file can't be read"
	toldTimes := func(what string, n int) {
		t.Helper()
		eventually(t, 30*time.Second, what, func() error {
			if got := c.log.count(unreadable); got < n {
				return fmt.Errorf("told %d times", got)
			}
			return nil
		})
	}
	becomes("the first database", "DE")
	of("FR").Write(t, database)
	becomes("replaced by renaming", "FR")
	if err := os.WriteFile(database, of("JP").Bytes(t), 0o600); err != nil {
		t.Fatal(err)
	}
	becomes("rewritten in place", "JP")

	whole := of("NL").Bytes(t)
	if err := os.WriteFile(database, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	toldTimes("a file cut short", 1)
	for range 3 {
		c.reload(site())
	}
	becomes("after reloads beside a file cut short", "JP")
	c.write(site("segment odd {\n\t\tmatch expression `nonsense(`\n\t}")) // which is refused when the site is made
	if out, err := c.command("reload", "--config", c.path("Caddyfile"), "--adapter", "caddyfile", "--address", c.admin, "--force").CombinedOutput(); err == nil {
		t.Fatalf("the reload was not refused: %s", out)
	}
	becomes("after a reload that was refused", "JP")
	if err := os.Remove(database); err != nil {
		t.Fatal(err)
	}
	toldTimes("a file that is gone", 2)
	c.reload(site())
	becomes("after a reload without the file", "JP")
	of("BR").Write(t, database)
	c.reload(site())
	if country, err := ask(v); err != nil || country != "BR" {
		t.Errorf("the first page after a reload with a new file: %q, %v", country, err)
	}
	close(stop)
	wg.Wait()
	if n := c.log.count(unreadable); n != 2 {
		t.Errorf("what can't be read was told %d times, want one for each file", n)
	}
	if n := asked.Load(); n < 50 {
		t.Errorf("only %d pages were asked for", n)
	}

	// A Caddy that starts has no former database: it says so, and ends.
	c.stop()
	if err := os.WriteFile(database, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := c.command("run", "--config", c.path("Caddyfile"), "--adapter", "caddyfile").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "reading geo database "+database) {
		t.Errorf("started with a file cut short: %v\n%s", err, out)
	}
}
