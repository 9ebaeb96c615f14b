package sessionctx

import (
	"bytes"
	"errors"
	"io"
	oldrand "math/rand"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/quick"
)

// quickly checks a property with seeded draws.
func quickly(tb testing.TB, seed uint64, max int, property any) {
	tb.Helper()
	// testing/quick takes the older generator only.
	if err := quick.Check(property, &quick.Config{MaxCount: max, Rand: oldrand.New(oldrand.NewSource(int64(seed)))}); err != nil {
		tb.Error(err)
	}
}

func TestAUserIDProvesItself(t *testing.T) {
	ring := testRing(t, 1)
	quickly(t, 2, 300, func(seed uint64) bool {
		s := newUserID(t, ring, seed, "ws_1")
		return ring.VerifyUserID(s, "ws_1") &&
			!ring.VerifyUserID(s, "ws_2") &&
			!ring.VerifyUserID(s, "") &&
			!ring.VerifyUserID(s, "ws_1 ")
	})
}

func TestASessionIDProvesItself(t *testing.T) {
	ring, other := testRing(t, 1), testRing(t, 2)
	ref := CampaignRef{"cmp_1", Production}
	quickly(t, 3, 300, func(seed uint64) bool {
		user := newUserID(t, ring, seed, "ws_1")
		stranger := newUserID(t, ring, seed+1, "ws_1")
		at := noonMS - int64(seed%uint64(dayMS))
		s := newSessionID(t, ring, seed, at, ref, user)
		ms, ok := ring.VerifySessionID(s, ref, user, noonMS)
		refused := func(r *Ring, c CampaignRef, u string) bool {
			_, ok := r.VerifySessionID(s, c, u, noonMS)
			return !ok
		}
		return ok && ms == at &&
			refused(ring, CampaignRef{"cmp_2", Production}, user) &&
			refused(ring, CampaignRef{"cmp_1", Preview}, user) &&
			refused(ring, ref, stranger) &&
			refused(ring, ref, "") &&
			refused(other, ref, user)
	})
}

func TestEveryFlippedBitOfAnIDIsRefused(t *testing.T) {
	ring := testRing(t, 1)
	ref := CampaignRef{"cmp_1", Production}
	for seed := range uint64(50) {
		user := newUserID(t, ring, seed, "ws_1")
		session := newSessionID(t, ring, seed, noonMS-dayMS, ref, user)
		for bit := range idLen * 8 {
			if ring.VerifyUserID(flipBit(t, user, bit), "ws_1") {
				t.Fatalf("user id %s with bit %d flipped was taken", user, bit)
			}
			// A flipped bit of the time may lie in the future: now is far on.
			if _, ok := ring.VerifySessionID(flipBit(t, session, bit), ref, user, 1<<50); ok {
				t.Fatalf("session id %s with bit %d flipped was taken", session, bit)
			}
		}
	}
}

// flipBit gives the text of the id with one of its 128 bits changed.
func flipBit(tb testing.TB, s string, bit int) string {
	tb.Helper()
	u, ok := parseID(s)
	if !ok {
		tb.Fatalf("%q is not an id", s)
	}
	u[bit/8] ^= 1 << (bit % 8)
	return u.String()
}

func TestAUserIDIsNoSessionIDAndTheOtherWayRound(t *testing.T) {
	ring := testRing(t, 1)
	// Names chosen so that the parts of both MACs would be alike if no
	// domain kept them apart.
	ref := CampaignRef{"", ""}
	user := newUserID(t, ring, 4, "")
	if _, ok := ring.VerifySessionID(user, ref, "", 1<<50); ok {
		t.Error("a user id was taken for a session id")
	}
	if ring.VerifyUserID(newSessionID(t, ring, 5, noonMS, ref, ""), "") {
		t.Error("a session id was taken for a user id")
	}
}

func TestTheLengthsOfMACInputsAreBound(t *testing.T) {
	ring := testRing(t, 1)
	user := newUserID(t, ring, 6, "ws_1")
	s := newSessionID(t, ring, 6, noonMS, CampaignRef{"cmp_1x", "y"}, user)
	if _, ok := ring.VerifySessionID(s, CampaignRef{"cmp_1", "xy"}, user, noonMS); ok {
		t.Error("characters moved from one part of the MAC's input to the next went unnoticed")
	}
}

func TestSessionIDsSortByTime(t *testing.T) {
	ring := testRing(t, 1)
	r := rand.New(seeded(7))
	ref := CampaignRef{"cmp_1", Production}
	user := newUserID(t, ring, 7, "ws_1")
	at, ids := noonMS, make([]string, 0, 500)
	for range 500 {
		at += 1 + r.Int64N(dayMS)
		ids = append(ids, newSessionID(t, ring, r.Uint64(), at, ref, user))
	}
	if !slices.IsSorted(ids) {
		t.Error("later session ids don't sort after earlier ones")
	}
}

func TestAnIDHasOneSpelling(t *testing.T) {
	ring := testRing(t, 1)
	ref := CampaignRef{"cmp_1", Production}
	user := newUserID(t, ring, 8, "ws_1")
	session := newSessionID(t, ring, 8, noonMS, ref, user)
	for name, change := range map[string]func(string) string{
		"upper case":                     strings.ToUpper,
		"one upper-case digit":           upperDigit,
		"no hyphens":                     func(s string) string { return strings.ReplaceAll(s, "-", "") },
		"braces":                         func(s string) string { return "{" + s + "}" },
		"a URN":                          func(s string) string { return "urn:uuid:" + s },
		"a blank before":                 func(s string) string { return " " + s },
		"a line break after":             func(s string) string { return s + "\n" },
		"a NUL after":                    func(s string) string { return s + "\x00" },
		"a digit missing":                func(s string) string { return s[:len(s)-1] },
		"nothing":                        func(string) string { return "" },
		"version 4":                      func(s string) string { return s[:14] + "4" + s[15:] },
		"another variant":                func(s string) string { return s[:19] + "c" + s[20:] },
		"hyphens moved":                  func(s string) string { return s[:7] + "-" + s[7:8] + s[9:] },
		"a hyphen in place of a digit":   func(s string) string { return "-" + s[1:] },
		"a hyphen too many":              func(s string) string { return s[:30] + "-" + s[31:] },
		"hyphens only":                   func(s string) string { return strings.Repeat("-", len(s)) },
		"a letter that is no digit":      func(s string) string { return s[:35] + "g" },
		"a full-width digit at the end":  func(s string) string { return s[:33] + "0" },
		"a percent-encoded first letter": func(s string) string { return "%30" + s[1:] },
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			if bad := change(user); ring.VerifyUserID(bad, "ws_1") {
				t.Errorf("user id %q was taken", bad)
			}
			if bad := change(session); bad != session {
				if _, ok := ring.VerifySessionID(bad, ref, user, noonMS); ok {
					t.Errorf("session id %q was taken", bad)
				}
			}
		})
	}
}

func upperDigit(s string) string {
	at := strings.IndexAny(s, "abcdef")
	return s[:at] + strings.ToUpper(s[at:at+1]) + s[at+1:]
}

func TestASessionIDFromTheFutureIsRefusedBeyondTheSkewOfClocks(t *testing.T) {
	ring := testRing(t, 1)
	ref := CampaignRef{"cmp_1", Production}
	user := newUserID(t, ring, 9, "ws_1")
	for _, tt := range []struct {
		name  string
		ahead int64
		want  bool
	}{
		{"from the past", -dayMS, true},
		{"from now", 0, true},
		{"5 minutes ahead", ClockSkew, true},
		{"5 minutes and 1 ms ahead", ClockSkew + 1, false},
		{"a year ahead", 365 * dayMS, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSessionID(t, ring, 9, noonMS+tt.ahead, ref, user)
			if _, ok := ring.VerifySessionID(s, ref, user, noonMS); ok != tt.want {
				t.Errorf("taken: %v, want %v", ok, tt.want)
			}
		})
	}
}

// An id that was made by a node that has not read the new key yet, or has
// done so early, verifies everywhere.
func TestSessionIDsVerifyAcrossAKeyChange(t *testing.T) {
	before := testRing(t, 1)
	after := rotated(t, before, 2, noonMS)
	change := noonMS + PublishAhead
	ref := CampaignRef{"cmp_1", Production}
	user := newUserID(t, before, 10, "ws_1")
	for _, tt := range []struct {
		name  string
		maker *Ring
		ms    int64
	}{
		{"made long before by a node with the old ring", before, noonMS - dayMS},
		{"made right before the change", after, change - 1},
		{"made at the change", after, change},
		{"made after the change by a node that missed it", before, change + minuteMS},
		{"made a day after the change", after, change + dayMS},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSessionID(t, tt.maker, 10, tt.ms, ref, user)
			if ms, ok := after.VerifySessionID(s, ref, user, change+30*dayMS); !ok || ms != tt.ms {
				t.Errorf("got %d, %v", ms, ok)
			}
		})
	}
	t.Run("two key changes on, an id of its own time still verifies", func(t *testing.T) {
		s := newSessionID(t, before, 11, noonMS-dayMS, ref, user)
		later := rotated(t, rotated(t, after, 3, noonMS+30*dayMS), 4, noonMS+60*dayMS)
		if _, ok := later.VerifySessionID(s, ref, user, noonMS+61*dayMS); !ok {
			t.Error("refused")
		}
	})
	t.Run("a stolen old key makes no ids of today", func(t *testing.T) {
		later := rotated(t, rotated(t, after, 3, noonMS+30*dayMS), 4, noonMS+60*dayMS)
		s := newSessionID(t, before, 12, noonMS+90*dayMS, ref, user)
		if _, ok := later.VerifySessionID(s, ref, user, noonMS+90*dayMS); ok {
			t.Error("a key three changes old proved an id of today")
		}
	})
}

func TestTheUserIDKeySurvivesRotation(t *testing.T) {
	ring := testRing(t, 1)
	user := newUserID(t, ring, 13, "ws_1")
	for i := range 10 {
		now := noonMS + int64(i)*30*dayMS
		ring = rotated(t, ring, 20+uint64(i), now).Prune(now + KeepRetired - 60*dayMS)
	}
	if !ring.VerifyUserID(user, "ws_1") {
		t.Error("a user id doesn't outlive the rotation of the other keys")
	}
}

func TestNoMoreThanThreeKeysAreTried(t *testing.T) {
	ring := testRing(t, 1)
	for i := range uint64(9) {
		ring = rotated(t, ring, 2+i, noonMS+int64(i)*30*dayMS)
	}
	ref := CampaignRef{"cmp_1", Production}
	user := newUserID(t, ring, 14, "ws_1")
	at := noonMS + 130*dayMS
	current := inForce(ring.keys, at)
	for i, k := range ring.keys {
		u := sessionIDAt(at)
		u.setVersion()
		k.ids.sign(&u, macSession, ref.ID, string(ref.Environment), user)
		_, ok := ring.VerifySessionID(u.String(), ref, user, at)
		if want := i >= current-1 && i <= current+1; ok != want {
			t.Errorf("made with key %d while key %d is in force: taken %v, want %v", i, current, ok, want)
		}
	}
}

func TestIDsAreNotMadeWithoutRandomness(t *testing.T) {
	ring := testRing(t, 1)
	short := bytes.NewReader(make([]byte, 3))
	if _, err := ring.NewUserID(short, noonMS, "ws_1"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("user id: %v", err)
	}
	if _, err := ring.NewSessionID(bytes.NewReader(nil), noonMS, CampaignRef{}, ""); !errors.Is(err, io.EOF) {
		t.Errorf("session id: %v", err)
	}
}

func TestWithoutMACCutsWhatProvesAnID(t *testing.T) {
	ring := testRing(t, 1)
	s := newUserID(t, ring, 15, "ws_1")
	if got := WithoutMAC(s); got != s[:23] || strings.HasSuffix(got, "-") {
		t.Errorf("WithoutMAC(%s) = %s", s, got)
	}
	if got := WithoutMAC("secret"); got != "" {
		t.Errorf("what is no id gives %q", got)
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("0d5c0000-0000-8000-8000-000000000000")
	f.Add("------------------------------------")
	f.Add("00000000-0000-8000-8000-000000-00000")
	f.Fuzz(func(t *testing.T, s string) {
		if u, ok := parseID(s); ok && u.String() != s {
			t.Errorf("%q is read, but written %q", s, u.String())
		}
	})
}

// No id but those that were made is taken, whatever the bytes.
func FuzzVerifySessionID(f *testing.F) {
	ring := rotated(f, rotated(f, testRing(f, 1), 2, noonMS-30*dayMS), 3, noonMS)
	ref := CampaignRef{"cmp_1", Production}
	user := newUserID(f, ring, 4, "ws_1")
	made := map[string]bool{}
	for i := range int64(4) {
		s := newSessionID(f, ring, 5, noonMS-i*40*dayMS, ref, user)
		made[s] = true
		f.Add(s, "cmp_1", user, noonMS)
	}
	f.Add("ffffffff-ffff-8fff-bfff-ffffffffffff", "cmp_1", user, int64(-1))
	f.Add("", "", "", int64(0))
	f.Fuzz(func(t *testing.T, s, campaign, u string, now int64) {
		ms, ok := ring.VerifySessionID(s, CampaignRef{campaign, Production}, u, now)
		if ok && (!made[s] || campaign != "cmp_1" || u != user || ms > now+ClockSkew) {
			t.Errorf("%q of campaign %q and user %q was taken at %d", s, campaign, u, now)
		}
		if !ok && ms != 0 {
			t.Errorf("a refused id has the time %d", ms)
		}
	})
}

func FuzzVerifyUserID(f *testing.F) {
	ring := testRing(f, 1)
	for i := range uint64(MaxUserKeys - 1) {
		next, err := ring.Rotate(seeded(2+i), UserKeys, noonMS+int64(i)*dayMS)
		if err != nil {
			f.Fatal(err)
		}
		ring = next
	}
	user := newUserID(f, ring, 5, "ws_1")
	f.Add(user, "ws_1")
	f.Add("ffffffff-ffff-8fff-bfff-ffffffffffff", "")
	f.Fuzz(func(t *testing.T, s, workspace string) {
		if ring.VerifyUserID(s, workspace) && (s != user || workspace != "ws_1") {
			t.Errorf("%q of workspace %q was taken", s, workspace)
		}
	})
}
