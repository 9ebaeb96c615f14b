package sessionctx

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestASessionEndsAtItsExpiryOnTheMillisecond(t *testing.T) {
	s := Session{ExpiresAt: noonMS}
	for _, tt := range []struct {
		name string
		now  int64
		want bool
	}{
		{"1 ms before it lives", noonMS - 1, false},
		{"at it, it has ended", noonMS, true},
		{"after it, it has ended", noonMS + 1, true},
	} {
		if got := s.Expired(tt.now); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

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
	if ring.DeriveSessionID("x", noonMS, c.CampaignRef, "u") == ring.DeriveSessionID("x", noonMS, preview, "u") {
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

func TestASuccessorsTimeIsWholeDurationsAfterTheOldExpiry(t *testing.T) {
	d := 30 * time.Minute
	ms := d.Milliseconds()
	for _, tt := range []struct {
		name      string
		now, want int64
	}{
		{"before the expiry", noonMS - 5, noonMS},
		{"at the expiry", noonMS, noonMS},
		{"just before the first duration is over", noonMS + ms - 1, noonMS},
		{"at the first duration's end", noonMS + ms, noonMS + ms},
		{"days later", noonMS + 100*ms + 7, noonMS + 100*ms},
	} {
		if got := successorAt(noonMS, d, tt.now); got != tt.want {
			t.Errorf("%s: %d ms after, want %d", tt.name, got-noonMS, tt.want-noonMS)
		}
	}
}

func TestATokenProvesItsSession(t *testing.T) {
	ring := testRing(t, 1)
	r := rand.New(seeded(7))
	for range 200 {
		s := lived(randomSession(t, ring, r))
		token := ring.SealToken(&s, noonMS)
		got, err := ring.OpenToken(token)
		if err != nil || !reflect.DeepEqual(*got, s) {
			t.Fatalf("got  %+v\nwant %+v (%v)", got, s, err)
		}
		if _, err := ring.OpenState([]byte(token)); err != ErrInvalidSession {
			t.Fatal("a token passed as a state")
		}
		state := ring.SealState(&s, noonMS)
		if got, err := ring.OpenState(state); err != nil || !reflect.DeepEqual(*got, s) {
			t.Fatalf("state: got %+v, %v", got, err)
		}
		if _, err := ring.OpenToken(string(state)); err != ErrInvalidSession {
			t.Fatal("a state passed as a token")
		}
		at := r.IntN(len(state))
		state[at] ^= 1 << r.IntN(8)
		if _, err := ring.OpenState(state); err != ErrInvalidSession {
			t.Fatalf("a state with byte %d changed opens", at)
		}
		if _, err := ring.OpenState(state[:at]); err != ErrInvalidSession {
			t.Fatal("a truncated state opens")
		}
	}
}

func TestATokenWithoutASessionInsideIsRefused(t *testing.T) {
	ring := testRing(t, 1)
	if _, err := ring.OpenToken(sealed(t, ring, sealToken, "\x07nonsense", noonMS)); err != ErrInvalidSession {
		t.Errorf("got %v", err)
	}
}

// The longest session that the caps allow still gets a token that opens.
func TestTheLongestTokenOpens(t *testing.T) {
	ring := testRing(t, 1)
	s := testSession(t, ring, testCampaign(), 8)
	s.Attribution = FirstTouch(longestTouch("a", noonMS)).Return(longestTouch("b", noonMS+1))
	id := strings.Repeat("i", 64)
	for range 30 {
		s.Assignments = append(s.Assignments, Assignment{id, id})
	}
	if got, err := ring.OpenState(ring.SealState(&s, noonMS)); err != nil || !reflect.DeepEqual(*got, s) {
		t.Errorf("the longest state: %+v, %v", got, err)
	}
	token := ring.SealToken(&s, noonMS)
	if len(token) > maxSealed {
		t.Fatalf("the token has %d bytes, only %d are opened", len(token), maxSealed)
	}
	got, err := ring.OpenToken(token)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != s.ID || got.Test() != s.Test() || !reflect.DeepEqual(got.Attribution, s.Attribution) {
		t.Errorf("what matters most was left out: %+v", got)
	}
	if len(s.Assignments) != 31 || s.Attribution.Current.UTM.Source == "" {
		t.Error("sealing changed the session itself")
	}
}

func TestASessionsFirstTestIsTheOneThatColumnsName(t *testing.T) {
	if got := (&Session{}).Test(); got != (Assignment{}) {
		t.Errorf("without tests: %v", got)
	}
	s := Session{Assignments: []Assignment{{"a", "1"}, {"b", "2"}}}
	if got := s.Test(); got != (Assignment{"a", "1"}) {
		t.Errorf("got %v", got)
	}
}
