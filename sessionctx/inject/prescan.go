package inject

import "bytes"

// prescanLen is how far browsers look for <meta charset>.
const prescanLen = 1024

// prescanner runs the HTML standard's "prescan a byte stream to determine its
// encoding" over a document that is still arriving. It returns to the beginning
// of the last unfinished tag only, so feeding it byte by byte stays cheap.
//
// Where browsers are known to look closer than the standard's steps do, it
// follows the browsers: Chromium's prescan is a tokenizer, to which a <meta>
// within a script is a part of the script.
type prescanner struct {
	pos     int
	started bool
	raw     string // the element whose text we are in
	// headOver is whether a tag was met that says so, inBody whether text or
	// an element came behind it: what declares an encoding stands before that.
	headOver, inBody bool
}

// scan returns the label's encoding as soon as it is certain, or done with no
// name when there is none. last says that doc will not grow any more.
func (p *prescanner) scan(doc []byte, last bool) (name string, done bool) {
	if len(doc) >= prescanLen {
		doc, last = doc[:prescanLen], true
	}
	if !p.started {
		if !last && len(doc) < 6 {
			return "", false
		}
		p.started = true
		// Its big-endian form begins with a NUL, which no scanner lets pass.
		if hasPrefix(doc, "<\x00?\x00x\x00") {
			return "utf-16le", true
		}
	}
	for p.pos < len(doc) {
		rest := doc[p.pos:]
		if p.raw != "" {
			n, ends := rawEnd(rest, p.raw)
			p.pos += n
			if !ends {
				break
			}
			p.raw = ""
			continue
		}
		if rest[0] != '<' {
			text, more := rest, false
			if i := bytes.IndexByte(rest, '<'); i > 0 {
				text, more = rest[:i], true
			}
			p.inBody = p.inBody || p.headOver && len(trimLeft(text)) > 0
			p.pos += len(text)
			if more {
				continue
			}
			break
		}
		n, found, whole := prescanTag(rest)
		if !whole {
			break
		}
		p.raw = rawText(rest)
		switch {
		case endsHead(rest):
			p.headOver = true
		case p.headOver && isAlpha(rest[1]) && !equalFold(tagNameOf(rest[1:]), "meta"):
			p.inBody = true
		}
		if found != "" {
			return found, true
		}
		p.pos += n
	}
	if !last {
		return "", false
	}
	return xmlEncoding(doc), true
}

// prescanTag looks at what begins with the < that b begins with: how long it
// is, the encoding that it names if it is a meta, and whether it is whole.
func prescanTag(b []byte) (n int, name string, whole bool) {
	switch {
	case len(b) < 2:
		return 0, "", false
	case hasPrefix(b, "<!--"):
		// The dashes may be those of the opening.
		end, bang := bytes.Index(b[2:], []byte("-->")), bytes.Index(b[4:], []byte("--!>"))
		switch {
		case bang >= 0 && (end < 0 || 4+bang < 2+end):
			return 4 + bang + 4, "", true
		case end >= 0:
			return 2 + end + 3, "", true
		}
		return 0, "", false
	case len(b) < 4 && maybePrefix(b, "<!--"):
		return 0, "", false
	case len(b) > 5 && equalFold(b[1:5], "meta") && (isSpace(b[5]) || b[5] == '/'):
		return prescanMeta(b, 5)
	case isAlpha(b[1]), b[1] == '/' && len(b) > 2 && isAlpha(b[2]):
		i := 1 + len(tagNameOf(b[1:]))
		for {
			_, _, next, more, complete := prescanAttr(b, i)
			if !complete {
				return 0, "", false
			}
			if !more {
				return next + 1, "", true
			}
			i = next
		}
	case b[1] == '/' && len(b) == 2:
		return 0, "", false
	case b[1] == '!' || b[1] == '/' || b[1] == '?':
		if i := bytes.IndexByte(b, '>'); i >= 0 {
			return i + 1, "", true
		}
		return 0, "", false
	}
	return 1, "", true
}

// tagNameOf is what comes before white space, a slash behind the first byte, or
// the tag's end.
func tagNameOf(b []byte) []byte {
	for i, c := range b {
		if isSpace(c) || c == '>' || c == '/' && i > 0 {
			return b[:i]
		}
	}
	return b
}

// endsHead reports whether the tag that b begins with says that the head is
// over. Tags that only imply it don't count: pages in use have declarations
// behind such.
func endsHead(b []byte) bool {
	name := tagNameOf(b[1:])
	return equalFold(name, "/head") || equalFold(name, "body") || equalFold(name, "frameset")
}

// rawText is the name of the element that the tag b begins with opens, if no
// tags are looked for in it, else "".
func rawText(b []byte) string {
	name := tagNameOf(b[1:])
	for _, raw := range [...]string{"script", "style", "title", "textarea", "iframe", "xmp", "noframes", "plaintext"} {
		if equalFold(name, raw) {
			return raw
		}
	}
	return ""
}

// rawEnd finds the end tag of the element with the given name. Without one, n
// is how much need not be looked at again.
func rawEnd(b []byte, name string) (n int, found bool) {
	if name == "plaintext" {
		return len(b), false
	}
	for {
		i := bytes.Index(b[n:], []byte("</"))
		if i < 0 {
			return max(n, len(b)-1), false
		}
		n += i
		rest := b[n+2:]
		if len(rest) <= len(name) {
			// Undecided, or too short; either way more is needed.
			return n, false
		}
		if c := rest[len(name)]; equalFold(rest[:len(name)], name) && (isSpace(c) || c == '/' || c == '>') {
			return n, true
		}
		n += 2
	}
}

// prescanMeta reads the attributes of a meta element from b[i:].
func prescanMeta(b []byte, i int) (n int, name string, whole bool) {
	var seen [3]bool // http-equiv, content, charset: the first of each counts
	var pragma, needPragma, named, failed bool
	for {
		attr, value, next, more, complete := prescanAttr(b, i)
		if !complete {
			return 0, "", false
		}
		if !more {
			i = next
			break
		}
		i = next
		switch {
		case !seen[0] && equalFold(attr, "http-equiv"):
			seen[0] = true
			pragma = equalFold(value, "content-type")
		case !seen[1] && equalFold(attr, "content"):
			seen[1] = true
			if label := charsetOfContent(value); label != "" && !named {
				if enc := encodingName(label); enc != "" {
					name, named, needPragma = enc, true, true
				}
			}
		case !seen[2] && equalFold(attr, "charset"):
			seen[2] = true
			name, named, needPragma = encodingName(string(value)), true, false
			failed = name == ""
		}
	}
	if !named || failed || needPragma && !pragma {
		return i + 1, "", true
	}
	return i + 1, declaredName(name), true
}

// declaredName is what a declaration within ASCII-compatible bytes can mean.
func declaredName(name string) string {
	switch name {
	case "utf-16be", "utf-16le":
		return "utf-8"
	case "x-user-defined":
		return "windows-1252"
	}
	return name
}

// prescanAttr is the standard's "get an attribute" at b[i:]. At the tag's > it
// returns more == false and its position; complete is false where b ends early.
func prescanAttr(b []byte, i int) (name, value []byte, next int, more, complete bool) {
	for i < len(b) && (isSpace(b[i]) || b[i] == '/') {
		i++
	}
	if i == len(b) {
		return nil, nil, 0, false, false
	}
	if b[i] == '>' {
		return nil, nil, i, false, true
	}
	start := i
	for i < len(b) && !isSpace(b[i]) && b[i] != '/' && b[i] != '>' && (b[i] != '=' || i == start) {
		i++
	}
	name = b[start:i]
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	if i == len(b) {
		return nil, nil, 0, false, false
	}
	if b[i] != '=' {
		return name, nil, i, true, true
	}
	i++
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	if i == len(b) {
		return nil, nil, 0, false, false
	}
	if q := b[i]; q == '"' || q == '\'' {
		end := bytes.IndexByte(b[i+1:], q)
		if end < 0 {
			return nil, nil, 0, false, false
		}
		return name, b[i+1 : i+1+end], i + end + 2, true, true
	}
	start = i
	for i < len(b) && !isSpace(b[i]) && b[i] != '>' {
		i++
	}
	if i == len(b) {
		return nil, nil, 0, false, false
	}
	return name, b[start:i], i, true, true
}

// charsetOfContent is the label in a meta's content, as in
// "text/html; charset=utf-8", or "".
func charsetOfContent(s []byte) string {
	for i := 0; i+len("charset") <= len(s); i++ {
		if !equalFold(s[i:i+len("charset")], "charset") {
			continue
		}
		rest := trimLeft(s[i+len("charset"):])
		if len(rest) == 0 || rest[0] != '=' {
			continue
		}
		rest = trimLeft(rest[1:])
		if len(rest) == 0 {
			return ""
		}
		if q := rest[0]; q == '"' || q == '\'' {
			end := bytes.IndexByte(rest[1:], q)
			if end < 0 {
				return ""
			}
			return string(rest[1 : 1+end])
		}
		end := bytes.IndexAny(rest, "; \t\n\f\r")
		if end < 0 {
			end = len(rest)
		}
		return string(rest[:end])
	}
	return ""
}

// xmlEncoding is the encoding of an XML declaration, which counts where no meta
// was found.
func xmlEncoding(doc []byte) string {
	if !hasPrefix(doc, "<?xml") {
		return ""
	}
	end := bytes.IndexByte(doc, '>')
	if end < 0 {
		return ""
	}
	decl := doc[:end]
	i := bytes.Index(decl, []byte("encoding"))
	if i < 0 {
		return ""
	}
	rest := skipControls(decl[i+len("encoding"):])
	if len(rest) == 0 || rest[0] != '=' {
		return ""
	}
	rest = skipControls(rest[1:])
	if len(rest) == 0 || rest[0] != '"' && rest[0] != '\'' {
		return ""
	}
	n := bytes.IndexByte(rest[1:], rest[0])
	if n < 0 {
		return ""
	}
	label := rest[1 : 1+n]
	for _, c := range label {
		if c <= ' ' {
			return ""
		}
	}
	return declaredName(encodingName(string(label)))
}

func skipControls(b []byte) []byte {
	for len(b) > 0 && b[0] <= ' ' {
		b = b[1:]
	}
	return b
}

func hasPrefix(b []byte, s string) bool {
	return len(b) >= len(s) && string(b[:len(s)]) == s
}
