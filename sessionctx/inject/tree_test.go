package inject

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/firebuzz/caddy-sessionctx/tests/documents"
	"github.com/firebuzz/caddy-sessionctx/tests/parse5"
)

// trees collects pages for the judge, who is asked once about all of them.
type trees struct {
	t      *testing.T
	cases  []parse5.Case
	served map[Reason]int
}

// add runs a document through the writer. A page left alone has to be the same
// bytes; of one that got the script the judge shall say whether the tree is the
// original's plus one script, first in head.
func (s *trees) add(doc documents.Document, contentType string) *answer {
	s.t.Helper()
	got := page(s.t, contentType, doc.HTML)
	if s.served == nil {
		s.served = map[Reason]int{}
	}
	s.served[got.outcome]++
	if got.outcome != Injected {
		if got.body() != doc.HTML {
			s.t.Errorf("%s: %q left alone (%s), but became %q", doc.Name, doc.HTML, got.outcome, got.body())
		}
		return got
	}
	for _, scripting := range doc.Scripting {
		s.cases = append(s.cases, parse5.Case{
			Name:      doc.Name,
			Original:  []byte(doc.HTML),
			Injected:  got.Body.Bytes(),
			Script:    "window.x=1",
			Scripting: scripting,
		})
	}
	return got
}

func (s *trees) judge() {
	s.t.Helper()
	for i, difference := range parse5.Differences(s.t, s.cases) {
		if c := s.cases[i]; difference != "" {
			s.t.Errorf("%s: %.300q became %.300q, with scripting %v: %s", c.Name, c.Original, c.Injected, c.Scripting, difference)
		}
	}
	s.t.Log(len(s.cases), "trees of", s.served)
}

func TestTreeOfHTML5LibDocuments(t *testing.T) {
	t.Parallel()
	s := trees{t: t}
	alone := map[string]bool{}
	for _, doc := range documents.HTML5Lib(t) {
		if got := s.add(doc, "text/html; charset=utf-8"); got.outcome != Injected {
			alone[doc.HTML] = true
			if got.outcome != NoInsertionPoint {
				t.Errorf("%s: %q is left alone: %s", doc.Name, doc.HTML, got.outcome)
			}
		}
	}
	for _, doc := range slices.Sorted(maps.Keys(alone)) {
		if !slices.Contains(leftAlone, doc) {
			t.Errorf("%q is left alone, and not in the list", doc)
		}
	}
	for _, doc := range leftAlone {
		if !alone[doc] {
			t.Errorf("%q is in the list, but not left alone", doc)
		}
	}
	s.judge()
}

// leftAlone are the documents of html5lib that end before anything makes the
// parser create a head, and those on whose head parsers disagree. They, and no
// others, are left alone.
var leftAlone = []string{
	"", " \n ",
	"<!doctype>", "<!DOCTYPE html>", `<!DOCTYPE &gt; PUBLIC "&gt;" "&gt;">`,
	"<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n\"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">",
	"<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Frameset//EN\"\n\"http://www.w3.org/TR/xhtml1/DTD/xhtml1-frameset.dtd\">",
	"<!DOCTYPE html PUBLIC\n  \"-//WAPFORUM//DTD XHTML Mobile 1.0//EN\"\n    \"http://www.wapforum.org/DTD/xhtml-mobile10.dtd\">",
	`<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01//EN""http://www.w3.org/TR/html4/strict.dtd">`,
	`<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01//EN"'http://www.w3.org/TR/html4/strict.dtd'>`,
	`<!DOCTYPE HTML PUBLIC"-//W3C//DTD HTML 4.01//EN"'http://www.w3.org/TR/html4/strict.dtd'>`,
	`<!DOCTYPE HTML PUBLIC'-//W3C//DTD HTML 4.01//EN''http://www.w3.org/TR/html4/strict.dtd'>`,
	"<!DOCTYPE html><!DOCTYPE html>", "<!DOCTYPE html> <!DOCTYPE html>",
	"<html>", "<html><!DOCTYPE html>", "<!DOCTYPE html>  <html>",
	"<!DOCTYPE html><html xml:lang=bar><html xml:lang=foo>",
	"<!DOCTYPE html><html 123=456>", "<!DOCTYPE html><html 123=456><html 789=012>",
	"</menuitem>", "<!DOCTYPE html></menuitem>", "<!DOCTYPE html><html></menuitem>",
	"<!doctype html><html></p><!--foo-->",
	"<!--foo--bar-->", "<!---x", "<!DOCTYPE html><!-- X", "<!DOCTYPE html><!-- XXX - XXX -->",
	"<!DOCTYPE html><!-- XXX - XXX", "<!DOCTYPE html><!-- XXX - XXX - XXX -->", "<!DOCTYPE html><!--x--",
	`<?xml version="1.0">`, "<?xml version", `<?import namespace="foo" implementation="#bar">`,
	"<?", "<?#", "<?COMMENT?>", "<?COM--MENT?>",
	"<!", "<!#", "<!COMMENT>", "<!COM--MENT>", "<![CDATA[x]]>",
	"</#", "</ COMMENT >", "</ COM--MENT >", "</ tttt>", "</b test", "<di",
	"\x00", "<html>\x00<frameset></frameset>", "<html>\x00\x00<frameset></frameset>",
	"<html>\x00\n<frameset></frameset>", "<html> \x00 <frameset></frameset>",
}

// Real pages all get the script, whether the header names their encoding or not.
func TestTreeOfRealPages(t *testing.T) {
	t.Parallel()
	s := trees{t: t}
	for _, doc := range documents.Pages(t) {
		if got := s.add(doc, "text/html"); got.outcome != Injected {
			t.Errorf("%s is left alone: %s", doc.Name, got.outcome)
		} else if named := page(t, "text/html; charset=utf-8", doc.HTML); named.body() != got.body() {
			t.Errorf("%s: the body depends on whether the header names its encoding", doc.Name)
		}
	}
	s.judge()
}

// Every short row of awkward pieces.
func TestTreeOfComposedDocuments(t *testing.T) {
	t.Parallel()
	pieces := []string{
		"<!doctype html>", "<html>", "<head>", "</head>", "</p>", "</br>", "<!--c-->", "<!-->", "<?x>", "</ x>",
		" ", "&#32;", "&Tab;", "x", "<title>t</title>", "<header>", "<script>s</script>", "<html a='>'>", "<body>",
		"<", "&", "</>", "<!", "<template><head></template>", "<noscript><p></noscript>", "<svg><head/></svg>", "\x00",
	}
	depth := 3
	if testing.Short() {
		depth = 2
	}
	s := trees{t: t}
	var compose func(doc string, left int)
	compose = func(doc string, left int) {
		s.add(documents.Document{Name: "composed", HTML: doc, Scripting: []bool{true}}, "text/html; charset=utf-8")
		if left == 0 {
			return
		}
		for _, piece := range pieces {
			compose(doc+piece, left-1)
		}
	}
	compose("", depth)
	s.judge()
	if s.served[Injected] < s.served[NoInsertionPoint] {
		t.Errorf("most documents are left alone: %v", s.served)
	}
}

// dripped runs a document through the writer in the given chunks, with a flush
// behind each.
func dripped(t testing.TB, contentType string, sized bool, chunks ...string) *answer {
	t.Helper()
	h := header("Content-Type", contentType)
	length := 0
	for _, c := range chunks {
		length += len(c)
	}
	if sized {
		h.Set("Content-Length", fmt.Sprint(length))
	}
	got := exchange{header: h, handler: func(w http.ResponseWriter) {
		if len(chunks) == 0 {
			// An empty page is one all the same.
			w.WriteHeader(http.StatusOK)
		}
		for _, c := range chunks {
			if n, err := w.Write([]byte(c)); n != len(c) || err != nil {
				t.Fatalf("Write = %d, %v; want %d, nil", n, err, len(c))
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Fatalf("Flush: %v", err)
			}
		}
	}}.run(t)
	want := ""
	if sized {
		want = fmt.Sprint(got.Body.Len())
	}
	if have := got.Header().Get("Content-Length"); have != want {
		t.Errorf("Content-Length %q, want %q", have, want)
	}
	return got
}

// same compares what reaches the client.
func same(t *testing.T, how string, got, want *answer) {
	t.Helper()
	if got.outcome != want.outcome || got.body() != want.body() {
		t.Errorf("%s: %s %.300q, else %s %.300q", how, got.outcome, got.body(), want.outcome, want.body())
	}
	if a, b := got.Header().Get("Content-Type"), want.Header().Get("Content-Type"); a != b {
		t.Errorf("%s: Content-Type %q, else %q", how, a, b)
	}
}

// Documents that arrive byte by byte, as far as the head goes, come out as those
// that arrive whole.
func TestTreeIsTheSameByteByByte(t *testing.T) {
	t.Parallel()
	const near = 2 << 10
	for _, doc := range slices.Concat(documents.HTML5Lib(t), documents.Pages(t)) {
		head, rest := doc.HTML[:min(near, len(doc.HTML))], doc.HTML[min(near, len(doc.HTML)):]
		chunks := bytewise(head)
		if rest != "" {
			chunks = append(chunks, rest)
		}
		want := page(t, "text/html", doc.HTML)
		for _, sized := range []bool{false, true} {
			same(t, fmt.Sprintf("%s, with its length %v", doc.Name, sized), dripped(t, "text/html", sized, chunks...), want)
		}
	}
}

// Wherever a document is cut in two, it comes out the same.
func TestTreeIsTheSameForEverySplit(t *testing.T) {
	t.Parallel()
	far := "<!--" + strings.Repeat("x", prescanLen-30) + "-->"
	const xhtml = `<?xml version="1.0" encoding="windows-1251"?><html xmlns="http://www.w3.org/1999/xhtml"><!-- > <head> --><head id='>'>`
	for name, test := range map[string]struct{ contentType, doc string }{
		"usual page":         {"text/html; charset=utf-8", string(benchPage(3000))},
		"encoding in a meta": {"text/html", "<!doctype html><html><head><title>x</title><meta charset='shift_jis'>" + far + "<body>"},
		"meta at the limit":  {"text/html", "<!doctype html><html><head>" + far + "<meta charset=big5><body>y"},
		"http-equiv":         {"text/html", "<html><head>" + far[:500] + "--><meta http-equiv=content-type content='text/html; charset = \"koi8-r\"'>x"},
		"no encoding":        {"text/html", "<!doctype html><p>" + far + far},
		"byte order mark":    {"text/html", "\xef\xbb\xbf<!-- c --><html lang=de><head ><meta charset=big5>"},
		"half of one":        {"text/html", "\xef\xbb<!-- c --><html lang=de><head>"},
		"UTF-16":             {"text/html", "\xff\xfe<\x00h\x00t\x00m\x00l\x00>\x00"},
		"UTF-16, declared":   {"text/html", "<\x00?\x00x\x00m\x00l\x00"},
		"ISO-2022-JP":        {"text/html", "<html><head><meta charset=iso-2022-jp>\x1b$B"},
		"no head":            {"text/html; charset=utf-8", "<!-- a --!><!doctype html [ > &#x20;&Tab;\r\n</p></ x><html a='>'>&#32<title>t</title>"},
		"character first":    {"text/html; charset=utf-8", " &#13;&NewLine;&#65;<head>"},
		"injected already":   {"text/html; charset=utf-8", "<html><head>\n<script nonce=x data-session-context=''>x</script><title>"},
		"frameset":           {"text/html; charset=utf-8", "<!doctype html><html\n><frameset cols='1,1'><frame></frameset><noframes><head></noframes>"},
		"ends early":         {"text/html", "<!doctype html><html></p><!-- <head> -- "},
		"XHTML":              {"application/xhtml+xml", xhtml + "\n<title>x</title></head></html>"},
		"XHTML, injected":    {"application/xhtml+xml", xhtml + "\n<script data-session-context=\"\">x</script></head></html>"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := page(t, test.contentType, test.doc)
			for i := range len(test.doc) + 1 {
				for _, sized := range []bool{false, true} {
					same(t, fmt.Sprintf("cut at %d, with its length %v", i, sized), dripped(t, test.contentType, sized, test.doc[:i], test.doc[i:]), want)
				}
			}
		})
	}
}
