package tests

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/nameserver"
	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

const (
	googlebot = "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.6778.69 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"

	// where they come from
	googleAddress, googleHost = "66.249.66.1", "crawl-66-249-66-1.googlebot.com"
	impostorAddress           = "203.0.113.5"
	serverAddress             = "198.51.100.7"
	officeAddress             = "198.51.100.200"
)

// botsConfig is a site behind a trusted proxy that says what it knows of
// programs. Names in capitals are the test's.
func botsConfig(tb *standin.Server, dns *nameserver.Server, more string) string {
	app := tinybirdSink(tb) + "\n\t\tbots {\n\t\t\tresolver " + dns.Addr + "\n" + more + "\t\t}"
	return strings.Replace(globals(app), "\tadmin ADMIN\n", "\tadmin ADMIN\n\tmetrics\n\tservers {\n\t\ttrusted_proxies static 127.0.0.1/32\n\t}\n", 1) + `
SITE {
	@program vars_regexp session.bot.score ^[1-5]$
	session_context {
		workspace ws_1
		project pr_1
		campaign cmp_1
		segment programs @program
		segment everyone
	}
	@verified vars session.bot.verified true
	@impostor vars session.bot.verified false
	root DIR/www
	handle @impostor {
		respond 403
	}
	handle @verified {
		header X-Crawler "{session.bot.verified}, {session.bot.score}"
		file_server
	}
	handle {
		file_server
	}
}
`
}

// botPage is a page, and what its context says of the visitor.
func botPage(t *testing.T, v *visitor, from string) (crawler string, s *sessionContext) {
	t.Helper()
	res, body := v.page("/", "X-Forwarded-For", from)
	if res.StatusCode != 200 {
		t.Fatalf("the page for %s: %d\n%s", from, res.StatusCode, body)
	}
	return res.Header.Get("X-Crawler"), parseContext(t, body)
}

const verifications = `caddy_session_context_crawler_verifications_total{outcome="%s"}`

// checked waits for the end of look-ups.
func checked(t *testing.T, c *caddy, outcome string, n float64) {
	t.Helper()
	eventually(t, 30*time.Second, "a look-up ends "+outcome, func() error {
		if got := c.metric(fmt.Sprintf(verifications, outcome)); got != n {
			return fmt.Errorf("%v have, of %v", got, n)
		}
		return nil
	})
}

func TestCrawlersProveThemselvesByDNS(t *testing.T) {
	t.Parallel()
	tb, dns := standin.New(t), nameserver.New(t)
	dns.Both(googleAddress, googleHost)
	asked := dns.Hold()
	c := startLanding(t, botsConfig(tb, dns, ""))

	// DNS does not answer, and the page is there.
	v := newVisitor(t, c.site, googlebot, false)
	crawler, s := botPage(t, v, googleAddress)
	if crawler != "" || s.BotDetection["verifiedBot"] != false || s.BotDetection["score"] != 1.0 || s.SegmentID == nil || *s.SegmentID != "programs" {
		t.Errorf("the first page: %q, %v, segment %v", crawler, s.BotDetection, s.SegmentID)
	}
	<-asked
	dns.Release()
	checked(t, c, "verified", 1)
	crawler, s = botPage(t, v, googleAddress)
	if crawler != "true, 1" || s.BotDetection["verifiedBot"] != true || s.BotDetection["score"] != 1.0 {
		t.Errorf("the next page: %q, %v", crawler, s.BotDetection)
	}
	v.post("events/session/init", with(s.ids(), "token", s.Session.Token), "X-Forwarded-For", googleAddress).ok(t)
	expect(t, "the session's row", waitRows(t, tb, "session_v1", 1)[0], map[string]any{"is_verified_bot": 1, "bot_score": 1})
	byVerified := map[string]int{}
	for _, row := range waitRows(t, tb, "traffic_v1", 2) {
		byVerified[fmt.Sprint(row["is_verified_bot"])]++
	}
	if byVerified["0"] != 1 || byVerified["1"] != 1 {
		t.Errorf("rows of two pages by is_verified_bot: %v", byVerified)
	}

	// Somebody else with that name: the first page is a crawler's like any.
	if crawler, _ = botPage(t, v, impostorAddress); crawler != "" {
		t.Errorf("an impostor's first page: %q", crawler)
	}
	checked(t, c, "refuted", 1)
	if res, _ := v.page("/", "X-Forwarded-For", impostorAddress); res.StatusCode != 403 {
		t.Errorf("an impostor gets %d", res.StatusCode)
	}
	// People are never looked up, and are not told apart by where they come from.
	crawler, s = botPage(t, newVisitor(t, c.site, desktop, false), impostorAddress)
	if crawler != "" || s.BotDetection["score"] != 99.0 || *s.SegmentID != "everyone" {
		t.Errorf("a person from the same address: %q, %v", crawler, s.BotDetection)
	}

	// A reload forgets nobody.
	c.reload(botsConfig(tb, dns, "\t\t\tverify on\n"))
	if crawler, _ = botPage(t, v, googleAddress); crawler != "true, 1" {
		t.Errorf("after a reload: %q", crawler)
	}
	if n := dns.Asked(googleHost); n != 1 {
		t.Errorf("the name was asked for %d times", n)
	}
	c.reload(botsConfig(tb, dns, "\t\t\tverify off\n"))
	if crawler, s = botPage(t, v, googleAddress); crawler != "" || s.BotDetection["verifiedBot"] != false {
		t.Errorf("with verify off: %q, %v", crawler, s.BotDetection)
	}
	// The look-ups' last user is gone, and with it what they found.
	c.reload(botsConfig(tb, dns, ""))
	if crawler, _ = botPage(t, v, googleAddress); crawler != "" {
		t.Errorf("with verify on again: %q", crawler)
	}
	checked(t, c, "verified", 2)
}

// A DNS server that does not answer must not keep a config that ends.
func TestReloadsDoNotWaitForDNS(t *testing.T) {
	t.Parallel()
	tb, dns := standin.New(t), nameserver.New(t)
	dns.Both(googleAddress, googleHost)
	asked := dns.Hold()
	c := startLanding(t, botsConfig(tb, dns, ""))
	v := newVisitor(t, c.site, googlebot, false)
	botPage(t, v, googleAddress)
	<-asked
	c.reload(botsConfig(tb, dns, ""))
	// The look-up ended with its config; the next page's is the new one's.
	eventually(t, 30*time.Second, "the next config looks the address up", func() error {
		botPage(t, v, googleAddress)
		if dns.Asked(nameserver.Reverse(googleAddress)) < 2 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	dns.Release()
	eventually(t, 30*time.Second, "the address is verified", func() error {
		if crawler, _ := botPage(t, v, googleAddress); crawler == "" {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	c.stop()
}

func TestWhereVisitorsComeFromCounts(t *testing.T) {
	t.Parallel()
	tb, dns := standin.New(t), nameserver.New(t)
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	ranges := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(c.path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ranges("datacenters", "# a hoster\n198.51.100.0/24\n2001:db8::/32\n")
	ranges("proxies", officeAddress+" # an office\n")
	c.write(botsConfig(tb, dns, "\t\t\tdatacenters DIR/datacenters\n\t\t\tcorporate_proxies DIR/proxies\n"))
	c.start()
	v := newVisitor(t, c.site, desktop, false)
	is := func(from string, score float64, proxy bool) error {
		_, s := botPage(t, v, from)
		if b := s.BotDetection; b["score"] != score || b["corporateProxy"] != proxy {
			return fmt.Errorf("%s: %v", from, b)
		}
		return nil
	}
	for _, err := range []error{
		is("203.0.113.7", 99, false), is(serverAddress, 59, false), is("2001:db8::7", 59, false), is(officeAddress, 99, true),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	seen := map[string]bool{}
	for _, row := range waitRows(t, tb, "traffic_v1", 4) {
		seen[fmt.Sprint(row["bot_score"], " ", row["is_corporate_proxy"])] = true
	}
	if !seen["99 0"] || !seen["59 0"] || !seen["99 1"] {
		t.Errorf("rows have (score, proxy) %v", seen)
	}

	ranges("proxies", "nonsense\n")
	eventually(t, time.Minute, "a bad file is noticed", func() error {
		if c.log.count("new address ranges can't be read") != 1 {
			return fmt.Errorf("not in the log")
		}
		return nil
	})
	if err := is(officeAddress, 99, true); err != nil {
		t.Errorf("a bad file took the place of the former: %v", err)
	}
	ranges("proxies", "203.0.113.7\n")
	eventually(t, time.Minute, "the new file is in force", func() error { return is("203.0.113.7", 99, true) })
	if err := is(officeAddress, 59, false); err != nil {
		t.Error(err)
	}
}
