package inject

import "bytes"

// xhtmlNamespace is what makes an element named html an HTML element in XML.
const xhtmlNamespace = "http://www.w3.org/1999/xhtml"

// xmlScanner finds the insertion point of an XHTML document: right behind the
// start tag of head. XML implies no elements and forgives nothing, so anything
// out of the ordinary (a prefix, another namespace, an empty head, an internal
// DTD subset that may define attributes, bad syntax) leaves the document alone.
type xmlScanner struct {
	pos    int  // where the token at hand begins
	seen   int  // how far into it we have looked
	quote  byte // the quote that is open there
	subset bool // a [ stands in the doctype at hand
	open   bool // the html element is open
	head   int  // behind <head …>, once seen
}

// scan looks at what is new in doc.
func (s *xmlScanner) scan(doc []byte) place {
	for {
		for s.pos < len(doc) && isSpace(doc[s.pos]) {
			s.pos++
		}
		if s.pos >= len(doc) {
			return place{}
		}
		s.seen = max(s.seen, s.pos)
		rest := doc[s.pos:]
		if s.head > 0 && !maybePrefix(rest, "<script") {
			return place{found: true, at: s.head}
		}
		var end int // of the token, or 0 while it is not whole
		switch {
		case rest[0] != '<':
			return place{reason: NoInsertionPoint}
		case len(rest) == 1:
			return place{}
		case rest[1] == '?':
			end = s.until(doc, 2, "?>")
		case rest[1] == '!':
			switch {
			case len(rest) >= 4 && rest[2] == '-' && rest[3] == '-':
				end = s.until(doc, 4, "-->")
			case !maybePrefix(rest, "<!--") && !maybePrefix(rest, "<!DOCTYPE"):
				return place{reason: NoInsertionPoint}
			default:
				from := s.seen
				end = s.tagEnd(doc)
				s.subset = s.subset || bytes.IndexByte(doc[from:s.seen], '[') >= 0
				if s.subset && s.quote == 0 {
					return place{reason: NoInsertionPoint}
				}
			}
		default:
			end = s.tagEnd(doc)
			if end > 0 {
				if p := s.element(doc[s.pos:end], end); p.known() {
					return p
				}
			}
		}
		if end == 0 {
			return place{}
		}
		s.pos, s.seen, s.subset = end, end, false
	}
}

// finish answers for a document that ends here.
func (s *xmlScanner) finish() place {
	if s.head > 0 {
		return place{found: true, at: s.head}
	}
	return place{reason: NoInsertionPoint}
}

// overflow answers for a document whose prefix has become too long.
func (s *xmlScanner) overflow() place {
	if s.head > 0 && s.seen <= s.pos {
		// Nothing but white space since.
		return place{found: true, at: s.head}
	}
	return place{reason: PrefixTooLong}
}

// element looks at a whole tag.
func (s *xmlScanner) element(tag []byte, end int) place {
	name, attrs, empty, ok := splitXMLTag(tag)
	if !ok {
		return place{reason: NoInsertionPoint}
	}
	if s.head > 0 {
		if name == "script" {
			if _, ours := xmlAttr(attrs, marker); ours {
				return place{reason: AlreadyInjected}
			}
		}
		return place{found: true, at: s.head}
	}
	namespace, declared := xmlAttr(attrs, "xmlns")
	switch {
	case empty || declared && namespace != xhtmlNamespace:
	case !s.open && name == "html" && declared:
		s.open = true
		return place{}
	case s.open && name == "head":
		s.head = end
		return place{}
	}
	return place{reason: NoInsertionPoint}
}

// until finds the end of a token that begins with skip bytes and ends with
// term, or 0.
func (s *xmlScanner) until(doc []byte, skip int, term string) int {
	s.seen = max(s.seen, s.pos+skip)
	if i := bytes.Index(doc[s.seen:], []byte(term)); i >= 0 {
		return s.seen + i + len(term)
	}
	s.seen = max(s.seen, len(doc)-len(term)+1)
	return 0
}

// tagEnd finds the > that is not within quotes, or 0.
func (s *xmlScanner) tagEnd(doc []byte) int {
	for ; s.seen < len(doc); s.seen++ {
		switch c := doc[s.seen]; {
		case s.quote != 0:
			if c == s.quote {
				s.quote = 0
			}
		case c == '"' || c == '\'':
			s.quote = c
		case c == '>':
			s.seen++
			return s.seen
		}
	}
	return 0
}

// splitXMLTag takes a start tag apart, as far as it is well-formed.
func splitXMLTag(tag []byte) (name string, attrs []byte, empty, ok bool) {
	body := tag[1 : len(tag)-1]
	if n := len(body); n > 0 && body[n-1] == '/' {
		body, empty = body[:n-1], true
	}
	i := 0
	for i < len(body) && !isSpace(body[i]) {
		i++
	}
	if i == 0 || !isAlpha(body[0]) {
		return "", nil, false, false
	}
	attrs = body[i:]
	for rest := attrs; ; {
		var more bool
		if _, _, rest, more, ok = nextXMLAttr(rest); !more {
			return string(body[:i]), attrs, empty, ok
		}
	}
}

// xmlAttr is the value of the attribute called name.
func xmlAttr(attrs []byte, name string) (value string, found bool) {
	for {
		k, v, rest, more, _ := nextXMLAttr(attrs)
		if !more {
			return "", false
		}
		if string(k) == name {
			return string(v), true
		}
		attrs = rest
	}
}

// nextXMLAttr splits the first attribute off. more is false at the end, where
// ok tells whether everything was well-formed.
func nextXMLAttr(b []byte) (name, value, rest []byte, more, ok bool) {
	b = trimLeft(b)
	if len(b) == 0 {
		return nil, nil, nil, false, true
	}
	eq := bytes.IndexByte(b, '=')
	if eq <= 0 {
		return nil, nil, nil, false, false
	}
	name = bytes.TrimRight(b[:eq], " \t\r\n")
	if len(name) == 0 || bytes.ContainsAny(name, " \t\r\n<>&'\"") {
		return nil, nil, nil, false, false
	}
	b = trimLeft(b[eq+1:])
	if len(b) == 0 || b[0] != '"' && b[0] != '\'' {
		return nil, nil, nil, false, false
	}
	end := bytes.IndexByte(b[1:], b[0])
	if end < 0 || bytes.IndexByte(b[1:1+end], '<') >= 0 {
		return nil, nil, nil, false, false
	}
	rest = b[end+2:]
	if len(rest) > 0 && !isSpace(rest[0]) {
		return nil, nil, nil, false, false
	}
	return name, b[1 : 1+end], rest, true, true
}

func trimLeft(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	return b
}

// maybePrefix reports whether b begins with s, or might once it is longer.
func maybePrefix(b []byte, s string) bool {
	n := min(len(b), len(s))
	return string(b[:n]) == s[:n]
}
