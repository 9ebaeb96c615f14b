package sessionctx

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// Each group of benchmarks begins with the bare primitive that it is built on.

func BenchmarkID(b *testing.B) {
	ring, c := testRing(b, 1), testCampaign()
	user := newUserID(b, ring, 1, c.WorkspaceID)
	session := newSessionID(b, ring, 1, noonMS, c.CampaignRef, user)
	b.Run("bare HMAC-SHA256 of 80 bytes", func(b *testing.B) {
		b.ReportAllocs()
		h, msg, sum := hmac.New(sha256.New, make([]byte, 32)), make([]byte, 80), make([]byte, 0, 32)
		for b.Loop() {
			h.Reset()
			h.Write(msg)
			h.Sum(sum)
		}
	})
	b.Run("bare randomness of 10 bytes", func(b *testing.B) {
		var buf [10]byte
		for b.Loop() {
			rand.Read(buf[:])
		}
	})
	// As much hashing and randomness as the two ids need.
	b.Run("bare primitives of minting both", func(b *testing.B) {
		h, msg, sum := hmac.New(sha256.New, make([]byte, 32)), make([]byte, 80), make([]byte, 0, 32)
		var buf [10]byte
		for b.Loop() {
			for _, n := range [2]int{10, 4} {
				rand.Read(buf[:n])
				h.Reset()
				h.Write(msg)
				h.Sum(sum)
			}
		}
	})
	b.Run("mint user and session", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			u, _ := ring.NewUserID(rand.Reader, noonMS, c.WorkspaceID)
			if _, err := ring.NewSessionID(rand.Reader, noonMS, c.CampaignRef, u); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verify user", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !ring.VerifyUserID(user, c.WorkspaceID) {
				b.Fatal("refused")
			}
		}
	})
	b.Run("verify session", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := ring.VerifySessionID(session, c.CampaignRef, user, noonMS); !ok {
				b.Fatal("refused")
			}
		}
	})
	b.Run("refuse a forged session", func(b *testing.B) {
		b.ReportAllocs()
		forged := flipBit(b, session, 127)
		ring := rotated(b, rotated(b, ring, 2, noonMS-30*dayMS), 3, noonMS)
		for b.Loop() {
			if _, ok := ring.VerifySessionID(forged, c.CampaignRef, user, noonMS); ok {
				b.Fatal("taken")
			}
		}
	})
}

func BenchmarkToken(b *testing.B) {
	ring, c := testRing(b, 1), testCampaign()
	s := testSession(b, ring, c, 2)
	plain, bare := encoded(&s, true), newSeal(make([]byte, chacha20poly1305.KeySize))
	var bareSealed []byte
	token := ring.SealToken(&s, noonMS)
	b.Run("bare seal, no text", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			bareSealed = appendSealed(bareSealed[:0], bare, plain)
		}
	})
	b.Run("seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ring.SealToken(&s, noonMS)
		}
		b.ReportMetric(float64(len(token)), "bytes")
	})
	b.Run("bare open, no text", func(b *testing.B) {
		b.ReportAllocs()
		var out []byte
		for b.Loop() {
			var err error
			if out, err = openSealed(out[:0], bare, bareSealed); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ring.OpenToken(token); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("refuse another ring's", func(b *testing.B) {
		b.ReportAllocs()
		other := testRing(b, 2)
		for b.Loop() {
			if _, err := other.OpenToken(token); err == nil {
				b.Fatal("opened")
			}
		}
	})
}

func BenchmarkContext(b *testing.B) {
	d := testDocument(b)
	buf := make([]byte, 0, 8192)
	b.ReportAllocs()
	for b.Loop() {
		buf = d.AppendScript(buf[:0], DefaultVariable, "0123456789abcdef")
	}
	b.ReportMetric(float64(len(buf)), "bytes")
}

// onePage is all that this package does for one page view: it identifies the
// visitor, assigns and builds what goes into the page and its cookies.
func onePage(tb testing.TB, ring *Ring, c *Campaign, facts *Facts, jar []Cookie, now time.Time, buf []byte) ([]byte, *Visit) {
	carried := ring.OpenCookies(jar, c, true, now.UnixMilli())
	v, err := Identify(Input{
		Ring: ring, Campaign: c, Facts: facts, Carried: carried, Now: now, Random: rand.Reader,
		Consent: DecideConsent(c.Consent, false, facts, carried.Choice, carried.Reference),
	})
	if err != nil {
		tb.Fatal(err)
	}
	v.Assign("everyone", now)
	v.Cookies(ring, true, now)
	token := ring.SealToken(&v.Session, now.UnixMilli())
	d := Document{Visit: v, Facts: facts, Token: token, APIBaseURL: "https://lp.example.com", Now: now}
	return d.AppendScript(buf[:0], DefaultVariable, "0123456789abcdef"), v
}

// visitorsOf are the jars of one who comes first, of one whose session lives
// and of one whose last is over, a minute after they were filled.
func visitorsOf(tb testing.TB, ring *Ring, c *Campaign) (first, living, later []Cookie, now time.Time) {
	jar, _ := fullJar(tb, ring, c, 2, true, noon)
	jar = append(jar, Cookie{Name: "theme", Value: "dark"}, Cookie{Name: "_ga", Value: "GA1.1.1"})
	return nil, jar, without(jar, c.CookieNames(true).Session), noon.Add(time.Minute)
}

// TestAPageAllocatesLittle: no page view costs more than 60 allocations here.
func TestAPageAllocatesLittle(t *testing.T) {
	const most = 60
	ring, c, facts := testRing(t, 1), testCampaign(), humanFacts()
	first, living, later, now := visitorsOf(t, ring, c)
	buf := make([]byte, 0, 8192)
	for _, tt := range []struct {
		name             string
		jar              []Cookie
		fresh, returning bool
	}{{"a first visit", first, true, false}, {"a living session", living, false, false}, {"a later session", later, true, true}} {
		var v *Visit
		n := testing.AllocsPerRun(200, func() { buf, v = onePage(t, ring, c, facts, tt.jar, now, buf) })
		if v.New != tt.fresh || v.Session.Returning != tt.returning || !bytes.Contains(buf, []byte(v.Session.ID)) {
			t.Fatalf("%s: new %v, returning %v, page %s", tt.name, v.New, v.Session.Returning, buf)
		}
		if n > most {
			t.Errorf("%s: %v allocations, want %d at most", tt.name, n, most)
		}
		t.Logf("%s: %v allocations", tt.name, n)
	}
}

func BenchmarkPage(b *testing.B) {
	ring, c, facts := testRing(b, 1), testCampaign(), humanFacts()
	first, living, later, now := visitorsOf(b, ring, c)
	buf := make([]byte, 0, 8192)
	page := func(jar []Cookie) func(b *testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				buf, _ = onePage(b, ring, c, facts, jar, now, buf)
			}
		}
	}
	b.Run("first visit", page(first))
	b.Run("returning to a living session", page(living))
	b.Run("returning to a new session", page(later))
}

func BenchmarkRows(b *testing.B) {
	ring, c := testRing(b, 1), testCampaign()
	s := testSession(b, ring, c, 2)
	f := humanFacts()
	buf := make([]byte, 0, 4096)
	e := event(b, `{"event_id":"form-submission","event_type":"conversion","event_value":1,"form_id":"f","metadata":"{\"fieldCount\":3}"}`)
	b.Run("session", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf = AppendSessionRow(buf[:0], c, &s, f)
		}
	})
	b.Run("event with its id", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf = AppendEventRow(buf[:0], c, &s, e, EventRowID(&s, e, 0, 0), PlacementInternal, 1, noonMS)
		}
	})
	b.Run("parse an event", func(b *testing.B) {
		b.ReportAllocs()
		body := []byte(`{"session_id":"0d5c0000-0000-8000-8000-000000000000","event_id":"form-submission","event_type":"conversion","event_value":1,"form_id":"f","metadata":"{\"fieldCount\":3}","page_url":"https://lp.example.com/spring","time_on_page":12,"viewport_width":1280,"viewport_height":720}`)
		for b.Loop() {
			parsed, err := ParseBody(body)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := ParseEvent(parsed, asIs); err != nil {
				b.Fatal(err)
			}
		}
	})
}
