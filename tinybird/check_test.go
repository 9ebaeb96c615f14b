package schema

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestCheckTakesGoodRows(t *testing.T) {
	for _, name := range names {
		ds, row := datasource(t, name), goodRow(t, name)
		if err := ds.Check(row); err != nil {
			t.Error(err)
		}
		if got := len(goodTree(t, name)); got < len(ds.Columns)-30 {
			t.Errorf("%s: the sample has %d keys only", name, got)
		}
	}
}

func TestCheckTakesNullInEveryNullableColumn(t *testing.T) {
	for _, name := range names {
		ds, row := datasource(t, name), goodTree(t, name)
		for _, c := range ds.Columns {
			if c.Type.Nullable {
				row.set(c.Path, "null")
			}
		}
		if err := ds.Check(row.row()); err != nil {
			t.Error(err)
		}
	}
}

// violations are values that a column of each family must refuse.
func violations(c Column) map[string]string {
	bad := map[string]string{
		"true":      "true",
		"an object": `{"a":1}`,
		"an array":  "[1]",
	}
	if !c.Type.Nullable && c.Default == "" {
		bad["null"] = "null"
	}
	switch c.Type.Family {
	case String, Time:
		bad["a number"] = "1"
		bad["a lone high surrogate"] = `"\ud83d"`
		bad["a lone low surrogate"] = `"\ude00"`
		bad["two high surrogates"] = `"\ud83d\ud83d"`
		bad["broken UTF-8"] = "\"a\xffb\""
		bad["broken UTF-8 beside an escape"] = "\"a\\n\xc3\""
		bad["a bare line break"] = "\"a\nb\""
		bad["an unknown escape"] = `"\x41"`
	default:
		bad["a string"] = `"1"`
		bad["not a number"] = "NaN"
		bad["a leading zero"] = "01"
		bad["a leading plus"] = "+1"
		bad["a bare point"] = "1."
		bad["an empty exponent"] = "1e"
	}
	switch c.Type.Family {
	case Time:
		bad["an empty string"] = `""`
		bad["no milliseconds"] = `"2026-11-24T22:59:07Z"`
		bad["microseconds"] = `"2026-11-24T22:59:07.123456Z"`
		bad["a blank for T"] = `"2026-11-24 22:59:07.123Z"`
		bad["an offset"] = `"2026-11-24T22:59:07.123+"`
		bad["month 13"] = `"2026-13-24T22:59:07.123Z"`
		bad["30 February"] = `"2026-02-30T22:59:07.123Z"`
		bad["29 February of another year"] = `"2027-02-29T22:59:07.123Z"`
		bad["31 April"] = `"2026-04-31T22:59:07.123Z"`
		bad["day 0"] = `"2026-04-00T22:59:07.123Z"`
		bad["hour 24"] = `"2026-11-24T24:00:00.000Z"`
		bad["minute 60"] = `"2026-11-24T22:60:07.123Z"`
		bad["a leap second"] = `"2026-11-24T22:59:60.000Z"`
		bad["the zero time"] = `"0001-01-01T00:00:00.000Z"`
		bad["the epoch"] = `"1970-01-01T00:00:00.000Z"`
		bad["a year beyond the type"] = `"2300-01-01T00:00:00.000Z"`
		bad["letters for digits"] = `"2026-11-24T22:59:07.abcZ"`
	case Uint:
		bad["a negative"] = "-1"
		bad["a fraction"] = "1.5"
		bad["a whole fraction"] = "1.0"
		bad["an exponent"] = "1e1"
		bad["one too many"] = strconv.FormatUint(c.Type.maxUint()+1, 10)
		bad["far too many"] = strings.Repeat("9", 40)
	case Float:
		bad["infinity"] = "1e400"
		if c.Type.Bits == 32 {
			bad["more than the type holds"] = "1e39"
		}
	}
	return bad
}

func TestCheckRefusesEveryViolationInEveryColumn(t *testing.T) {
	count := 0
	for _, name := range names {
		ds := datasource(t, name)
		for _, c := range ds.Columns {
			for what, raw := range violations(c) {
				t.Run(name+"/"+c.Name+"/"+what, func(t *testing.T) {
					wantError(t, ds.Check(goodTree(t, name).set(c.Path, raw).row()), name, c.Name, c.JSONPath(), "want")
				})
				count++
			}
			if c.Default != "" {
				continue
			}
			t.Run(name+"/"+c.Name+"/missing", func(t *testing.T) {
				wantError(t, ds.Check(goodTree(t, name).drop(c.Path).row()), name, c.Name, "no such key")
			})
		}
	}
	t.Logf("%d violations", count)
}

func TestCheckRules(t *testing.T) {
	for _, tc := range []struct {
		datasource, column string
		good, bad          []string
	}{
		{"session_v1", "row_id", []string{`"a"`, `"\u00e4"`}, []string{`""`}},
		{"session_v1", "session_id", []string{`"a"`}, []string{`""`}},
		{"session_v1", "original_session_id", []string{`"a"`}, []string{`""`}},
		{"session_v1", "workspace_id", []string{`"ws_1-A"`}, []string{`""`, `"a b"`, `"ä"`, `"` + strings.Repeat("a", 65) + `"`}},
		{"session_v1", "segment_id", []string{`"mobile"`, "null"}, []string{`""`, `"a.b"`}},
		{"session_v1", "ab_test_variant_id", []string{`"bold"`, "null"}, []string{`""`}},
		{"session_v1", "landing_page_id", []string{`"lp"`, `""`, "null"}, nil},
		{"session_v1", "country", []string{`"DE"`, `"Unknown"`}, []string{`"de"`, `"DEU"`, `""`, `"T1"`, `"unknown"`}},
		{"session_v1", "continent", []string{`"EU"`, `"Unknown"`}, []string{`"Europe"`, `"XX"`}},
		{"session_v1", "city", []string{`"Unknown"`, `""`}, nil},
		{"session_v1", "is_eu_country", []string{"0", "1"}, []string{"2", "255"}},
		{"session_v1", "is_renewal", []string{"0", "1"}, []string{"2"}},
		{"session_v1", "device_type", []string{`"desktop"`, `"tablet"`, `"unknown"`}, []string{`"Desktop"`, `"bot"`, `""`}},
		{"session_v1", "device_os", []string{`"macOS"`, `"Unknown"`}, []string{`"Mac OS"`, `"unknown"`}},
		{"session_v1", "browser", []string{`"Edge"`, `"\u004fpera"`}, []string{`"Samsung"`}},
		{"session_v1", "connection_type", []string{`"slow-2g"`, `"unknown"`}, []string{`"5g"`}},
		{"session_v1", "domain_type", []string{`"project"`, "null"}, []string{`"landing"`}},
		{"session_v1", "environment", []string{`"dev"`, "null"}, []string{`"staging"`}},
		{"session_v1", "campaign_environment", []string{`"preview"`}, []string{`"dev"`}},
		{"session_v1", "attribution_source", []string{`"client"`}, []string{`"cookie"`}},
		{"session_v1", "bot_score", []string{"0", "99", "1.5"}, []string{"-1", "101"}},
		{"session_v1", "renewal_count", []string{"0", "4294967295"}, nil},
		{"session_v1", "original_timestamp", []string{`"2028-02-29T00:00:00.000Z"`, `"2299-12-31T23:59:59.999Z"`}, nil},
		{"events_v1", "id", nil, []string{`""`}},
		{"events_v1", "event_id", []string{`"Käufer-☃"`}, []string{`""`}},
		{"events_v1", "event_type", []string{`"system"`}, []string{`"click"`}},
		{"events_v1", "event_placement", []string{`"external"`}, []string{`"email"`}},
		{"events_v1", "event_value_type", []string{`"dynamic"`}, []string{`"fixed"`}},
		{"events_v1", "event_value_currency", []string{`"EUR"`}, []string{`""`}},
		{"events_v1", "event_value", []string{"-1.5e-3", "0", "1e300", "-0"}, nil},
		{"events_v1", "page_load_time", []string{"0.1", "null", "3.4e38"}, nil},
		{"events_v1", "scroll_percentage", []string{"0", "100", "null"}, []string{"101"}},
		{"events_v1", "viewport_width", []string{"65535"}, []string{"70000"}},
		{"events_v1", "metadata", []string{`"{\"a\":\"\ud83d\ude00\"}"`, "null", `"not json"`}, []string{`{"a":1}`}},
		{"events_v1", "landing_page_id", []string{`""`}, []string{"null"}},
		{"traffic_v1", "request_id", nil, []string{`""`}},
		{"traffic_v1", "status", []string{"100", "599"}, []string{"0", "99", "600"}},
		{"traffic_v1", "purpose", []string{`"navigate"`, `"service-worker"`}, []string{`""`, `"Page"`, `"a b"`}},
		{"traffic_v1", "counted", []string{"0"}, []string{"2"}},
		{"traffic_v1", "country", []string{"null", `"US"`}, []string{`""`}},
		{"traffic_v1", "device_type", []string{`"mobile"`}, []string{`"phone"`}},
		{"consents_v1", "status", []string{`"withdrawn"`, `"expired"`}, []string{`"given"`}},
		{"consents_v1", "analytics", []string{"0"}, []string{"2"}},
		{"consents_v1", "domain", nil, []string{`""`}},
		{"consents_v1", "proof", []string{`"subject"`}, []string{`""`}},
		{"consents_v1", "source", []string{`"banner"`}, []string{`"The Banner"`}},
	} {
		ds := datasource(t, tc.datasource)
		c, ok := ds.Column(tc.column)
		if !ok {
			t.Fatalf("no column %s", tc.column)
		}
		for _, raw := range tc.good {
			if err := ds.Check(goodTree(t, tc.datasource).set(c.Path, raw).row()); err != nil {
				t.Error(err)
			}
		}
		for _, raw := range tc.bad {
			t.Run(tc.datasource+"/"+tc.column+"/"+raw, func(t *testing.T) {
				wantError(t, ds.Check(goodTree(t, tc.datasource).set(c.Path, raw).row()), tc.column)
			})
		}
	}
}

// Every column is either free or ruled on purpose: this list is what is free.
func TestEveryColumnIsRuledOrKnownToBeFree(t *testing.T) {
	free := strings.Fields(`landing_page_id utm_source utm_medium utm_campaign utm_term utm_content ref source
		city region region_code timezone browser_version referrer user_agent language user_hostname uri
		original_utm_source original_utm_medium original_utm_campaign original_utm_term original_utm_content
		original_ref original_source original_referrer original_landing_page gclid gbraid wbraid dclid fbclid
		msclkid ttclid twclid li_fat_id epik sc_cid other_click_ids renewal_count event_value form_id clicked_element clicked_url
		page_load_time dom_ready_time time_on_page session_event_sequence metadata page_url referrer_url
		viewport_width viewport_height latitude longitude policy_version ip`)
	for _, name := range names {
		rules := rulesFor(name)
		for _, c := range datasource(t, name).Columns {
			_, ruled := rules[c.Name]
			isFree := slices.Contains(free, c.Name) && name+"."+c.Name != "consents_v1.source"
			if c.Type.Family != Time && ruled == isFree {
				t.Errorf("%s: column %s: ruled is %v", name, c.Name, ruled)
			}
		}
	}
}

func TestCheckRefusesWhatIsNotOneObject(t *testing.T) {
	ds := datasource(t, "traffic_v1")
	good := string(goodRow(t, "traffic_v1"))
	for name, tc := range map[string]struct{ row, want string }{
		"nothing":                     {"", "the end of the row"},
		"blanks":                      {"  ", "the end of the row"},
		"an array":                    {"[" + good + "]", "want an object"},
		"null":                        {"null", "want an object"},
		"an empty object":             {"{}", "column timestamp"},
		"two objects":                 {good + good, "nothing after"},
		"a line break at the end":     {good + "\n", "nothing after"},
		"a line break between":        {strings.Replace(good, ",", ",\n", 1), "a key"},
		"half an object":              {good[:len(good)-1], "a comma or the end"},
		"half a string":               {`{"request_id":"abc`, "column request_id"},
		"half an escape":              {`{"request_id":"\u00`, "broken JSON"},
		"no colon":                    {`{"request_id" "a"}`, "a colon"},
		"no value":                    {`{"request_id":}`, "column request_id"},
		"no value at all":             {`{"request_id":`, "the end of the row"},
		"a trailing comma":            {good[:len(good)-1] + ",}", "a key"},
		"a key without quotes":        {`{a:1}`, "a key"},
		"an unknown key":              {`{"colour":1}`, "$.colour"},
		"an unknown nested key":       {`{"geo":{"planet":1}}`, "$.geo.planet"},
		"the flat form":               {`{"device_type":"mobile"}`, "$.device_type"},
		"a path written with a point": {`{"geo.city":"a"}`, "$.geo.city"},
		"another case":                {`{"Timestamp":1}`, "$.Timestamp"},
		"a key twice":                 {strings.Replace(good, "{", `{"request_id":"a",`, 1), "a second time"},
		"a key twice, once escaped":   {strings.Replace(good, "{", `{"request\u005fid":"a",`, 1), "a second time"},
		"an object twice":             {strings.Replace(good, "{", `{"geo":{},`, 1), "a second time"},
		"null for an object":          {`{"geo":null}`, "want an object"},
		"a string for an object":      {`{"geo":"a"}`, "want an object"},
		"a broken key":                {"{\"a\xff\":1}", "broken UTF-8"},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, ds.Check([]byte(tc.row)), "traffic_v1", tc.want) })
	}
}

func TestCheckTakesBlanksAndAnyOrder(t *testing.T) {
	ds := datasource(t, "events_v1")
	row := strings.ReplaceAll(string(goodRow(t, "events_v1")), `,"`, " ,\t\"")
	if err := ds.Check([]byte(" " + row + " ")); err != nil {
		t.Fatal(err)
	}
}

func TestDefaultStandsInForNullAndMissing(t *testing.T) {
	ds, err := Parse("x", []byte("SCHEMA >\n `a` UInt8 `json:$.o.a` DEFAULT 1,\n `b` Int8 `json:$.b`,\n `c` Nullable(UInt64) `json:$.c`\n"))
	if err != nil {
		t.Fatal(err)
	}
	for row, ok := range map[string]bool{
		`{"b":-128,"c":18446744073709551615}`: true,
		`{"b":127,"c":null,"o":{}}`:           true,
		`{"b":0,"c":0,"o":{"a":null}}`:        true,
		`{"b":128,"c":0}`:                     false,
		`{"b":-129,"c":0}`:                    false,
		`{"b":1.5,"c":0}`:                     false,
		`{"b":0}`:                             false,
		`{"b":0,"c":18446744073709551616}`:    false,
		`{"b":0,"c":0,"o":{"a":256}}`:         false,
	} {
		if err := ds.Check([]byte(row)); (err == nil) != ok {
			t.Errorf("%s: %v", row, err)
		}
	}
}

// Rows of a state of before have no environments: they are taken, and what is
// wrong in them is found.
func TestTrafficOfBeforeIsTaken(t *testing.T) {
	ds := datasource(t, "traffic_v1")
	for _, name := range []string{"campaign_environment", "environment"} {
		c, _ := ds.Column(name)
		if err := ds.Check(goodTree(t, ds.Name).set(c.Path, "null").row()); err != nil {
			t.Error(err)
		}
		old := goodTree(t, ds.Name).drop(c.Path)
		if err := ds.Check(old.row()); err != nil {
			t.Error(err)
		}
		if got, err := ds.ReferenceRows(old.row()); err != nil || ds.CheckReference(got) != nil {
			t.Errorf("%s became %s, %v", old.row(), got, err)
		}
		wantError(t, ds.Check(goodTree(t, ds.Name).set(c.Path, `"staging"`).row()), name, "one of", "or null")
	}
}

func TestCheckReference(t *testing.T) {
	for _, name := range []string{"session_v1", "events_v1", "traffic_v1"} {
		ds, row := datasource(t, name), goodTree(t, name)
		wantError(t, ds.CheckReference(row.row()), name, "a key that no column takes")
		for _, c := range ds.Columns {
			if !c.Reference {
				row.drop(c.Path)
			}
		}
		if err := ds.CheckReference(row.row()); err != nil {
			t.Error(err)
		}
		wantError(t, ds.Check(row.row()), name, "no such key")
	}
	wantError(t, datasource(t, "consents_v1").CheckReference(goodRow(t, "consents_v1")), "no such datasource")
}

func TestRowErrorsAreShortAndPrintable(t *testing.T) {
	ds := datasource(t, "session_v1")
	c, _ := ds.Column("country")
	long := goodTree(t, "session_v1").set(c.Path, `"`+strings.Repeat("ä", 5000)+`"`)
	err := ds.Check(long.row())
	wantError(t, err, "session_v1", "country", "two capital letters", "…")
	if len(err.Error()) > 300 {
		t.Errorf("%d bytes", len(err.Error()))
	}
	err = ds.Check(goodTree(t, "session_v1").set(c.Path, "\"\u202e\u0085\"").row())
	wantError(t, err, "country")
	if strings.ContainsAny(err.Error(), "\u202e\u0085") {
		t.Errorf("unprintable: %q", err)
	}
}

func TestMaxUint(t *testing.T) {
	for bits, want := range map[int]uint64{8: math.MaxUint8, 16: math.MaxUint16, 32: math.MaxUint32, 64: math.MaxUint64} {
		if got := (Type{Bits: bits}).maxUint(); got != want {
			t.Errorf("%d bits: %d", bits, got)
		}
	}
}

// An outline says what is wrong and holds nothing of the row.
func TestOutlinesHoldNoValues(t *testing.T) {
	for _, name := range names {
		ds := datasource(t, name)
		for _, edit := range []func(tree) tree{
			func(r tree) tree { return r.set([]string{"s3cret"}, "1") },
			func(r tree) tree { return r.set([]string{"row_id"}, `"s3cret\ud800"`) },
			func(r tree) tree { return r.set([]string{"row_id"}, `{"s3cret":1}`) },
			func(r tree) tree { return r.set([]string{"campaign_id"}, `"s3cret s3cret"`) },
		} {
			err := ds.Check(edit(goodTree(t, name)).row())
			wantError(t, err, "s3cret")
			outline := err.(*RowError).Outline()
			if strings.Contains(outline, "s3cret") || !strings.Contains(outline, name) || !strings.Contains(outline, "want ") {
				t.Errorf("%s: %s", err, outline)
			}
		}
	}
}
