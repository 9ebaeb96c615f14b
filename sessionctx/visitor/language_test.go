package visitor

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestLanguage(t *testing.T) {
	for _, c := range []struct{ name, header, want string }{
		{"none", "", "en-US"},
		{"one", "de-DE", "de-DE"},
		{"as browsers send it", "de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7", "de-DE"},
		{"the best is not the first", "en;q=0.5, fr-CA;q=0.9, de;q=0.7", "fr-CA"},
		{"of equals the first", "fr,de", "fr"},
		{"as sent, not made canonical", "iw", "iw"},
		{"as sent, in its case", "DE-de", "DE-de"},
		{"script and region", "zh-Hans-CN", "zh-Hans-CN"},
		{"POSIX form", "pt_BR", "pt-BR"},
		{"zero means not", "de;q=0, fr;q=0.1", "fr"},
		{"anything goes", "*", "en-US"},
		{"a wildcard never wins", "*, es;q=0.5", "es"},
		{"unknown languages are passed over", "zz, xx-YY, it;q=0.3", "it"},
		{"undetermined", "und, mul, it;q=0.1", "it"},
		{"broken weights", "de;q=2, fr;q=x, es;q=NaN, pl;q=-1, it;q=0.1", "it"},
		{"other parameters", "de;level=1, it", "it"},
		{"blanks", "  de-AT ; q = 0.9 ,, ,", "de-AT"},
		{"script tags", "<script>, de;q=0.1", "de"},
		{"not UTF-8", "\xff\xfe, de;q=0.1", "de"},
		{"long tags", strings.Repeat("a-", 60) + ", de;q=0.1", "de"},
		{"absurd size", strings.Repeat("de-DE-", 1e6), "en-US"},
		{"cut between members", strings.Repeat("zz;q=0.1,", 28) + "de-DE", "en-US"},
		{"absurd number", "nl," + strings.Repeat("en,", 1e6), "nl"},

		{"Chrome", "en-US,en;q=0.9,de;q=0.8,fr;q=0.7", "en-US"},
		{"Chrome in Norway", "nb-NO,nb;q=0.9,no;q=0.8,nn;q=0.7,en-US;q=0.6,en;q=0.5", "nb-NO"},
		{"Chrome, reduced", "ja-JP", "ja-JP"},
		{"Safari", "de-DE,de;q=0.9", "de-DE"},
		{"Safari in Latin America", "es-419,es;q=0.9", "es-419"},
		{"Firefox", "de,en-US;q=0.7,en;q=0.3", "de"},
		{"Firefox with blanks", "fr-CA, fr;q=0.8, en-US;q=0.5, en;q=0.3", "fr-CA"},
		{"Firefox in Valencia", "ca-valencia,ca;q=0.8,en-US;q=0.5,en;q=0.3", "ca-valencia"},
		{"Internet Explorer", "zh-Hant-TW,zh-Hant;q=0.8,en-US;q=0.5", "zh-Hant-TW"},
		{"Edge in Serbia", "sr-Latn-RS,sr-Latn;q=0.9,en;q=0.8", "sr-Latn-RS"},
		{"an app on a Filipino iPhone", "fil-PH;q=1.0, en-PH;q=0.9", "fil-PH"},
		{"WeChat", "zh-CN,zh-Hans;q=0.9", "zh-CN"},
		{"an app of Android", "de_DE", "de-DE"},
		{"Facebook's crawler", "en_US", "en-US"},
		{"Googlebot sends none, Bingbot any", "*", "en-US"},
		{"Yandex's bot", "ru, uk;q=0.8, be;q=0.8, en;q=0.7, *;q=0.01", "ru"},
		{"curl, by hand", "tr", "tr"},

		{"an extension", "en-US-u-hc-h23,en;q=0.5", "en-US-u-hc-h23"},
		{"private use behind a language", "de-DE-x-goethe", "de-DE-x-goethe"},
		{"nothing but private use", "x-klingon, it;q=0.1", "it"},
		{"old forms at which scripts throw", "i-klingon, zh-min-nan, en-GB-oed, sgn-BE-FR, it;q=0.1", "it"},
		{"an extended language", "zh-yue, it;q=0.1", "it"},
		{"a region that does not exist", "de-QX", "de-QX"},
		{"refused, and the rest unknown", "de;q=0, *;q=0.5", "en-US"},
		{"three decimals", "de;q=0.998, fr;q=0.999", "fr"},
		{"many decimals", "de;q=0.99999999, fr;q=0.9", "de"},
		{"the longest tag", "de-DE-x-abcdefgh-abcdefgh-abcdefgh-a, it;q=0.1", "it"},
		{"almost the longest", "de-DE-x-abcdefgh-abcdefgh-abcdefgh, it;q=0.1", "de-DE-x-abcdefgh-abcdefgh-abcdefgh"},
		{"attributes", `de"onload="x, it;q=0.1`, "it"},
		{"a line end", "de\nSet-Cookie: x, it;q=0.1", "it"},
		{"a letter that looks like one", "dе-DE, it;q=0.1", "it"},
		{"two lines", "en;q=0.5|de-AT", "de-AT"},
		{"two lines, the first is better", "en|de-AT;q=0.5", "en"},
		{"two lines, one empty", "|de-AT", "de-AT"},
		{"ten thousand lines", strings.Repeat("zz|", 1e4) + "de", "en-US"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header = http.Header{"Accept-Language": strings.Split(c.header, "|")}
		var rd Reader
		for range 2 {
			if got := rd.Read(Request{HTTP: r}).Language; got != c.want {
				t.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
		}
	}
}
