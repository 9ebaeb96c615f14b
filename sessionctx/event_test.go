package sessionctx

import (
	"errors"
	"math"
	"strings"
	"testing"
)

func asIs(u string) string { return u }

func event(tb testing.TB, text string) *Event {
	tb.Helper()
	e, err := ParseEvent(parsed(tb, text), asIs)
	if err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
	return e
}

func TestAnEventIsLeftOutOnlyForItsIDOrType(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       error
	}{
		{"id and type suffice", `{"event_id":"page-view","event_type":"engagement"}`, nil},
		{"a number is an id", `{"event_id":7,"event_type":"system"}`, nil},
		{"all else may be of any type", `{"event_id":"x","event_type":"conversion","event_value":{},"event_value_currency":[],"event_value_type":1,
			"metadata":true,"scroll_percentage":"a lot","time_on_page":{},"viewport_width":null,"page_url":5,"form_id":{},"event_uuid":[]}`, nil},
		{"no id", `{"event_type":"system"}`, ErrEventID},
		{"an empty id", `{"event_id":"","event_type":"system"}`, ErrEventID},
		{"an id of control characters", `{"event_id":"\u0000\u0001","event_type":"system"}`, ErrEventID},
		{"an object as id", `{"event_id":{},"event_type":"system"}`, ErrEventID},
		{"null as id", `{"event_id":null,"event_type":"system"}`, ErrEventID},
		{"no type", `{"event_id":"x"}`, ErrEventType},
		{"a type in capitals", `{"event_id":"x","event_type":"Conversion"}`, ErrEventType},
		{"a type of our own", `{"event_id":"x","event_type":"purchase"}`, ErrEventType},
		{"a type that is too long", `{"event_id":"x","event_type":"conversionconversion"}`, ErrEventType},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParseEvent(parsed(t, tt.body), asIs); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestCoercionOfAnEvent(t *testing.T) {
	with := func(field, value string) *Event {
		return event(t, `{"event_id":"x","event_type":"system","`+field+`":`+value+`}`)
	}
	for _, tt := range []struct{ value, want string }{
		{`"EUR"`, "EUR"}, {`"eur"`, "EUR"}, {`""`, "USD"}, {`null`, "USD"}, {`"€"`, "USD"}, {`"E1R"`, "USD"}, {`978`, "USD"}, {`"eu"`, "USD"},
	} {
		if got := with("event_value_currency", tt.value).Currency; got != tt.want {
			t.Errorf("currency %s is %s, want %s", tt.value, got, tt.want)
		}
	}
	for _, tt := range []struct{ value, want string }{
		{`"dynamic"`, "dynamic"}, {`"static"`, "static"}, {`"DYNAMIC"`, "static"}, {`null`, "static"}, {`1`, "static"},
	} {
		if got := with("event_value_type", tt.value).ValueType; got != tt.want {
			t.Errorf("value type %s is %s, want %s", tt.value, got, tt.want)
		}
	}
	for _, tt := range []struct {
		value string
		want  float64
	}{
		{`49.9`, 49.9}, {`"49.9"`, 49.9}, {`-5`, -5}, {`1e308`, maxEventValue}, {`-1e300`, -maxEventValue}, {`1e999`, 0}, {`"NaN"`, 0}, {`null`, 0}, {`"a lot"`, 0}, {`true`, 0},
	} {
		if got := with("event_value", tt.value).Value; got != tt.want {
			t.Errorf("value %s is %v, want %v", tt.value, got, tt.want)
		}
	}
	type wants struct {
		value string
		want  int64 // -1: null
	}
	for field, get := range map[string]func(*Event) *int64{
		"scroll_percentage": func(e *Event) *int64 { return e.ScrollPercentage },
		"time_on_page":      func(e *Event) *int64 { return e.TimeOnPage },
		"viewport_width":    func(e *Event) *int64 { return e.ViewportWidth },
		"viewport_height":   func(e *Event) *int64 { return e.ViewportHeight },
	} {
		most := map[string]int64{"scroll_percentage": 100, "time_on_page": math.MaxUint32, "viewport_width": math.MaxUint16, "viewport_height": math.MaxUint16}[field]
		for _, tt := range []wants{
			{`0`, 0}, {`49.5`, 50}, {`"7"`, 7}, {`-1`, 0}, {`1e18`, most}, {`1e999`, -1}, {`null`, -1}, {`"x"`, -1}, {`[]`, -1}, {`true`, -1},
		} {
			got := get(with(field, tt.value))
			if (got == nil) != (tt.want < 0) || got != nil && *got != tt.want {
				t.Errorf("%s %s is %v, want %d", field, tt.value, got, tt.want)
			}
		}
	}
	for field, get := range map[string]func(*Event) *float64{
		"page_load_time": func(e *Event) *float64 { return e.PageLoadTime },
		"dom_ready_time": func(e *Event) *float64 { return e.DOMReadyTime },
	} {
		for _, tt := range []struct {
			value string
			want  float64 // -1: null
		}{
			{`0`, 0}, {`123.25`, 123.25}, {`"8"`, 8}, {`1e9`, 1e9}, {`1e10`, -1}, {`-1`, -1}, {`1e999`, -1}, {`null`, -1}, {`{}`, -1},
		} {
			got := get(with(field, tt.value))
			if (got == nil) != (tt.want < 0) || got != nil && *got != tt.want {
				t.Errorf("%s %s is %v, want %v", field, tt.value, got, tt.want)
			}
		}
	}
}

func TestAnEventsTextsAreCut(t *testing.T) {
	long := strings.Repeat("ü", 10_000)
	e := event(t, `{"event_id":"`+long+`","event_uuid":"`+long+`","event_type":"system","form_id":"`+long+`","clicked_element":"`+long+
		`","clicked_url":"`+long+`","page_url":"`+long+`","referrer_url":"`+long+`","metadata":{"a":"`+long+`"}}`)
	for name, tt := range map[string]struct {
		got string
		max int
	}{
		"event_id": {e.ID, 128}, "event_uuid": {e.UUID, 1024}, "form_id": {e.FormID, 256}, "clicked_element": {e.ClickedElement, 256},
		"clicked_url": {e.ClickedURL, 1024}, "page_url": {e.PageURL, 1024}, "referrer_url": {e.ReferrerURL, 1024}, "metadata": {e.Metadata, 4096},
	} {
		if len(tt.got) > tt.max || len(tt.got) < tt.max-1 {
			t.Errorf("%s has %d bytes, want %d", name, len(tt.got), tt.max)
		}
	}
}

func TestAnEventsURLsAreReduced(t *testing.T) {
	var asked []string
	e, err := ParseEvent(parsed(t, `{"event_id":"x","event_type":"system","page_url":"a","clicked_url":"b","referrer_url":"c"}`), func(u string) string {
		asked = append(asked, u)
		return u + "!"
	})
	if err != nil || e.PageURL != "a!" || e.ClickedURL != "b!" || e.ReferrerURL != "c!" || len(asked) != 3 {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestCanonicalTellsContentsApart(t *testing.T) {
	base := `"event_id":"purchase","event_type":"conversion"`
	first := event(t, `{`+base+`,"event_value":5,"event_uuid":"a"}`)
	for name, same := range map[string]string{
		"another order of fields":  `{"event_value":5,` + base + `}`,
		"another spelling":         `{"event_value":"5.0",` + base + `}`,
		"another uuid":             `{"event_value":5,"event_uuid":"b",` + base + `}`,
		"fields that aren't ours":  `{"event_value":5,"timestamp":7,` + base + `}`,
		"a default that is spelt":  `{"event_value":5,"event_value_currency":"usd",` + base + `}`,
		"another name of the same": `{"event_value":5,"metadata":null,` + base + `}`,
	} {
		if event(t, same).Canonical() != first.Canonical() {
			t.Errorf("%s makes another event", name)
		}
	}
	for name, other := range map[string]string{
		"the value": `{"event_value":6,` + base + `}`, "the currency": `{"event_value":5,"event_value_currency":"EUR",` + base + `}`,
		"the metadata": `{"event_value":5,"metadata":"x",` + base + `}`, "the form": `{"event_value":5,"form_id":"x",` + base + `}`,
		"the page": `{"event_value":5,"page_url":"x",` + base + `}`, "the time on page": `{"event_value":5,"time_on_page":0,` + base + `}`,
	} {
		if event(t, other).Canonical() == first.Canonical() {
			t.Errorf("%s makes no difference", name)
		}
	}
}

func FuzzParseEvent(f *testing.F) {
	f.Add([]byte(`{"event_id":"x","event_type":"conversion","event_value":"1e999","metadata":{"a":[1]},"page_load_time":-0}`))
	f.Add([]byte(`{"event_id":"\ud83d\ude00","event_type":"system","scroll_percentage":99.99,"viewport_width":65535.5}`))
	c := testCampaign()
	s := testSession(f, testRing(f, 1), c, 2)
	check := rowChecker(f, EventDatasource)
	f.Fuzz(func(t *testing.T, b []byte) {
		body, err := ParseBody(b)
		if err != nil {
			return
		}
		e, err := ParseEvent(body, asIs)
		if err != nil {
			return
		}
		if err := check(AppendEventRow(nil, c, &s, e, EventRowID(&s, e, 0, 0), PlacementInternal, 1, noonMS)); err != nil {
			t.Error(err)
		}
	})
}
