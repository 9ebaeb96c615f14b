package sessionctx

// Bodies are taken apart while they are checked, in one pass: encoding/json
// takes several times as long for the check alone, which shows in what an event
// costs. What is JSON here is what it is there (RFC 8259, and the same depth);
// FuzzParseBody holds both together.

// maxDepth is how many objects and arrays may be in each other.
const maxDepth = 10000

// noJSON is the index that scans return for what is no JSON.
const noJSON = -1

// skipSpace is the index of the first byte from i on that is no white space.
func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

// byteAt is the byte at i, 0 behind the end: no JSON has one outside of strings.
func byteAt(b []byte, i int) byte {
	if i < len(b) {
		return b[i]
	}
	return 0
}

// scanValue is the index behind the value that begins at i.
func scanValue(b []byte, i, depth int) int {
	switch c := byteAt(b, i); c {
	case '"':
		return scanString(b, i)
	case '{':
		return scanObject(b, i, depth+1, nil)
	case '[':
		return scanArray(b, i, depth+1)
	case 't':
		return scanWord(b, i, "true")
	case 'f':
		return scanWord(b, i, "false")
	case 'n':
		return scanWord(b, i, "null")
	}
	return scanNumber(b, i)
}

func scanWord(b []byte, i int, word string) int {
	if end := i + len(word); end <= len(b) && string(b[i:end]) == word {
		return end
	}
	return noJSON
}

// scanObject is the index behind the object that begins at i. It hands each of
// its fields over, the name with its quotes, if field is not nil.
func scanObject(b []byte, i, depth int, field func(name, value []byte)) int {
	if depth > maxDepth {
		return noJSON
	}
	if i = skipSpace(b, i+1); byteAt(b, i) == '}' {
		return i + 1
	}
	for {
		if byteAt(b, i) != '"' {
			return noJSON
		}
		nameEnd := scanString(b, i)
		if nameEnd == noJSON {
			return noJSON
		}
		colon := skipSpace(b, nameEnd)
		if byteAt(b, colon) != ':' {
			return noJSON
		}
		from := skipSpace(b, colon+1)
		end := scanValue(b, from, depth)
		if end == noJSON {
			return noJSON
		}
		if field != nil {
			field(b[i:nameEnd], b[from:end:end])
		}
		i = skipSpace(b, end)
		switch byteAt(b, i) {
		case '}':
			return i + 1
		case ',':
			i = skipSpace(b, i+1)
		default:
			return noJSON
		}
	}
}

// scanArray is the index behind the array that begins at i.
func scanArray(b []byte, i, depth int) int {
	if depth > maxDepth {
		return noJSON
	}
	if i = skipSpace(b, i+1); byteAt(b, i) == ']' {
		return i + 1
	}
	for {
		end := scanValue(b, i, depth)
		if end == noJSON {
			return noJSON
		}
		i = skipSpace(b, end)
		switch byteAt(b, i) {
		case ']':
			return i + 1
		case ',':
			i = skipSpace(b, i+1)
		default:
			return noJSON
		}
	}
}

// scanString is the index behind the string that begins at i.
func scanString(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c < ' ':
			return noJSON
		case c == '\\':
			i++
			switch byteAt(b, i) {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					i++
					if !isHex(byteAt(b, i)) {
						return noJSON
					}
				}
			default:
				return noJSON
			}
		}
	}
	return noJSON
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// scanNumber is the index behind the number that begins at i.
func scanNumber(b []byte, i int) int {
	if byteAt(b, i) == '-' {
		i++
	}
	end := scanDigits(b, i)
	if end == i || end > i+1 && b[i] == '0' {
		return noJSON
	}
	if byteAt(b, end) == '.' {
		i = end + 1
		if end = scanDigits(b, i); end == i {
			return noJSON
		}
	}
	if c := byteAt(b, end); c == 'e' || c == 'E' {
		if i = end + 1; byteAt(b, i) == '+' || byteAt(b, i) == '-' {
			i++
		}
		if end = scanDigits(b, i); end == i {
			return noJSON
		}
	}
	return end
}

func scanDigits(b []byte, i int) int {
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	return i
}
