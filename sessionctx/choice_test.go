package sessionctx

import (
	"testing"
	"time"
)

// choiceIn reads the choice back as a request would bring it.
func choiceIn(t *testing.T, r *Ring, c *Campaign, ck Cookie, secure bool, now int64) *Choice {
	t.Helper()
	return r.OpenCookies([]Cookie{ck}, c, secure, now).Choice
}

func TestAChoiceComesBackAsItWasMade(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	for flags := range uint64(8) {
		for _, secure := range []bool{true, false} {
			choice := Choose(purposesOf(flags), nil, noonMS)
			ck := ring.ChoiceCookie(choice, c, secure, noon)
			if ck.Name != c.CookieNames(secure).Choice || ck.MaxAge != ChoiceLifetime {
				t.Fatalf("cookie %s for %s", ck.Name, ck.MaxAge)
			}
			if got := choiceIn(t, ring, c, ck, secure, noonMS+1); got == nil || *got != choice {
				t.Errorf("got %+v, want %+v", got, choice)
			}
			other := testCampaign()
			other.ID = "cmp_2"
			if got := choiceIn(t, ring, other, ck, secure, noonMS); got == nil || *got != choice {
				t.Error("a choice counts for one campaign of its workspace only")
			}
		}
	}
}

func TestAChoiceEndsAfterHalfAYear(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	ck := ring.ChoiceCookie(Choose(Purposes{Analytics: true}, nil, noonMS), c, true, noon)
	end := noon.Add(ChoiceLifetime).UnixMilli()
	if choiceIn(t, ring, c, ck, true, end) == nil {
		t.Error("it ended early")
	}
	if got := choiceIn(t, ring, c, ck, true, end+1); got != nil {
		t.Errorf("a copy that outlived its Max-Age still says %+v", got)
	}
}

// The reference manager's times are the browser's, whose clock may be ahead.
func TestAChoiceIsNewerThanTheOneItReplaces(t *testing.T) {
	yes := Purposes{true, true, true}
	for _, tt := range []struct {
		name      string
		reference *Choice
		after     int64 // when the reference manager writes a refusal again
		analytics bool
	}{
		{"with none before", nil, 0, true},
		{"of a browser whose clock is right", &Choice{At: noonMS - 1000}, 0, true},
		{"of a browser whose clock is an hour ahead", &Choice{At: noonMS + 60*minuteMS}, 0, true},
		{"but not than a refusal made later", &Choice{At: noonMS + 60*minuteMS}, noonMS + 61*minuteMS, false},
		{"nor than one from the far future", &Choice{At: noonMS + 3*dayMS}, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			choice := Choose(yes, tt.reference, noonMS)
			reference := tt.reference
			if tt.after > 0 {
				reference = &Choice{At: tt.after}
			}
			got := DecideConsent(&ConsentRules{}, true, &Facts{}, &choice, reference)
			if got.Analytics != tt.analytics {
				t.Errorf("analytics %v by %s", got.Analytics, got.Source)
			}
		})
	}
}

func TestBothHaveToGrant(t *testing.T) {
	a, b := Purposes{true, true, false}, Purposes{true, false, true}
	if got := a.And(b); got != (Purposes{Analytics: true}) {
		t.Errorf("got %+v", got)
	}
}

func TestAChoiceFitsACookie(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	c.WorkspaceID = longID
	ck := ring.ChoiceCookie(Choose(Purposes{true, true, true}, nil, 1<<60), c, true, time.UnixMilli(noonMS))
	if len(ck.Value) > 300 {
		t.Errorf("%d bytes", len(ck.Value))
	}
}

const longID = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
