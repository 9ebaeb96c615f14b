package visitor

import (
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

// knownLanguage reports whether tag is well-formed and its language exists.
func knownLanguage(tag string) bool {
	if tag == "" || tag == "*" || len(tag) > maxLanguageTag {
		return false
	}
	for i := 0; i < len(tag); i++ {
		if c := tag[i]; !isAlnum(c) && c != '-' && c != '_' {
			return false
		}
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
