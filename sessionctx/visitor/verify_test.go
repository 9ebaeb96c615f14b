package visitor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/nameserver"
)

const (
	uaBing   = "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)"
	uaAdsBot = "AdsBot-Google (+http://www.google.com/adsbot.html)"
)

// verifying is a Verifier with a server, a clock and what came of each check.
type verifying struct {
	*Verifier
	t        *testing.T
	dns      *nameserver.Server
	clock    atomic.Int64 // seconds
	outcomes chan Verification
}

func newVerifying(t *testing.T) *verifying {
	v := &verifying{t: t, dns: nameserver.New(t), outcomes: make(chan Verification, 4*verifyQueue)}
	v.Verifier = NewVerifier(NewResolver(v.dns.Addr), func() time.Time { return noon.Add(time.Duration(v.clock.Load()) * time.Second) },
		func(o Verification) { v.outcomes <- o })
	return v
}

// run runs it until the test's end.
func (v *verifying) run() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		v.Run(ctx)
	}()
	v.t.Cleanup(func() {
		cancel()
		<-ended
	})
}

func (v *verifying) advance(d time.Duration) { v.clock.Add(int64(d / time.Second)) }

// is checks what is known about an address now.
func (v *verifying) is(what, address, ua string, verified, refuted bool) {
	v.t.Helper()
	c := newAgent(agentKey{userAgent: ua}).verdict.claim
	gotV, gotR := v.check(netip.MustParseAddr(address), c)
	if gotV != verified || gotR != refuted {
		v.t.Errorf("%s: verified %v, refuted %v", what, gotV, gotR)
	}
}

// ends waits for the end of a check.
func (v *verifying) ends(what string, want Verification) {
	v.t.Helper()
	if got := <-v.outcomes; got != want {
		v.t.Errorf("%s: %s, want %s", what, got, want)
	}
}

func TestCrawlersAreVerifiedByDNS(t *testing.T) {
	for _, c := range []struct {
		name, address, ua string
		zone              func(*nameserver.Server)
		want              Verification
		verified, refuted bool
	}{
		{"Googlebot", "66.249.66.1", uaGooglebot, func(s *nameserver.Server) {
			s.Both("66.249.66.1", "crawl-66-249-66-1.googlebot.com")
		}, Verified, true, false},
		{"Googlebot from another country", "66.249.66.1", uaGooglebot, func(s *nameserver.Server) {
			s.Both("66.249.66.1", "geo-crawl-66-249-66-1.geo.googlebot.com")
		}, Verified, true, false},
		{"Google's ad review", "66.249.90.77", uaAdsBot, func(s *nameserver.Server) {
			s.Both("66.249.90.77", "rate-limited-proxy-66-249-90-77.google.com")
		}, Verified, true, false},
		{"by IPv6", "2001:4860:4801:10::1", uaGooglebot, func(s *nameserver.Server) {
			s.Both("2001:4860:4801:10::1", "crawl-1.googlebot.com")
		}, Verified, true, false},
		{"a name in capitals", "66.249.66.1", uaGooglebot, func(s *nameserver.Server) {
			s.Both("66.249.66.1", "CRAWL-66-249-66-1.GoogleBot.com")
		}, Verified, true, false},
		{"one of several names and addresses", "66.249.66.1", uaGooglebot, func(s *nameserver.Server) {
			s.Name("66.249.66.1", "a.example.com")
			s.Address("crawl.googlebot.com", "66.249.66.9")
			s.Both("66.249.66.1", "crawl-66-249-66-1.googlebot.com")
		}, Verified, true, false},
		{"no name", "203.0.113.5", uaGooglebot, func(*nameserver.Server) {}, Refuted, false, true},
		{"a name of somebody else", "203.0.113.5", uaGooglebot, func(s *nameserver.Server) {
			s.Both("203.0.113.5", "host-5.example.com")
		}, Refuted, false, true},
		{"a made-up name", "203.0.113.5", uaGooglebot, func(s *nameserver.Server) {
			s.Name("203.0.113.5", "crawl-66-249-66-1.googlebot.com")
			s.Address("crawl-66-249-66-1.googlebot.com", "66.249.66.1")
		}, Refuted, false, true},
		{"a name that leads nowhere", "203.0.113.5", uaGooglebot, func(s *nameserver.Server) {
			s.Name("203.0.113.5", "crawl-203-0-113-5.googlebot.com")
		}, Refuted, false, true},
		{"a domain that ends alike", "203.0.113.5", uaGooglebot, func(s *nameserver.Server) {
			s.Both("203.0.113.5", "crawl-5.fakegooglebot.com")
		}, Refuted, false, true},
		{"the domain itself", "203.0.113.5", uaBing, func(s *nameserver.Server) {
			s.Both("203.0.113.5", "search.msn.com")
		}, Refuted, false, true},
		{"another of Google's hosts", "203.0.113.5", uaGooglebot, func(s *nameserver.Server) {
			s.Both("203.0.113.5", "office-5.google.com")
		}, Refuted, false, true},
		{"a machine rented at Google", "34.1.2.3", uaGooglebot, func(s *nameserver.Server) {
			s.Both("34.1.2.3", "3.2.1.34.bc.googleusercontent.com")
		}, Refuted, false, true},
		{"another crawler's host", "66.249.66.1", uaBing, func(s *nameserver.Server) {
			s.Both("66.249.66.1", "crawl-66-249-66-1.googlebot.com")
		}, Verified, false, true},
		{"no answer about the address", "66.249.66.1", uaGooglebot, func(s *nameserver.Server) {
			s.Break(nameserver.Reverse("66.249.66.1"))
		}, LookupFailed, false, false},
		{"no answer about the name", "66.249.66.1", uaGooglebot, func(s *nameserver.Server) {
			s.Both("66.249.66.1", "crawl-66-249-66-1.googlebot.com")
			s.Break("crawl-66-249-66-1.googlebot.com")
		}, LookupFailed, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newVerifying(t)
			c.zone(v.dns)
			v.run()
			v.is("at first", c.address, c.ua, false, false)
			v.ends("the look-up", c.want)
			v.is("afterwards", c.address, c.ua, c.verified, c.refuted)
		})
	}
}

// Each published form is of the crawler's whose user agents are named with it.
func TestEveryCrawlerHasNamesOfItsOwn(t *testing.T) {
	if len(crawlers) > maxCrawlers {
		t.Fatalf("%d crawlers do not fit into a set", len(crawlers))
	}
	for i, c := range crawlers {
		for _, w := range c.words {
			a := newAgent(agentKey{userAgent: "Mozilla/5.0 (compatible; " + w + "/1.0; +https://example.com/)"})
			if a.verdict.declared == 0 || int(a.verdict.claim) != i+1 {
				t.Errorf("%s: %+v, want claim %d", w, a.verdict, i+1)
			}
		}
		for _, h := range c.hosts {
			if set := named(h.prefix + "1" + h.domain); set != 1<<i {
				t.Errorf("%s…%s is of %b, want %b", h.prefix, h.domain, set, 1<<i)
			}
			if named(h.domain[1:]) != 0 || h.domain[0] != '.' {
				t.Errorf("%s itself is taken for a host", h.domain)
			}
		}
	}
}

func TestOnlyClaimsFromTheInternetAreLookedUp(t *testing.T) {
	v := newVerifying(t)
	for _, ua := range []string{uaChromeWin, uaInstagram, "curl/8.5.0", "Mozilla/5.0 (compatible; GPTBot/1.2)", "DuckDuckBot/1.1", ""} {
		v.is(ua, "203.0.113.5", ua, false, false)
	}
	for _, address := range []string{"127.0.0.1", "10.0.0.7", "192.168.1.1", "::1", "fe80::1", "fd00::1", "0.0.0.0", "224.0.0.1"} {
		v.is(address, address, uaGooglebot, false, false)
	}
	if n := len(v.queue); n != 0 {
		t.Errorf("%d addresses wait to be looked up", n)
	}
	if verified, refuted := v.check(netip.Addr{}, 1); verified || refuted || len(v.queue) != 0 {
		t.Error("no address at all is looked up")
	}
}

func TestAnAddressIsLookedUpOnceAtATime(t *testing.T) {
	v := newVerifying(t)
	v.dns.Both("66.249.66.1", "crawl-66-249-66-1.googlebot.com")
	v.dns.Hold()
	v.run()
	var pages sync.WaitGroup
	for range 50 {
		pages.Go(func() { v.check(netip.MustParseAddr("66.249.66.1"), 1) })
	}
	pages.Wait() // no page waits for the server, which holds its answer
	v.dns.Release()
	v.ends("the look-up", Verified)
	if n := v.dns.Asked(nameserver.Reverse("66.249.66.1")); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestAnswersAge(t *testing.T) {
	const address, host = "66.249.66.1", "crawl-66-249-66-1.googlebot.com"
	v := newVerifying(t)
	v.dns.Both(address, host)
	v.run()
	v.is("at first", address, uaGooglebot, false, false)
	v.ends("the first look-up", Verified)

	v.advance(verifiedFor - time.Second)
	v.is("within a day", address, uaGooglebot, true, false)
	if n := v.dns.Asked(host); n != 1 {
		t.Errorf("asked %d times within a day", n)
	}
	v.dns.Break(nameserver.Reverse(address))
	v.advance(time.Second)
	v.is("after a day, while it is looked up again", address, uaGooglebot, true, false)
	v.ends("the server is broken", LookupFailed)
	v.advance(failedFor - time.Second)
	v.is("what was known stays", address, uaGooglebot, true, false)
	v.advance(time.Second)
	v.is("and is tried again soon", address, uaGooglebot, true, false)
	v.ends("still broken", LookupFailed)
	v.advance(staleFor)
	v.is("but does not stay for ever", address, uaGooglebot, false, false)
	v.ends("still broken", LookupFailed)

	v.dns.Mend(nameserver.Reverse(address))
	v.advance(failedFor)
	v.is("mended", address, uaGooglebot, false, false)
	v.ends("mended", Verified)
	v.is("mended", address, uaGooglebot, true, false)

	v.is("an impostor", "203.0.113.5", uaGooglebot, false, false)
	v.ends("an impostor", Refuted)
	v.dns.Both("203.0.113.5", "crawl-203-0-113-5.googlebot.com")
	v.is("within the hour", "203.0.113.5", uaGooglebot, false, true)
	v.advance(refutedFor)
	v.is("after an hour it is looked up again", "203.0.113.5", uaGooglebot, false, true)
	v.ends("the name came late", Verified)
	v.is("the name came late", "203.0.113.5", uaGooglebot, true, false)
}

func TestAFullQueueTurnsAway(t *testing.T) {
	v := newVerifying(t)
	address := func(i int) string { return fmt.Sprintf("203.%d.113.%d", i/8, i%8) }
	for i := range verifyQueue + 10 {
		v.is("nobody looks up", address(i), uaGooglebot, false, false)
	}
	for range 10 {
		v.ends("too many", QueueFull)
	}
	v.run()
	for range verifyQueue {
		v.ends("those that wait", Refuted)
	}
	v.advance(time.Second)
	v.is("one that was turned away is taken now", address(verifyQueue), uaGooglebot, false, false)
	v.ends("then", Refuted)
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.waiting) != 0 {
		t.Errorf("%d addresses wait for ever", len(v.waiting))
	}
}

// A config that ends must not wait for a server that does not answer, and what
// it was looking up is asked for anew by the next.
func TestTheEndOfAConfigEndsItsLookUps(t *testing.T) {
	v := newVerifying(t)
	v.dns.Both("66.249.66.1", "crawl-66-249-66-1.googlebot.com")
	asked := v.dns.Hold()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		v.Run(ctx)
	}()
	v.is("at first", "66.249.66.1", uaGooglebot, false, false)
	<-asked
	cancel()
	<-ended
	v.dns.Release()
	v.run()
	v.is("with the next config", "66.249.66.1", uaGooglebot, false, false)
	v.ends("with the next config", Verified)
	v.is("then", "66.249.66.1", uaGooglebot, true, false)
}

// The standard library's resolver waits on for 5 s, whatever its context says.
func TestALookUpEndsWithItsContext(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, address := range []string{silent.LocalAddr().String(), ""} {
		ctx, cancel := context.WithCancel(context.Background())
		conn, err := NewResolver(address).Dial(ctx, "udp", silent.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := conn.Read(make([]byte, 512)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("resolver %q: %v", address, err)
		}
	}
}

func TestVerificationShowsInFacts(t *testing.T) {
	v := newVerifying(t)
	v.dns.Both("66.249.66.1", "crawl-66-249-66-1.googlebot.com")
	v.run()
	rd := Reader{Crawlers: v.Verifier}
	read := func(address string) (score int, verified, refuted bool) {
		r := browserRequest("https://lp.example.com/", uaGooglebot)
		b := rd.Read(Request{HTTP: r, ClientIP: netip.MustParseAddr(address)}).Bot
		return b.Score, b.Verified, b.Refuted
	}
	read("66.249.66.1")
	v.ends("Googlebot", Verified)
	read("::ffff:203.0.113.5")
	v.ends("an impostor", Refuted)
	if s, ok, no := read("::ffff:66.249.66.1"); s != 1 || !ok || no {
		t.Errorf("Googlebot: %d %v %v", s, ok, no)
	}
	if s, ok, no := read("203.0.113.5"); s != 1 || ok || !no {
		t.Errorf("an impostor: %d %v %v", s, ok, no)
	}
}
