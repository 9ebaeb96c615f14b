package visitor

import (
	"strings"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// touch is the arrival at a page with this path (as encoded) and raw query.
func (st *state) touch(path, query string, now time.Time) sessionctx.Touch {
	t := sessionctx.Touch{Time: now.UnixMilli()}
	var f found
	if query != "" {
		st.params.scan(query, &f)
	}
	for _, h := range f.hits[:f.n] {
		p := &st.params.list[h.param]
		switch p.kind {
		case paramUTMSource:
			t.UTM.Source = unescape(h.value, sessionctx.MaxParam)
		case paramUTMMedium:
			t.UTM.Medium = unescape(h.value, sessionctx.MaxParam)
		case paramUTMCampaign:
			t.UTM.Campaign = unescape(h.value, sessionctx.MaxParam)
		case paramUTMTerm:
			t.UTM.Term = unescape(h.value, sessionctx.MaxParam)
		case paramUTMContent:
			t.UTM.Content = unescape(h.value, sessionctx.MaxParam)
		case paramRef:
			t.Ref = unescape(h.value, sessionctx.MaxParam)
		case paramSource:
			t.Source = unescape(h.value, sessionctx.MaxParam)
		case paramClickID:
			t.ClickIDs = appendClickID(t.ClickIDs, p.column, h.value)
		}
	}
	if path == "" {
		path = "/"
	}
	t.LandingPage = cutURL(path, sessionctx.MaxURL)
	if f.n > 0 {
		var b strings.Builder
		b.Grow(min(sessionctx.MaxURL, len(path)+1+len(query)))
		b.WriteString(t.LandingPage)
		st.params.appendQuery(&b, &f, sessionctx.MaxURL)
		t.LandingPage = b.String()
	}
	return t
}

// appendClickID adds a click id while there is room, unless nothing of its
// value would be left.
func appendClickID(ids []sessionctx.ClickID, name, raw string) []sessionctx.ClickID {
	value := sessionctx.CleanText(unescape(raw, sessionctx.MaxClickID), sessionctx.MaxClickID)
	if value == "" || len(ids) == sessionctx.MaxClickIDs {
		return ids
	}
	if ids == nil {
		ids = make([]sessionctx.ClickID, 0, 1) // one is what most links have
	}
	return append(ids, sessionctx.ClickID{Name: name, Value: value})
}
