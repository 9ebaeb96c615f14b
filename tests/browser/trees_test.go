package browser_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/inject"
	"github.com/firebuzz/caddy-sessionctx/tests/documents"
)

// hard are documents with an unusual head, or none.
var hard = map[string]string{
	"usual page":                    "<!doctype html><html><head><title>t</title><script>var a=1</script></head><body>x</body></html>",
	"quirks":                        "<html><head><title>t</title></head><body>x",
	"quirks by an old doctype":      `<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN"><html><head><title>t</title>`,
	"limited quirks":                `<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd"><p><table><tr><td>x`,
	"limited or not":                `<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01 Frameset//EN"><p><table>`,
	"comment before the doctype":    "<!-- c --><!doctype html><title>t</title>",
	"comments around":               "<!doctype html><!-- a --><html><!-- b --><head><!-- c --><title>t</title></head><!-- d --><body>x</body></html><!-- e -->",
	"comment closed at once":        "<!--><!doctype html><head><title>t</title>",
	"comment closed by a bang":      "<!-- a --!><!doctype html><head><title>t</title>",
	"conditional comments":          "<!doctype html><!--[if IE]><html class=ie><![endif]--><!--[if !IE]><!--><html><!--<![endif]--><head><title>t</title>",
	"bogus comments":                "<?xml version='1.0'?><!x <head>></ x><!doctype html><head><title>t</title>",
	"text first":                    "text <head><title>t</title></head> more",
	"spaces, then text":             " \n\t text <title>t</title>",
	"spaces as references":          "&#32;&Tab;&#x0a;<html> &NewLine;<head> <title>t</title>",
	"reference to a letter":         "&#65;<head><title>t</title>",
	"no head":                       "<!doctype html><html lang=de><title>t</title><p>x",
	"no head, body":                 "<!doctype html><html><body class=a><p>x",
	"no html":                       "<!doctype html><head><title>t</title>",
	"nothing but text":              "x",
	"html twice":                    "<html a=b><html c=d><head e=f><html g=h><title>t</title>",
	"head twice":                    "<!doctype html><head><head><title>t</title></head><head><body>x",
	"end of head first":             "</head><title>t</title><p>x",
	"end of body first":             "</body><title>t</title><p>x",
	"end of html first":             "</html><title>t</title><p>x",
	"line break's end first":        "</br><title>t</title>",
	"ignored ends first":            "</p></div></title><!doctype html><head><title>t</title>",
	"head closed at once":           "<!doctype html><head></head><title>t</title><style>p{}</style><p>x",
	"head self-closing":             "<!doctype html><html/><head/><title>t</title>",
	"head with attributes":          `<!doctype html><head profile='>' a=">" b=c/><title>t</title>`,
	"title within head's value":     `<!doctype html><head a="<head><title>"><title>t</title>`,
	"header element":                "<!doctype html><html><header><h1>x</h1></header>",
	"frameset":                      "<!doctype html><html><head><title>t</title></head><frameset cols='*,*'><frame><frame></frameset>",
	"frameset without head":         "<frameset><frame></frameset><noframes><head><title>t</title></noframes>",
	"noframes in head":              "<head><noframes><title>a</title></noframes><title>t</title>",
	"template in head":              "<!doctype html><head><template><p>x<script>y</script></template><title>t</title>",
	"template first":                "<template><head><title>a</title></head><tr><td>x</template><title>t</title>",
	"noscript in head":              "<!doctype html><head><noscript><style>p{}</style><p>x</noscript><title>t</title>",
	"noscript first":                "<noscript><p>x</noscript><title>t</title>",
	"svg first":                     "<!doctype html><svg><title>a</title><head/><script>1</script></svg><title>t</title>",
	"svg with foreign content":      "<svg><foreignObject><p>x</p><template><b></b></template></foreignObject><desc><div>y</div></desc></svg>",
	"math first":                    "<!doctype html><math><mi><p>x</mi><annotation-xml encoding=text/html><b>y</b></annotation-xml></math>",
	"plaintext first":               "<plaintext><head><title>t</title>",
	"plaintext in body":             "<!doctype html><title>t</title><body><plaintext></body>x",
	"textarea first":                "<textarea>\n<head><title>t</title></textarea>",
	"table first":                   "<table><title>t</title><tr>x<td>y</table>",
	"select first":                  "<select><option>a<title>t</title></select>",
	"form and input":                "<form id=title><input name=characterSet></form>",
	"NULs":                          "<!doctype html><he\x00ad>\x00<title>a\x00b</title>\x00x<p a\x00=\x00>",
	"carriage returns":              "\r<!doctype html>\r\n\r<html\r\n>\r<head\r>\r\n\r<title>a\rb</title>\r\n<pre>\r\n\rx</pre>",
	"form feeds":                    "\f<!doctype\fhtml\f><html\f><head\f>\f<title\f>t</title>",
	"byte order mark":               "\xef\xbb\xbf<!doctype html><head><title>t</title>",
	"two byte order marks":          "\xef\xbb\xbf\xef\xbb\xbf<!doctype html><head><title>t</title>",
	"invalid bytes":                 "\xff<!doctype html><head><title>\xc3</title>\xe2\x82x",
	"script first":                  "<script>document.write('<title>t</title><p>x')</script><p>y",
	"script in head that writes":    "<!doctype html><head><script>document.write('<title>t</title><body class=a>x')</script><p>y",
	"script that moves":             "<head><title>t</title></head><body><p id=a>x</p><script>document.title=a.textContent;a.remove()</script>",
	"script with escapes":           "<head><script><!--<script></script>--></script><title>t</title>",
	"style first":                   "<style><head></style><title>t</title>",
	"link and meta first":           "<link rel=icon href=data:,><meta name=a content=b><base target=_top><title>t</title>",
	"unclosed title":                "<!doctype html><head><title>t</head><body>x",
	"ends in a tag":                 "<!doctype html><head><title>t</title><p a='",
	"ends behind head":              "<!doctype html><html><head>",
	"image, as it is often written": "<image src=data:,><isindex><title>t</title>",
	"formatting misnested":          "<b><i></b><p>x</i><a><table><a>y</table>",
	"marked script further down":    "<!doctype html><head><title>t</title><script data-session-context>0</script>",
}

// disputed are documents that Chromium parses otherwise than the standard says.
var disputed = map[string]string{
	"NUL first":                 "\x00<!doctype html><head><title>t</title>",
	"NUL between html and head": "<!doctype html><html>\x00<head id=a><title>t</title>",
	"NUL before a comment":      " \x00<!-- c --><title>t</title>",
}

// Chromium's tree of a hard document is the original's plus our script, which
// runs before all others.
func TestHardDocuments(t *testing.T) {
	t.Parallel()
	var pages []served
	for name, body := range hard {
		pages = append(pages, served{name: name, contentType: "text/html; charset=utf-8", body: body, want: inject.Injected})
	}
	for name, body := range disputed {
		pages = append(pages, served{name: name, contentType: "text/html; charset=utf-8", body: body, want: inject.NoInsertionPoint})
	}
	// Those of html5lib that are about what comes before and around a head.
	for _, doc := range documents.HTML5Lib(t) {
		file, _, _ := strings.Cut(doc.Name, ":")
		if slices.Contains([]string{"quirks01.dat", "noscript01.dat", "isindex.dat", "scripted/webkit01.dat", "scripted/ark.dat"}, file) && slices.Contains(doc.Scripting, true) {
			pages = append(pages, served{name: doc.Name, contentType: "text/html; charset=utf-8", body: doc.HTML, want: inject.Injected})
		}
	}
	compare(t, pages)
}

// Real pages. For the tree their scripts are kept from running: what these do
// depends on the time of day, and on what they find first in the document.
func TestRealPages(t *testing.T) {
	t.Parallel()
	var pages []served
	small := 0
	for _, doc := range documents.Pages(t) {
		if len(doc.HTML) > 200_000 {
			continue
		}
		if small++; small%4 == 1 {
			pages = append(pages, served{name: doc.Name, contentType: "text/html", body: doc.HTML, quiet: true, want: inject.Injected})
		}
	}
	compare(t, pages)
}
