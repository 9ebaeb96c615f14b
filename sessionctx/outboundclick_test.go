package sessionctx

import (
	"encoding/json"
	"errors"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// A click id is one spelling, the same from every node, and another for each
// session and ring.
func TestOutboundClickID(t *testing.T) {
	r, c := testRing(t, 1), testCampaign()
	s := testSession(t, r, c, 2)
	id := r.OutboundClickID(&s)
	if !regexp.MustCompile(`^[a-z2-7]{16}$`).MatchString(id) {
		t.Errorf("the id is %q", id)
	}
	if b, err := r.Marshal(); err != nil {
		t.Fatal(err)
	} else if again, err := ParseRing(b); err != nil || again.OutboundClickID(&s) != id {
		t.Errorf("another node says %v (%v)", again.OutboundClickID(&s), err)
	}
	rotated, err := r.Rotate(seeded(9), SessionKeys, s.CreatedAt+1)
	if err != nil || rotated.OutboundClickID(&s) != id {
		t.Errorf("with a new key the session's id is another (%v)", err)
	}
	preview, other := s, testSession(t, r, c, 3)
	preview.Campaign.Environment = Preview
	for name, differs := range map[string]string{
		"another session": r.OutboundClickID(&other), "another ring": testRing(t, 2).OutboundClickID(&s), "the preview": r.OutboundClickID(&preview),
	} {
		if differs == id {
			t.Errorf("%s has the same id", name)
		}
	}
	for _, tt := range []struct {
		name, text string
		ok         bool
	}{
		{"itself", id, true}, {"in capitals", strings.ToUpper(id), true}, {"nothing", "", false}, {"cut", id[:15], false}, {"longer", id + "a", false},
		{"another alphabet", id[:15] + "1", false}, {"a line's end", id[:15] + "\n", false}, {"not ASCII", id[:14] + "ı", false}, {"a Kelvin sign", id[:13] + "\u212a", false},
	} {
		if got, ok := CleanOutboundClickID(tt.text); ok != tt.ok || ok && got != id {
			t.Errorf("%s: %q, %v", tt.name, got, ok)
		}
	}
}

// What stands behind a click id comes back whole but for its attribution, and
// only to who has the keys.
func TestOutboundClickIsSealed(t *testing.T) {
	r, c := testRing(t, 1), testCampaign()
	s := testSession(t, r, c, 2)
	sealed := r.SealOutboundClick(c, &s, noonMS)
	for _, secret := range []string{c.WorkspaceID, c.ID, s.SegmentID, s.LandingPageID} {
		if secret != "" && strings.Contains(string(sealed), secret) {
			t.Errorf("%q can be read", secret)
		}
	}
	click, err := r.OpenOutboundClick(sealed)
	if err != nil {
		t.Fatal(err)
	}
	want := s
	want.Attribution = click.Session.Attribution
	if !reflect.DeepEqual(click.Session, want) || click.WorkspaceID != c.WorkspaceID || click.ProjectID != c.ProjectID || click.Deployment != c.Deployment {
		t.Errorf("got %+v", click)
	}
	if click.Session.Attribution.Source != AttributionLost || click.Session.Attribution.Original.UTM != (UTM{}) {
		t.Errorf("attribution %+v", click.Session.Attribution)
	}
	for name, bad := range map[string][]byte{
		"nothing": nil, "a part": sealed[:len(sealed)-1], "more": append(sealed[:len(sealed):len(sealed)], 0), "a state": r.SealState(&s, noonMS),
	} {
		if _, err := r.OpenOutboundClick(bad); !errors.Is(err, ErrInvalidSession) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := testRing(t, 2).OpenOutboundClick(sealed); !errors.Is(err, ErrInvalidSession) {
		t.Errorf("another ring: %v", err)
	}
	if _, err := r.OpenState(sealed); !errors.Is(err, ErrInvalidSession) {
		t.Errorf("as a state: %v", err)
	}
}

func TestParseConversion(t *testing.T) {
	reduce := func(u string) string { before, _, _ := strings.Cut(u, "?"); return before }
	for _, tt := range []struct {
		name, body, referer string
		want                Event
		err                 error
	}{
		{"the least", `{"click_id":"c","event_id":"sold"}`, "",
			Event{ID: "sold", Type: "conversion", Currency: "USD", ValueType: "dynamic", PageURL: "external"}, nil},
		{"all", `{"click_id":"c","event_id":"sold","event_value":"9.5","event_value_currency":"eur","event_value_type":"static","event_uuid":17,
			"page_url":"https://shop.example/thanks?name=x","referrer_url":null,"event_type":"system","metadata":"mine"}`, "https://shop.example/other",
			Event{ID: "sold", Type: "conversion", Value: 9.5, Currency: "EUR", ValueType: "static", UUID: "external\x00sold\x0017", PageURL: "https://shop.example/thanks", Metadata: "mine"}, nil},
		{"the page of the call", `{"click_id":"c","event_id":"sold","page_url":null}`, "https://shop.example/pay?x=1",
			Event{ID: "sold", Type: "conversion", Currency: "USD", ValueType: "dynamic", PageURL: "https://shop.example/pay"}, nil},
		{"no click id", `{"event_id":"sold"}`, "", Event{}, ErrClickID},
		{"an empty click id", `{"click_id":"","event_id":"sold"}`, "", Event{}, ErrClickID},
		{"an object", `{"click_id":{},"event_id":"sold"}`, "", Event{}, ErrClickID},
		{"no event", `{"click_id":"c"}`, "", Event{}, ErrEventID},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, id, err := ParseConversion(parsed(t, tt.body), tt.referer, reduce)
			if !errors.Is(err, tt.err) {
				t.Fatal(err)
			}
			if err == nil && (!reflect.DeepEqual(*e, tt.want) || id != "c") {
				t.Errorf("got %+v of %s", *e, id)
			}
		})
	}
}

func FuzzConversion(f *testing.F) {
	f.Add([]byte(`{"click_id":"abc","event_id":"sold","event_value":1e308,"event_uuid":"\u0000","metadata":{"a":[1]}}`), "https://a.example/?x")
	f.Add([]byte(`{"click_id":[],"event_id":5}`), "")
	r, c := testRing(f, 1), testCampaign()
	s := testSession(f, r, c, 2)
	click, err := r.OpenOutboundClick(r.SealOutboundClick(c, &s, noonMS))
	if err != nil {
		f.Fatal(err)
	}
	check := rowChecker(f, EventDatasource)
	f.Fuzz(func(t *testing.T, b []byte, referer string) {
		_, _ = r.OpenOutboundClick(b)
		body, err := ParseBody(b)
		if err != nil {
			return
		}
		e, named, err := ParseConversion(body, referer, func(u string) string { return CleanText(u, 1024) })
		if err != nil {
			return
		}
		id, ok := CleanOutboundClickID(named)
		if ok && (len(id) != 16 || id != strings.ToLower(id)) {
			t.Errorf("%q is %q", named, id)
		}
		click.Tell(e, id)
		if !json.Valid([]byte(e.Metadata)) {
			t.Errorf("metadata %s", e.Metadata)
		}
		row := AppendEventRow(nil, click.Campaign(), &click.Session, e, EventRowID(&click.Session, e, 0, 0), PlacementExternal, 0, noonMS)
		if err := check(row); err != nil {
			t.Error(err)
		}
	})
}
