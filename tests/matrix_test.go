package tests

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	varint "encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// sealedChoice makes a choice cookie's value from the ring as it lies in
// storage, without the code under test.
func sealedChoice(t testing.TB, ring []byte, workspace string, yes bool, at int64) string {
	t.Helper()
	var file struct {
		Keys []struct{ ID, Secret string }
	}
	if err := json.Unmarshal(ring, &file); err != nil || len(file.Keys) == 0 {
		t.Fatalf("the ring can't be read: %v", err)
	}
	secret, err := base64.RawURLEncoding.DecodeString(file.Keys[0].Secret)
	if err != nil {
		t.Fatal(err)
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "session_context seal choice", chacha20poly1305.KeySize)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		t.Fatal(err)
	}
	flags := uint64(0)
	if yes {
		flags = 7
	}
	plain := []byte{1}
	plain = varint.AppendUvarint(plain, uint64(len(workspace)))
	plain = append(plain, workspace...)
	plain = varint.AppendUvarint(plain, flags)
	plain = varint.AppendVarint(plain, at)
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	copy(nonce, fmt.Sprint(at))
	return file.Keys[0].ID + "." + base64.RawURLEncoding.EncodeToString(aead.Seal(nonce, nonce, plain, nil))
}

// cellJar is what the cell's browser sends besides our own three cookies.
// oursAt (Unix ms) is when choices of ours were made; frbzz_consent's are a
// minute off.
func cellJar(t testing.TB, c cell, ring []byte, workspace, campaign string, oursAt int64) jar {
	b := jar{"theirs": "x"}
	switch c.ours {
	case "yes", "no":
		b["__Host-fb_choice_"+workspace] = sealedChoice(t, ring, workspace, c.ours == "yes", oursAt)
	case "unreadable":
		b["__Host-fb_choice_"+workspace] = "unreadable"
	}
	if c.reference == "unreadable" {
		b["frbzz_consent"] = "%7Bunreadable"
	} else if age, answer, found := strings.Cut(c.reference, " "); found {
		at := oursAt - 60_000
		if age == "newer" {
			at = oursAt + 60_000
		}
		yes := answer == "yes"
		b["frbzz_consent"] = strings.NewReplacer("{", "%7B", "}", "%7D", `"`, "%22", ",", "%2C").Replace(fmt.Sprintf(
			`{"preferences":{"necessary":true,"analytics":%v,"marketing":%v,"functional":%v},"hasUserInteracted":true,"timestamp":%d,"version":1}`, yes, yes, yes, at))
	}
	if c.full {
		for _, name := range strings.Fields(ownReference + " " + otherReference) {
			b[strings.ReplaceAll(name, "CAMPAIGN", campaign)] = "x"
		}
	}
	return b
}

// TestMatrixOfTheDomain runs every cell through the domain: a page, then a call
// that proves its session by token.
func TestMatrixOfTheDomain(t *testing.T) {
	t.Parallel()
	random := rand.NewChaCha8([32]byte{1})
	const oursAt = int64(1_764_000_000_000)
	now := time.UnixMilli(oursAt).Add(time.Hour)
	ring, err := sessionctx.NewRing(random, now.UnixMilli()-1e9)
	if err != nil {
		t.Fatal(err)
	}
	file, err := ring.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	cells := 0
	for _, cookieless := range cellBools {
		campaign := func(c cell) *sessionctx.Campaign {
			out := &sessionctx.Campaign{
				CampaignRef: sessionctx.CampaignRef{ID: "cmp_1", Environment: sessionctx.Production}, WorkspaceID: "ws_1", ProjectID: "pr_1",
				SessionDuration: 30 * time.Minute, AttributionWindow: 30 * 24 * time.Hour, Cookies: !c.cookieless,
				VisitorKeys: c.before == "daily_hash",
			}
			if c.rule != "no block" {
				out.Consent = &sessionctx.ConsentRules{RespectGPC: strings.Contains(c.respect, "gpc"), RespectDNT: strings.Contains(c.respect, "dnt")}
			}
			return out
		}
		// What a visit a minute ago left in the browser.
		earlier, err := sessionctx.Identify(sessionctx.Input{
			Ring: ring, Campaign: campaign(cell{rule: "no block"}), Facts: &sessionctx.Facts{Purpose: sessionctx.PurposeNavigate},
			Consent: sessionctx.Consent{Purposes: sessionctx.Purposes{Analytics: true}}, Now: now.Add(-time.Minute), Random: random,
		})
		if err != nil {
			t.Fatal(err)
		}
		left := earlier.Cookies(ring, true, now.Add(-time.Minute))
		everyCell(cellBefore, func(c cell) {
			if c.cookieless != cookieless {
				return
			}
			cells++
			want := c.model()
			conf := campaign(c)
			var sent []sessionctx.Cookie
			for name, value := range cellJar(t, c, file, "ws_1", "cmp_1", oursAt) {
				sent = append(sent, sessionctx.Cookie{Name: name, Value: value})
			}
			if c.full {
				sent = append(sent, left...)
			}
			facts := &sessionctx.Facts{Scheme: "https", Purpose: sessionctx.PurposeNavigate, GPC: c.gpc, DNT: c.dnt, ClientIP: netip.MustParseAddr("192.0.2.1"),
				Geo: sessionctx.Geo{Country: c.country, IsEU: c.country == "DE"}}
			carried := ring.OpenCookies(sent, conf, true, now.UnixMilli())
			required := c.rule == "always" || c.rule == "eu" && c.country == "DE" // as the adapter's matchers say
			consent := sessionctx.DecideConsent(conf.Consent, required, facts, carried.Choice, carried.Reference)
			if keyed := sessionctx.KeysVisitor(conf, facts, &consent, &carried); keyed != want.keyed {
				t.Fatalf("%s: a visitor key may be computed: %v, want %v", c, keyed, want.keyed)
			}
			page, err := sessionctx.Identify(sessionctx.Input{Ring: ring, Campaign: conf, Facts: facts, Carried: carried, Consent: consent, Now: now, Random: random})
			if err != nil {
				t.Fatal(err)
			}
			token := ring.SealToken(&page.Session, now.UnixMilli())
			doc := sessionctx.Document{Visit: page, Facts: facts, Token: token, APIBaseURL: "https://lp.example.com", Now: now}
			got := &sessionContext{}
			if err := json.Unmarshal(doc.Append(nil), got); err != nil {
				t.Fatal(err)
			}
			if err := want.checkContext(got); err != nil {
				t.Fatalf("%s: context: %v", c, err)
			}
			if kept := page.Session.ID == earlier.Session.ID; kept != (c.full && want.sets) {
				t.Fatalf("%s: the earlier session goes on: %v", c, kept)
			}
			session, err := ring.OpenToken(got.Session.Token)
			if err != nil || session.ID != page.Session.ID || session.Expired(now.UnixMilli()) {
				t.Fatalf("%s: the token does not prove the session: %v", c, err)
			}
			again := ring.OpenCookies(sent, conf, true, now.UnixMilli())
			for what, v := range map[string]*sessionctx.Visit{"page": page, "API": sessionctx.Resume(conf, *session, consent, again)} {
				set, removed := []string{}, []string{}
				for _, ck := range v.Cookies(ring, true, now) {
					if ck.MaxAge > 0 {
						set = append(set, ck.Name)
					} else {
						removed = append(removed, ck.Name)
					}
				}
				if err := want.checkCookies(shortNames(set, "cmp_1", "ws_1"), shortNames(removed, "cmp_1", "ws_1"), c.full); err != nil {
					t.Fatalf("%s: the %s %v", c, what, err)
				}
			}
			var row map[string]any
			if err := json.Unmarshal(sessionctx.AppendSessionRow(nil, conf, session, facts), &row); err != nil {
				t.Fatal(err)
			}
			if row["session_id"] != page.Session.ID || row["user_id"] != page.Session.UserID {
				t.Fatalf("%s: row %v", c, row)
			}
		})
	}
	if want := 4 * 4 * 4 * 2 * 4 * 6 * 2 * 2 * 2; cells != want {
		t.Errorf("%d cells, want %d", cells, want)
	}
}

// matrixCells is how many cells go through a real Caddy, keyedCells how many of
// these have a visitor_day at least.
const (
	matrixCells = 360
	keyedCells  = 60
)

// TestMatrixOfACaddy runs a sample of the cells, drawn so that it is the same
// in every run, through a real Caddy behind a proxy that ends TLS: with pages,
// the API and the rows that come of them.
func TestMatrixOfACaddy(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	campaigns := map[string]string{} // by what is configured
	key := func(x cell) string { return fmt.Sprint(x.rule, x.respect, x.cookieless, x.before) }
	var all []cell
	var sites strings.Builder
	everyCell(cellBefore, func(x cell) {
		all = append(all, x)
		if campaigns[key(x)] != "" {
			return
		}
		id := fmt.Sprint("cmp_", len(campaigns))
		campaigns[key(x)] = id
		consent := ""
		if x.rule != "no block" {
			consent = "\t\tconsent {\n\t\t\trespect " + x.respect + "\n"
			consent += map[string]string{"always": "\t\t\trequire always\n", "eu": "\t\t\trequire @eu\n"}[x.rule] + "\t\t}\n"
		}
		identity := map[bool]string{false: "cookie", true: "cookieless"}[x.cookieless]
		fmt.Fprintf(&sites, "\thandle_path /%s/* {\n\tsession_context {\n\t\tworkspace ws_1\n\t\tproject pr_1\n\t\tcampaign %s\n\t\tidentity %s\n\t\tbefore_consent %s\n%s\t}\n\troot DIR/www\n\tfile_server\n\t}\n", id, id, identity, x.before, consent)
	})
	c.write(strings.Replace(globals(tinybirdSink(tb)+"\n\t\tgeo headers cloudflare"), "\tadmin ADMIN\n", "\tadmin ADMIN\n\tservers {\n\t\ttrusted_proxies static 127.0.0.1/32\n\t}\n", 1) +
		"\nSITE {\n\t@eu vars session.geo.is_eu true\n" + sites.String() + "\tsession_context_api\n}\n")
	c.start()
	ring := ringFile(t, c)
	oursAt := time.Now().Add(-time.Hour).UnixMilli() // a choice ends after half a year
	r := rand.New(rand.NewPCG(1, 2))
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	// Few of all have a visitor_day: some more of these.
	keyed := 0
	for i := range all {
		if all[i].model().visitorDay && keyed < keyedCells {
			all[i], all[keyed] = all[keyed], all[i]
			keyed++
		}
	}
	sessions, users := map[string]cell{}, map[string]string{}
	for i, x := range all[:matrixCells] {
		want := x.model()
		id := campaigns[key(x)]
		v := newVisitor(t, c.site, desktop, false)
		from := func(country string, b jar) []string {
			return []string{"X-Forwarded-Proto", "https", "X-Forwarded-For", fmt.Sprintf("192.0.2.%d", 1+i%250),
				"CF-IPCountry", country, "Cookie", b.header(true)}
		}
		b := cellJar(t, x, ring, "ws_1", id, oursAt)
		earlier := ""
		if x.full {
			// A visit of before, when the visitor agreed; a campaign that is
			// cookieless now may have left cookies that nobody can read.
			for _, name := range []string{"__Host-fb_user_ws_1", "__Host-fb_session_" + id, "__Host-fb_attribution_" + id} {
				b[name] = "left"
			}
			agreed := cell{reference: "newer yes"}
			res, body := v.page("/"+id+"/", from("US", cellJar(t, agreed, ring, "ws_1", id, oursAt))...)
			b.take(res.Header)
			earlier = parseContext(t, body).Session.SessionID
		}
		header := from(x.country, b)
		if x.gpc {
			header = append(header, "Sec-GPC", "1")
		}
		if x.dnt {
			header = append(header, "DNT", "1")
		}
		res, body := v.page("/"+id+"/", header...)
		s := parseContext(t, body)
		if err := want.checkContext(s); err != nil {
			t.Fatalf("%s: context: %v", x, err)
		}
		if kept := s.Session.SessionID == earlier; kept != (x.full && want.sets) {
			t.Fatalf("%s: the earlier session goes on: %v", x, kept)
		}
		a := v.post("events/session/init", map[string]any{"token": s.Session.Token},
			append(header, "Origin", strings.Replace(c.site, "http://", "https://", 1))...).ok(t)
		for what, h := range map[string]http.Header{"page": res.Header, "API": a.header} {
			set, removed := []string{}, []string{}
			for _, line := range h.Values("Set-Cookie") {
				name, _, _ := strings.Cut(line, "=")
				if strings.Contains(line, "Max-Age=0;") {
					removed = append(removed, name)
				} else {
					set = append(set, name)
				}
			}
			if err := want.checkCookies(shortNames(set, id, "ws_1"), shortNames(removed, id, "ws_1"), x.full); err != nil {
				t.Fatalf("%s: the %s %v", x, what, err)
			}
		}
		sessions[s.Session.SessionID], users[s.Session.SessionID] = x, s.UserID
	}
	rows := byID(t, waitRows(t, tb, "session_v1", matrixCells), "session_id")
	views := map[string]map[string]any{}
	eventually(t, 20*time.Second, "every page is a view", func() error {
		for _, row := range waitRows(t, tb, "traffic_v1", matrixCells) {
			views[fmt.Sprint(row["session_id"])] = row
		}
		for id, x := range sessions {
			if views[id] == nil {
				return fmt.Errorf("%s: no traffic row", x)
			}
		}
		return nil
	})
	for id, x := range sessions {
		want := x.model()
		row, view := rows[id], views[id]
		if row == nil {
			t.Fatalf("%s: no session row", x)
		}
		expect(t, x.String(), row, map[string]any{"campaign_id": campaigns[key(x)], "user_id": users[id], "country": x.country})
		expect(t, x.String(), view, map[string]any{"campaign_id": campaigns[key(x)], "counted": 1})
		if geo, _ := view["geo"].(map[string]any); geo["country"] != x.country || fmt.Sprint(geo["is_eu_country"]) != map[bool]string{true: "1", false: "0"}[want.eu] {
			t.Errorf("%s: the traffic row is of %v", x, view["geo"])
		}
		if day, ok := row["visitor_day"].(string); ok != want.visitorDay || ok && len(day) != 16 {
			t.Errorf("%s: visitor_day is %v, want one: %v", x, row["visitor_day"], want.visitorDay)
		}
	}
}

// ringFile reads the key ring from Caddy's storage.
func ringFile(t testing.TB, c *caddy) []byte {
	t.Helper()
	var found []byte
	eventually(t, 10*time.Second, "the key ring is in storage", func() error {
		err := filepath.WalkDir(c.path("data"), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || found != nil {
				return err
			}
			b, err := os.ReadFile(path)
			if err == nil && bytes.Contains(b, []byte(`"user_id_keys"`)) {
				found = b
			}
			return err
		})
		if err == nil && found == nil {
			err = errors.New("no file of it")
		}
		return err
	})
	return slices.Clone(found)
}
