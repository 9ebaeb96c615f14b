package caddymodule

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/store"
)

// consentCall is a same-origin call over HTTPS of a browser that carries
// nothing, and a session of a visitor who has not been asked yet.
func consentCall(t *testing.T, h *Handler) (*call, *sessionctx.Session) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "https://lp.example.com/client-api/v1/consent/record", nil)
	r = r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, map[string]any{}))
	c := &call{app: h.app, site: h, w: httptest.NewRecorder(), r: r, name: "consent/record", now: testDay, sameOrigin: true}
	c.facts = sessionctx.Facts{Scheme: "https", Host: "lp.example.com", Purpose: sessionctx.PurposeNavigate}
	ring, err := h.app.keys(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	c.ring, c.engine = ring, h.app.engine()
	t.Cleanup(c.engine.release)
	visit, err := sessionctx.Identify(sessionctx.Input{
		Ring: ring, Campaign: h.campaign, Facts: &c.facts, Now: testDay, Random: rand.Reader,
		Consent: sessionctx.Consent{Required: true, Source: sessionctx.ConsentPending},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, &visit.Session
}

// TestAVisitorsOwnDecisionBringsCookies: what continuation finds counts as the
// browser itself, and gets cookies; a subject alone does not.
func TestAVisitorsOwnDecisionBringsCookies(t *testing.T) {
	h := benchHandler(t, "consent {\n require always\n }")
	all := []string{"__Host-fb_attribution_cmp_1", "__Host-fb_choice_ws_1", "__Host-fb_session_cmp_1", "__Host-fb_user_ws_1"}
	for _, tt := range []struct {
		name     string
		prove    func(c *call, s *sessionctx.Session) error
		purposes sessionctx.Purposes
		recorded bool
		proof    sessionctx.ConsentProof
		want     []string
	}{
		{"a visitor's yes", func(c *call, s *sessionctx.Session) error { return c.take(h, *s, proofVisitor) }, sessionctx.Purposes{Analytics: true}, true, sessionctx.ConsentByVisitor, all},
		{"a visitor's no", func(c *call, s *sessionctx.Session) error { return c.take(h, *s, proofVisitor) }, sessionctx.Purposes{Marketing: true}, true, sessionctx.ConsentByVisitor, all[1:2]},
		{"a visitor's yes that is not recorded", func(c *call, s *sessionctx.Session) error { return c.take(h, *s, proofVisitor) }, sessionctx.Purposes{Analytics: true}, false, sessionctx.ConsentByVisitor, nil},
		{"a visitor's no that is not recorded", func(c *call, s *sessionctx.Session) error { return c.take(h, *s, proofVisitor) }, sessionctx.Purposes{Marketing: true}, false, sessionctx.ConsentByVisitor, all[1:2]},
		{"a subject's yes", func(c *call, s *sessionctx.Session) error { return c.proveSubject([]*Handler{h}, s.UserID) }, sessionctx.Purposes{Analytics: true}, true, sessionctx.ConsentBySubject, nil},
		{"ids' no", func(c *call, s *sessionctx.Session) error { return c.take(h, *s, proofIDs) }, sessionctx.Purposes{}, true, sessionctx.ConsentByIDs, nil},
		{"a visitor's yes on another workspace's site", func(c *call, s *sessionctx.Session) error {
			other := *h.campaign
			other.WorkspaceID = "ws_2"
			c.site = &Handler{campaign: &other}
			return c.take(h, *s, proofVisitor)
		}, sessionctx.Purposes{Analytics: true}, true, sessionctx.ConsentByVisitor, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, s := consentCall(t, h)
			if err := tt.prove(c, s); err != nil {
				t.Fatal(err)
			}
			if got := consentProofs[c.proof]; got != tt.proof {
				t.Errorf("proof %q, want %q", got, tt.proof)
			}
			c.choose(tt.purposes, tt.recorded)
			var got []string
			for _, line := range c.w.Header().Values("Set-Cookie") {
				name, rest, _ := strings.Cut(line, "=")
				got = append(got, name)
				if !strings.HasSuffix(rest, "; HttpOnly; Secure; SameSite=Lax") || !strings.Contains(rest, "; Path=/; ") || strings.Contains(rest, "Max-Age=0") {
					t.Errorf("attributes of %s", line)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, tt.want) {
				t.Errorf("sets %v, want %v", got, tt.want)
			}
			if tt.recorded || tt.want == nil {
				return
			}
			// What was agreed to without a record is not agreed to.
			if c.carried.Choice.Marketing {
				t.Error("a yes in part holds without evidence")
			}
		})
	}
}

// choicesOf are the values of a request's frbzz_consent cookies.
func choicesOf(r *http.Request) (values []string) {
	for _, c := range requestCookies(r) {
		if c.Name == sessionctx.ReferenceConsentCookie {
			values = append(values, c.Value)
		}
	}
	return values
}

func TestCookiesThatWeKnowAreReadAsTheyCame(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header["Cookie"] = []string{
		`_ga=GA1.1; __Host-fb_user_ws_1=a.b; fb_session_cmp_1="x=y" ;	__Host-fb_choice_ws_1=gr` + "\xfc" + `n; fb_user_ws_1; fb=1; x__Host-fb_user_=2; Fb_user_ws_1=3`,
		"frbzz_uid=u=1; __Host-fb_attribution_cmp_1.preview=; frbzz=4; __Host-other=5",
	}
	want := []sessionctx.Cookie{
		{Name: "__Host-fb_user_ws_1", Value: "a.b"}, {Name: "fb_session_cmp_1", Value: "x=y"}, {Name: "__Host-fb_choice_ws_1", Value: "gr\xfcn"},
		{Name: "frbzz_uid", Value: "u=1"}, {Name: "__Host-fb_attribution_cmp_1.preview"},
	}
	if got := requestCookies(r); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestTheReferenceChoiceIsReadAsItCame(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header["Cookie"] = []string{`a=1; frbzz_consent={"a":1,"b":[2]};frbzz_consent="x"; frbzz_consentx=3; b=frbzz_consent=4`, "frbzz_consent=", "frbzz_consent"}
	got := choicesOf(r)
	if want := []string{`{"a":1,"b":[2]}`, "x", ""}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Many make one refusal, in no more time than a few: else a header of Caddy's
// full size would keep a core busy for a second.
func TestTooManyReferenceChoicesMeanNo(t *testing.T) {
	const yes = `{"preferences":{"analytics":true},"hasUserInteracted":true,"timestamp":1,"version":1}`
	for n, want := range map[int]bool{1: true, maxReferenceChoices: true, maxReferenceChoices + 1: false, 5000: false} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Cookie", strings.Repeat("frbzz_consent="+yes+"; ", n))
		values := choicesOf(r)
		if len(values) > maxReferenceChoices+1 {
			t.Errorf("%d of %d cookies are read", len(values), n)
		}
		if choice := sessionctx.ParseReferenceConsent(values); choice == nil || choice.Analytics != want {
			t.Errorf("%d cookies: %+v, want analytics %v", n, choice, want)
		}
	}
}

// A record is read whether or not the row of its end can be written, and that
// is tried until it works.
func TestTheEndOfAConsentIsToldWhenItCanBe(t *testing.T) {
	h := benchHandler(t, "consent {\n require always\n }")
	c, s := consentCall(t, h)
	if err := c.take(h, *s, proofToken); err != nil {
		t.Fatal(err)
	}
	rec, err := c.newConsent(&sessionctx.ConsentClaim{Domain: "lp.example.com", Days: 1, Source: "banner"})
	if err != nil {
		t.Fatal(err)
	}
	c.keepConsent(rec)
	c.now = c.now.Add(48 * time.Hour)
	history, err := c.consentHistory(t.Context(), s.UserID, "lp.example.com")
	if err != nil {
		t.Fatal(err)
	}
	told := func() bool {
		_, err := history.store.Get(t.Context(), history.key(1)+"/expired")
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	works := c.engine.outbox
	broken := open("outbox", h.log, func() (*outbox.Outbox, error) { return nil, errors.New("no disk") })
	defer broken.close()
	for _, tt := range []struct {
		outbox *pooledOutbox
		told   bool
	}{{&pooledOutbox{opening: broken}, false}, {works, true}, {works, true}} {
		c.engine.outbox = tt.outbox
		got, err := c.currentConsent(s.UserID, "")
		if err != nil || got.ID != rec.ID || got.Status(c.now.UnixMilli()) != sessionctx.ConsentExpired {
			t.Fatalf("%+v, %v", got, err)
		}
		if told() != tt.told {
			t.Errorf("told %v, want %v", !tt.told, tt.told)
		}
	}
}
