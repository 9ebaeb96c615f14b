package sessionctx

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func TestConsentIsDecidedByWhatTheBrowserCarries(t *testing.T) {
	yes := func(at int64) *Choice { return &Choice{Purposes{true, true, false}, at} }
	no := func(at int64) *Choice { return &Choice{At: at} }
	all := &ConsentRules{RespectGPC: true, RespectDNT: true}
	none := &ConsentRules{}
	gpc, dnt, both := Facts{GPC: true}, Facts{DNT: true}, Facts{GPC: true, DNT: true}
	for _, tt := range []struct {
		name            string
		rules           *ConsentRules
		required        bool
		facts           Facts
		ours, reference *Choice
		analytics       bool
		source          ConsentSource
	}{
		{"where consent is never asked for, all is allowed", nil, true, both, nil, no(1), true, ConsentNotRequired},
		{"a refusal of ours counts even there", nil, true, both, no(1), nil, false, ConsentChoice},
		{"not required and nothing said: allowed", all, false, Facts{}, nil, nil, true, ConsentNotRequired},
		{"required and nothing said: pending", all, true, Facts{}, nil, nil, false, ConsentPending},
		{"GPC is a refusal", all, false, gpc, nil, nil, false, ConsentGPC},
		{"GPC is a refusal where consent is required too", all, true, gpc, nil, nil, false, ConsentGPC},
		{"DNT is a refusal where the campaign says so", all, false, dnt, nil, nil, false, ConsentDNT},
		{"signals that the campaign doesn't respect are none", none, false, both, nil, nil, true, ConsentNotRequired},
		{"such signals leave a required consent pending", none, true, both, nil, nil, false, ConsentPending},
		{"our yes counts", all, true, Facts{}, yes(1), nil, true, ConsentChoice},
		{"our no counts where consent is not required", all, false, Facts{}, no(1), nil, false, ConsentChoice},
		{"an explicit yes to us outweighs GPC", all, true, both, yes(1), nil, true, ConsentChoice},
		{"the reference manager's yes counts", all, true, Facts{}, nil, yes(1), true, ConsentReference},
		{"the reference manager's no counts", all, false, Facts{}, nil, no(1), false, ConsentReference},
		{"its yes does not outweigh GPC", all, true, gpc, nil, yes(1), false, ConsentGPC},
		{"its yes does not outweigh DNT", all, true, dnt, nil, yes(1), false, ConsentDNT},
		{"our newer yes counts over its no", all, true, Facts{}, yes(2), no(1), true, ConsentChoice},
		{"its newer no counts over our yes", all, true, Facts{}, yes(1), no(2), false, ConsentReference},
		{"its newer yes never counts over our no", all, true, Facts{}, no(1), yes(2), false, ConsentChoice},
		{"its newer no beside our no is a no", all, true, Facts{}, no(1), no(2), false, ConsentChoice},
		{"its newer yes beside our yes does not make GPC a refusal again", all, true, both, yes(1), yes(2), true, ConsentReference},
		{"of one moment ours counts", all, true, Facts{}, yes(1), no(1), true, ConsentChoice},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := DecideConsent(tt.rules, tt.required, &tt.facts, tt.ours, tt.reference)
			if got.Analytics != tt.analytics || got.Source != tt.source {
				t.Errorf("analytics %v by %s, want %v by %s", got.Analytics, got.Source, tt.analytics, tt.source)
			}
			if want := tt.required && tt.rules != nil; got.Required != want && got.Source != ConsentNotRequired {
				t.Errorf("required: %v, want %v", got.Required, want)
			}
			if !got.Analytics && (got.Marketing || got.Functional) {
				t.Errorf("a refusal allows %+v", got.Purposes)
			}
		})
	}
}

// reference is a frbzz_consent cookie as the reference manager writes it.
func reference(analytics, marketing, functional, interacted bool, timestamp string) string {
	return url.PathEscape(fmt.Sprintf(
		`{"preferences":{"necessary":true,"analytics":%v,"marketing":%v,"functional":%v},"hasUserInteracted":%v,"timestamp":%s,"version":1}`,
		analytics, marketing, functional, interacted, timestamp))
}

func TestTheReferenceManagersCookie(t *testing.T) {
	yes := reference(true, true, true, true, "1764019067000")
	no := &Choice{}
	for _, tt := range []struct {
		name   string
		values []string
		want   *Choice
	}{
		{"none is no choice", nil, nil},
		{"a yes is one", []string{yes}, &Choice{Purposes{true, true, true}, 1764019067000}},
		{"it need not be percent-encoded", []string{mustUnescape(yes)}, &Choice{Purposes{true, true, true}, 1764019067000}},
		{"a no is one", []string{reference(false, false, false, true, "5")}, &Choice{At: 5}},
		{"one in part is one", []string{reference(true, false, true, true, "5")}, &Choice{Purposes{true, false, true}, 5}},
		{"written before the visitor chose, it is none", []string{reference(true, true, true, false, "5")}, nil},
		{"of several the strictest counts", []string{yes, reference(true, false, true, true, "7"), reference(false, true, true, true, "6")},
			&Choice{Purposes{false, false, true}, 1764019067000}},
		{"one planted beside it can't turn a no into a yes", []string{reference(false, false, false, true, "5"), yes}, &Choice{At: 1764019067000}},
		{"one without a choice beside it changes nothing", []string{reference(false, false, false, false, "9"), yes}, &Choice{Purposes{true, true, true}, 1764019067000}},
		{"what can't be read means no", []string{"yes"}, no},
		{"an unreadable one beside a yes means no", []string{yes, "%7Bbroken"}, &Choice{At: 1764019067000}},
		{"an empty one means no", []string{""}, no},
		{"broken percent-encoding means no", []string{"%zz"}, no},
		{"JSON of another kind means no", []string{"[]", "1", `"x"`, "null"}, no},
		{"another version means no", []string{strings.Replace(yes, "version%22:1", "version%22:2", 1)}, no},
		{"no version means no", []string{`{"preferences":{"analytics":true},"hasUserInteracted":true}`}, no},
		{"no preferences mean no", []string{`{"hasUserInteracted":true,"version":1}`}, no},
		{"preferences of another type mean no", []string{`{"preferences":"all","hasUserInteracted":true,"version":1}`}, no},
		{"a yes as text means no", []string{`{"preferences":{"analytics":"true"},"hasUserInteracted":true,"version":1}`}, no},
		{"a missing preference is none", []string{`{"preferences":{},"hasUserInteracted":true,"version":1}`}, no},
		{"one too long to be its own means no", []string{yes + strings.Repeat(" ", 2048)}, no},
		{"one name twice means no", []string{`{"preferences":{"analytics":false,"analytics":true},"hasUserInteracted":true,"version":1}`}, no},
		{"preferences twice mean no", []string{`{"preferences":{},"preferences":{"analytics":true},"hasUserInteracted":true,"version":1}`}, no},
		{"names in another case are other names", []string{`{"preferences":{"analytics":false,"Analytics":true},"hasUserInteracted":true,"version":1}`}, no},
		{"bytes that are not UTF-8 mean no", []string{`{"preferences":{"analytics":true,"x":"%ff"},"hasUserInteracted":true,"version":1}`}, no},
		{"a version as text means no", []string{`{"preferences":{"analytics":true},"hasUserInteracted":true,"version":"1"}`}, no},
		{"a timestamp as text means no", []string{`{"preferences":{"analytics":true},"hasUserInteracted":true,"version":1,"timestamp":"5"}`}, no},
		{"an interaction of another type means no", []string{`{"preferences":{"analytics":true},"hasUserInteracted":1,"version":1}`}, no},
		{"null is no yes", []string{`{"preferences":{"analytics":null,"marketing":true},"hasUserInteracted":true,"version":1}`}, &Choice{Purposes: Purposes{Marketing: true}}},
		{"a deep value beside it means no", []string{`{"preferences":{"analytics":true},"hasUserInteracted":true,"version":1,"x":` + strings.Repeat("[", 900) + `}`}, no},
		{"text behind it means no", []string{mustUnescape(yes) + "{}"}, no},
		{"percent-encoding twice means no", []string{url.PathEscape(yes)}, no},
		{"a deep one means no", []string{strings.Repeat("[", 2000)}, no},
		{"a timestamp before 1970 counts as unknown", []string{reference(true, true, true, true, "-5")}, &Choice{Purposes: Purposes{true, true, true}}},
		{"one beyond the year 9999 does too", []string{reference(true, true, true, true, "1e300")}, &Choice{Purposes: Purposes{true, true, true}}},
		{"one that no number holds means no", []string{reference(true, true, true, true, "1e999")}, no},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ParseReferenceConsent(tt.values)
			switch {
			case got == nil || tt.want == nil:
				if got != tt.want {
					t.Errorf("got %+v, want %+v", got, tt.want)
				}
			case *got != *tt.want:
				t.Errorf("got %+v, want %+v", *got, *tt.want)
			}
		})
	}
}

func mustUnescape(s string) string {
	s, err := url.PathUnescape(s)
	if err != nil {
		panic(err)
	}
	return s
}

func FuzzParseReferenceConsent(f *testing.F) {
	f.Add(reference(true, true, true, true, "1764019067000"))
	f.Add("%7B%22")
	f.Add(`{"preferences":{"analytics":true,"analytics":true},"hasUserInteracted":true,"version":1,"timestamp":1e308}`)
	f.Fuzz(func(t *testing.T, v string) {
		alone := ParseReferenceConsent([]string{v})
		beside := ParseReferenceConsent([]string{v, reference(false, false, false, true, "5")})
		if beside == nil || beside.Analytics || beside.Marketing || beside.Functional {
			t.Errorf("beside a no, %q gives %+v", v, beside)
		}
		if alone != nil && alone.At < 0 {
			t.Errorf("made at %d", alone.At)
		}
	})
}
