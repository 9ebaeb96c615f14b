package tests

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// setNames are the names of the cookies that an answer sets or removes.
func setNames(h http.Header) []string {
	var out []string
	for _, line := range h.Values("Set-Cookie") {
		name, _, _ := strings.Cut(line, "=")
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// jar is a browser's as far as these tests need it: what an answer over either
// kind of origin left.
type jar map[string]string

func (j jar) take(h http.Header) {
	for _, line := range h.Values("Set-Cookie") {
		pair, _, _ := strings.Cut(line, ";")
		name, value, _ := strings.Cut(pair, "=")
		if strings.Contains(line, "Max-Age=0;") {
			delete(j, name)
		} else {
			j[name] = value
		}
	}
}

// header sends all, and over plain HTTP nothing that is Secure.
func (j jar) header(secure bool) string {
	var out []string
	for name, value := range j {
		if secure || !strings.HasPrefix(name, "__Host-") {
			out = append(out, name+"="+value)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

func (j jar) names() []string {
	out := []string{}
	for name := range j {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// TestCookiesBehindAProxyThatEndsTLS: a trusted proxy's word makes them Secure
// with the prefix, anybody else's does not; after a move from HTTP to HTTPS
// nobody is mixed up with whom plain HTTP knew.
func TestCookiesBehindAProxyThatEndsTLS(t *testing.T) {
	t.Parallel()
	config := func(servers string) string {
		return strings.Replace(globals(""), "\tadmin ADMIN\n", "\tadmin ADMIN\n"+servers, 1) + landing("30m")
	}
	const trusting = "\tservers {\n\t\ttrusted_proxies static 127.0.0.1/32\n\t}\n"
	plain := []string{"fb_attribution_cmp_1", "fb_session_cmp_1", "fb_user_ws_1"}
	secure := []string{"__Host-fb_attribution_cmp_1", "__Host-fb_session_cmp_1", "__Host-fb_user_ws_1"}

	c := startLanding(t, config(""))
	v := newVisitor(t, c.site, desktop, false)
	for _, header := range [][]string{nil, {"X-Forwarded-Proto", "https"}} {
		res, _ := v.page("/", header...)
		if got := setNames(res.Header); !slices.Equal(got, plain) {
			t.Errorf("untrusted, %v: %v", header, got)
		}
		for _, line := range res.Header.Values("Set-Cookie") {
			for _, want := range []string{"; Path=/;", "; HttpOnly", "; SameSite=Lax", "; Max-Age="} {
				if !strings.Contains(line, want) {
					t.Errorf("no %q in %s", want, line)
				}
			}
			if strings.Contains(line, "Secure") || strings.Contains(line, "Domain") {
				t.Errorf("over plain HTTP: %s", line)
			}
		}
	}

	c.reload(config(trusting))
	b := jar{}
	res, body := v.page("/")
	b.take(res.Header)
	before := parseContext(t, body)
	https := []string{"X-Forwarded-Proto", "https"}
	res, body = v.page("/", append(https, "Cookie", b.header(true))...)
	after := parseContext(t, body)
	if after.UserID == before.UserID || after.Session.SessionID == before.Session.SessionID || !strings.HasPrefix(after.APIBaseURL, "https://") {
		t.Errorf("over HTTPS the visitor is %s, over HTTP it was %s", after.UserID, before.UserID)
	}
	for _, line := range res.Header.Values("Set-Cookie") {
		if strings.HasPrefix(line, "__Host-") && (!strings.Contains(line, "; Secure") || !strings.Contains(line, "; Path=/;") || strings.Contains(line, "Domain")) {
			t.Errorf("browsers refuse %s", line)
		}
	}
	b.take(res.Header)
	if got := b.names(); !slices.Equal(got, secure) {
		t.Errorf("after the move the browser has %v", got)
	}
	res, body = v.page("/", append(https, "Cookie", b.header(true))...)
	if again := parseContext(t, body); again.Session.SessionID != after.Session.SessionID || len(setNames(res.Header)) != 0 {
		t.Errorf("the next page sets %v", setNames(res.Header))
	}
}

// TestASessionAndItsCookiesThroughConsent: one page's session answers with and
// without cookies, and the browser's agree with each answer.
func TestASessionAndItsCookiesThroughConsent(t *testing.T) {
	t.Parallel()
	c := startLanding(t, globals("")+landing("30m", "consent {", "\trequire always", "}"))
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/?utm_source=google")
	token := map[string]any{"token": s.Session.Token}
	own := []string{"fb_attribution_cmp_1", "fb_session_cmp_1", "fb_user_ws_1"}
	b := jar{}
	say := func(analytics string) {
		b["frbzz_consent"] = `%7B%22preferences%22%3A%7B%22analytics%22%3A` + analytics + `%7D%2C%22hasUserInteracted%22%3Atrue%2C%22timestamp%22%3A1%2C%22version%22%3A1%7D`
	}
	calls := []struct {
		route string
		body  map[string]any
	}{
		{"events/session/init", token},
		{"events/track", with(token, "event_id", "a", "event_type", "system")},
		{"events/session/renew", token},
		{"events/batch-track", with(token, "events", []any{map[string]any{"event_id": "b", "event_type": "system"}})},
		{"events/session/track", token},
	}
	for _, call := range calls {
		for _, step := range []struct {
			answer string
			want   []string
		}{{"true", own}, {"false", []string{}}, {"true", own}, {"false", []string{}}} {
			say(step.answer)
			if step.answer == "true" {
				b["frbzz_uid"], b["frbzz_session_other"], b["frbzz_attr_cmp_1"] = "1", "{}", "{}"
			}
			a := v.post(call.route, call.body, "Cookie", b.header(false)).ok(t)
			if id := a.Data["session_id"]; id != nil && id != s.Session.SessionID {
				t.Errorf("%s, %s: another session %v", call.route, step.answer, id)
			}
			b.take(a.header)
			got := slices.DeleteFunc(b.names(), func(n string) bool { return strings.HasPrefix(n, "frbzz_") })
			if !slices.Equal(got, step.want) {
				t.Errorf("%s, %s: the browser has %v", call.route, step.answer, got)
			}
			if theirs := len(b) - len(got); theirs != map[string]int{"true": 4, "false": 1}[step.answer] {
				t.Errorf("%s, %s: the browser has %v", call.route, step.answer, b.names())
			}
		}
	}
	t.Run("a refusal needs no more proof than the ids of older clients", func(t *testing.T) {
		say("true")
		b.take(v.post("events/session/init", token, "Cookie", b.header(false)).ok(t).header)
		say("false")
		kept := b.header(false)
		a := v.post("events/session/init", s.ids(), "Cookie", kept, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example")
		if a.status != 403 || len(setNames(a.header)) != 0 {
			t.Errorf("another site removes %v", setNames(a.header))
		}
		cookieless := jar{"frbzz_consent": b["frbzz_consent"], "frbzz_uid": "1", "fb_user_ws_1": b["fb_user_ws_1"]}
		a = v.post("events/session/init", s.ids(), "Cookie", cookieless.header(false)).ok(t)
		if got := setNames(a.header); !slices.Equal(got, []string{"fb_user_ws_1", "frbzz_uid"}) {
			t.Errorf("removed %v", got)
		}
		say("true")
		cookieless["frbzz_consent"] = b["frbzz_consent"]
		if a := v.post("events/session/init", s.ids(), "Cookie", cookieless.header(false)).ok(t); len(setNames(a.header)) != 0 {
			t.Errorf("ids alone were given %v", setNames(a.header))
		}
	})
}
