package tests

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// explained is a request that gives a reason.
type explained struct {
	reason string
	site   string // which site is asked, "" for the first
	path   string
	method string
	header []string
	answer http.HandlerFunc // of the upstream
	status int              // 200 unless given
	// gone is for an answer that is cut off: there is no header to look at.
	gone bool
}

// answerPage is an upstream that answers 200, with pairs of header fields.
func answerPage(body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		io.WriteString(w, body)
	}
}

func answerStatus(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(status)
	}
}

var explanations = []explained{
	{reason: "injected", answer: answerPage(plainPage)},
	{reason: "already_injected", answer: answerPage("<head><script data-session-context></script></head>")},
	{reason: "attachment", answer: answerPage(plainPage, "Content-Disposition", "attachment")},
	{reason: "aborted", gone: true, answer: func(w http.ResponseWriter, r *http.Request) {
		answerPage("<!-- not yet")(w, r)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}},
	{reason: "charset", answer: answerPage(plainPage, "Content-Type", "text/html; charset=utf-16le")},
	{reason: "csp", answer: answerPage(plainPage, "Content-Security-Policy", "sandbox")},
	{reason: "encoding", answer: answerPage("?", "Content-Encoding", "unheard-of")},
	{reason: "event_stream", answer: answerPage("data: 1\n\n", "Content-Type", "text/event-stream")},
	{reason: "head", method: "HEAD", answer: answerPage(plainPage)},
	{reason: "incremental", answer: answerPage(plainPage, "Incremental", "?1")},
	{reason: "no_content", status: 204, answer: answerStatus(204)},
	{reason: "no_insertion_point", answer: answerPage("<!-- nothing but a comment")},
	{reason: "no_transform", answer: answerPage(plainPage, "Cache-Control", "no-transform")},
	{reason: "not_html", answer: answerPage("{}", "Content-Type", "application/json")},
	{reason: "not_modified", status: 304, answer: answerStatus(304)},
	{reason: "partial", status: 206, answer: answerStatus(206)},
	{reason: "prefix_too_long", answer: answerPage("<!--" + strings.Repeat("long ", 16<<10) + "-->" + plainPage)},
	{reason: "status", status: 404, answer: answerStatus(404)},
	{reason: "status", site: "files", path: "/missing", status: 404}, // an error that no upstream gave
	{reason: "no_content", site: "empty"},
	{reason: "upgrade", site: "upgrade", status: 101},
	{reason: "off", site: "off", answer: answerPage(plainPage)},
	{reason: "nested", site: "nested", answer: answerPage(plainPage)},
	{reason: "not_a_page_request", header: []string{"Sec-Fetch-Dest", "image"}, answer: answerPage("x", "Content-Type", "image/png")},
	{reason: "not_a_page_request", header: []string{"Connection", "Upgrade", "Upgrade", "echo"}, answer: answerPage(plainPage)},
	{reason: "not_a_page_request", header: []string{"Sec-Fetch-Dest", "empty"}, answer: answerPage(plainPage)},
	{reason: "keys_unavailable", site: "keyless", answer: answerPage(plainPage)},
	{reason: "failed", site: "keyless", path: "/error", status: 404}, // the error route finds no decision
}

// unreachable are reasons that no request through Caddy gives. Tests beside
// their code do.
var unreachable = map[string]string{
	"fetched":   "what a script asks for is no page request, which the row with Sec-Fetch-Dest shows",
	"no_script": "no token is too long to be sealed, nor does sealing fail",
}

// TestEveryAnswerSaysWhy: each reason that the code knows is in the answer's
// header, in the metric and in README.
func TestEveryAnswerSaysWhy(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if i, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/")); err == nil {
			explanations[i].answer(w, r)
			return
		}
		http.NotFound(w, r)
	}))
	defer upstream.Close()
	proxy := "\treverse_proxy " + strings.TrimPrefix(upstream.URL, "http://") + "\n"
	first, keyless := newCaddy(t), newCaddy(t)
	type target struct {
		caddy         *caddy
		url, campaign string
	}
	sites := map[string]target{"": {first, first.site, "cmp_1"}, "keyless": {keyless, keyless.site, "cmp_1"}}
	config := globals("") + "SITE {\n\t" + campaignBlock + "\n" + proxy + "}\n"
	for name, lines := range map[string]string{
		"off":     campaignLines("cmp_off", "inject off", "debug") + "\n" + proxy,
		"files":   campaignLines("cmp_files", "debug") + "\n\troot DIR\n\tfile_server\n",
		"empty":   campaignLines("cmp_empty", "debug") + "\n",
		"upgrade": campaignLines("cmp_upgrade", "debug") + "\n\trespond 101\n",
		"nested":  campaignLines("cmp_outer") + "\n\thandle {\n\t" + campaignLines("cmp_nested", "debug") + "\n" + proxy + "\t}\n",
	} {
		url := "http://" + freeAddr(t)
		sites[name] = target{first, url, "cmp_" + name}
		config += url + " {\n\t" + lines + "}\n"
	}
	first.write(config)
	first.start()
	// Where a file is in the way of the storage's directory, there are no keys.
	keyless.write(strings.Replace(globals(""), "{\n", "{\n\tstorage file_system DIR/Caddyfile\n", 1) + `
(campaign) {
	` + campaignBlock + `
}
SITE {
	import campaign
	error /error 404
	` + proxy + `
	handle_errors {
		import campaign
		respond "sorry" 404
	}
}
`)
	keyless.start()

	for i, e := range explanations {
		t.Run(fmt.Sprint(i, " ", e.reason), func(t *testing.T) {
			site := sites[e.site]
			metric := fmt.Sprintf(`caddy_session_context_pages_total{campaign=%q,outcome=%q}`, site.campaign, e.reason)
			before := site.caddy.metric(metric)
			path, method, status := e.path, e.method, e.status
			if path == "" {
				path = fmt.Sprintf("/%d", i)
			}
			if method == "" {
				method = "GET"
			}
			if status == 0 {
				status = 200
			}
			req, err := http.NewRequest(method, site.url+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept", "text/html")
			for i := 0; i < len(e.header); i += 2 {
				req.Header.Set(e.header[i], e.header[i+1])
			}
			res, err := (&http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
			switch {
			case e.gone:
				if err == nil {
					t.Errorf("an answer that was cut off is whole: %d %v", res.StatusCode, res.Header)
				}
			case err != nil:
				t.Fatal(err)
			default:
				want := "skipped; reason=" + e.reason
				if e.reason == "injected" {
					want = "injected"
				}
				if got := res.Header.Values("Session-Context"); res.StatusCode != status || len(got) != 1 || got[0] != want {
					t.Errorf("%d, Session-Context %q; want %d, %q", res.StatusCode, got, status, want)
				}
			}
			if err == nil {
				res.Body.Close()
			}
			counted := 1.0
			if e.reason == "not_a_page_request" {
				counted = 0
			}
			// It is counted when the answer has ended, which the client may
			// know sooner.
			eventually(t, 10*time.Second, "the page is counted", func() error {
				if n := site.caddy.metric(metric); n != before+counted {
					return fmt.Errorf("%s went from %v to %v", metric, before, n)
				}
				return nil
			})
		})
	}
}

// TestEveryReasonIsTried: a reason that is new to the code needs a request
// above, and a line in README.
func TestEveryReasonIsTried(t *testing.T) {
	t.Parallel()
	tried := make(map[string]bool)
	for _, e := range explanations {
		tried[e.reason] = true
	}
	for reason := range unreachable {
		if tried[reason] {
			t.Errorf("%s is tried, and called unreachable", reason)
		}
		tried[reason] = true
	}
	documented := make(map[string]bool)
	_, table, _ := strings.Cut(mustRead(t, "../README.md"), "\n## What became of a page\n")
	table, _, _ = strings.Cut(table, "\n## ")
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			for _, name := range strings.Split(cells[1], ",") {
				documented[strings.Trim(name, " `")] = true
			}
		}
	}
	reasons := reasonsInCode(t, "../sessionctx/inject/*.go", "../caddymodule/*.go")
	if len(reasons) < 25 {
		t.Errorf("only %d reasons were found: %v", len(reasons), reasons)
	}
	for reason, where := range reasons {
		if !tried[reason] {
			t.Errorf("%s: no request gives the reason %s: add one to explanations", where, reason)
		}
		if !documented[reason] {
			t.Errorf("%s: README's table of outcomes does not have %s", where, reason)
		}
	}
	for _, names := range []map[string]bool{tried, documented} {
		for name := range names {
			if _, known := reasons[name]; !known && name != "outcome" && !strings.HasPrefix(name, "---") {
				t.Errorf("the code has no reason %s", name)
			}
		}
	}
}

// reasonsInCode are the values of all reasons, with the place of each: values
// declared with the type, and strings converted to it.
func reasonsInCode(t testing.TB, patterns ...string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	files := token.NewFileSet()
	add := func(e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if value, err := strconv.Unquote(lit.Value); err == nil && value != "" {
				found[value] = files.Position(lit.Pos()).String()
			}
		}
	}
	isReason := func(e ast.Expr) bool {
		switch e := e.(type) {
		case *ast.Ident:
			return e.Name == "Reason"
		case *ast.SelectorExpr:
			return e.Sel.Name == "Reason"
		}
		return false
	}
	for _, pattern := range patterns {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(files, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.ValueSpec:
					if isReason(n.Type) {
						for _, value := range n.Values {
							add(value)
						}
					}
				case *ast.CallExpr:
					if isReason(n.Fun) && len(n.Args) == 1 {
						add(n.Args[0])
					}
				}
				return true
			})
		}
	}
	return found
}
