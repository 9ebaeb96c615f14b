package sessionctx

import (
	"strings"
	"testing"
)

func TestIDsOfTheConfigurationHaveOneGrammar(t *testing.T) {
	for _, tt := range []struct {
		name, id string
		ok       bool
	}{
		{"letters, digits, underscores and hyphens are taken", "cmp_1-AZaz09", true},
		{"one character suffices", "x", true},
		{"64 characters are taken", strings.Repeat("x", 64), true},
		{"65 are too many", strings.Repeat("x", 65), false},
		{"none are too few", "", false},
		{"a blank is refused", "cmp 1", false},
		{"a line break at the end is refused", "cmp\n", false},
		{"a dot is refused", "cmp.preview", false},
		{"letters beyond ASCII are refused", "größe", false},
		{"what separates cookies is refused", "a;b", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := CheckID(tt.id)
			if (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
			if err != nil && len(err.Error()) > 200 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestASegmentIsFoundByItsID(t *testing.T) {
	c := testCampaign()
	if s := c.Segment("mobile"); s == nil || s.LandingPageID != "lp_2" {
		t.Errorf("got %v", s)
	}
	for _, id := range []string{"", "gone", "MOBILE"} {
		if s := c.Segment(id); s != nil {
			t.Errorf("%q is %v", id, s)
		}
	}
}

func TestAnOriginIsSchemeAndHost(t *testing.T) {
	f := Facts{Scheme: "https", Host: "lp.example.com:8443"}
	if got := f.Origin(); got != "https://lp.example.com:8443" {
		t.Errorf("got %s", got)
	}
}
