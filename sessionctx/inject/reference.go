package inject

// reference steps through a character reference: whitespace written as one is
// whitespace. more means that the bytes at hand do not suffice.
func (s *scanner) reference(doc []byte, c byte) (p place, more bool) {
	switch s.state {
	case inReference:
		if c == '#' {
			s.state, s.code = inNumeric, 0
			s.pos++
			return place{}, false
		}
		for _, name := range [...]string{"Tab;", "NewLine;"} {
			rest := doc[s.pos:]
			if len(rest) >= len(name) && string(rest[:len(name)]) == name {
				s.pos += len(name)
				s.state = inData
				return place{}, false
			}
			if len(rest) < len(name) && string(rest) == name[:len(rest)] {
				return place{}, true
			}
		}
		return s.at(s.token), false
	case inNumeric:
		if c == 'x' || c == 'X' {
			s.state = inHexStart
			s.pos++
			return place{}, false
		}
		if c < '0' || c > '9' {
			return s.at(s.token), false
		}
		s.state = inDecimal
		return place{}, false
	case inHexStart:
		if hexValue(c) < 0 {
			return s.at(s.token), false
		}
		s.state = inHex
		return place{}, false
	}
	base, digit := rune(10), hexValue(c)
	if s.state == inHex {
		base = 16
	}
	if digit >= 0 && digit < base {
		// Once beyond the whitespace there is no way back.
		s.code = min(s.code*base+digit, 0x110000)
		s.pos++
		return place{}, false
	}
	if !isSpaceRune(s.code) {
		return s.at(s.token), false
	}
	if c == ';' {
		s.pos++
	}
	s.state = inData
	return place{}, false
}
