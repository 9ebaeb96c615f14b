package inject

import (
	"strings"

	"golang.org/x/text/encoding/htmlindex"
)

// encodingName is the standard's name of the encoding that label stands for,
// or "".
func encodingName(label string) string {
	if strings.EqualFold(label, "utf-8") {
		return "utf-8"
	}
	enc, err := htmlindex.Get(label)
	if err != nil {
		return ""
	}
	name, err := htmlindex.Name(enc)
	if err != nil {
		return ""
	}
	return name
}

// asciiSafe reports whether ASCII characters are the same bytes in the named
// encoding, wherever they stand.
func asciiSafe(name string) bool {
	switch name {
	case "utf-16be", "utf-16le", "iso-2022-jp", "replacement":
		return false
	}
	return true
}

// mediaType splits a Content-Type: the type as sent, and the encoding that the
// charset parameter names, "" if there is none that browsers know.
func mediaType(contentType string) (essence, charset string) {
	if contentType == "text/html; charset=utf-8" { // what most servers send
		return "text/html", "utf-8"
	}
	essence, rest, _ := strings.Cut(contentType, ";")
	essence = strings.Trim(essence, " \t\r\n")
	for rest != "" {
		name, value := "", ""
		name, value, rest = nextParam(rest)
		// The first one counts, even if it is nonsense.
		if strings.EqualFold(name, "charset") {
			return essence, encodingName(value)
		}
	}
	return essence, ""
}

// nextParam splits name=value off the parameters of a media type.
func nextParam(s string) (name, value, rest string) {
	s = strings.TrimLeft(s, " \t\r\n")
	i := strings.IndexAny(s, ";=")
	if i < 0 {
		return s, "", ""
	}
	name = s[:i]
	if s[i] == ';' {
		return name, "", s[i+1:]
	}
	s = s[i+1:]
	if !strings.HasPrefix(s, `"`) {
		value, rest, _ = strings.Cut(s, ";")
		return name, strings.TrimRight(value, " \t\r\n"), rest
	}
	var b strings.Builder
	for i = 1; i < len(s) && s[i] != '"'; i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	_, rest, _ = strings.Cut(s[min(i, len(s)):], ";")
	return name, b.String(), rest
}

// withCharset is contentType with the given charset.
func withCharset(contentType, charset string) string {
	if !strings.Contains(strings.ToLower(contentType), "charset") {
		return strings.TrimRight(contentType, "; \t") + "; charset=" + charset
	}
	// What stands there names no encoding; browsers take the first charset.
	essence, _ := mediaType(contentType)
	return essence + "; charset=" + charset
}
