package inject

import (
	"strings"
	"testing"
)

// In these tables | is where the script goes; a document without one stays as
// it is.
func TestInsertionPointInHTML(t *testing.T) {
	for name, doc := range map[string]string{
		"usual page":                         "<!doctype html>\n<html lang=en>\n<head>|\n<meta charset=utf-8><title>x</title></head><body>y",
		"head with attributes":               `<html><head data-a="x>y" data-b='z>' c=d/>|<title>x`,
		"upper case":                         "<HTML><HEAD>|<TITLE>x",
		"self-closing head":                  "<html><head/>|<title>x",
		"self-closing head with space":       "<html><head / >|<title>x",
		"header is not head":                 "<html>|<header>x",
		"heading name longer":                "|<heads>",
		"no head, title":                     "<!doctype html><html>|<title>x</title>",
		"no head, body":                      "<!doctype html><html>\n |<body>x",
		"no html, no head":                   "<!doctype html>\n|<p>x",
		"text only":                          "  \t|hello",
		"empty head closed":                  "<html>|</head><body>",
		"end tag body":                       "|</body>",
		"end tag html":                       "|</html>",
		"end tag br":                         "|</br>",
		"ignored end tags":                   "</p></div ><!-- --></script>|<p>",
		"ignored end tag with attribute":     `</p a=">">|<p>`,
		"html twice":                         "<html><html a=b>|<p>",
		"html within head position":          "<html><head>|<html>",
		"end tag missing name":               "</><head>|x",
		"bogus comment by end tag":           "</ head><html><head>|x",
		"bogus comment by question mark":     `<?xml version="1.0" encoding="utf-8"?><head>|x`,
		"bogus comment by bang":              "<!x <head> <head>|x",
		"bang alone":                         "<!><head>|x",
		"bang dash":                          "<!-><head>|x",
		"cdata is a bogus comment":           "<![CDATA[ <head> |]]>x<head>",
		"comment with head":                  "<!-- <head> --><head>|x",
		"comment closed at once":             "<!--><head>|x",
		"comment closed after a dash":        "<!---><head>|x",
		"comment closed by bang":             "<!-- a --!><head>|x",
		"comment with dashes":                "<!-- - -- --- ----><head>|x",
		"comment with nested opening":        "<!-- <!-- --><head>|x",
		"comment with bang and dash":         "<!-- --!- --><head>|x",
		"comments between html and head":     "<html><!--a--> <!--b--><head>|x",
		"doctype with quoted >":              `<!DOCTYPE html PUBLIC "a>|b"><head>x`,
		"two doctypes":                       "<!doctype html><!doctype html><head>|x",
		"white space as references":          "&#32;&#x20;&#9;&#x0A;&#12;&#13;&Tab;&NewLine;<head>|x",
		"white space reference, no ;":        "&#32<head>|x",
		"white space reference, zeros":       "&#000000000000000000032;<head>|x",
		"reference to a letter":              "&#32;|&#65;<head>x",
		"reference overflowing":              "|&#99999999999999999999999999999999;",
		"reference overflowing to a space":   "|&#4294967328;<head>",
		"reference by name":                  "|&nbsp;<head>",
		"Tab without ;":                      "|&Tab <head>",
		"tab in lower case":                  "|&tab;<head>",
		"no reference":                       "|& <head>",
		"no number":                          "|&#; <head>",
		"no hex number":                      "|&#x; <head>",
		"NUL behind head":                    "<head>| \x00<title>",
		"less-than as text":                  "|< head>",
		"less-than and digit":                "|<1>",
		"NUL in the tag name":                "|<he\x00ad>",
		"long s is no s":                     "<head>|<\u017fcript data-session-context>",
		"form feed":                          "\f<head\f>|x",
		"attribute without space after":      `<html a="b"c='d'e><head>|x`,
		"attribute beginning with =":         `<html =a=">"><head>|x`,
		"attribute without value":            `<html a= ><head>|x`,
		"attribute with slash":               `<html a/b=c/><head>|x`,
		"unquoted value with quotes":         `<html a=b"c'd><head>|x`,
		"quote in attribute name":            `<html a"b><head>|x`,
		"script first":                       "<head>|<script>x</script>",
		"marker as value":                    "<head>|<script a=data-session-context>x</script>",
		"marker as part of a name":           "<head>|<script data-session-context-x>x</script>",
		"marker on another element":          "<head>|<meta data-session-context>",
		"marker on an end tag":               "<head>|</script data-session-context>",
		"marker on a later script":           "<head>|<meta><script data-session-context>",
		"script without head":                "<html>|<script>x</script>",
		"ends behind head":                   "<html><head>|",
		"ends in white space behind head":    "<head>|  ",
		"ends in a tag behind head":          "<head>|<scri",
		"ends in a marked tag behind head":   "<head>|<script data-session-context",
		"ends in less-than":                  "|<",
		"ends in end tag opening":            "|</",
		"ends in ampersand":                  "|&",
		"ends in a reference to a letter":    "|&#65",
		"ends in a possible reference":       "|&New",
		"ends in reference without a number": "|&#x",
		"utf-8 byte order mark":              "\xef\xbb\xbf<head>|x",
		"part of a byte order mark":          "|\xef\xbb<head>",
		"part of a byte order mark, alone":   "|\xef",
		"second byte order mark is text":     "\xef\xbb\xbf|\xef\xbb\xbf<head>",
		"image first":                        "<!doctype html>|<img src=x>",
		"frameset":                           "<html>|<frameset>",
		"template first":                     "|<template><head></template>",
		"noscript first":                     "|<noscript><head></noscript>",

		"nothing":                         "",
		"white space":                     " \n",
		"doctype":                         "<!doctype html>",
		"unclosed doctype":                "<!doctype html",
		"unclosed comment":                "<!-- <head>",
		"unclosed bogus comment":          "<? <head",
		"unclosed html tag":               "<html a='<head>",
		"unclosed head tag":               "<html><head a",
		"unfinished name":                 "<html><tit",
		"html alone":                      "<html>",
		"ignored end tag":                 "</p>",
		"NUL":                             " \x00<head>x",
		"utf-16be by XML declaration":     "\x00<\x00?\x00x\x00m\x00l\x00?\x00>\x00<\x00h\x00e\x00a\x00d\x00>",
		"NUL between html and head":       "<html>\x00<head>x",
		"ends in a reference to space":    "&#32",
		"ends in a hex reference":         "&#x20",
		"injected already":                "<html><head><script data-session-context nonce=x>…</script>",
		"injected already, spaced":        "<head>\n <SCRIPT a='b'\nData-Session-Context=''>",
		"injected already, self-closing":  "<head><script data-session-context/>",
		"injected already without a head": "<!doctype html><script data-session-context=x>…</script><p>",
	} {
		t.Run(name, func(t *testing.T) { checkPlace(t, "text/html; charset=utf-8", doc) })
	}
}

func TestInsertionPointInXHTML(t *testing.T) {
	const html = `<html xmlns="http://www.w3.org/1999/xhtml">`
	for name, doc := range map[string]string{
		"usual page": `<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en"><!-- > <head> -->
<head>|
<title>x</title></head></html>`,
		"byte order mark":           "\xef\xbb\xbf" + html + "<head>|<title/>",
		"single quotes":             "<html xmlns = 'http://www.w3.org/1999/xhtml' ><head id='>'>|<title/>",
		"processing instruction":    html + "<?a > ?><head>|<title/>",
		"head with namespace":       html + `<head xmlns="http://www.w3.org/1999/xhtml">|<title/>`,
		"script first":              html + "<head>|<script>x</script>",
		"script with other prefix":  html + "<head>|<scripts data-session-context=''/>",
		"quoted bracket in doctype": `<!DOCTYPE html SYSTEM "a"  >` + html + "<head>|<a/>",

		"empty head":                html + "<head/><body/>",
		"empty head with space":     html + "<head /><body/>",
		"no head":                   html + "<body/></html>",
		"text before head":          html + "x<head>",
		"upper case":                `<HTML xmlns="http://www.w3.org/1999/xhtml"><HEAD>`,
		"head in upper case":        html + "<HEAD>x",
		"no namespace":              "<html><head>x",
		"other namespace":           `<html xmlns="urn:x"><head>x`,
		"head of other namespace":   html + `<head xmlns="urn:x">x`,
		"prefix":                    `<h:html xmlns:h="http://www.w3.org/1999/xhtml"><h:head>x`,
		"internal subset":           `<!DOCTYPE html [<!ATTLIST html xmlns CDATA "x">]>` + html + "<head>x",
		"unquoted attribute":        "<html xmlns=http://www.w3.org/1999/xhtml><head>x",
		"attribute without value":   `<html hidden xmlns="http://www.w3.org/1999/xhtml"><head>x`,
		"less-than in a value":      `<html a="<" xmlns="http://www.w3.org/1999/xhtml"><head>x`,
		"cdata":                     html + "<![CDATA[]]><head>x",
		"end tag":                   "</p>" + html + "<head>x",
		"unclosed comment":          "<!-- <head>",
		"doctype in lower case":     "<!doctype html>" + html + "<head>x",
		"injected already":          html + `<head><script data-session-context="">x</script>`,
		"iso-2022-jp":               `<?xml version="1.0" encoding="iso-2022-jp"?>` + html + "<head>x",
		"nothing":                   "",
		"text":                      "x",
		"less-than":                 "<",
		"attributes without spaces": `<html xmlns="http://www.w3.org/1999/xhtml"a="b"><head>x`,
	} {
		t.Run(name, func(t *testing.T) { checkPlace(t, "application/xhtml+xml", doc) })
	}
}

func checkPlace(t *testing.T, contentType, marked string) {
	t.Helper()
	doc := strings.Replace(marked, "|", "", 1)
	want := strings.Replace(marked, "|", testScript, 1)
	if whole := page(t, contentType, doc); whole.body() != want {
		t.Errorf("got  %q\nwant %q (%s)", whole.body(), want, whole.outcome)
	}
	if split := page(t, contentType, bytewise(doc)...); split.body() != want {
		t.Errorf("byte by byte: got  %q\nwant %q (%s)", split.body(), want, split.outcome)
	}
	for i := range len(doc) {
		if split := page(t, contentType, doc[:i], doc[i:]); split.body() != want {
			t.Errorf("split at %d: got  %q\nwant %q (%s)", i, split.body(), want, split.outcome)
		}
	}
}

func TestPrefixBound(t *testing.T) {
	pad := func(n int) string { return "<!--" + strings.Repeat("x", n-7) + "-->" }
	at := pad(maxPrefix-6) + "<head>"
	tests := map[string]struct {
		doc  string
		want Reason
	}{
		"head and next byte within":    {pad(maxPrefix-7) + "<head>x" + "rest", Injected},
		"head ends with the bound":     {at + "x", Injected},
		"head ends behind":             {"y" + at[1:], Injected}, // text comes first
		"comment longer":               {pad(maxPrefix+1) + "<head>", PrefixTooLong},
		"head tag cut by the bound":    {pad(maxPrefix-3) + "<head>x", PrefixTooLong},
		"long script tag behind head":  {"<head><script a='" + strings.Repeat("x", maxPrefix) + "'>", PrefixTooLong},
		"white space to the bound":     {strings.Repeat(" ", maxPrefix) + "<head>", PrefixTooLong},
		"white space behind head":      {"<head>" + strings.Repeat(" ", 2*maxPrefix) + "x", Injected},
		"long and short of insertion":  {pad(maxPrefix/2) + "<head>" + strings.Repeat("x", 3*maxPrefix), Injected},
		"ends at the bound in comment": {"<!--" + strings.Repeat("x", maxPrefix-4), PrefixTooLong},
		"ends below the bound":         {"<!--" + strings.Repeat("x", maxPrefix-5), NoInsertionPoint},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{len(test.doc), maxPrefix, maxPrefix - 1, 1000, 1} {
				var chunks []string
				for rest := test.doc; rest != ""; {
					n := min(size, len(rest))
					chunks, rest = append(chunks, rest[:n]), rest[n:]
				}
				got := page(t, "text/html; charset=utf-8", chunks...)
				if got.outcome != test.want {
					t.Errorf("chunks of %d: %s, want %s", size, got.outcome, test.want)
				}
				if strings.Replace(got.body(), testScript, "", 1) != test.doc {
					t.Errorf("chunks of %d: body changed", size)
				}
			}
		})
	}
}

func TestPrefixBoundInXHTML(t *testing.T) {
	const html = `<html xmlns="http://www.w3.org/1999/xhtml">`
	long := strings.Repeat(" ", 2*maxPrefix)
	for doc, want := range map[string]Reason{
		html + "<!--" + long + "--><head>x": PrefixTooLong,
		html + "<head>" + long + "x":        Injected,
		html + "<head>" + long:              Injected,
		html + "<head><script a='" + long:   PrefixTooLong,
		html + "<head>":                     Injected,
	} {
		for _, chunks := range [][]string{{doc}, bytewise(doc)} {
			got := page(t, "application/xhtml+xml", chunks...)
			if got.outcome != want || strings.Replace(got.body(), testScript, "", 1) != doc {
				t.Errorf("%.60q…: %s, want %s", doc, got.outcome, want)
			}
		}
	}
}
