package inject

import (
	"strings"
	"testing"
)

func TestEncodingOfThePage(t *testing.T) {
	far := "<!--" + strings.Repeat("x", prescanLen) + "-->"
	utf16 := func(s string) string {
		var b strings.Builder
		for _, c := range []byte(s) {
			b.WriteByte(c)
			b.WriteByte(0)
		}
		return b.String()
	}
	for name, test := range map[string]struct {
		contentType, doc, want string
		skip                   bool
	}{
		"named by the header":                {"text/html; charset=Shift_JIS", "<head><meta charset=big5>", "text/html; charset=Shift_JIS", false},
		"meta":                               {"text/html", "<head><meta charset='Shift_JIS'>", "text/html; charset=shift_jis", false},
		"meta, label":                        {"text/html;", "<head><meta charset=latin1>", "text/html; charset=windows-1252", false},
		"parameters are kept":                {"text/html; x=y", "<head><meta charset=utf8>", "text/html; x=y; charset=utf-8", false},
		"http-equiv":                         {"text/html", `<head><meta http-equiv="Content-Type" content="text/html; charset=koi8-r">`, "text/html; charset=koi8-r", false},
		"http-equiv, quoted":                 {"text/html", `<head><meta content='text/html; CHARSET = "koi8-r"' http-equiv=content-type>`, "text/html; charset=koi8-r", false},
		"content without http-equiv":         {"text/html", `<head><meta content="text/html; charset=koi8-r">`, "text/html", false},
		"unknown, then known":                {"text/html", "<head><meta charset=none><meta charset=big5>", "text/html; charset=big5", false},
		"in a comment":                       {"text/html", "<head><!-- <meta charset=big5> -->", "text/html", false},
		"in an attribute":                    {"text/html", `<head a="<meta charset=big5>">x`, "text/html", false},
		"in a script":                        {"text/html", "<head><script><meta charset=big5></script>", "text/html", false},
		"behind a script":                    {"text/html", "<head><Script a='>'>'<meta charset=koi8-r></scripts></script' </SCRIPT a><meta charset=big5>", "text/html; charset=big5", false},
		"in a title, unclosed":               {"text/html", "<title><meta charset=big5></titl", "text/html", false},
		"behind an empty title":              {"text/html", "<title></title/><meta charset=big5>", "text/html; charset=big5", false},
		"behind plain text":                  {"text/html", "<plaintext></plaintext><meta charset=big5>", "text/html", false},
		"in a noscript counts":               {"text/html", "<noscript><meta charset=big5></noscript>", "text/html; charset=big5", false},
		"in a value behind a slash":          {"text/html", "<link/a='><meta charset=big5>'>", "text/html", false},
		"behind a comment closed by a bang":  {"text/html", "<!-- a --!><meta charset=big5><!-- -->", "text/html; charset=big5", false},
		"behind a comment with a bang":       {"text/html", "<!-- a --><!-- <meta charset=koi8-r> --!><meta charset=big5>", "text/html; charset=big5", false},
		"metadata is no meta":                {"text/html", "<head><metadata charset=big5>", "text/html", false},
		"slash behind meta":                  {"text/html", "<head><meta/charset=big5>", "text/html; charset=big5", false},
		"utf-16 in ASCII bytes":              {"text/html", "<head><meta charset=utf-16>", "text/html; charset=utf-8", false},
		"x-user-defined":                     {"text/html", "<head><meta charset=x-user-defined>", "text/html; charset=windows-1252", false},
		"beyond 1,024 bytes":                 {"text/html", "<head>" + far + "<meta charset=big5>", "text/html", false},
		"cut by the 1,024 bytes":             {"text/html", "<head>" + strings.Repeat(" ", prescanLen-20) + "<meta charset=big5>", "text/html", false},
		"nothing":                            {"text/html", "<head><title>x</title>", "text/html", false},
		"XML declaration":                    {"text/html", `<?xml version="1.0" encoding="big5"?><head>x`, "text/html; charset=big5", false},
		"meta before XML declaration":        {"text/html", `<?xml encoding="big5"?><meta charset=utf-8>x`, "text/html; charset=utf-8", false},
		"nonsense in the header":             {"text/html; charset=none", "<head><meta charset=big5>", "text/html; charset=big5", false},
		"quoted in the header":               {`text/html; x=";"; charset="UTF-8"`, "<head><meta charset=big5>", `text/html; x=";"; charset="UTF-8"`, false},
		"escaped in the header":              {`text/html; charset="\UTF-8`, "<head><meta charset=big5>", `text/html; charset="\UTF-8`, false},
		"case of the type":                   {"Text/HTML ; Charset=utf-8", "<head>x", "Text/HTML ; Charset=utf-8", false},
		"byte order mark beats the header":   {"text/html; charset=utf-16", "\xef\xbb\xbf<head>x", "text/html; charset=utf-16", false},
		"byte order mark ends the search":    {"text/html", "\xef\xbb\xbf<head><meta charset=big5>", "text/html", false},
		"XHTML declares for itself":          {"application/xhtml+xml", `<html xmlns="http://www.w3.org/1999/xhtml"><head><meta charset="big5"/>`, "application/xhtml+xml", false},
		"ends in an unfinished meta":         {"text/html", "<head><meta charset=big5", "text/html", false},
		"less-than everywhere":               {"text/html", "<head><<<</<!<?<meta charset=big5>", "text/html", false},
		"meta with attributes all around":    {"text/html", "<head><meta a b=c d='e' charset = big5 f>", "text/html; charset=big5", false},
		"first charset attribute counts":     {"text/html", "<head><meta charset=big5 charset=utf-8>", "text/html; charset=big5", false},
		"charset attribute beats content":    {"text/html", "<head><meta content='charset=big5' charset=utf-8>", "text/html; charset=utf-8", false},
		"unknown charset beats good content": {"text/html", "<head><meta http-equiv=content-type content='charset=big5' charset=none>", "text/html", false},

		"utf-16 in the header":         {"text/html; charset=UTF-16LE", "<head>x", "text/html; charset=UTF-16LE", true},
		"iso-2022-jp in the header":    {"text/html; charset=iso-2022-jp", "<head>x", "text/html; charset=iso-2022-jp", true},
		"iso-2022-jp by meta":          {"text/html", "<head><meta charset=csiso2022jp>", "text/html", true},
		"hz is replaced by browsers":   {"text/html; charset=hz-gb-2312", "<head>x", "text/html; charset=hz-gb-2312", true},
		"utf-16 by byte order mark":    {"text/html; charset=utf-8", "\xff\xfe" + utf16("<head>x"), "text/html; charset=utf-8", true},
		"utf-16be by byte order mark":  {"text/html", "\xfe\xff\x00<", "text/html", true},
		"utf-16 by XML declaration":    {"text/html", utf16(`<?xml version="1.0"?><head>`), "text/html", true},
		"iso-2022-jp by a declaration": {"text/html", `<?xml version="1.0" encoding='iso-2022-jp'?><head>`, "text/html", true},
	} {
		t.Run(name, func(t *testing.T) {
			for split, chunks := range [][]string{{test.doc}, bytewise(test.doc)} {
				got := page(t, test.contentType, chunks...)
				if skipped := got.outcome == Charset; skipped != test.skip {
					t.Errorf("%d: outcome %s", split, got.outcome)
				}
				if have := got.Header().Get("Content-Type"); have != test.want {
					t.Errorf("%d: Content-Type %q, want %q", split, have, test.want)
				}
				if strings.Replace(got.body(), testScript, "", 1) != test.doc {
					t.Errorf("%d: body changed", split)
				}
			}
		})
	}
}

// A page that names its encoding early must not wait for 1,024 bytes.
func TestPrescanEndsEarly(t *testing.T) {
	got := exchange{handler: nil, header: header("Content-Type", "text/html"), chunks: []string{"<head><meta charset=utf-8>", "more"}}.run(t)
	if len(got.writes) != 2 {
		t.Errorf("%d writes: %q", len(got.writes), got.writes)
	}
}
