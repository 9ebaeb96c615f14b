package sessionctx

import (
	"math/rand/v2"
	"reflect"
	"testing"
)

// lived is a session as it comes back from its sealed form: what is empty is
// nil, and who attributed is always said.
func lived(s Session) Session {
	if len(s.Assignments) == 0 {
		s.Assignments = nil
	}
	return s
}

// encoded is the session in its compact form.
func encoded(s *Session, withAttribution bool) []byte {
	var e encoder
	e.session(s, withAttribution)
	return e.b
}

func TestASessionComesBackAsItWas(t *testing.T) {
	ring := testRing(t, 1)
	r := rand.New(seeded(2))
	for range 2000 {
		s := lived(randomSession(t, ring, r))
		got, err := decodeSession(encoded(&s, true))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(*got, s) {
			t.Fatalf("got  %+v\nwant %+v", *got, s)
		}
		bare := s
		bare.Attribution = LostTouch(s.Attribution.Original.Time, Touch{})
		if got, err = decodeSession(encoded(&s, false)); err != nil || !reflect.DeepEqual(*got, bare) {
			t.Fatalf("without attribution: got  %+v\nwant %+v (%v)", got, bare, err)
		}
	}
}

func TestTouchesOfOneMomentAreKeptApartIfTheyDiffer(t *testing.T) {
	for name, change := range map[string]func(*Touch){
		"in the campaign":     func(u *Touch) { u.UTM.Campaign = "other" },
		"in the landing page": func(u *Touch) { u.LandingPage = "/other" },
		"in a click id":       func(u *Touch) { u.ClickIDs = []ClickID{{"fbclid", "x"}} },
		"in nothing":          func(*Touch) {},
	} {
		t.Run(name, func(t *testing.T) {
			a := FirstTouch(paidTouch("spring"))
			change(&a.Current)
			var e encoder
			e.attribution(&a)
			var d decoder
			d.read(e.b)
			if got := d.attribution(); d.err != nil || !reflect.DeepEqual(got, a) {
				t.Errorf("got  %+v\nwant %+v", got, a)
			}
		})
	}
}

func TestATruncatedSessionIsRefusedAtEveryLength(t *testing.T) {
	ring := testRing(t, 1)
	r := rand.New(seeded(3))
	for range 20 {
		s := randomSession(t, ring, r)
		b := encoded(&s, true)
		for n := range b {
			if _, err := decodeSession(b[:n]); err == nil {
				t.Fatalf("cut to %d of %d bytes, it is still read", n, len(b))
			}
		}
	}
}

func TestALaterVersionMayAppend(t *testing.T) {
	s := testSession(t, testRing(t, 1), testCampaign(), 4)
	got, err := decodeSession(append(encoded(&s, true), "a field of next year"...))
	if err != nil || got.ID != s.ID {
		t.Errorf("%v, %v", got, err)
	}
}

func TestAnUnknownVersionIsRefused(t *testing.T) {
	s := testSession(t, testRing(t, 1), testCampaign(), 5)
	b := encoded(&s, true)
	b[0]++
	if _, err := decodeSession(b); err != errCodec {
		t.Errorf("got %v", err)
	}
}

func TestDamagedCountsMakeNoLargeAllocations(t *testing.T) {
	// As many click ids and assignments as there are bytes left, none there.
	damaged := append([]byte{0x80, 0x20}, make([]byte, 4096)...)
	for i := 2; i < len(damaged); i++ {
		damaged[i] = 0xff
	}
	for name, read := range map[string]func(*decoder){
		"assignments": func(d *decoder) { d.assignments() },
		"text":        func(d *decoder) { d.text() },
	} {
		bytes := testing.AllocsPerRun(10, func() {
			var d decoder
			d.read(damaged)
			read(&d)
		})
		if bytes > 8 {
			t.Errorf("%s: %v allocations", name, bytes)
		}
	}
	var d decoder
	d.read(damaged)
	if as := d.assignments(); d.err == nil || len(as) > 2 {
		t.Errorf("%d assignments were read from damage", len(as))
	}
}

func TestEncodingAnIDThatIsNoneIsABug(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it was written")
		}
	}()
	var e encoder
	e.id("not-an-id")
}

func TestADamagedIDIsRefused(t *testing.T) {
	s := testSession(t, testRing(t, 1), testCampaign(), 7)
	b := encoded(&s, true)
	b[2+6] ^= 0x10 // the version of the session id, after version and flags
	if _, err := decodeSession(b); err != errCodec {
		t.Errorf("got %v", err)
	}
}

func FuzzDecodeSession(f *testing.F) {
	ring := testRing(f, 1)
	r := rand.New(seeded(6))
	for range 8 {
		s := randomSession(f, ring, r)
		f.Add(encoded(&s, true))
		f.Add(encoded(&s, false))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeSession(b)
		if err != nil {
			return
		}
		if n := len(s.Assignments) + len(s.Attribution.Original.ClickIDs); n > len(b) {
			t.Errorf("%d bytes gave %d values", len(b), n)
		}
		// What was read can be written and read again.
		again, err := decodeSession(encoded(s, true))
		if err != nil || again.ID != s.ID || again.ExpiresAt != s.ExpiresAt {
			t.Errorf("read again: %+v, %v", again, err)
		}
	})
}
