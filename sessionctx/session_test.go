package sessionctx

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
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
