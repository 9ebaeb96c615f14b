package visitor

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/nameserver"
)

// Whoever has an address may run the DNS server for its name, and make it say
// anything.
func TestNamesOfAnAttackersChoice(t *testing.T) {
	const thief, host = "203.0.113.5", "crawl-203-0-113-5.googlebot.com"
	for _, c := range []struct {
		name, address string
		zone          func(*nameserver.Server)
		want          Verification
		most          int // questions about names
	}{
		{"1,000 made-up names", thief, func(s *nameserver.Server) {
			for i := range 1000 {
				s.Name(thief, fmt.Sprintf("crawl-%d.googlebot.com", i))
			}
		}, Refuted, verifyNames},
		{"a name of each crawler", thief, func(s *nameserver.Server) {
			for _, c := range crawlers {
				s.Name(thief, c.hosts[0].prefix+"1"+c.hosts[0].domain)
			}
		}, Refuted, verifyNames},
		{"the longest name", thief, func(s *nameserver.Server) {
			label := strings.Repeat("a", 57)
			s.Name(thief, "crawl-"+label+"."+label+"."+label+"."+label[:50]+".googlebot.com")
		}, Refuted, 1},
		{"control characters", thief, func(s *nameserver.Server) {
			s.Name(thief, `crawl-\000\010\013.googlebot.com`)
		}, LookupFailed, 0},
		{"beside a name that is one", thief, func(s *nameserver.Server) {
			s.Name(thief, `crawl-\000.googlebot.com`)
			s.Name(thief, "host.example.com")
		}, Refuted, 0},
		{"a domain within another", thief, func(s *nameserver.Server) {
			s.Both(thief, "crawl-1.googlebot.com.example.com")
		}, Refuted, 0},
		{"a dot within a label", thief, func(s *nameserver.Server) {
			s.Name(thief, `crawl-1\.googlebot\.com.example.com`)
		}, LookupFailed, 0},
		{"the name's alias is the thief's", thief, func(s *nameserver.Server) {
			s.Name(thief, "crawl-1.googlebot.com")
			s.Alias("thief.example.com", "crawl-1.googlebot.com")
			s.Address("crawl-1.googlebot.com", "66.249.66.1")
		}, Refuted, 1},
		{"aliases in a circle", thief, func(s *nameserver.Server) {
			s.Name(thief, host)
			s.Alias(host, "crawl-2.googlebot.com")
			s.Alias("crawl-2.googlebot.com", host)
		}, Refuted, 1},
		{"a circle of names of addresses", thief, func(s *nameserver.Server) {
			s.Alias(nameserver.Reverse(thief), nameserver.Reverse(thief))
		}, Refuted, 0},
		{"a name of IPv4 for an IPv6 client", "2001:db8::5", func(s *nameserver.Server) {
			s.Name("2001:db8::5", host)
			s.Address(host, thief)
		}, Refuted, 1},
		{"a name that leads to the mapped address", thief, func(s *nameserver.Server) {
			s.Name(thief, host)
			s.Address(host, "::ffff:203.0.113.5")
		}, Refuted, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newVerifying(t)
			c.zone(v.dns)
			v.run()
			v.is("at first", c.address, uaGooglebot, false, false)
			v.ends("the look-up", c.want)
			for _, ua := range []string{uaGooglebot, uaBing} {
				v.is(ua, c.address, ua, false, c.want == Refuted)
			}
			if n := v.dns.Questions() - v.dns.Asked(nameserver.Reverse(c.address)); n > c.most {
				t.Errorf("%d questions about names, want %d at most", n, c.most)
			}
		})
	}
}

// A client has as many IPv6 addresses as it likes, and its DNS server may let
// each question wait.
func TestOneNetworkDoesNotTakeTheQueue(t *testing.T) {
	for name, address := range map[string]func(i int) string{
		"IPv6": func(i int) string { return fmt.Sprintf("2001:db8:1:%x::%x", i%7, i+1) },
		"IPv4": func(i int) string { return fmt.Sprintf("203.0.113.%d", i%256) },
	} {
		t.Run(name, func(t *testing.T) {
			v := newVerifying(t)
			v.dns.Both("66.249.66.1", "crawl-66-249-66-1.googlebot.com")
			for i := range verifyQueue {
				v.is("a claim", address(i), uaGooglebot, false, false)
			}
			v.is("Googlebot's first page", "66.249.66.1", uaGooglebot, false, false)
			v.run()
			ended := 0
			for o := QueueFull; o != Verified; {
				if o = <-v.outcomes; o != QueueFull {
					ended++
				}
			}
			if ended > verifyOfNetwork+1 {
				t.Errorf("Googlebot waited for %d others", ended)
			}
			v.is("Googlebot's next page", "66.249.66.1", uaGooglebot, true, false)
		})
	}
}

// 100,000 addresses that claim to be Googlebot cost what is known of the real
// one nothing, DNS little, and memory no more than was reserved for them.
func TestAFloodOfClaims(t *testing.T) {
	v := newVerifying(t)
	v.dns.Both("66.249.66.1", "crawl-66-249-66-1.googlebot.com")
	v.run()
	v.is("Googlebot's first page", "66.249.66.1", uaGooglebot, false, false)
	v.ends("Googlebot", Verified)
	asked := v.dns.Questions()

	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	const claims, seconds = 100_000, 100
	turnedAway, ended := 0, 0
	for i := range claims {
		ip := netip.AddrFrom4([4]byte{byte(20 + i%80), byte(i >> 16), byte(i >> 8), byte(i)})
		v.check(ip, 1)
		if i%(claims/seconds) == 0 {
			v.advance(time.Second)
		}
		for len(v.outcomes) > 0 {
			if o := <-v.outcomes; o == QueueFull {
				turnedAway++
			} else {
				ended++
			}
		}
	}
	if n := runtime.NumGoroutine() - goroutines; n > 4*verifyWorkers {
		t.Errorf("%d goroutines more", n)
	}
	for ended+turnedAway < claims {
		if o := <-v.outcomes; o == QueueFull {
			turnedAway++
		} else {
			ended++
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if n, most := v.dns.Questions()-asked, verifyQueue+verifyPerSecond*(seconds+1); n > most {
		t.Errorf("%d questions in %d seconds, want %d at most", n, seconds, most)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	v.mu.Lock()
	if len(v.waiting) != 0 || len(v.networks) != 0 {
		t.Errorf("%d addresses of %d networks wait for ever", len(v.waiting), len(v.networks))
	}
	v.mu.Unlock()

	// However many answers there are about others.
	for i := range 10 * verifyAnswers {
		v.remember(netip.AddrFrom4([4]byte{100, byte(i >> 16), byte(i >> 8), byte(i)}), answer{again: v.now().Add(refutedFor), until: v.now().Add(refutedFor)})
	}
	if n := v.others.len(); n > verifyAnswers {
		t.Errorf("%d answers about others are kept", n)
	}
	v.is("Googlebot is still known", "66.249.66.1", uaGooglebot, true, false)
}
