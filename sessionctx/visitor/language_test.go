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
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header = http.Header{"Accept-Language": {c.header}}
		var rd Reader
		for range 2 {
			if got := rd.Read(Request{HTTP: r}).Language; got != c.want {
				t.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
		}
	}
}
