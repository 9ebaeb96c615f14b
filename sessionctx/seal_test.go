package sessionctx

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
)

func sealed(tb testing.TB, r *Ring, p purpose, plain string, now int64) string {
	tb.Helper()
	w := takeBench()
	defer putBench(w)
	w.b = append(w.b, plain...)
	return string(w.seal(nil, r, p, now))
}

func opened(r *Ring, p purpose, sealed string) (string, error) {
	w := takeBench()
	defer putBench(w)
	plain, err := w.open(r, p, sealed)
	return string(plain), err
}

func TestWhatIsSealedForOnePurposeOpensForNoOther(t *testing.T) {
	ring := testRing(t, 1)
	for made := range purposes {
		s := sealed(t, ring, made, "plain", noonMS)
		for used := range purposes {
			plain, err := opened(ring, used, s)
			switch {
			case made == used && (err != nil || plain != "plain"):
				t.Errorf("a %s does not open as one: %v", purposeNames[made], err)
			case made != used && err == nil:
				t.Errorf("a %s opens as a %s", purposeNames[made], purposeNames[used])
			}
		}
	}
}

func TestASealedValueHidesWhatItHolds(t *testing.T) {
	ring := testRing(t, 1)
	const text = "segment-of-very-rich-people"
	a, b := sealed(t, ring, sealToken, text, noonMS), sealed(t, ring, sealToken, text, noonMS)
	if a == b {
		t.Error("equal values are sealed alike")
	}
	raw, err := base64.RawURLEncoding.DecodeString(a[keyIDTextLen+1:])
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range [][]byte{[]byte(a), raw} {
		if bytes.Contains(layer, []byte("rich")) {
			t.Error("it is only encoded")
		}
	}
}

func TestASealedValueIsSafeInCookiesAndJSON(t *testing.T) {
	ring := testRing(t, 1)
	for n := range 40 {
		s := sealed(t, ring, sealUser, strings.Repeat("x", n), noonMS)
		if bad := strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."); bad != "" {
			t.Fatalf("holds %q", bad)
		}
	}
}

func TestEveryFlippedBitOfASealedValueIsRefused(t *testing.T) {
	ring := testRing(t, 1)
	// The three lengths modulo 3 leave all numbers of bits unused in the last digit.
	for _, plain := range []string{"", "a", "ab", "abc", "abcd", "abcdefghijk"} {
		s := sealed(t, ring, sealToken, plain, noonMS)
		for i := range len(s) {
			for bit := range 8 {
				b := []byte(s)
				b[i] ^= 1 << bit
				if _, err := opened(ring, sealToken, string(b)); err == nil {
					t.Fatalf("bit %d of byte %d of %q was flipped unnoticed", bit, i, s)
				}
			}
		}
	}
}

func TestWhatIsNotASealedValueOfOursIsRefused(t *testing.T) {
	ring := testRing(t, 1)
	s := sealed(t, ring, sealToken, "plain", noonMS)
	for name, bad := range map[string]string{
		"nothing":                     "",
		"a key id alone":              s[:keyIDTextLen],
		"a key id and a dot":          s[:keyIDTextLen+1],
		"no key id":                   s[keyIDTextLen+1:],
		"an unknown key id":           "00000000" + s[keyIDTextLen:],
		"another separator":           s[:keyIDTextLen] + "|" + s[keyIDTextLen+1:],
		"one of another ring":         sealed(t, testRing(t, 2), sealToken, "plain", noonMS),
		"a character too many":        s + "A",
		"a line break inside":         s[:20] + "\n" + s[20:],
		"line breaks that fill it up": s + "\r\n\r\n",
		"one that is too long":        s + strings.Repeat("A", maxSealed),
		"text":                        "null",
	} {
		t.Run(name, func(t *testing.T) {
			if plain, err := opened(ring, sealToken, bad); err == nil {
				t.Errorf("opened: %q", plain)
			}
		})
	}
	for n := range len(s) {
		if _, err := opened(ring, sealToken, s[:n]); err == nil {
			t.Fatalf("cut to %d of %d bytes, it still opens", n, len(s))
		}
	}
}

func TestOneKeysValueUnderAnotherKeysIDIsRefused(t *testing.T) {
	ring := rotated(t, testRing(t, 1), 2, noonMS)
	old := sealed(t, ring, sealToken, "x", noonMS)
	relabelled := ring.keys[1].secret.ID + old[keyIDTextLen:]
	if _, err := opened(ring, sealToken, relabelled); err == nil {
		t.Error("opened")
	}
}

func TestWhatARevokedKeyMadeCountsAsAbsent(t *testing.T) {
	c := testCampaign()
	ring := rotated(t, testRing(t, 1), 2, noonMS)
	later := noonMS + PublishAhead
	s := testSession(t, ring, c, 3)
	old := ring.SealToken(&s, noonMS)
	young := ring.SealToken(&s, later)
	revoked := &Ring{keys: ring.keys[1:], user: ring.user}
	if _, err := revoked.OpenToken(old); err != ErrInvalidSession {
		t.Errorf("token of the revoked key: %v", err)
	}
	if _, err := revoked.OpenToken(young); err != nil {
		t.Errorf("token of the key that stays: %v", err)
	}
	if _, ok := revoked.VerifySessionID(s.ID, c.CampaignRef, s.UserID, later); ok {
		t.Error("a session id of the revoked key verifies")
	}
	if !revoked.VerifyUserID(s.UserID, c.WorkspaceID) {
		t.Error("revoking a key of sessions revoked a user id")
	}
}

func FuzzOpen(f *testing.F) {
	ring := testRing(f, 1)
	f.Add(sealed(f, ring, sealToken, "plain", noonMS))
	f.Add(ring.keys[0].secret.ID + ".MTc3MzQ4OTYwMHw=")
	f.Fuzz(func(t *testing.T, s string) {
		for p := range purposes {
			opened(ring, p, s)
		}
	})
}
