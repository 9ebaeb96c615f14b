package inject

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

func TestPageRequest(t *testing.T) {
	for name, test := range map[string]struct {
		method, path string
		header       http.Header
		want         bool
	}{
		"navigation":                       {"GET", "/x.png", header("Sec-Fetch-Dest", "document"), true},
		"frame":                            {"GET", "/", header("Sec-Fetch-Dest", "frame"), true},
		"iframe":                           {"HEAD", "/", header("Sec-Fetch-Dest", "iframe"), true},
		"image":                            {"GET", "/", header("Sec-Fetch-Dest", "image", "Accept", "text/html"), false},
		"fetch":                            {"GET", "/", header("Sec-Fetch-Dest", "empty", "Accept", "text/html"), false},
		"mode without destination":         {"GET", "/", header("Sec-Fetch-Mode", "navigate"), true},
		"other mode without destination":   {"GET", "/", header("Sec-Fetch-Mode", "cors"), false},
		"POST navigation":                  {"POST", "/", header("Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"), true},
		"POST by fetch":                    {"POST", "/", header("Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"), false},
		"POST of an unknown kind":          {"POST", "/", header("Accept", "text/html"), false},
		"PUT":                              {"PUT", "/", header("Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"), false},
		"CONNECT":                          {"CONNECT", "/", nil, false},
		"upgrade":                          {"GET", "/", header("Upgrade", "websocket", "Accept", "text/html"), false},
		"older browser":                    {"GET", "/x.png", header("Accept", "image/x, TEXT/html;q=0.9"), true},
		"HTML refused":                     {"GET", "/", header("Accept", "text/html;q=0, */*"), false},
		"HTML hardly wanted":               {"GET", "/", header("Accept", "text/html;level=1;q=0.01"), true},
		"anything":                         {"GET", "/", header("Accept", "*/*"), true},
		"anything, graded":                 {"GET", "/", header("Accept", "*/*;q=0.8"), true},
		"nothing":                          {"GET", "/about", nil, true},
		"nothing, a file":                  {"GET", "/app.js", nil, false},
		"anything, a file in upper case":   {"GET", "/LOGO.PNG", header("Accept", "*/*"), false},
		"nothing, a page with a dot":       {"GET", "/john.doe", nil, true},
		"nothing, an HTML file":            {"GET", "/index.html", nil, true},
		"dot in a folder":                  {"GET", "/v1.zip/page", nil, true},
		"older browser's image":            {"GET", "/", header("Accept", "image/webp,*/*;q=0.8"), false},
		"JSON":                             {"GET", "/", header("Accept", "application/json"), false},
		"JSON in a second line":            {"GET", "/", http.Header{"Accept": {"*/*", "application/json"}}, false},
		"HTML in a second line":            {"GET", "/", http.Header{"Accept": {"application/json", "text/html"}}, true},
		"upgrade of insecure requests":     {"GET", "/", header("Upgrade-Insecure-Requests", "1", "Accept", "text/html"), true},
		"worker of a page that has fetch ": {"GET", "/", header("Sec-Fetch-Dest", "serviceworker"), false},
		"navigation passed on by a worker": {"GET", "/x.png", header("Sec-Fetch-Dest", "empty", "Sec-Fetch-Mode", "navigate"), true},
		"POST passed on by a worker":       {"POST", "/", header("Sec-Fetch-Dest", "empty", "Sec-Fetch-Mode", "navigate"), true},
		"page linked as prefetch":          {"GET", "/a", header("Sec-Fetch-Dest", "empty", "Sec-Fetch-Mode", "no-cors", "Sec-Purpose", "Prefetch; x"), true},
		"script linked as prefetch":        {"GET", "/a.js", header("Sec-Fetch-Dest", "empty", "Sec-Fetch-Mode", "no-cors", "Sec-Purpose", "prefetch"), false},
		"prefetch by a script":             {"GET", "/a", header("Sec-Fetch-Dest", "empty", "Sec-Fetch-Mode", "cors", "Sec-Purpose", "prefetch"), false},
		"beacon":                           {"GET", "/a", header("Sec-Fetch-Dest", "empty", "Sec-Fetch-Mode", "no-cors"), false},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", test.path, nil)
			r.Method = test.method
			if test.header != nil {
				r.Header = test.header
			}
			if got := PageRequest(r, ""); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestPageRequestGoesByTheOriginalPath(t *testing.T) {
	r := httptest.NewRequest("GET", "/index.html", nil)
	if PageRequest(r, "/app.js") {
		t.Error("a script that was rewritten to the index is no page")
	}
	r = httptest.NewRequest("GET", "/render.svg", nil)
	if !PageRequest(r, "/about") {
		t.Error("a page is one whatever it is rewritten to")
	}
}

func TestPrepareRequestRestores(t *testing.T) {
	original := http.Header{
		"Accept-Encoding":     {"gzip, br", "zstd"},
		"Range":               {"bytes=0-9"},
		"If-Range":            {`"x"`},
		"If-None-Match":       {`"x"`},
		"If-Modified-Since":   {},
		"If-Unmodified-Since": {"y"},
		"Cookie":              {"a=b"},
	}
	for _, keep := range []bool{false, true} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header = original.Clone()
		held := r.Header["Accept-Encoding"]
		prepared := PrepareRequest(r, keep)

		want := http.Header{"Accept-Encoding": {"identity"}, "Cookie": {"a=b"}}
		if keep {
			for _, name := range []string{"If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
				want[name] = original[name]
			}
		}
		if !maps.EqualFunc(r.Header, want, slices.Equal) {
			t.Errorf("keep %v: upstream sees %v", keep, r.Header)
		}
		if held[0] != "gzip, br" {
			t.Error("the slice was edited")
		}
		r.Header.Set("If-Match", "set by a handler")
		r.Header.Set("X-Other", "set by a handler")
		prepared.Restore()
		prepared.Restore()
		want = original.Clone()
		want.Set("X-Other", "set by a handler")
		if keep {
			want.Set("If-Match", "set by a handler")
		}
		if !maps.EqualFunc(r.Header, want, slices.Equal) {
			t.Errorf("keep %v: restored %v", keep, r.Header)
		}
	}
}

func TestPrepareRequestWithoutHeader(t *testing.T) {
	r := &http.Request{}
	prepared := PrepareRequest(r, false)
	if r.Header.Get("Accept-Encoding") != "identity" {
		t.Error("identity not asked for")
	}
	prepared.Restore()
	if len(r.Header) != 0 {
		t.Error(r.Header)
	}
}
