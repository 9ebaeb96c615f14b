package browser_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/inject"
)

// encoded is s in the encoding that label stands for.
func encoded(t *testing.T, label, s string) string {
	t.Helper()
	e, err := htmlindex.Get(label)
	if err != nil {
		t.Fatalf("%s: %v", label, err)
	}
	b, err := e.NewEncoder().String(s)
	if err != nil {
		t.Fatalf("%q in %s: %v", s, label, err)
	}
	return b
}

// htmlPage is a page with what Chromium has to make of the original, so that the
// same is not the same nonsense; "" where it doesn't matter.
func htmlPage(name, parameters, body string, want inject.Reason, charset, text string) served {
	return served{name: name, contentType: "text/html" + parameters, body: body, want: want, charset: charset, text: text}
}

func xmlPage(name, parameters, body string, want inject.Reason, charset, text string) served {
	p := htmlPage(name, parameters, body, want, charset, text)
	p.contentType = "application/xhtml+xml" + parameters
	return p
}

// pageWith is a page with the given inside of its head, that says text in its
// title and body.
func pageWith(head, text string) string {
	return "<!doctype html><html><head>" + head + "<title>" + text + "</title></head><body><p>" + text + "</p></body></html>"
}

// upTo fills head with a comment, so that meta ends at byte end of pageWith.
func upTo(end int, meta string) string {
	const before, comment = "<!doctype html><html><head>", "<!---->"
	return "<!--" + strings.Repeat("x", end-len(before)-len(comment)-len(meta)) + "-->" + meta
}

const (
	russian = "Привет, мир: это страница на русском языке"
	german  = "Grüße aus Köln"
	hebrew  = "שלום עולם" // which Chromium does not guess

	bom      = "\xef\xbb\xbf"
	declared = "windows-1255"
	meta     = "<meta charset=windows-1255>"
	pragma   = `<meta http-equiv="Content-Type" content="text/html; charset=windows-1255">`
)

// A page says the same before and after, in every encoding, wherever it is
// declared.
func TestEncodings(t *testing.T) {
	t.Parallel()
	compare(t, slices.Concat(inAllEncodings(t), declaredSomewhere(t), declaredInAppearance(t),
		withByteOrderMarks(), withOddLabels(), notASCII(t), inXHTML(t)))
}

// inAllEncodings are pages that declare their encodings, and such that leave
// them to be guessed.
func inAllEncodings(t *testing.T) (pages []served) {
	for _, e := range []struct{ label, charset, text string }{
		{"utf-8", "UTF-8", "Grüße, 日本語, 한국어, עברית 🌍"},
		{"windows-1252", "windows-1252", "Grüße – café für 5 €"},
		{"iso-8859-2", "ISO-8859-2", "Zażółć gęślą jaźń"},
		{"windows-1251", "windows-1251", russian},
		{"koi8-r", "KOI8-R", russian},
		{"windows-1255", "windows-1255", hebrew},
		{"shift_jis", "Shift_JIS", "日本語のページ 表示ソ"},
		{"euc-jp", "EUC-JP", "日本語のページ"},
		{"euc-kr", "EUC-KR", "한국어 문서"},
		{"gbk", "GBK", "中文网页"},
		{"gb18030", "gb18030", "中文网页 🌍"},
		{"big5", "Big5", "繁體中文網頁 功能許"},
	} {
		text := encoded(t, e.label, e.text)
		pages = append(pages,
			htmlPage(e.label+" in the header", "; charset="+e.label, pageWith("", text), inject.Injected, e.charset, e.text),
			htmlPage(e.label+" in a meta", "", pageWith("<meta charset="+e.label+">", text), inject.Injected, e.charset, e.text),
			htmlPage(e.label+" undeclared", "", pageWith("", text), inject.Injected, "", ""))
		if strings.HasPrefix(e.label, "windows-125") {
			pages = append(pages, htmlPage(e.label+" undeclared, long", "", pageWith("", text)+strings.Repeat("<p>"+text+"</p>", 100), inject.Injected, "", ""))
		}
	}
	return pages
}

// declaredSomewhere are pages with the declaration in all places. Our script
// pushes what is near the limit beyond it. Chromium looks further than the
// standard says, as long as the head lasts.
func declaredSomewhere(t *testing.T) (pages []served) {
	heb, win := encoded(t, declared, hebrew), encoded(t, "windows-1251", russian)
	pages = append(pages,
		htmlPage("header against meta", "; charset=windows-1251", pageWith(meta, win), inject.Injected, "windows-1251", russian),
		htmlPage("nonsense in the header", "; charset=none", pageWith(meta, heb), inject.Injected, declared, hebrew),
		htmlPage("http-equiv", "", pageWith(pragma, heb), inject.Injected, declared, hebrew),
		htmlPage("http-equiv behind the title", "", "<html><head><title>"+heb+"</title>"+pragma+"</head><body>"+heb, inject.Injected, declared, hebrew),
		htmlPage("two metas", "", pageWith(meta+"<meta charset=windows-1251>", heb), inject.Injected, declared, hebrew),
		htmlPage("XML declaration", "", `<?xml version="1.0" encoding="windows-1255"?>`+pageWith("", heb), inject.Injected, declared, hebrew),
		htmlPage("XML declaration against meta", "", `<?xml version="1.0" encoding="windows-1251"?>`+pageWith(meta, heb), inject.Injected, declared, hebrew),
		htmlPage("meta in the body at 1,000", "", "<!doctype html><body><!--"+strings.Repeat("x", 940)+"-->"+meta+heb, inject.Injected, declared, hebrew),
		htmlPage("meta in the body", "", "<!doctype html><p>"+heb+meta+"<title>"+heb+"</title>", inject.Injected, declared, hebrew))
	for name, m := range map[string]string{"meta": meta, "http-equiv": pragma} {
		pages = append(pages,
			htmlPage(name+" at 500", "", pageWith(upTo(500, m), heb), inject.Injected, declared, hebrew),
			htmlPage(name+" at 1,000", "", pageWith(upTo(1000, m), heb), inject.Injected, declared, hebrew),
			htmlPage(name+" ends at 1,024", "", pageWith(upTo(1024, m), heb), inject.Injected, declared, hebrew),
			htmlPage(name+" ends at 1,025", "", pageWith(upTo(1025, m), heb), inject.Injected, declared, hebrew),
			htmlPage(name+" at 1,500", "", pageWith(upTo(1500, m), heb), inject.Injected, declared, hebrew),
			htmlPage(name+" at 5,000", "", pageWith(upTo(5000, m), heb), inject.Injected, declared, hebrew))
	}
	pages = append(pages,
		htmlPage("meta far down the body", "", "<!doctype html><body>"+strings.Repeat("<p>x</p>", 1000)+meta+heb, inject.Injected, "", ""),
		htmlPage("meta across the limit in the body", "", "<!doctype html><body><!--"+strings.Repeat("x", 970)+"--><p></p>"+meta+"<p>"+heb, inject.Injected, declared, hebrew))
	return pages
}

// declaredInAppearance are pages with what looks like a declaration, and is none
// to a parser.
func declaredInAppearance(t *testing.T) (pages []served) {
	heb := encoded(t, declared, hebrew)
	for name, head := range map[string]string{
		"comment":                    "<!-- " + meta + " -->",
		"script":                     "<script>/*" + meta + "*/</script>",
		"script beyond":              upTo(1200, "") + "<script>/*" + meta + "*/</script>",
		"style":                      "<style>/*" + meta + "*/</style>",
		"noframes":                   "<noframes>" + meta + "</noframes>",
		"title":                      "<TITLE >" + meta + "</TITLES></title >",
		"textarea":                   "<textarea>" + meta + "</textarea>",
		"value":                      "<link/title='>" + meta + "'>",
		"script, against a real one": "<script>'" + strings.Replace(meta, "1255", "1251", 1) + "'</script>",
	} {
		pages = append(pages,
			htmlPage("meta in a "+name, "", pageWith(head, heb), inject.Injected, "windows-1252", ""),
			htmlPage("meta behind a "+name, "", pageWith(head+meta, heb), inject.Injected, declared, hebrew))
	}
	for name, head := range map[string]string{
		"noscript":                 "<noscript>" + meta + "</noscript>",
		"template":                 "<template>" + meta + "</template>",
		"comment closed by a bang": "<!-- a --!>" + meta,
		"comment with a comment":   "<!-- <!-- -->" + meta,
		"comment closed at once":   "<!-->" + meta + "<!-- -->",
		"end tag":                  "</title>" + meta,
		"section of characters":    "<![CDATA[ > ]]>" + meta,
	} {
		pages = append(pages, htmlPage("meta in or behind a "+name, "", pageWith(head, heb), inject.Injected, declared, hebrew))
	}
	return pages
}

func withByteOrderMarks() (pages []served) {
	pages = append(pages,
		htmlPage("byte order mark", "", bom+pageWith("", russian), inject.Injected, "UTF-8", russian),
		htmlPage("byte order mark against header", "; charset=windows-1251", bom+pageWith("", russian), inject.Injected, "UTF-8", russian),
		htmlPage("byte order mark against meta", "", bom+pageWith(meta, russian), inject.Injected, "UTF-8", russian))
	for _, cuts := range [][]int{{1}, {2}, {3}, {1, 2, 3, 4}} {
		p := htmlPage(fmt.Sprint("byte order mark split at ", cuts), "; charset=windows-1251", bom+pageWith("", russian), inject.Injected, "UTF-8", russian)
		p.cuts = cuts
		pages = append(pages, p)
	}
	return pages
}

// withOddLabels are pages whose labels have a meaning of their own.
func withOddLabels() (pages []served) {
	pages = append(pages,
		htmlPage("x-user-defined in the header", "; charset=x-user-defined", pageWith("", "\xff"), inject.Injected, "x-user-defined", "\uf7ff"),
		htmlPage("x-user-defined in a meta", "", pageWith("<meta charset=x-user-defined>", "\xe4"), inject.Injected, "windows-1252", "ä"),
		htmlPage("utf-16 in a meta", "", pageWith("<meta charset=utf-16le>", german), inject.Injected, "UTF-8", german),
		htmlPage("latin1", "; charset=latin1", pageWith("", "\x80"), inject.Injected, "windows-1252", "€"),
		htmlPage("replacement in the header", "; charset=hz-gb-2312", pageWith("", "x"), inject.Charset, "replacement", "\ufffd"),
		htmlPage("replacement in a meta", "", pageWith("<meta charset=iso-2022-kr>", "x"), inject.Charset, "", ""),
		htmlPage("utf-7, which is none", "; charset=utf-7", pageWith("", "+AOQ-"), inject.Injected, "", "+AOQ-"))
	return pages
}

// notASCII are pages in whose encodings ASCII bytes are no ASCII characters.
func notASCII(t *testing.T) (pages []served) {
	jis := encoded(t, "iso-2022-jp", "日本語のページ")
	pages = append(pages,
		htmlPage("iso-2022-jp in the header", "; charset=iso-2022-jp", pageWith("", jis), inject.Charset, "ISO-2022-JP", "日本語のページ"),
		htmlPage("iso-2022-jp in a meta", "", pageWith("<meta charset=iso-2022-jp>", jis), inject.Charset, "ISO-2022-JP", "日本語のページ"))
	for name, order := range map[string]unicode.Endianness{"UTF-16LE": unicode.LittleEndian, "UTF-16BE": unicode.BigEndian} {
		for _, mark := range []unicode.BOMPolicy{unicode.UseBOM, unicode.IgnoreBOM} {
			wide, _, err := transform.String(unicode.UTF16(order, mark).NewEncoder(), pageWith("", russian))
			if err != nil {
				t.Fatal(err)
			}
			if mark == unicode.UseBOM {
				pages = append(pages, htmlPage(name+" by its mark", "; charset=utf-8", wide, inject.Charset, name, russian))
			} else {
				pages = append(pages, htmlPage(name+" in the header", "; charset="+name, wide, inject.Charset, name, russian))
			}
		}
	}
	return pages
}

func inXHTML(t *testing.T) (pages []served) {
	xhtml := func(text string) string {
		return `<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="ru"><head><title>` + text + `</title></head><body><p>` + text + `</p></body></html>`
	}
	win := encoded(t, "windows-1251", russian)
	pages = append(pages,
		xmlPage("XHTML", "", xhtml(russian), inject.Injected, "UTF-8", russian),
		xmlPage("XHTML with a header", "; charset=windows-1251", xhtml(win), inject.Injected, "windows-1251", russian),
		xmlPage("XHTML with a declaration", "", `<?xml version="1.0" encoding="windows-1251"?>`+"\n"+xhtml(win), inject.Injected, "windows-1251", russian),
		xmlPage("XHTML with both", "; charset=windows-1251", `<?xml version="1.0" encoding="koi8-r"?>`+xhtml(win), inject.Injected, "windows-1251", russian),
		xmlPage("XHTML with a mark", "", bom+`<?xml version="1.0" encoding="utf-8"?>`+xhtml(russian), inject.Injected, "UTF-8", russian),
		xmlPage("XHTML with a doctype", "", `<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd">`+xhtml("&auml; "+russian), inject.Injected, "UTF-8", "ä "+russian),
		xmlPage("XHTML with a style sheet", "", `<?xml version="1.0"?><?xml-stylesheet href="a.css" type="text/css"?><!-- > <head> -->`+xhtml(russian), inject.Injected, "UTF-8", russian),
		xmlPage("XHTML with an internal subset", "", `<!DOCTYPE html [<!ENTITY a "b">]>`+xhtml(russian+"&a;"), inject.NoInsertionPoint, "UTF-8", russian+"b"))
	return pages
}
