package sessionctx

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func marshalled(tb testing.TB, r *Ring) []byte {
	tb.Helper()
	b, err := r.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestARingComesBackFromStorageAsItWas(t *testing.T) {
	ring := rotated(t, testRing(t, 1), 2, noonMS)
	back, err := ParseRing(marshalled(t, ring))
	if err != nil {
		t.Fatal(err)
	}
	if !ring.Equal(back) || !back.Equal(ring) {
		t.Error("the ring that was read is another one")
	}
	user := newUserID(t, ring, 3, "ws_1")
	if !back.VerifyUserID(user, "ws_1") {
		t.Error("the ring that was read refuses an id of the one that was written")
	}
	value := sealed(t, ring, sealToken, "x", noonMS)
	if _, err := opened(back, sealToken, value); err != nil {
		t.Error("the ring that was read opens no token of the one that was written")
	}
}

func TestRingsAreEqualOnlyIfAllKeysAre(t *testing.T) {
	ring := testRing(t, 1)
	for name, other := range map[string]*Ring{
		"no ring":             nil,
		"another ring":        testRing(t, 2),
		"the same with a key": rotated(t, ring, 3, noonMS),
		"other user-id keys":  {keys: ring.keys, user: testRing(t, 2).user},
	} {
		if ring.Equal(other) {
			t.Errorf("equal to %s", name)
		}
	}
}

func TestARingThatCannotBeReadIsRefusedWithoutItsSecrets(t *testing.T) {
	good := marshalled(t, rotated(t, testRing(t, 1), 2, noonMS))
	var f ringFile
	if err := json.Unmarshal(good, &f); err != nil {
		t.Fatal(err)
	}
	secrets := []string{f.Keys[0].Secret, f.Keys[1].Secret, f.User[0].Secret}
	changed := func(change func(*ringFile)) []byte {
		var c ringFile
		if err := json.Unmarshal(good, &c); err != nil {
			t.Fatal(err)
		}
		change(&c)
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, tt := range []struct {
		name string
		ring []byte
		want string
	}{
		{"an empty file", nil, "not valid JSON"},
		{"zero bytes of a file system that lost power", make([]byte, 512), "not valid JSON"},
		{"a file written by halves", good[:len(good)/2], "half-written"},
		{"one byte missing", good[:len(good)-1], "not valid JSON"},
		{"text after it", append(bytes.Clone(good), good...), "not valid JSON"},
		{"a secret that is a number", bytes.Replace(good, []byte(`"`+secrets[0]+`"`), []byte("12"), 1), "not valid JSON"},
		{"a JSON null", []byte("null"), "format version 0"},
		{"an empty object", []byte("{}"), "format version 0"},
		{"a newer format", changed(func(c *ringFile) { c.Version = 2 }), "upgrade this node"},
		{"no format version", changed(func(c *ringFile) { c.Version = 0 }), "format version 0"},
		{"a negative format version", changed(func(c *ringFile) { c.Version = -1 }), "format version -1"},
		{"no keys", changed(func(c *ringFile) { c.Keys = nil }), "holds no keys"},
		{"no user-id keys", changed(func(c *ringFile) { c.User = nil }), "holds no keys"},
		{"a secret cut short", changed(func(c *ringFile) { c.Keys[1].Secret = c.Keys[1].Secret[:20] }), "key 2 of 2"},
		{"a secret that is not base64", changed(func(c *ringFile) { c.User[0].Secret += "!" }), "key 1 of 1"},
		{"an id of the wrong length", changed(func(c *ringFile) { c.Keys[0].ID = "1a2b" }), "damaged"},
		{"two keys of one id", changed(func(c *ringFile) { c.Keys[1].ID = c.Keys[0].ID }), "key 2 of 2 in the ring has the id of another"},
		{"a time before 1970", changed(func(c *ringFile) { c.Keys[1].NotBefore = -1 }), "no Unix time"},
		{"a time that overflows", changed(func(c *ringFile) { c.User[0].NotBefore = 1<<63 - 1 }), "no Unix time"},
		{"id and secret swapped", changed(func(c *ringFile) {
			c.Keys[0].ID, c.Keys[0].Secret = c.Keys[0].Secret, c.Keys[0].ID
		}), "damaged"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := ParseRing(tt.ring)
			if err == nil {
				t.Fatalf("taken: %v", r)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%q does not say %q", err, tt.want)
			}
			for _, s := range secrets {
				for part := 0; part+6 <= len(s); part++ {
					if strings.Contains(err.Error(), s[part:part+6]) {
						t.Fatalf("the error quotes a secret: %v", err)
					}
				}
			}
		})
	}
}

func TestKeysAreInForceByTheirTimeNotByTheirPlaceInTheFile(t *testing.T) {
	ring := rotated(t, testRing(t, 1), 2, noonMS)
	var f ringFile
	if err := json.Unmarshal(marshalled(t, ring), &f); err != nil {
		t.Fatal(err)
	}
	f.Keys[0], f.Keys[1] = f.Keys[1], f.Keys[0]
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseRing(b)
	if err != nil {
		t.Fatal(err)
	}
	if !back.Equal(ring) {
		t.Error("keys in another order make another ring")
	}
}

func TestARingIsNotMadeWithoutRandomness(t *testing.T) {
	for n := range 2 * (keyIDLen + secretLen) {
		if _, err := NewRing(bytes.NewReader(make([]byte, n)), noonMS); err == nil {
			t.Fatalf("made of %d random bytes", n)
		}
	}
	if _, err := testRing(t, 1).Rotate(bytes.NewReader(nil), SessionKeys, noonMS); err == nil {
		t.Error("rotated without randomness")
	}
}

func FuzzParseRing(f *testing.F) {
	f.Add(marshalled(f, testRing(f, 1)))
	f.Add(marshalled(f, rotated(f, testRing(f, 1), 2, noonMS)))
	f.Add([]byte(`{"version":1,"keys":[{}],"user_id_keys":[{}]}`))
	ref := CampaignRef{"cmp_1", Production}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRing(b)
		if err != nil {
			return
		}
		back, err := ParseRing(marshalled(t, r))
		if err != nil || !back.Equal(r) {
			t.Errorf("a ring that was read can't be written and read again: %v", err)
		}
		// Whatever the file held, the ring knows its own at any time.
		for _, now := range []int64{0, noonMS, maxNotBefore} {
			user := newUserID(t, r, 1, "ws_1")
			session := newSessionID(t, r, 1, now, ref, user)
			if _, ok := r.VerifySessionID(session, ref, user, now); !ok || !r.VerifyUserID(user, "ws_1") {
				t.Errorf("the ring refuses ids that it made at %d", now)
			}
			if _, err := opened(r, sealToken, sealed(t, r, sealToken, "x", now)); err != nil {
				t.Errorf("the ring refuses a token that it made at %d", now)
			}
			if p := r.Prune(now); len(p.keys) == 0 || len(p.user) == 0 {
				t.Errorf("pruning at %d left no key", now)
			}
		}
	})
}
