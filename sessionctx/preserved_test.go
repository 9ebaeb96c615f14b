package sessionctx

import (
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// testTouches reads clients' touches with plain rules in place of a reader's.
func testTouches() *ClientTouches {
	cut := func(u string) string {
		if at := strings.IndexAny(u, "?#"); at >= 0 {
			return u[:at]
		}
		return u
	}
	return &ClientTouches{ClickIDs: ClickIDColumns, LandingPage: cut, Referrer: func(u string) string {
		if strings.Contains(u, "own.example") {
			return ""
		}
		return cut(u)
	}}
}

func ms(at int64) string { return strconv.FormatInt(at, 10) }

func preserved(t *testing.T, original, current string) (Attribution, bool) {
	t.Helper()
	body := parsed(t, `{"preserved_attribution":{"original":`+original+`,"current":`+current+`}}`)
	return testTouches().Preserved(body, testCampaign(), noonMS)
}

func TestWhatAClientPreservedIsCappedAndMarkedAsItsWord(t *testing.T) {
	long := strings.Repeat("x", 1000)
	a, ok := preserved(t, `{"timestamp":`+ms(noonMS-dayMS)+`,"utm_source":"google","utm_campaign":"`+long+`","ref":5,"gclid":"`+long+
		`","fbclid":"f","msclkid":"m","ttclid":"t","evil":"e","landingPage":"/l?email=a@b.c","referrer":"https://a.example/b?email=a@b.c"}`, `{"utm_source":"bing"}`)
	want := Touch{
		Time: noonMS - dayMS, UTM: UTM{Source: "google", Campaign: long[:128]}, Ref: "5",
		Referrer: "https://a.example/b", LandingPage: "/l",
		ClickIDs: []ClickID{{"gclid", long[:256]}, {"fbclid", "f"}, {"msclkid", "m"}},
	}
	if !ok || a.Source != AttributionClient || !reflect.DeepEqual(a.Original, want) {
		t.Errorf("got  %+v\nwant %+v", a.Original, want)
	}
	if a.Current.UTM.Source != "bing" || a.Current.Time != noonMS {
		t.Errorf("current: %+v", a.Current)
	}
}

func TestAClientsOwnReferrerIsNone(t *testing.T) {
	if a, _ := preserved(t, `{"referrer":"https://own.example/b"}`, `null`); a.Original.Referrer != "" {
		t.Errorf("got %+v", a.Original)
	}
}

func TestTheTimeAClientPreserved(t *testing.T) {
	window := testCampaign().AttributionWindow.Milliseconds()
	for _, tt := range []struct {
		name, at string
		taken    bool
		want     int64
	}{
		{"a time to come is now", `1e15`, true, noonMS},
		{"no time is now", `null`, true, noonMS},
		{"text is now", `"soon"`, true, noonMS},
		{"a time before 1970 is now", `-5`, true, noonMS},
		{"the window's first moment counts", ms(noonMS - window), true, noonMS - window},
		{"what is older is over", ms(noonMS - window - 1), false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, ok := preserved(t, `{"utm_source":"x","timestamp":`+tt.at+`}`, `{}`)
			if ok != tt.taken || a.Original.Time != tt.want || a.Current.Time != tt.want {
				t.Errorf("got %v, %v, %v", a.Original.Time, a.Current.Time, ok)
			}
		})
	}
}

func TestWhatIsNoPreservedAttribution(t *testing.T) {
	for name, text := range map[string]string{
		"missing": `{}`, "null": `{"preserved_attribution":null}`, "text": `{"preserved_attribution":"x"}`,
		"without an original": `{"preserved_attribution":{"current":{}}}`, "a list": `{"preserved_attribution":{"original":[]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if a, ok := testTouches().Preserved(parsed(t, text), testCampaign(), noonMS); ok {
				t.Errorf("got %+v", a)
			}
		})
	}
}

func TestTheTouchOfACallingPage(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       Touch
	}{
		{"of session/track", `{"utm_source":"x","gclid":"g","referrer":"https://a.example/?q","uri":"/l"}`,
			Touch{Time: 7, UTM: UTM{Source: "x"}, Referrer: "https://a.example/", LandingPage: "/l", ClickIDs: []ClickID{{"gclid", "g"}}}},
		{"of the reference client's renew", `{"current_url_utm":{"utm_source":"x","ref":"r"},"current_referrer":"https://a.example/"}`,
			Touch{Time: 7, UTM: UTM{Source: "x"}, Ref: "r", Referrer: "https://a.example/"}},
		{"of init, which names none", `{"session_id":"s"}`, Touch{Time: 7}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := testTouches().Current(parsed(t, tt.body), 7); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

// Whatever a client preserved: it is bounded, fits a cookie, and its row
// passes the strict check.
func FuzzPreserved(f *testing.F) {
	f.Add([]byte(`{"preserved_attribution":{"original":{"timestamp":1,"utm_source":"x","gclid":"g"},"current":{"ref":5}}}`))
	f.Add([]byte(`{"preserved_attribution":{"original":{"referrer":"//\u0000","landingPage":"\ud800"},"current":[]}}`))
	f.Add([]byte(`{"preserved_attribution":{"original":{"utm_term":{"a":1},"timestamp":"1e999"}}}`))
	ring, c := testRing(f, 1), testCampaign()
	page := testSession(f, ring, c, 2)
	check := rowChecker(f, SessionDatasource)
	f.Fuzz(func(t *testing.T, b []byte) {
		body, err := ParseBody(b)
		if err != nil {
			return
		}
		a, ok := testTouches().Preserved(body, c, noonMS)
		if !ok {
			return
		}
		s := page
		s.Attribution = LostTouch(noonMS, testTouches().Current(body, noonMS)).Recovered(a)
		if s.Attribution.Source != AttributionClient || s.Attribution.Original.Time > noonMS {
			t.Errorf("%+v", s.Attribution)
		}
		if n := len(ring.sealAttribution(nil, &s, noonMS, maxSealed)); n > maxAttributionCookie {
			t.Errorf("a cookie of %d bytes", n)
		}
		if err := check(AppendSessionRow(nil, c, &s, humanFacts())); err != nil {
			t.Error(err)
		}
	})
}
