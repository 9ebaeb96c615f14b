package tests

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// TestVisitsByRequest: what kinds of requests and answers are visits, told by
// the rows that they make. One visitor of each form makes them all.
func TestVisitsByRequest(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("ETag", `"x"`)
		switch {
		case r.URL.Path == "/broken":
			w.WriteHeader(http.StatusInternalServerError)
		case r.Header.Get("If-None-Match") != "":
			w.WriteHeader(http.StatusNotModified)
			return
		case r.Header.Get("Range") != "":
			w.Header().Set("Content-Range", "bytes 0-9/100")
			w.WriteHeader(http.StatusPartialContent)
		}
		fmt.Fprint(w, plainPage)
	}))
	t.Cleanup(upstream.Close)
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	config := globals("") + "SITE {\n\t" + campaignLines("cmp_last") + "\n\troot DIR/www\n\tfile_server\n}\n"
	forms := []string{"script", "page"}
	sites := map[string]string{}
	for _, form := range forms {
		sites[form] = "http://" + freeAddr(t)
		lines := campaignLines("cmp_"+form, "visit "+form)
		config += sites[form] + " {\n\t" + lines + "\n\thandle /missing {\n\t\terror 404\n\t}\n\thandle {\n\t\treverse_proxy " + strings.TrimPrefix(upstream.URL, "http://") +
			"\n\t}\n\thandle_errors {\n\t\t" + lines + "\n\t\trewrite * /\n\t\troot DIR/www\n\t\tfile_server\n\t}\n}\n"
	}
	c.write(config)
	c.start()
	for _, form := range forms {
		v := newVisitor(t, sites[form], desktop, true)
		// A session that begins with an error page is counted with the page
		// that counts.
		if _, body := v.page("/missing"); !contextPattern.MatchString(body) {
			t.Errorf("visit %s: the error page has no context", form)
		}
		v.page("/broken")
		v.page("/", "Range", "bytes=0-9")
		v.page("/", "Sec-Fetch-Dest", "empty", "Sec-Fetch-Mode", "cors")
		if a, err := http.Head(sites[form] + "/"); err != nil || a.StatusCode != 200 {
			t.Errorf("visit %s: HEAD: %v", form, err)
		}
		first := v.visit("/")
		if again := v.visit("/", "If-None-Match", `"x"`); again.Session.SessionID != first.Session.SessionID {
			t.Errorf("visit %s: the next page is another session's", form)
		}
	}
	traffic, sessions := visitRows(t, c)
	for _, form := range forms {
		var got []string
		for _, r := range traffic["cmp_"+form] {
			got = append(got, fmt.Sprint(r["purpose"], " ", r["counted"], " ", r["status"]))
		}
		slices.Sort(got)
		want := []string{"navigate 0 404", "navigate 0 500", "navigate 1 200", "navigate 1 200", "range 0 200"}
		if !slices.Equal(got, want) {
			t.Errorf("visit %s: traffic %q, want %q", form, got, want)
		}
		if n, want := len(sessions["cmp_"+form]), map[string]int{"script": 0, "page": 1}[form]; n != want {
			t.Errorf("visit %s: %d session rows, want %d", form, n, want)
		}
	}
}

// TestVisitsOfFrames: the session of a page in another site's frame is a visit
// by what its visitor does, whatever the page's script sends before.
func TestVisitsOfFrames(t *testing.T) {
	t.Parallel()
	c := startLanding(t, globals("")+"SITE {\n\t"+campaignLines("cmp_1")+"\n\troot DIR/www\n\tfile_server\n}\n")
	frame := []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Dest", "iframe"}
	want := map[string]string{}
	for name, act := range map[string]struct {
		route string
		more  []any
		is    bool
	}{
		"nothing":            {"events/session/init", nil, false},
		"a view":             {"events/track", []any{"event_id", "page-view", "event_type", "engagement"}, false},
		"a conversion":       {"events/track", []any{"event_id", "seen", "event_type", "conversion"}, false},
		"a click":            {"events/track", []any{"event_id", "click", "event_type", "system", "clicked_element", "a"}, true},
		"a form":             {"events/batch-track", []any{"events", []any{map[string]any{"event_id": "f", "event_type": "conversion", "form_id": "signup"}}}, true},
		"the client says so": {"events/session/init", []any{"user_activation", true}, true},
		"it says not":        {"events/session/init", []any{"user_activation", false}, false},
		"a decision":         {"consent/record", []any{"purposes", allPurposes}, true},
	} {
		v := newVisitor(t, c.site, desktop+name, false)
		s := v.visit("/", frame...)
		token := map[string]any{"token": s.Session.Token}
		v.post("events/session/init", token).ok(t)
		v.post("events/session/track", token).ok(t)
		v.post("events/track", with(token, "event_id", "page-load", "event_type", "system")).ok(t)
		v.post(act.route, with(token, act.more...)).ok(t)
		if act.is {
			want[s.Session.SessionID] = name
		}
		// By ids alone, what the server knows of the session says the same.
		byIDs := newVisitor(t, c.site, desktop+name+" by ids", false)
		byIDs.post("events/session/init", byIDs.visit("/", frame...).ids()).ok(t)
	}
	last := newVisitor(t, c.site, desktop, false)
	s := last.visit("/")
	last.post("events/session/init", s.ids()).ok(t)
	want[s.Session.SessionID] = "no frame"
	_, sessions := visitRows(t, c)
	found := map[string]bool{}
	for _, r := range sessions["cmp_1"] {
		found[r["session_id"].(string)] = true
	}
	for id, name := range want {
		if !found[id] {
			t.Errorf("%s made no visit", name)
		}
	}
	if len(found) != len(want)+1 { // visitRows' own
		t.Errorf("%d visits, want %d", len(found), len(want)+1)
	}
}
