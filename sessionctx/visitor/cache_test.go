package visitor

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// floodHeaders are headers of the longest keys, all different: n-th user agent
// and language.
func floodHeaders(n int) (userAgent string, h http.Header, language string) {
	number := fmt.Sprintf("%07d", n)
	userAgent = "Mozilla/5.0 (" + number + strings.Repeat("x", maxUserAgent-20) + ")"
	h = http.Header{
		"Sec-Ch-Ua":          {number + strings.Repeat("b", maxBrands-7)},
		"Sec-Ch-Ua-Platform": {number + strings.Repeat("p", maxHint-7)},
		"Sec-Ch-Ua-Mobile":   {number + strings.Repeat("m", maxHint-7)},
	}
	return userAgent, h, "de;q=0." + number + "," + strings.Repeat("a", maxAcceptLanguage-20)
}

func liveHeap() (m runtime.MemStats) {
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m
}

// TestAMillionAgents: as many different agents and languages, with keys as
// long as they can be, neither fill the memory nor push out what visitors use.
func TestAMillionAgents(t *testing.T) {
	before := liveHeap()
	var rd Reader
	st := rd.state()
	common := agentKey{userAgent: uaChromeWin}
	parsed := newAgent(common)
	st.agents.put(common, parsed)
	for i := range flood {
		userAgent, h, language := floodHeaders(i)
		if i%256 == 0 {
			st.agent(userAgent, h)
		} else { // the same without the parser, whose time is not the point
			k := agentKey{userAgent: userAgent, platform: field(h, "Sec-Ch-Ua-Platform"), mobile: field(h, "Sec-Ch-Ua-Mobile"), brands: field(h, "Sec-Ch-Ua")}
			if _, ok := st.agents.get(k); !ok {
				st.agents.put(k.clone(), parsed)
			}
		}
		st.language(language)
		if i%100 == 0 { // one visitor in a hundred is real
			if _, ok := st.agents.get(common); !ok {
				t.Fatalf("a common agent is forgotten after %d others", i)
			}
		}
	}
	after := liveHeap()
	entries := st.agents.len() + st.languages.len()
	bytes, objects := int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(after.HeapObjects)-int64(before.HeapObjects)
	t.Logf("%d entries, %d KiB in %d objects", entries, bytes>>10, objects)
	if entries > 2*4096 {
		t.Errorf("%d entries", entries)
	}
	if bytes > 10<<20 {
		t.Errorf("%d MiB", bytes>>20)
	}
	runtime.KeepAlive(st)
}

// TestAFloodCostsACommonAgentOneParse: who comes back after any flood is
// worked out once, and remembered.
func TestAFloodCostsACommonAgentOneParse(t *testing.T) {
	c := newCache[string, int](4096)
	c.put("common", 1)
	for i := range 100_000 {
		c.put(fmt.Sprint(i), i)
	}
	if _, ok := c.get("common"); ok {
		t.Error("what nobody used through a whole flood is kept: by what room?")
	}
	c.put("common", 1)
	for i := range 100_000 {
		c.put(fmt.Sprint("again", i), i)
		if i%1000 == 0 {
			if _, ok := c.get("common"); !ok {
				t.Fatalf("forgotten after %d others", i)
			}
		}
	}
}

// BenchmarkCollection is what the collector pays for full caches.
func BenchmarkCollection(b *testing.B) {
	for _, full := range []bool{false, true} {
		b.Run(fmt.Sprint("full=", full), func(b *testing.B) {
			var rd Reader
			st := rd.state()
			for i := range 2 * 4096 {
				if full {
					userAgent, h, language := floodHeaders(i)
					st.agent(userAgent, h)
					st.language(language)
				}
			}
			start := time.Now()
			for b.Loop() {
				runtime.GC()
			}
			b.ReportMetric(float64(time.Since(start).Microseconds())/float64(b.N), "µs/GC")
			runtime.KeepAlive(st)
		})
	}
}
