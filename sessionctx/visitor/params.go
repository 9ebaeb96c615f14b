package visitor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// defaultClickIDs are the click ids of the larger advertising networks.
var defaultClickIDs = []string{
	"gclid", "gbraid", "wbraid", "dclid", // Google
	"fbclid",    // Meta
	"msclkid",   // Microsoft
	"ttclid",    // TikTok
	"twclid",    // X
	"li_fat_id", // LinkedIn
	"epik",      // Pinterest
	"ScCid",     // Snapchat
	"rdt_cid",   // Reddit
	"qclid",     // Quora
	"yclid",     // Yandex
	"irclickid", // Impact
}

// DefaultClickIDs returns the click id parameters that are read where a Reader
// names none.
func DefaultClickIDs() []string { return slices.Clone(defaultClickIDs) }

// paramKind says where a parameter's value goes.
type paramKind uint8

const (
	paramUTMSource paramKind = iota
	paramUTMMedium
	paramUTMCampaign
	paramUTMTerm
	paramUTMContent
	paramRef
	paramSource
	paramClickID
	paramKept // in URLs only
)

type param struct {
	kind paramKind
	// wire is the name in URLs, column the name in rows.
	wire, column string
}

// paramSet is the list of parameters that URLs keep, in the order in which
// they keep them.
type paramSet struct {
	list   []param
	byName map[string]int // by lower-case name
	maxLen int
}

// maxParamName is the longest parameter name that is looked at.
const maxParamName = 64

func newParamSet(clickIDs, keep []string) *paramSet {
	s := &paramSet{byName: make(map[string]int)}
	for kind, name := range []string{
		"utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "ref", "source",
	} {
		s.add(param{paramKind(kind), name, name}, name)
	}
	for _, name := range clickIDs {
		p := param{paramClickID, name, columnName(name)}
		s.add(p, name)
		s.add(p, p.column)
	}
	// Campaign parameters of Google Analytics without a column of their own.
	for _, name := range []string{"utm_id", "utm_source_platform", "utm_creative_format", "utm_marketing_tactic"} {
		s.add(param{paramKept, name, name}, name)
	}
	for _, name := range keep {
		s.add(param{paramKept, name, name}, name)
	}
	return s
}

// add makes p known by name, and reports whether the name was free.
func (s *paramSet) add(p param, name string) bool {
	name = strings.ToLower(name)
	if _, taken := s.byName[name]; taken || name == "" || len(name) > maxParamName {
		return false
	}
	i := slices.Index(s.list, p)
	if i < 0 {
		i = len(s.list)
		s.list = append(s.list, p)
	}
	s.byName[name] = i
	s.maxLen = max(s.maxLen, len(name))
	return true
}

// columnName is a parameter's name in rows: lower case, words joined by "_"
// (ScCid → sc_cid).
func columnName(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c >= 'A' && c <= 'Z' {
			if i > 0 && name[i-1] >= 'a' && name[i-1] <= 'z' {
				b.WriteByte('_')
			}
			c |= 0x20
		}
		b.WriteByte(c)
	}
	return b.String()
}

// lookup finds a parameter by its name as it stands in a query, in any case
// and even percent-encoded, without allocating.
func (s *paramSet) lookup(name string) (int, bool) {
	// Three bytes a character if all are escaped.
	if name == "" || len(name) > 3*s.maxLen {
		return 0, false
	}
	var buf [maxParamName]byte
	n := 0
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c == '%' && i+2 < len(name) {
			hi, lo := unhex(name[i+1]), unhex(name[i+2])
			if hi < 16 && lo < 16 {
				c = hi<<4 | lo
				i += 2
			}
		}
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if n == s.maxLen {
			return 0, false
		}
		buf[n] = c
		n++
	}
	i, ok := s.byName[string(buf[:n])]
	return i, ok
}

// unhex is a hex digit's value, or more than 15.
func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// CheckParams returns an error unless the names may be read as click ids and
// kept as further parameters of URLs. keep has those beside the campaign
// parameters and click ids.
func CheckParams(clickIDs, keep []string) error {
	s := newParamSet(nil, nil)
	if n := len(clickIDs) + len(keep); n > maxConfigured {
		return fmt.Errorf("%d names are more than %d: keep those that links really carry", n, maxConfigured)
	}
	for _, name := range clickIDs {
		column := columnName(name)
		if !clickIDName(name) || len(column) > maxParamName || slices.Contains(touchFields, column) {
			return fmt.Errorf("%q is no click id's name: 1 to 64 letters, digits, _ and -, a letter first, and none of %s", sessionctx.CleanText(name, 80), strings.Join(touchFields, ", "))
		}
		if !s.add(param{paramClickID, name, column}, name) || !s.add(param{paramClickID, name, column}, column) && strings.ToLower(name) != column {
			return fmt.Errorf("%q is read already: leave it out", name)
		}
	}
	for _, name := range keep {
		if !paramName(name) {
			return fmt.Errorf("%q is no parameter's name: 1 to 64 letters, digits, dots, _ and -", sessionctx.CleanText(name, 80))
		}
		if !s.add(param{paramKept, name, name}, name) {
			return fmt.Errorf("%q is kept already: leave it out", name)
		}
	}
	return nil
}

// maxConfigured bounds the names of click ids and kept parameters.
const maxConfigured = 64

// touchFields are names that a touch has for something else.
var touchFields = []string{"timestamp", "referrer", "landing_page"}

// clickIDName reports whether name can be a key in the page's context.
func clickIDName(name string) bool {
	return paramName(name) && isLetter(name[0]) && !strings.Contains(name, ".")
}

func paramName(name string) bool {
	for i := range len(name) {
		if c := name[i]; !isAlnum(c) && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return name != "" && len(name) <= maxParamName
}
