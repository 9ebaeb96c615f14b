package inject

// maxPrefix is how much of a document is held while the insertion point is
// sought. Real pages need a few hundred bytes; the rest is room for comments.
const maxPrefix = 64 << 10

// document decides about a page from its first bytes: in which encoding it is,
// and where the script goes.
type document struct {
	html     scanner
	xml      xmlScanner
	pre      prescanner
	isXML    bool
	begun    bool   // the byte order mark has been dealt with
	prescan  bool   // the encoding is still to be found in the document
	declared string // the encoding named by the Content-Type
	charset  string // the encoding found by the prescan
	place    place
}

// look decides about doc, which is the document from its first byte, at most
// maxPrefix bytes of it. last says that it ends there.
func (d *document) look(doc []byte, last bool) place {
	if !d.begun {
		if !d.begin(doc, last) {
			return d.place
		}
	}
	if !d.place.known() {
		d.place = d.scan(doc, last)
	}
	if d.place.reason != Pending {
		return d.place
	}
	if d.prescan {
		name, done := d.pre.scan(doc, last)
		d.prescan = !done
		d.charset = name
		if !asciiSafe(name) {
			d.place = place{reason: Charset}
			return d.place
		}
	}
	if d.prescan {
		// Found or not, the header waits for the encoding.
		return place{}
	}
	return d.place
}

// hurry is look's answer for an upstream that flushes: it may pause for long,
// and browsers show what they have. Once the body has begun to say something,
// no declaration of an encoding is waited for. Before that one is: the script
// in front would move it out of browsers' sight.
func (d *document) hurry() place {
	if d.prescan && !d.pre.inBody {
		return place{}
	}
	d.prescan = false
	return d.place
}

func (d *document) scan(doc []byte, last bool) (p place) {
	full := len(doc) >= maxPrefix
	if d.isXML {
		if p = d.xml.scan(doc); p.known() {
			// The XML declaration is whole by now, if there is one.
			if d.declared == "" && !asciiSafe(xmlEncoding(doc)) {
				return place{reason: Charset}
			}
			return p
		}
		if last {
			return d.xml.finish()
		}
		if full {
			return d.xml.overflow()
		}
		return p
	}
	if p = d.html.scan(doc); p.known() {
		return p
	}
	if last {
		return d.html.finish()
	}
	if full {
		return d.html.overflow()
	}
	return p
}

// begin looks for a byte order mark, which wins over everything else, and
// reports whether there is anything left to do.
func (d *document) begin(doc []byte, last bool) bool {
	if !last && (len(doc) < 2 && maybePrefix(doc, "\xfe\xff") || len(doc) < 2 && maybePrefix(doc, "\xff\xfe") ||
		len(doc) < 3 && maybePrefix(doc, "\xef\xbb\xbf")) {
		return false
	}
	d.begun = true
	switch {
	case hasPrefix(doc, "\xfe\xff"), hasPrefix(doc, "\xff\xfe"):
		d.place = place{reason: Charset}
		return false
	case hasPrefix(doc, "\xef\xbb\xbf"):
		d.prescan = false
		d.html.pos, d.xml.pos = 3, 3
	case !asciiSafe(d.declared):
		d.place = place{reason: Charset}
		return false
	}
	return true
}
