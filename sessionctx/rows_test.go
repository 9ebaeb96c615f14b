package sessionctx

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	schema "github.com/firebuzz/caddy-sessionctx/tinybird"
)

// rowChecker holds rows against the datasource as its file describes it, and
// what an existing workspace gets of them against its columns.
func rowChecker(tb testing.TB, name string) func([]byte) error {
	tb.Helper()
	set, err := schema.Load()
	if err != nil {
		tb.Fatal(err)
	}
	ds, ok := set.Datasource(name)
	if !ok {
		tb.Fatalf("no datasource %s", name)
	}
	return func(row []byte) error {
		if err := ds.Check(row); err != nil || !ds.HasReference() {
			return err
		}
		reduced, err := ds.ReferenceRows(row)
		if err != nil {
			return err
		}
		return ds.CheckReference(reduced)
	}
}

// columns decodes a row.
func columns(tb testing.TB, row []byte) map[string]any {
	tb.Helper()
	var out map[string]any
	if err := json.Unmarshal(row, &out); err != nil {
		tb.Fatalf("%v in %s", err, row)
	}
	return out
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// randomFacts is what any request may tell, within the vocabularies.
func randomFacts(r *rand.Rand) *Facts {
	if r.IntN(5) == 0 {
		return &Facts{Purpose: PurposeNavigate} // nothing is known
	}
	return &Facts{
		UserAgent: randomText(r, 512), Language: randomText(r, 35), Scheme: pick(r, "http", "https"),
		Host: randomText(r, 100), URI: randomText(r, 300), Touch: randomTouch(r),
		Geo: Geo{
			Country: pick(r, "", "DE", "US"), Region: randomText(r, 80), RegionCode: randomText(r, 3), City: randomText(r, 80),
			Continent: pick(r, "", "EU", "AN"), Timezone: randomText(r, 40), Latitude: pick(r, "", "-52.5"), Longitude: pick(r, "", "180"), IsEU: r.IntN(2) == 0,
		},
		Device: Device{
			Type: pick(r, "", "desktop", "mobile", "tablet", "unknown"), OS: pick(r, "", "Windows", "iOS", "Unknown"),
			Browser: pick(r, "", "Chrome", "Opera"), BrowserVersion: randomText(r, 20), Mobile: r.IntN(2) == 0, ConnectionType: pick(r, "", "slow-2g", "wifi"),
		},
		Bot:     Bot{Score: r.IntN(100), CorporateProxy: r.IntN(2) == 0, Verified: r.IntN(2) == 0},
		Purpose: pick(r, PurposeNavigate, PurposePrefetch, PurposePrerender, PurposeIframe, PurposeServiceWorker, PurposeHead, PurposeSubresource),
	}
}

func randomCampaign(r *rand.Rand, ref CampaignRef) *Campaign {
	return &Campaign{
		CampaignRef: ref, WorkspaceID: randomConfigID(r), ProjectID: randomConfigID(r),
		Deployment: pick(r, "dev", "preview", "production"),
	}
}

func randomEvent(tb testing.TB, r *rand.Rand) *Event {
	tb.Helper()
	values := []any{nil, true, 0, -1, 0.5, 1e18, "1e999", "", "5", randomText(r, 5000), map[string]any{"a": randomText(r, 50)}, []int{1}}
	body := map[string]any{"event_id": randomText(r, 200) + "x", "event_type": pick(r, "conversion", "engagement", "system")}
	for _, k := range []string{
		"event_uuid", "event_value", "event_value_currency", "event_value_type", "form_id", "clicked_element", "clicked_url", "metadata",
		"page_url", "referrer_url", "page_load_time", "dom_ready_time", "scroll_percentage", "time_on_page", "viewport_width", "viewport_height",
	} {
		if v := values[r.IntN(len(values))]; r.IntN(4) > 0 {
			body[k] = v
		}
	}
	text, err := json.Marshal(body)
	if err != nil {
		tb.Fatal(err)
	}
	return event(tb, string(text))
}

func TestEveryRowArrivesAsMeant(t *testing.T) {
	ring := testRing(t, 1)
	r := rand.New(seeded(2))
	checkSession, checkEvent, checkTraffic := rowChecker(t, SessionDatasource), rowChecker(t, EventDatasource), rowChecker(t, TrafficDatasource)
	for range 3000 {
		s := randomSession(t, ring, r)
		c := randomCampaign(r, s.Campaign)
		f := randomFacts(r)
		if err := checkSession(AppendSessionRow(nil, c, &s, f)); err != nil {
			t.Fatal(err)
		}
		status, now := 100+r.IntN(500), noonMS+r.Int64N(dayMS)
		if err := checkTraffic(AppendTrafficRow(nil, c, &s, f, randomText(r, 40)+"x", status, r.IntN(2) == 0, now)); err != nil {
			t.Fatal(err)
		}
		e := randomEvent(t, r)
		id := EventRowID(&s, e, r.IntN(3), r.IntN(3))
		row := AppendEventRow(nil, c, &s, e, id, pick(r, PlacementInternal, PlacementExternal), r.Int64N(math.MaxUint32+1), now)
		if err := checkEvent(row); err != nil {
			t.Fatalf("%v\n%s", err, row)
		}
	}
}

func TestTheSmallestAndTheLargestRowsArriveAsMeant(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	least := testSession(t, ring, c, 2)
	least.SegmentID, least.LandingPageID, least.Assignments, least.Attribution = "", "", nil, Attribution{}
	most := testSession(t, ring, c, 2)
	most.Attribution = FirstTouch(longestTouch("\"", noonMS)).Return(longestTouch("\\", noonMS))
	most.RenewalCount = math.MaxUint32
	hostile := testSession(t, ring, c, 2)
	dirty := Touch{UTM: UTM{Source: "\x00\xff\xed\xa0\x80</script>"}, Referrer: "\u2028\"\\\n", LandingPage: "\x7f?"}
	hostile.Attribution = FirstTouch(dirty)
	long := strings.Repeat("ü", 256)
	var worst Facts
	worst.Purpose = PurposeNavigate
	worst.UserAgent, worst.Language, worst.Host = "\xff\x00\"\\\u2029", "\xc3", "[::1]:443"
	worst.Geo = Geo{Country: "DE", City: long, Region: "\xff", Timezone: "\n"}
	worst.Bot.Score = 100
	number, small := math.MaxFloat32, int64(math.MaxUint16)
	top := int64(math.MaxUint32)
	percent := int64(100)
	events := map[string]*Event{
		"the smallest": {ID: "x", Type: "system", Currency: "USD", ValueType: "static"},
		"the largest": {ID: long, Type: "conversion", Currency: "USD", ValueType: "dynamic", Value: math.MaxFloat64, Metadata: strings.Repeat("\"", 4096),
			PageLoadTime: &number, DOMReadyTime: &number, ScrollPercentage: &percent, TimeOnPage: &top, ViewportWidth: &small, ViewportHeight: &small},
		"not a number":   {ID: "x", Type: "system", Currency: "USD", ValueType: "static", Value: math.NaN()},
		"infinite":       {ID: "x", Type: "system", Currency: "USD", ValueType: "static", Value: math.Inf(-1)},
		"the tiniest":    {ID: "x", Type: "system", Currency: "USD", ValueType: "static", Value: math.SmallestNonzeroFloat64},
		"below zero":     {ID: "x", Type: "system", Currency: "USD", ValueType: "static", Value: math.Copysign(0, -1)},
		"of broken text": {ID: "\xff", Type: "system", Currency: "USD", ValueType: "static", PageURL: "\xed\xa0\x80\x00\x1b"},
	}
	for name, s := range map[string]*Session{"the smallest session": &least, "the largest session": &most, "a session of hostile texts": &hostile} {
		for facts, f := range map[string]*Facts{"nothing known": {Purpose: PurposeNavigate}, "the worst request": &worst, "an ordinary request": humanFacts()} {
			t.Run(name+", "+facts, func(t *testing.T) {
				if err := rowChecker(t, SessionDatasource)(AppendSessionRow(nil, c, s, f)); err != nil {
					t.Error(err)
				}
				if err := rowChecker(t, TrafficDatasource)(AppendTrafficRow(nil, c, s, f, "r", 200, true, noonMS)); err != nil {
					t.Error(err)
				}
			})
		}
		for event, e := range events {
			t.Run(name+", event "+event, func(t *testing.T) {
				if err := rowChecker(t, EventDatasource)(AppendEventRow(nil, c, s, e, EventRowID(s, e, 0, 0), PlacementExternal, 0, noonMS)); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestSegmentIDIsAKeyOfEveryRow(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	for name, segment := range map[string]any{"a segment that matched": "mobile", "none": nil} {
		s := testSession(t, ring, c, 2)
		s.SegmentID, _ = segment.(string)
		e := event(t, `{"event_id":"x","event_type":"system","segment_id":"the client's word","ab_test_id":"its word"}`)
		for datasource, row := range map[string][]byte{
			SessionDatasource: AppendSessionRow(nil, c, &s, humanFacts()),
			EventDatasource:   AppendEventRow(nil, c, &s, e, "id", PlacementInternal, 1, noonMS),
			TrafficDatasource: AppendTrafficRow(nil, c, &s, humanFacts(), "r", 200, true, noonMS),
		} {
			if got, ok := columns(t, row)["segment_id"]; !ok || got != segment {
				t.Errorf("%s, %s: %v, there: %v", name, datasource, got, ok)
			}
		}
	}
}

func TestASessionRowSaysBothTouches(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	s := testSession(t, ring, c, 2)
	first := paidTouch("spring")
	latest := Touch{
		Time: noonMS + 5, UTM: UTM{"bing", "social", "autumn", "boots", "b"}, Ref: "r2", Source: "s2", Referrer: "https://bing.example/",
		LandingPage: "/autumn?utm_source=bing", ClickIDs: []ClickID{{"msclkid", "m"}, {"li_fat_id", "l"}},
	}
	s.Attribution = FirstTouch(first).Return(latest)
	s, err := s.Renew(ring, c, s.ExpiresAt)
	if err != nil {
		t.Fatal(err)
	}
	got := columns(t, AppendSessionRow(nil, c, &s, humanFacts()))
	for column, want := range map[string]any{
		"utm_source": "bing", "utm_medium": "social", "utm_campaign": "autumn", "utm_term": "boots", "utm_content": "b",
		"ref": "r2", "source": "s2", "referrer": "https://bing.example/", "uri": "/autumn", "msclkid": "m", "li_fat_id": "l", "gclid": nil,
		"original_utm_source": "google", "original_utm_medium": "cpc", "original_utm_campaign": "spring", "original_utm_term": "shoes",
		"original_utm_content": "a", "original_ref": "partner", "original_source": "ads", "original_referrer": "https://www.google.com/search",
		"original_landing_page": "/spring?utm_source=google&utm_campaign=spring", "attribution_source": "server",
		"is_renewal": 1.0, "renewal_count": 1.0, "original_session_id": s.OriginalID, "original_timestamp": "2026-03-14T12:00:00.000Z",
		"timestamp": "2026-03-14T12:30:00.000Z", "session_id": s.ID, "user_id": s.UserID, "is_returning": 0.0,
		"country": "DE", "is_eu_country": 1.0, "is_ssl": 1.0, "user_hostname": "lp.example.com", "domain_type": "custom",
		"device_os": "Linux", "bot_score": 99.0, "language": "de-DE", "environment": "production", "campaign_environment": "production",
	} {
		if got[column] != want {
			t.Errorf("%s is %v, want %v", column, got[column], want)
		}
	}
	if s.ID == s.OriginalID {
		t.Error("the session was not renewed")
	}
}

func TestAFirstTouchThatWasOrganicStaysSoInTheRow(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	s := testSession(t, ring, c, 2)
	s.Attribution = FirstTouch(Touch{Time: noonMS, LandingPage: "/"}).Return(paidTouch("autumn"))
	for column, v := range columns(t, AppendSessionRow(nil, c, &s, humanFacts())) {
		if strings.HasPrefix(column, "original_utm_") && v != nil || column == "original_referrer" && v != nil {
			t.Errorf("%s is %v", column, v)
		}
	}
}

func TestTheClientsWordIsMarkedInTheRow(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	s := testSession(t, ring, c, 2)
	s.Attribution.Source = AttributionClient
	if got := columns(t, AppendSessionRow(nil, c, &s, humanFacts()))["attribution_source"]; got != "client" {
		t.Errorf("got %v", got)
	}
}

func TestEveryClickIDColumnIsInTheDatasource(t *testing.T) {
	set, err := schema.Load()
	if err != nil {
		t.Fatal(err)
	}
	ds, _ := set.Datasource(SessionDatasource)
	for _, name := range ClickIDColumns {
		if !slices.ContainsFunc(ds.Columns, func(c schema.Column) bool { return c.Name == name }) {
			t.Errorf("%s has no column", name)
		}
	}
}

func TestRowIDsAreStableAndDistinct(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	r := rand.New(seeded(3))
	seen := map[string]string{}
	once := func(id, what string) {
		t.Helper()
		if len(id) != 32 {
			t.Errorf("%s has the id %q", what, id)
		}
		if other, twice := seen[id]; twice {
			t.Errorf("%s and %s have one id", what, other)
		}
		seen[id] = what
	}
	rowIDOf := func(row []byte) string { return columns(t, row)["row_id"].(string) }
	for i := range 100 {
		s := testSession(t, ring, c, uint64(i))
		row := AppendSessionRow(nil, c, &s, humanFacts())
		if string(row) != string(AppendSessionRow(nil, c, &s, humanFacts())) {
			t.Fatal("a session row made twice differs")
		}
		if rowIDOf(row) != rowIDOf(AppendSessionRow(nil, c, &s, randomFacts(r))) {
			t.Fatal("its id hangs on the request that makes it")
		}
		once(rowIDOf(row), "a session")
		once(rowIDOf(AppendTrafficRow(nil, c, &s, humanFacts(), s.ID, 200, true, noonMS)), "a view")

		plain := event(t, `{"event_id":"purchase","event_type":"conversion","event_value":5}`)
		named := event(t, `{"event_id":"purchase","event_type":"conversion","event_value":5,"event_uuid":"u"}`)
		dearer := event(t, `{"event_id":"purchase","event_type":"conversion","event_value":6}`)
		once(EventRowID(&s, plain, 0, 0), "an event")
		once(EventRowID(&s, plain, 1, 0), "an equal one after it in its batch")
		once(EventRowID(&s, plain, 0, 1), "an equal one long after it")
		once(EventRowID(&s, plain, 1, 1), "both")
		once(EventRowID(&s, dearer, 0, 0), "another event")
		once(EventRowID(&s, named, 0, 0), "an event with a uuid")
		if EventRowID(&s, named, 0, 0) != EventRowID(&s, named, 3, 4) {
			t.Error("a uuid alone decides, and does not")
		}
		next := testSession(t, ring, c, uint64(i)+1000)
		next.OriginalID = s.OriginalID
		if EventRowID(&s, named, 0, 0) != EventRowID(&next, named, 0, 0) {
			t.Error("a retry after a renewal is another row")
		}
		once(EventRowID(&next, plain, 0, 0), "an event of the next session")
	}
}

func TestTheHostNameIsWithoutItsPort(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "example.com": "example.com", "example.com:8443": "example.com", "[::1]": "[::1]", "[::1]:80": "[::1]",
		"127.0.0.1": "127.0.0.1", "127.0.0.1:80": "127.0.0.1", "example.com:": "example.com", "80": "80",
	} {
		if got := hostname(in); got != want {
			t.Errorf("hostname(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestTimesAreInTheLayout(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	times := []int64{0, -1, 999, noonMS, 253402300799999, 253402300800000, -62135596800000}
	for range 1000 {
		times = append(times, r.Int64N(253402300800000))
	}
	for _, ms := range times {
		var o object
		o.time("t", ms)
		if want := `"t":"` + time.UnixMilli(ms).UTC().Format(timestampLayout) + `"`; string(o.b) != want {
			t.Errorf("%d ms is %s, not %s", ms, o.b, want)
		}
	}
}
