package sessionctx

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
)

func TestARenewedSessionKeepsAllButItsIDAndTimes(t *testing.T) {
	c := testCampaign()
	ring := testRing(t, 1)
	r := rand.New(seeded(2))
	old := testSession(t, ring, c, 3)
	old.Attribution = old.Attribution.Return(paidTouch("autumn"))
	old.Returning = true
	first := old
	now := old.ExpiresAt
	for count := 1; count <= 50; count++ {
		now += r.Int64N(2 * 30 * minuteMS)
		next, err := old.Renew(ring, c, now)
		if err != nil {
			t.Fatal(err)
		}
		if next.ID == old.ID {
			t.Fatal("the id stays")
		}
		if _, ok := ring.VerifySessionID(next.ID, c.CampaignRef, first.UserID, now); !ok {
			t.Fatal("the new id does not prove itself")
		}
		want := first
		want.ID, want.CreatedAt, want.ExpiresAt = next.ID, now, now+30*minuteMS
		want.RenewalCount = count
		if !reflect.DeepEqual(next, want) {
			t.Fatalf("renewal %d\ngot  %+v\nwant %+v", count, next, want)
		}
		old, now = next, next.ExpiresAt
	}
}

func TestTabsAndNodesThatCannotAskEachOtherAgreeOnTheSuccessor(t *testing.T) {
	c := testCampaign()
	node := testRing(t, 1)
	other, err := ParseRing(marshalled(t, node))
	if err != nil {
		t.Fatal(err)
	}
	old := testSession(t, node, c, 4)
	d := c.SessionDuration.Milliseconds()
	r := rand.New(seeded(5))
	for range 500 {
		window := r.Int64N(20)
		from := old.ExpiresAt + window*d
		a, b := from+r.Int64N(d), from+r.Int64N(d)
		x, err := old.RenewDerived(node, c, a)
		if err != nil {
			t.Fatal(err)
		}
		y, err := old.RenewDerived(other, c, b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(x, y) {
			t.Fatalf("within one duration:\n%+v\n%+v", x, y)
		}
		if x.CreatedAt != from || x.Expired(a) || x.Expired(b) {
			t.Fatalf("the successor began at %d and ended at %d, want from %d", x.CreatedAt, x.ExpiresAt, from)
		}
		claimed, err := old.Renew(other, c, b)
		if err != nil {
			t.Fatal(err)
		}
		if claimed.ID != x.ID {
			t.Fatal("with and without the store the ids differ")
		}
		next, err := old.RenewDerived(node, c, from+d)
		if err != nil {
			t.Fatal(err)
		}
		if next.ID == x.ID {
			t.Fatal("a duration later it is still the same session")
		}
	}
}

func TestSuccessorsOfDifferentSessionsDiffer(t *testing.T) {
	c := testCampaign()
	ring := testRing(t, 1)
	seen := map[string]bool{}
	for seed := range uint64(500) {
		s := testSession(t, ring, c, seed)
		next, err := s.RenewDerived(ring, c, s.ExpiresAt)
		if err != nil {
			t.Fatal(err)
		}
		if seen[next.ID] {
			t.Fatal("two sessions have one successor")
		}
		seen[next.ID] = true
	}
	preview := CampaignRef{c.ID, Preview}
	if ring.DeriveSessionID("x", noonMS, 1, c.CampaignRef, "u") == ring.DeriveSessionID("x", noonMS, 1, preview, "u") {
		t.Error("preview and production share a successor")
	}
}

func TestALineOlderThanTheAttributionWindowIsNotRenewed(t *testing.T) {
	c := testCampaign()
	ring := testRing(t, 1)
	window := c.AttributionWindow.Milliseconds()
	s := testSession(t, ring, c, 6)
	s.OriginalAt = noonMS - 10*dayMS
	s.RenewalCount = 7
	for _, tt := range []struct {
		name string
		now  int64
		want error
	}{
		{"at the end of the window it still is", s.OriginalAt + window, nil},
		{"1 ms later it is not", s.OriginalAt + window + 1, ErrSessionTooOld},
		{"a year later it is not", s.OriginalAt + 365*dayMS, ErrSessionTooOld},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := s.Renew(ring, c, tt.now); !errors.Is(err, tt.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := s.RenewDerived(ring, c, s.OriginalAt+window+31*minuteMS); !errors.Is(err, ErrSessionTooOld) {
		t.Errorf("derived: got %v", err)
	}
}
