package visitor

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/text/language"
)

const (
	// defaultLanguage is what a visitor reads who says nothing usable.
	defaultLanguage = "en-US"
	// maxAcceptLanguage is far above what browsers send (Chrome: some 100
	// bytes with ten languages); the rest is not read.
	maxAcceptLanguage = 256
	// maxLanguageTag leaves out tags with long private extensions.
	maxLanguageTag = 35
)

// acceptLanguage is the header; several lines of it are one list.
func acceptLanguage(h http.Header) string {
	lines := h["Accept-Language"]
	if len(lines) < 2 {
		return field(h, "Accept-Language")
	}
	return strings.Join(lines, ",")
}

// language is the best language of an Accept-Language header, remembered by
// the header as a whole: browsers send few different ones.
func (st *state) language(header string) string {
	if header == "" {
		return defaultLanguage
	}
	if len(header) > maxAcceptLanguage {
		header = header[:maxAcceptLanguage]
		// The last member may be cut in half: "de-DE" would read as "de-D".
		header = header[:strings.LastIndexByte(header, ',')+1]
	}
	if tag, ok := st.languages.get(header); ok {
		return tag
	}
	tag := bestLanguage(header)
	st.languages.put(strings.Clone(header), tag)
	return tag
}

// bestLanguage is the member with the highest weight that is a language, as
// it was sent; of equals the first.
func bestLanguage(header string) string {
	best, bestQ := defaultLanguage, 0.0
	for part := range strings.SplitSeq(header, ",") {
		tag, weight, _ := strings.Cut(part, ";")
		q, ok := quality(weight)
		if !ok || q <= bestQ {
			continue
		}
		if tag = strings.TrimSpace(tag); knownLanguage(tag) {
			// Some apps send the form of POSIX locales, at which scripts
			// in the page (Intl) would throw.
			best, bestQ = strings.ReplaceAll(strings.Clone(tag), "_", "-"), q
		}
	}
	return best
}

// localePattern is a tag that scripts in the page take (a Unicode locale
// identifier: language, script, region, variants, extensions). BCP 47 has more
// forms (zh-min-nan, i-klingon, x-private), at which Intl throws; no browser
// sends them.
var localePattern = regexp.MustCompile(`^(?i:[a-z]{2,3}|[a-z]{5,8})` +
	`(?i:[-_][a-z]{4})?(?i:[-_](?:[a-z]{2}|[0-9]{3}))?(?i:[-_](?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*` +
	`(?i:[-_][a-wyz0-9](?:[-_][a-z0-9]{2,8})+)*(?i:[-_]x(?:[-_][a-z0-9]{1,8})+)?$`)

// knownLanguage reports whether tag is well-formed and its language exists.
func knownLanguage(tag string) bool {
	if len(tag) > maxLanguageTag || !localePattern.MatchString(tag) {
		return false
	}
	t, err := language.Parse(tag)
	if _, wellFormed := err.(language.ValueError); err != nil && !wellFormed {
		return false
	}
	base, _ := t.Base()
	return t != language.Und && base.String() != "und" && base.String() != "mul"
}

// quality reads ";q=0.8". No weight means 1; weight 0 means "not this".
func quality(params string) (float64, bool) {
	params = strings.TrimSpace(params)
	if params == "" {
		return 1, true
	}
	params, _, _ = strings.Cut(params, ";")
	name, value, ok := strings.Cut(params, "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(name), "q") {
		return 0, false
	}
	q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || !(q >= 0 && q <= 1) {
		return 0, false
	}
	return q, true
}
