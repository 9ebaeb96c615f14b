package inject

import "bytes"

// marker is the attribute that our element carries, here and in every layer of
// proxies that runs this package.
const marker = "data-session-context"

// scanner finds the insertion point of an HTML document. It follows the HTML
// standard's tokenizer, reduced to what can come before a head, and the tree
// construction modes "initial", "before html" and "before head", which for our
// purpose are one: whitespace, comments, doctypes, <html> and most end tags
// leave the parser where it is, and everything else makes it create a head.
//
// It is handed the document from its first byte each time, looks at every byte
// once, and picks up where it stopped.
type scanner struct {
	pos   int       // next byte to look at
	state scanState // of the tokenizer
	token int       // where the token at hand begins
	name  int       // where the tag or attribute name at hand begins
	tag   tagName   // of the tag at hand
	end   bool      // the tag at hand is an end tag
	ours  bool      // the tag at hand carries the marker
	head  int       // behind <head …>, once seen
	code  rune      // of the numeric character reference at hand
}

type scanState uint8

const (
	inData scanState = iota
	inTagOpen
	inEndTagOpen
	inTagName
	inBeforeAttr
	inAttrName
	inAfterAttrName
	inBeforeValue
	inDoubleQuoted
	inSingleQuoted
	inUnquoted
	inAfterQuoted
	inSelfClosing
	inMarkup
	inMarkupDash
	inBogus
	inCommentStart
	inCommentStartDash
	inComment
	inCommentEndDash
	inCommentEnd
	inCommentEndBang
	inReference
	inNumeric
	inHexStart
	inHex
	inDecimal
)

// tagName is as much as we need to know of a tag's name.
type tagName uint8

const (
	tagOther tagName = iota
	tagHTML
	tagHead
	tagScript
	tagBody
	tagBr
)

// place is what a scanner has to say: nothing yet, an offset, or that the
// document is to be left alone.
type place struct {
	found  bool
	at     int
	reason Reason
}

func (p place) known() bool { return p.found || p.reason != Pending }

// at is the answer "insert here", where here is either behind a head tag seen
// before or in front of the token that makes the parser create one.
func (s *scanner) at(token int) place {
	if s.head > 0 {
		token = s.head
	}
	return place{found: true, at: token}
}

// scan looks at what is new in doc.
func (s *scanner) scan(doc []byte) place {
	for s.pos < len(doc) {
		c := doc[s.pos]
		switch s.state {
		case inData:
			switch {
			case isSpace(c):
				s.pos++
			case c == '<':
				s.token = s.pos
				s.pos++
				s.state = inTagOpen
			case c == '&' && s.head == 0:
				s.token = s.pos
				s.pos++
				s.state = inReference
			case c == 0 && s.head == 0:
				// By the standard it makes a head and a body, but Chromium and
				// WebKit drop it: what follows means one thing or the other.
				return place{reason: NoInsertionPoint}
			default:
				return s.at(s.pos)
			}
		case inTagOpen:
			if p := s.tagOpen(c); p.known() {
				return p
			}
		case inEndTagOpen:
			s.endTagOpen(c)
		case inTagName:
			if isSpace(c) || c == '/' || c == '>' {
				if p := s.named(doc[s.name:s.pos]); p.known() {
					return p
				}
				s.state = inBeforeAttr
				continue
			}
			s.pos++
		case inReference, inNumeric, inHexStart, inHex, inDecimal:
			p, more := s.reference(doc, c)
			if p.known() || more {
				return p
			}
		case inMarkup, inMarkupDash, inBogus, inCommentStart, inCommentStartDash,
			inComment, inCommentEndDash, inCommentEnd, inCommentEndBang:
			s.comment(doc, c)
		default:
			if s.attribute(doc, c) {
				if p := s.tagDone(); p.known() {
					return p
				}
			}
		}
	}
	return place{}
}

// finish answers for a document that ends here.
func (s *scanner) finish() place {
	switch s.state {
	case inTagOpen, inEndTagOpen, inReference, inNumeric, inHexStart:
		// What looked like markup was text.
		return s.at(s.token)
	case inHex, inDecimal:
		if !isSpaceRune(s.code) {
			return s.at(s.token)
		}
	}
	if s.head > 0 {
		return s.at(s.head)
	}
	return place{reason: NoInsertionPoint}
}

// overflow answers for a document whose prefix has become too long.
func (s *scanner) overflow() place {
	if s.head > 0 && s.state == inData {
		return s.at(s.head)
	}
	return place{reason: PrefixTooLong}
}

func (s *scanner) tagOpen(c byte) place {
	switch {
	case isAlpha(c):
		s.name, s.end, s.ours = s.pos, false, false
		s.state = inTagName
		s.pos++
		return place{}
	case c == '/':
		s.state = inEndTagOpen
		s.pos++
		return place{}
	case s.head > 0:
		return s.at(s.head)
	case c == '!':
		s.state = inMarkup
		s.pos++
		return place{}
	case c == '?':
		s.state = inBogus
		return place{}
	}
	return s.at(s.token)
}

func (s *scanner) endTagOpen(c byte) {
	switch {
	case isAlpha(c):
		s.name, s.end, s.ours = s.pos, true, false
		s.state = inTagName
		s.pos++
	case c == '>':
		s.state = inData
		s.pos++
	default:
		s.state = inBogus
	}
}

// named is called where a tag's name ends; most names decide at once.
func (s *scanner) named(name []byte) place {
	s.tag = lookupTag(name)
	if s.end {
		if s.head > 0 || s.tag != tagOther && s.tag != tagScript {
			return s.at(s.token)
		}
		return place{}
	}
	switch s.tag {
	case tagScript:
		return place{}
	case tagHTML, tagHead:
		if s.head == 0 {
			return place{}
		}
	}
	return s.at(s.token)
}

// tagDone is called behind the > of a tag.
func (s *scanner) tagDone() place {
	s.state = inData
	switch {
	case s.end || s.tag == tagHTML:
	case s.tag == tagHead:
		s.head = s.pos
	case s.ours:
		return place{reason: AlreadyInjected}
	default:
		return s.at(s.token)
	}
	return place{}
}

// attribute steps through what stands between a tag's name and its >, and
// reports that the > has been passed.
func (s *scanner) attribute(doc []byte, c byte) bool {
	switch s.state {
	case inBeforeAttr, inAfterAttrName, inAfterQuoted, inSelfClosing:
		switch {
		case c == '>':
			s.pos++
			return true
		case c == '/':
			s.state = inSelfClosing
		case isSpace(c):
			if s.state != inAfterAttrName {
				s.state = inBeforeAttr
			}
		case c == '=' && s.state == inAfterAttrName:
			s.state = inBeforeValue
		default:
			// A = here begins a name, so it must not end it at once.
			s.name = s.pos
			s.state = inAttrName
		}
		s.pos++
	case inAttrName:
		if !isSpace(c) && c != '/' && c != '>' && c != '=' {
			s.pos++
			return false
		}
		if s.tag == tagScript && equalFold(doc[s.name:s.pos], marker) {
			s.ours = true
		}
		s.state = inAfterAttrName
	case inBeforeValue:
		switch {
		case isSpace(c):
		case c == '"':
			s.state = inDoubleQuoted
		case c == '\'':
			s.state = inSingleQuoted
		case c == '>':
			s.pos++
			return true
		default:
			s.state = inUnquoted
		}
		s.pos++
	case inDoubleQuoted:
		s.skipTo(doc, '"', inAfterQuoted)
	case inSingleQuoted:
		s.skipTo(doc, '\'', inAfterQuoted)
	case inUnquoted:
		if isSpace(c) {
			s.state = inBeforeAttr
		} else if c == '>' {
			s.pos++
			return true
		}
		s.pos++
	}
	return false
}

// comment steps through <!…>, <?…> and </ …>. A doctype ends at its first >,
// quoted or not, as a bogus comment does, so it needs no states of its own.
func (s *scanner) comment(doc []byte, c byte) {
	next := inComment
	switch s.state {
	case inMarkup:
		next = inMarkupDash
		if c != '-' {
			s.state = inBogus
			return
		}
	case inMarkupDash:
		next = inCommentStart
		if c != '-' {
			s.state = inBogus
			return
		}
	case inBogus:
		s.skipTo(doc, '>', inData)
		return
	case inComment:
		s.skipTo(doc, '-', inCommentEndDash)
		return
	case inCommentStart:
		switch c {
		case '-':
			next = inCommentStartDash
		case '>':
			next = inData
		}
	case inCommentStartDash:
		switch c {
		case '-':
			next = inCommentEnd
		case '>':
			next = inData
		}
	case inCommentEndDash:
		if c == '-' {
			next = inCommentEnd
		}
	case inCommentEnd:
		switch c {
		case '>':
			next = inData
		case '!':
			next = inCommentEndBang
		case '-':
			next = inCommentEnd
		}
	case inCommentEndBang:
		switch c {
		case '>':
			next = inData
		case '-':
			next = inCommentEndDash
		}
	}
	s.state = next
	s.pos++
}

// skipTo moves behind the next c and into state then, or to the end of doc.
func (s *scanner) skipTo(doc []byte, c byte, then scanState) {
	i := bytes.IndexByte(doc[s.pos:], c)
	if i < 0 {
		s.pos = len(doc)
		return
	}
	s.pos += i + 1
	s.state = then
}

func lookupTag(name []byte) tagName {
	switch {
	case equalFold(name, "head"):
		return tagHead
	case equalFold(name, "html"):
		return tagHTML
	case equalFold(name, "script"):
		return tagScript
	case equalFold(name, "body"):
		return tagBody
	case equalFold(name, "br"):
		return tagBr
	}
	return tagOther
}
