package sessionctx

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestRotatePublishesAKeyTenMinutesBeforeItsFirstUse(t *testing.T) {
	ring := testRing(t, 1)
	old := ring.keys[0].secret.ID
	next := rotated(t, ring, 2, noonMS)
	if got := next.NewestKeyAt(); got != noonMS+PublishAhead {
		t.Errorf("the new key comes into force %d ms from now, want %d", got-noonMS, PublishAhead)
	}
	if len(ring.keys) != 1 {
		t.Error("rotating changed the ring that was in use")
	}
	for _, tt := range []struct {
		name    string
		at      int64
		wantOld bool
	}{
		{"at once the old key makes tokens", noonMS, true},
		{"10 minutes less 1 ms on it still does", noonMS + PublishAhead - 1, true},
		{"10 minutes on the new one does", noonMS + PublishAhead, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := strings.HasPrefix(sealed(t, next, sealToken, "", tt.at), old+"."); got != tt.wantOld {
				t.Errorf("sealed with the old key: %v, want %v", got, tt.wantOld)
			}
		})
	}
	t.Run("a node that has read the ring opens what the new key makes at once", func(t *testing.T) {
		if _, err := opened(next, sealToken, sealed(t, next, sealToken, "x", noonMS+PublishAhead)); err != nil {
			t.Error(err)
		}
	})
}

func TestACommandGivenTwiceMakesOneKey(t *testing.T) {
	for _, use := range []KeyUse{SessionKeys, UserKeys} {
		once, err := testRing(t, 1).Rotate(seeded(2), use, noonMS)
		if err != nil {
			t.Fatal(err)
		}
		pending := once.of(use)[1].secret.ID
		for _, now := range []int64{noonMS, noonMS + PublishAhead - 1, noonMS - dayMS} {
			_, err = once.Rotate(seeded(3), use, now)
			if !errors.Is(err, ErrKeyPending) || !strings.Contains(err.Error(), pending) {
				t.Errorf("use %d, %d ms on: %v", use, now-noonMS, err)
			}
		}
		if _, err := once.Rotate(seeded(3), use, noonMS+PublishAhead); err != nil {
			t.Errorf("use %d, when it is in force: %v", use, err)
		}
	}
}

func TestPruneKeepsWhatMayLive(t *testing.T) {
	const keep = KeepRetired
	ring := testRing(t, 1)
	for i := range uint64(3) {
		ring = rotated(t, ring, 2+i, noonMS+int64(i)*30*dayMS)
	}
	successor := ring.keys[1].secret.NotBefore
	for _, tt := range []struct {
		name string
		now  int64
		want int
	}{
		{"right after the change all keys stay", successor, 4},
		{"as long as the old key's last token may live, it stays", successor + keep, 4},
		{"1 ms on, the first goes", successor + keep + 1, 3},
		{"the newest stays for ever", successor + 2000*dayMS, 1},
		{"a clock before all keys prunes nothing", 0, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := ring.Prune(tt.now); len(got.keys) != tt.want || got.keys[len(got.keys)-1] != ring.keys[3] {
				t.Errorf("%d keys, want %d", len(got.keys), tt.want)
			}
		})
	}
	if len(ring.keys) != 4 {
		t.Error("pruning changed the ring that was in use")
	}
}

// The longest-lived thing that a key makes is a user cookie of 400 days.
func TestARetiredKeyVerifiesAsLongAsAUserCookieMayLive(t *testing.T) {
	c := testCampaign()
	c.Consent.UserCookie = 400 * 24 * time.Hour
	ring := rotated(t, testRing(t, 1), 2, noonMS)
	last := noonMS + PublishAhead - 1 // of the old key
	u := UserCookie{UserID: newUserID(t, ring, 3, c.WorkspaceID), FirstAt: last, RefreshedAt: last}
	value := string(ring.sealUser(nil, &u, c, last))
	dies := last + c.Consent.UserCookie.Milliseconds() + refreshAfter(c.Consent.UserCookie).Milliseconds()
	if ring.Prune(dies).openUser(value, c, dies) == nil {
		t.Error("the key is gone before the last cookie that it made")
	}
	if ring.openUser(value, c, dies+1) != nil {
		t.Error("the cookie lives longer than this test believes")
	}
	if n := len(ring.Prune(dies + 2*dayMS).keys); n != 1 {
		t.Errorf("%d keys 2 days after nothing made with the first lives", n)
	}
}

func TestUserKeysArePrunedToo(t *testing.T) {
	ring := testRing(t, 1)
	user := newUserID(t, ring, 3, "ws_1")
	next, err := ring.Rotate(seeded(2), UserKeys, noonMS)
	if err != nil {
		t.Fatal(err)
	}
	end := noonMS + PublishAhead + KeepRetired
	if !next.Prune(end).VerifyUserID(user, "ws_1") {
		t.Error("a user id is refused while its cookie may live")
	}
	if next.Prune(end+1).VerifyUserID(user, "ws_1") {
		t.Error("a retired user-id key verifies for ever")
	}
	if p := next.Prune(end); p != next {
		t.Error("a ring with nothing to prune is another one")
	}
}

func TestANewUserKeyMakesIDsWhenEveryNodeKnowsIt(t *testing.T) {
	ring := testRing(t, 1)
	next, err := ring.Rotate(seeded(2), UserKeys, noonMS)
	if err != nil {
		t.Fatal(err)
	}
	if len(next.keys) != 1 || len(ring.user) != 1 {
		t.Error("rotating the user-id key changed other keys, or the ring in use")
	}
	at := func(ms int64) string {
		s, err := next.NewUserID(seeded(4), ms, "ws_1")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before, after := at(noonMS+PublishAhead-1), at(noonMS+PublishAhead)
	if !ring.VerifyUserID(before, "ws_1") {
		t.Error("a node without the new key refuses an id made before its time")
	}
	if ring.VerifyUserID(after, "ws_1") {
		t.Error("the new key is not used at its time")
	}
	if !next.VerifyUserID(before, "ws_1") || !next.VerifyUserID(after, "ws_1") {
		t.Error("the new ring refuses its own ids")
	}
}

func TestUserKeysAreBounded(t *testing.T) {
	ring, now := testRing(t, 1), noonMS
	first := newUserID(t, ring, 1, "ws_1")
	var err error
	for i := range uint64(MaxUserKeys - 1) {
		if ring, err = ring.Rotate(seeded(2+i), UserKeys, now); err != nil {
			t.Fatal(err)
		}
		now += dayMS
	}
	if !ring.VerifyUserID(first, "ws_1") {
		t.Error("the oldest user id is refused though its key is in the ring")
	}
	if n := len(ring.List(UserKeys, now)); n != 3 {
		t.Errorf("%d keys are tried for a user id, want 3 at most", n)
	}
	if left, err := ring.Revoke(seeded(98), UserKeys, "", now); err != nil || len(left.List(UserKeys, now)) > MaxUserKeys {
		t.Errorf("revoking one adds one too many: %v", err)
	}
	_, err = ring.Rotate(seeded(99), UserKeys, now)
	if !errors.Is(err, ErrTooManyKeys) || !strings.Contains(err.Error(), "revoke") {
		t.Errorf("one more: %v", err)
	}
	if _, err = ring.Prune(now+KeepRetired).Rotate(seeded(99), UserKeys, now+KeepRetired); err != nil {
		t.Errorf("when the oldest are gone: %v", err)
	}
}

func TestRevokingTheKeyInForce(t *testing.T) {
	c := testCampaign()
	ring := rotated(t, testRing(t, 1), 2, noonMS-30*dayMS)
	s := testSession(t, ring, c, 3) // made at noon
	token := ring.SealToken(&s, noonMS)
	revoked, err := ring.Revoke(seeded(4), SessionKeys, "", noonMS)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := revoked.OpenToken(token); err != ErrInvalidSession {
		t.Errorf("a token of the revoked key: %v", err)
	}
	if _, ok := revoked.VerifySessionID(s.ID, c.CampaignRef, s.UserID, noonMS); ok {
		t.Error("a session id of the revoked key verifies")
	}
	if !revoked.VerifyUserID(s.UserID, c.WorkspaceID) {
		t.Error("a user id went with a session key")
	}
	fresh := revoked.SealToken(&s, noonMS)
	if _, err := ring.OpenToken(fresh); err == nil {
		t.Error("no new key is in force at once")
	}
	if _, err := revoked.OpenToken(fresh); err != nil {
		t.Errorf("the new key's token: %v", err)
	}
	if revoked.keys[0] != ring.keys[0] || len(revoked.keys) != 2 || len(ring.keys) != 2 {
		t.Error("another key went too, or the ring in use was changed")
	}
	// The schedule counts from the new key.
	if revoked.NewestKeyAt() != noonMS {
		t.Errorf("the newest key is of %d", revoked.NewestKeyAt())
	}
}

func TestRevokingAKeyByItsID(t *testing.T) {
	ring := testRing(t, 1)
	for i, ago := range []int64{60, 30} {
		ring = rotated(t, ring, uint64(2+i), noonMS-ago*dayMS)
	}
	ring = rotated(t, ring, 9, noonMS) // pending
	for i, k := range ring.keys {
		name := ring.List(SessionKeys, noonMS)[i].State
		t.Run(string(name), func(t *testing.T) {
			got, err := ring.Revoke(seeded(20), SessionKeys, k.secret.ID, noonMS)
			if err != nil {
				t.Fatal(err)
			}
			if got.keyByID(k.secret.ID) != nil {
				t.Error("it is still there")
			}
			inForceNow := got.keyAt(noonMS)
			if made := ring.keyByID(inForceNow.secret.ID) == nil; made != (name == KeyInForce) {
				t.Errorf("a new key was made: %v", made)
			}
			for j, other := range ring.keys {
				if j != i && got.keyByID(other.secret.ID) == nil {
					t.Errorf("key %d went with it", j)
				}
			}
			back, err := ParseRing(marshalled(t, got))
			if err != nil || !back.Equal(got) {
				t.Errorf("other nodes read another ring: %v", err)
			}
		})
	}
	for _, id := range []string{"00000000", "x", ring.user[0].secret.ID} {
		if _, err := ring.Revoke(seeded(20), SessionKeys, id, noonMS); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("key %s: %v", id, err)
		}
	}
}

func TestRevokingTheOnlyKeyAndOneOfTheFuture(t *testing.T) {
	ring := testRing(t, 1)
	for _, now := range []int64{noonMS, noonMS - 1000*dayMS} { // the second: a clock set back
		got, err := ring.Revoke(seeded(5), UserKeys, "", now)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.user) != 1 || got.user[0].secret.ID == ring.user[0].secret.ID || got.user[0].secret.NotBefore != now {
			t.Errorf("user-id keys: %+v", got.List(UserKeys, now))
		}
		if got.VerifyUserID(newUserID(t, ring, 6, "ws_1"), "ws_1") {
			t.Error("a user id of the revoked key verifies")
		}
	}
}

func TestASessionOfARevokedUserIDIsAbsent(t *testing.T) {
	c := testCampaign()
	ring := testRing(t, 1)
	jar, _ := fullJar(t, ring, c, 2, true, noon)
	revoked, err := ring.Revoke(seeded(5), UserKeys, "", noonMS)
	if err != nil {
		t.Fatal(err)
	}
	if got := ring.OpenCookies(jar, c, true, noonMS); got.Session == nil || got.User == nil {
		t.Fatal("the jar is no good")
	}
	got := revoked.OpenCookies(jar, c, true, noonMS)
	if got.User != nil || got.Session != nil {
		t.Errorf("user %v, session %v", got.User, got.Session)
	}
	alone := revoked.OpenCookies(without(jar, c.CookieNames(true).User), c, true, noonMS)
	if alone.Session != nil {
		t.Error("without the user cookie the session is taken")
	}
}

// Two nodes share a ring and read it at different times: whatever either makes
// before the new key's time verifies at the other, and what the late one
// makes after that verifies at the one that knows.
func TestNodesThatReadTheRingAtDifferentTimesAgree(t *testing.T) {
	ref := CampaignRef{"cmp_1", Production}
	quickly(t, 11, 300, func(seed uint64) bool {
		r := rand.New(seeded(seed))
		late := testRing(t, seed)
		for i := range r.Uint64N(3) {
			late = rotated(t, late, seed+i+1, noonMS-int64(80-30*i)*dayMS)
		}
		use := SessionKeys
		if r.Uint64N(2) == 1 {
			use = UserKeys
		}
		early, err := late.Rotate(seeded(seed+9), use, noonMS)
		if err != nil {
			t.Fatal(err)
		}
		ms := noonMS - 60*minuteMS + r.Int64N(60*minuteMS+PublishAhead)
		agree := func(made, read *Ring, ms int64) bool {
			user, err := made.NewUserID(seeded(r.Uint64()), ms, "ws_1")
			if err != nil {
				t.Fatal(err)
			}
			session := newSessionID(t, made, r.Uint64(), ms, ref, user)
			got, ok := read.VerifySessionID(session, ref, user, ms)
			token, err := opened(read, sealToken, sealed(t, made, sealToken, "x", ms))
			return ok && got == ms && read.VerifyUserID(user, "ws_1") && err == nil && token == "x"
		}
		return agree(late, early, ms) && agree(early, late, ms) &&
			agree(late, early, ms+r.Int64N(30*dayMS)) && agree(early, early, ms+r.Int64N(30*dayMS))
	})
}

func TestTheListShowsStatesAndTimesButNoSecrets(t *testing.T) {
	ring := rotated(t, testRing(t, 1), 2, noonMS-30*dayMS)
	ring = rotated(t, ring, 3, noonMS)
	got := ring.List(SessionKeys, noonMS)
	first := noonMS - 30*dayMS + PublishAhead
	want := []KeyInfo{
		{ring.keys[0].secret.ID, KeyRetired, noonMS - 90*dayMS, first + KeepRetired},
		{ring.keys[1].secret.ID, KeyInForce, first, noonMS + PublishAhead + KeepRetired},
		{ring.keys[2].secret.ID, KeyPending, noonMS + PublishAhead, 0},
	}
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Errorf("key %d: %+v, want %+v", i, got, want[i])
		}
	}
	b, err := json.Marshal([]any{got, ring.List(UserKeys, noonMS)})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range append(ring.of(SessionKeys), ring.of(UserKeys)...) {
		if strings.Contains(string(b), k.secret.Secret) {
			t.Error("a secret is in it")
		}
	}
	// As soon as nothing of a key lives, it goes.
	if ring.Prune(want[0].VerifiesUntil).keys[0] != ring.keys[0] || ring.Prune(want[0].VerifiesUntil + 1).keys[0] == ring.keys[0] {
		t.Error("verifies_until is not when the key goes")
	}
}

func TestAKeyNeverGetsTheIDOfAnother(t *testing.T) {
	ring := testRing(t, 1) // seed 1: its session key and its user key are drawn from it
	for _, use := range []KeyUse{SessionKeys, UserKeys} {
		if r, err := ring.Rotate(seeded(1), use, noonMS); err == nil {
			t.Errorf("the ring has %+v", r.List(use, noonMS))
		}
	}
}
