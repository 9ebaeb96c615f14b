package sessionctx

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"
	"time"
)

// Datasources that rows go to.
const (
	SessionDatasource = "session_v1"
	EventDatasource   = "events_v1"
	TrafficDatasource = "traffic_v1"
)

// Datasources are all that rows go to.
var Datasources = []string{SessionDatasource, EventDatasource, TrafficDatasource, ConsentDatasource}

// ClickIDColumns are the click ids that session_v1 has columns for.
var ClickIDColumns = []string{
	"gclid", "gbraid", "wbraid", "dclid", "fbclid", "msclkid", "ttclid",
	"twclid", "li_fat_id", "epik", "sc_cid",
}

// timestampLayout is how the datasources take a DateTime64(3, 'UTC').
const timestampLayout = "2006-01-02T15:04:05.000Z"

// time writes a time in timestampLayout, without reading the layout each time.
func (o *object) time(k string, ms int64) {
	o.key(k)
	t := time.UnixMilli(ms).UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		o.b = append(o.b, '"')
		o.b = t.AppendFormat(o.b, timestampLayout)
		o.b = append(o.b, '"')
		return
	}
	hour, minute, second := t.Clock()
	b := append(o.b, '"')
	b = appendTwoDigits(b, year/100)
	b = appendTwoDigits(b, year%100)
	for _, part := range [...]struct {
		before byte
		n      int
	}{{'-', int(month)}, {'-', day}, {'T', hour}, {':', minute}, {':', second}} {
		b = append(b, part.before)
		b = appendTwoDigits(b, part.n)
	}
	millis := t.Nanosecond() / 1e6
	b = append(b, '.', '0'+byte(millis/100))
	b = appendTwoDigits(b, millis%100)
	o.b = append(b, 'Z', '"')
}

func appendTwoDigits(b []byte, n int) []byte {
	return append(b, '0'+byte(n/10), '0'+byte(n%10))
}

// orUnknown writes Unknown for an empty value: a column that is not Nullable
// would send the whole row to quarantine.
func (o *object) orUnknown(k, v string) {
	if v == "" {
		v = "Unknown"
	}
	o.str(k, v)
}

// rowID is the key by which a row that was made or sent twice collapses into
// one: a hash of what makes it the same row.
func rowID(parts ...string) string {
	var buf [512]byte
	b := buf[:0]
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	sum := sha256.Sum256(b)
	return hexText(sum[:16])
}

// hexText spells 32 bytes at most, in one allocation.
func hexText(b []byte) string {
	var text [64]byte
	return string(text[:hex.Encode(text[:], b)])
}

// AppendSessionRow appends the session_v1 row, a line of JSON. Its id and
// timestamp derive from the session, so that one made twice is the same row. f
// is what the request tells that makes it.
func AppendSessionRow(dst []byte, c *Campaign, s *Session, f *Facts) []byte {
	o := object{b: dst}
	cur, orig := &s.Attribution.Current, &s.Attribution.Original
	o.open()
	o.str("row_id", rowID(SessionDatasource, s.ID))
	o.time("timestamp", s.CreatedAt)
	o.ids(c, s)
	o.str("user_id", s.UserID)
	o.orNull("landing_page_id", s.LandingPageID)
	o.orNull("utm_source", cur.UTM.Source)
	o.orNull("utm_medium", cur.UTM.Medium)
	o.orNull("utm_campaign", cur.UTM.Campaign)
	o.orNull("utm_term", cur.UTM.Term)
	o.orNull("utm_content", cur.UTM.Content)
	o.orNull("ref", cur.Ref)
	o.orNull("source", cur.Source)
	o.orNull("referrer", cur.Referrer)
	o.geo(&f.Geo)
	o.str("device_type", deviceWord(f.Device.Type, "unknown"))
	o.str("device_os", deviceWord(f.Device.OS, "Unknown"))
	o.str("browser", deviceWord(f.Device.Browser, "Unknown"))
	o.orNull("browser_version", f.Device.BrowserVersion)
	o.flag("is_mobile", f.Device.Mobile)
	o.str("connection_type", deviceWord(f.Device.ConnectionType, "unknown"))
	o.str("user_agent", f.UserAgent)
	o.orNull("language", f.Language)
	o.bot(&f.Bot)
	o.flag("is_ssl", f.Scheme == "https")
	o.str("domain_type", "custom")
	o.orNull("user_hostname", hostname(f.Host))
	o.flag("is_returning", s.Returning)
	o.str("campaign_environment", string(c.Environment))
	o.str("environment", c.Deployment)
	o.orNull("uri", pathOf(cur.LandingPage))

	o.flag("is_renewal", s.RenewalCount > 0)
	o.int("renewal_count", int64(s.RenewalCount))
	o.str("original_session_id", s.OriginalID)
	o.time("original_timestamp", s.OriginalAt)
	o.orNull("visitor_day", f.VisitorDay)
	source := s.Attribution.Source
	if source == "" {
		source = AttributionLost
	}
	o.str("attribution_source", string(source))
	o.orNull("original_utm_source", orig.UTM.Source)
	o.orNull("original_utm_medium", orig.UTM.Medium)
	o.orNull("original_utm_campaign", orig.UTM.Campaign)
	o.orNull("original_utm_term", orig.UTM.Term)
	o.orNull("original_utm_content", orig.UTM.Content)
	o.orNull("original_ref", orig.Ref)
	o.orNull("original_source", orig.Source)
	o.orNull("original_referrer", orig.Referrer)
	o.orNull("original_landing_page", orig.LandingPage)
	for _, name := range ClickIDColumns {
		o.orNull(name, cur.ClickID(name))
	}
	o.orNull("other_click_ids", otherClickIDs(cur.ClickIDs))
	o.close()
	return o.b
}

// otherClickIDs are those without a column of their own, as the text of a JSON
// object; empty if there are none.
func otherClickIDs(ids []ClickID) string {
	var o object
	for _, c := range ids {
		if slices.Contains(ClickIDColumns, c.Name) {
			continue
		}
		if o.b == nil {
			o.open()
		}
		o.str(c.Name, c.Value)
	}
	if o.b == nil {
		return ""
	}
	o.close()
	return string(o.b)
}

// ids writes what every datasource has: tenant, session, segment and test.
func (o *object) ids(c *Campaign, s *Session) {
	o.str("workspace_id", c.WorkspaceID)
	o.str("project_id", c.ProjectID)
	o.str("campaign_id", c.ID)
	o.str("session_id", s.ID)
	o.orNull("segment_id", s.SegmentID)
	test := s.Test()
	o.orNull("ab_test_id", test.TestID)
	o.orNull("ab_test_variant_id", test.VariantID)
}

func (o *object) geo(g *Geo) {
	o.orUnknown("country", g.Country)
	o.orUnknown("city", g.City)
	o.orUnknown("region", g.Region)
	o.orNull("region_code", g.RegionCode)
	o.orUnknown("continent", g.Continent)
	o.orNull("timezone", g.Timezone)
	o.flag("is_eu_country", g.IsEU)
}

func (o *object) bot(b *Bot) {
	o.int("bot_score", int64(b.Score))
	o.flag("is_corporate_proxy", b.CorporateProxy)
	o.flag("is_verified_bot", b.Verified)
}

func deviceWord(v, unknown string) string {
	if v == "" {
		return unknown
	}
	return v
}

// EventPlacement says where an event happened.
type EventPlacement string

const (
	PlacementInternal EventPlacement = "internal" // on a page of the campaign
	PlacementExternal EventPlacement = "external" // on another site, by click id
)

// AppendEventRow appends an events_v1 row. id is its EventRowID; sequence
// counts a session's events from 1.
func AppendEventRow(dst []byte, c *Campaign, s *Session, e *Event, id string, placement EventPlacement, sequence, now int64) []byte {
	o := object{b: dst}
	o.open()
	o.str("row_id", id)
	o.str("id", id)
	o.time("timestamp", now)
	o.ids(c, s)
	o.str("user_id", s.UserID)
	o.str("landing_page_id", s.LandingPageID)
	o.str("event_placement", string(placement))
	e.append(&o)
	o.int("session_event_sequence", sequence)
	o.str("environment", c.Deployment)
	o.str("campaign_environment", string(c.Environment))
	o.close()
	return o.b
}

// EventRowID is the id of the row of an event in session s. With the client's
// uuid, that and the line of renewals, since the session may have been renewed
// between a try and the next; without one the session, the event's content, how
// many equal events precede it in its batch, and how often the same came again
// long after: a retry collapses, a second purchase doesn't.
func EventRowID(s *Session, e *Event, preceding, again int) string {
	if e.UUID != "" {
		return rowID(EventDatasource, s.OriginalID, "uuid", e.UUID)
	}
	return rowID(EventDatasource, s.ID, "content", e.Canonical(), strconv.Itoa(preceding), strconv.Itoa(again))
}

// AppendTrafficRow appends the traffic_v1 row of one page view. Its JSON is
// nested as the reference's is. counted is whether the view was a visit's.
func AppendTrafficRow(dst []byte, c *Campaign, s *Session, f *Facts, requestID string, status int, counted bool, now int64) []byte {
	o := object{b: dst}
	o.open()
	o.str("row_id", rowID(TrafficDatasource, requestID))
	o.str("request_id", requestID)
	o.time("timestamp", now)
	o.str("workspace_id", c.WorkspaceID)
	o.str("project_id", c.ProjectID)
	o.str("campaign_id", c.ID)
	o.orNull("landing_page_id", s.LandingPageID)
	o.orNull("session_id", s.ID)
	o.orNull("segment_id", s.SegmentID)
	o.int("status", int64(status))
	o.str("purpose", string(f.Purpose))
	o.flag("counted", counted)
	o.str("campaign_environment", string(c.Environment))
	o.str("environment", c.Deployment)

	o.key("geo")
	o.open()
	o.geo(&f.Geo)
	o.orNull("latitude", f.Geo.Latitude)
	o.orNull("longitude", f.Geo.Longitude)
	o.close()

	o.key("device")
	o.open()
	o.str("type", deviceWord(f.Device.Type, "unknown"))
	o.str("os", deviceWord(f.Device.OS, "Unknown"))
	o.str("browser", deviceWord(f.Device.Browser, "Unknown"))
	o.orNull("browser_version", f.Device.BrowserVersion)
	o.flag("is_mobile", f.Device.Mobile)
	o.str("connection_type", deviceWord(f.Device.ConnectionType, "unknown"))
	o.close()

	o.key("localization")
	o.open()
	o.orNull("language", f.Language)
	o.close()
	o.key("traffic")
	o.open()
	o.orNull("referrer", f.Touch.Referrer)
	o.str("user_agent", f.UserAgent)
	o.close()
	o.bot(&f.Bot)
	o.close()
	return o.b
}

// hostname is host[:port] without the port.
func hostname(host string) string {
	for i := len(host) - 1; i >= 0; i-- {
		switch c := host[i]; {
		case c == ':':
			return host[:i]
		case c < '0' || c > '9':
			return host
		}
	}
	return host
}

// pathOf is a landing page without its parameters.
func pathOf(landingPage string) string {
	for i := range len(landingPage) {
		if landingPage[i] == '?' {
			return landingPage[:i]
		}
	}
	return landingPage
}
