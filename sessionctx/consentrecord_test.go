package sessionctx

import (
	"math/rand/v2"
	"net/netip"
	"regexp"
	"testing"
	"testing/iotest"
)

func testClaim(p Purposes, days int) *ConsentClaim {
	return &ConsentClaim{SubjectID: "s", Domain: "lp.example.com", Essential: true, Purposes: p, Days: days, Source: "banner"}
}

func testRecord(tb testing.TB, p Purposes, days int, now int64) *ConsentRecord {
	tb.Helper()
	r, err := NewConsentRecord(testClaim(p, days), ConsentByToken, testCampaign(), nil, humanFacts(), now, seeded(uint64(now)))
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func TestARecordSaysWhoDecidedWhatAndUntilWhen(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	s := testSession(t, ring, c, 2)
	claim := testClaim(Purposes{Analytics: true}, 365)
	claim.SubjectID, claim.PolicyVersion = "somebody else", "v7"
	rec, err := NewConsentRecord(claim, ConsentByToken, c, &s, humanFacts(), noonMS, seeded(1))
	if err != nil {
		t.Fatal(err)
	}
	row := rec.AppendRow(nil, c, ConsentActive, rec.GivenAt)
	if err := rowChecker(t, ConsentDatasource)(row); err != nil {
		t.Error(err)
	}
	got := columns(t, row)
	for column, want := range map[string]any{
		"subject_id": s.UserID, "session_id": s.ID, "segment_id": "everyone", "domain": "lp.example.com",
		"essential": 1.0, "analytics": 1.0, "marketing": 0.0, "functional": 0.0, "status": "active", "proof": "token",
		"policy_version": "v7", "source": "banner", "ip": nil, "country": "DE", "language": "de-DE",
		"timestamp": "2026-03-14T12:00:00.000Z", "given_at": "2026-03-14T12:00:00.000Z", "expires_at": "2027-03-14T12:00:00.000Z",
		"workspace_id": "ws_1", "project_id": "pr_1", "campaign_id": "cmp_1", "campaign_environment": "production", "environment": "production",
	} {
		if got[column] != want {
			t.Errorf("%s is %v, want %v", column, got[column], want)
		}
	}
	if !regexp.MustCompile(`^consent_[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(rec.ID) {
		t.Errorf("id %s", rec.ID)
	}
	if _, err := NewConsentRecord(claim, ConsentByToken, c, &s, humanFacts(), noonMS, iotest.ErrReader(iotest.ErrTimeout)); err == nil {
		t.Error("without randomness there is an id")
	}
}

func TestWhereSomebodyWasIsKeptOnlyInPart(t *testing.T) {
	c, f := testCampaign(), humanFacts()
	f.ClientIP = netip.MustParseAddr("203.0.113.77")
	for _, store := range []bool{false, true} {
		c.Consent.StoreIP = store
		rec, err := NewConsentRecord(testClaim(Purposes{}, 1), ConsentBySubject, c, nil, f, noonMS, seeded(1))
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]string{false: "", true: "203.0.113.0"}[store]; rec.IP != want {
			t.Errorf("store_ip %v keeps %q", store, rec.IP)
		}
	}
	for ip, want := range map[string]string{
		"203.0.113.77": "203.0.113.0", "::ffff:203.0.113.77": "203.0.113.0",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1::", "fe80::1%eth0": "fe80::", "::1": "::",
	} {
		if got := TruncateIP(netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s becomes %s, want %s", ip, got, want)
		}
	}
	if got := TruncateIP(netip.Addr{}); got != "" {
		t.Errorf("an unknown address becomes %s", got)
	}
}

func TestEachRecordEndsTheOneBefore(t *testing.T) {
	first := testRecord(t, Purposes{Analytics: true}, 2, noonMS)
	first.Follow(nil, 1)
	if first.Status(noonMS+2*dayMS-1) != ConsentActive || first.Status(noonMS+2*dayMS) != ConsentExpired {
		t.Error("it does not end when it says")
	}
	second := testRecord(t, Purposes{}, 1, noonMS+dayMS)
	second.Follow(first, 2)
	if status, at := first.Ended(second); status != ConsentWithdrawn || at != noonMS+dayMS {
		t.Errorf("%s at %d", status, at)
	}
	late := testRecord(t, Purposes{}, 1, noonMS+3*dayMS)
	late.Follow(first, 2)
	if status, at := first.Ended(late); status != ConsentExpired || at != first.ExpiresAt {
		t.Errorf("%s at %d", status, at)
	}
	// Rows of a record: one a status, the same however often it is made.
	c := testCampaign()
	ids := map[any]bool{}
	for _, status := range []ConsentStatus{ConsentActive, ConsentWithdrawn, ConsentActive} {
		ids[columns(t, first.AppendRow(nil, c, status, noonMS))["row_id"]] = true
	}
	ids[columns(t, second.AppendRow(nil, c, ConsentActive, noonMS))["row_id"]] = true
	if len(ids) != 3 {
		t.Errorf("%d row ids of three rows", len(ids))
	}
}

// A record that is forgotten before an older one would bring that back.
func TestARecordIsKeptAsLongAsAnyBefore(t *testing.T) {
	r := rand.New(seeded(5))
	var prev *ConsentRecord
	now := noonMS
	for n := 1; n < 500; n++ {
		now += r.Int64N(10*dayMS) - dayMS // a clock that is set back at times
		rec := testRecord(t, Purposes{}, 1+r.IntN(MaxConsentDays), now)
		lifetime := rec.ExpiresAt - rec.GivenAt
		rec.Follow(prev, n)
		rec.Follow(prev, n) // and again, as after a lost claim
		if prev != nil && (rec.KeptUntil < prev.KeptUntil || rec.GivenAt < prev.GivenAt) {
			t.Fatalf("record %d ends before the one before it", n)
		}
		if rec.KeptUntil > rec.GivenAt+consentKept || rec.ExpiresAt-rec.GivenAt != lifetime {
			t.Fatalf("record %d is kept %d days and lasts %d", n, (rec.KeptUntil-rec.GivenAt)/dayMS, (rec.ExpiresAt-rec.GivenAt)/dayMS)
		}
		prev = rec
	}
}

func TestARetryIsToldFromANewDecision(t *testing.T) {
	yes := Purposes{Analytics: true}
	first := testRecord(t, yes, 365, noonMS)
	for _, tt := range []struct {
		name    string
		change  func(r *ConsentRecord)
		repeats bool
	}{
		{"the same at once", func(*ConsentRecord) {}, true},
		{"the same 2 minutes later", func(r *ConsentRecord) { r.GivenAt += 2 * minuteMS; r.ExpiresAt += 2 * minuteMS }, true},
		{"the same after that", func(r *ConsentRecord) { r.GivenAt += 2*minuteMS + 1; r.ExpiresAt += 2*minuteMS + 1 }, false},
		{"another purpose", func(r *ConsentRecord) { r.Marketing = true }, false},
		{"another proof", func(r *ConsentRecord) { r.Proof = ConsentBySubject }, false},
		{"another lifetime", func(r *ConsentRecord) { r.ExpiresAt++ }, false},
		{"another session", func(r *ConsentRecord) { r.SessionID = "x" }, false},
		{"another policy", func(r *ConsentRecord) { r.PolicyVersion = "2" }, false},
		{"another source", func(r *ConsentRecord) { r.Source = "settings" }, false},
		{"another essential", func(r *ConsentRecord) { r.Essential = false }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := testRecord(t, yes, 365, noonMS)
			tt.change(r)
			if got := r.Repeats(first); got != tt.repeats {
				t.Errorf("repeats: %v", got)
			}
		})
	}
	if first.Repeats(nil) {
		t.Error("the first repeats nothing")
	}
}

func TestASealedRecordOpensNowhereElse(t *testing.T) {
	ring, c := testRing(t, 1), testCampaign()
	rec := testRecord(t, Purposes{Analytics: true, Functional: true}, 30, noonMS)
	rec.Follow(nil, 3)
	sealed := ring.SealConsent(rec, noonMS)
	if got, ok := ring.OpenConsent(sealed); !ok || *got != *rec {
		t.Errorf("got %+v, want %+v", got, rec)
	}
	if _, ok := testRing(t, 2).OpenConsent(sealed); ok {
		t.Error("another ring opens it")
	}
	if _, err := ring.OpenState(sealed); err == nil {
		t.Error("it passes for a session's state")
	}
	s := testSession(t, ring, c, 2)
	if _, ok := ring.OpenConsent(ring.SealState(&s, noonMS)); ok {
		t.Error("a session's state passes for it")
	}
	for i := range sealed {
		bad := append([]byte(nil), sealed...)
		bad[i] ^= 1
		if _, ok := ring.OpenConsent(bad); ok {
			t.Fatalf("with byte %d changed it opens", i)
		}
	}
	for i := range sealed {
		if _, ok := ring.OpenConsent(sealed[:i]); ok {
			t.Fatalf("cut to %d bytes it opens", i)
		}
	}
}

func TestEveryConsentRowArrivesAsMeant(t *testing.T) {
	ring, r := testRing(t, 1), rand.New(seeded(7))
	check := rowChecker(t, ConsentDatasource)
	for range 2000 {
		s := randomSession(t, ring, r)
		c := randomCampaign(r, s.Campaign)
		c.Consent = &ConsentRules{StoreIP: r.IntN(2) == 0}
		f := randomFacts(r)
		f.ClientIP = pick(r, netip.Addr{}, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"))
		claim := testClaim(purposesOf(r.Uint64()), 1+r.IntN(MaxConsentDays))
		claim.Essential, claim.PolicyVersion = r.IntN(2) == 0, randomText(r, 64)
		proof := pick(r, ConsentByToken, ConsentByCookie, ConsentByVisitor, ConsentByIDs, ConsentBySubject)
		session := &s
		if proof == ConsentBySubject {
			session = nil
		}
		rec, err := NewConsentRecord(claim, proof, c, session, f, noonMS+r.Int64N(dayMS), seeded(r.Uint64()))
		if err != nil {
			t.Fatal(err)
		}
		row := rec.AppendRow(nil, c, pick(r, ConsentActive, ConsentWithdrawn, ConsentExpired), noonMS)
		if err := check(row); err != nil {
			t.Fatalf("%v\n%s", err, row)
		}
	}
}

func TestSubjectsCampaignsAndDomainsHaveRecordsOfTheirOwn(t *testing.T) {
	c := testCampaign().CampaignRef
	preview := c
	preview.Environment = Preview
	keys := map[string]bool{}
	for _, k := range []string{
		ConsentKey("s", c, "a"), ConsentKey("t", c, "a"), ConsentKey("s", preview, "a"), ConsentKey("s", c, "b"), ConsentKey("s", c, ""),
		ConsentKey("sc", CampaignRef{"mp_1", Production}, "a"),
	} {
		keys[k] = true
	}
	if len(keys) != 6 {
		t.Errorf("%d keys of 6", len(keys))
	}
}
