package inject

import (
	"net/http"
	"path"
	"strings"
)

// PageRequest reports whether a browser means to show the answer to r as a
// page: a GET, a HEAD or a POST navigation for a document or frame, also by way
// of a service worker, or ahead of time into the browser's cache. Clients that
// send no Sec-Fetch headers are judged by Accept and by the path, which is to be
// the one that the client sent, before any rewrite; "" is r's own.
func PageRequest(r *http.Request, originalPath string) bool {
	if r.Header.Get("Upgrade") != "" {
		return false
	}
	if originalPath == "" {
		originalPath = r.URL.Path
	}
	dest, mode := r.Header.Get("Sec-Fetch-Dest"), r.Header.Get("Sec-Fetch-Mode")
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPost:
		if mode != "navigate" {
			return false
		}
	default:
		return false
	}
	switch {
	case dest == "empty":
		return passedOn(r.Header) || fetchedAhead(r.Header) && !staticPath(originalPath)
	case dest != "":
		return dest == "document" || dest == "iframe" || dest == "frame"
	case mode != "":
		return mode == "navigate"
	}
	named, anything := acceptsHTML(r.Header["Accept"])
	return named || anything && !staticPath(originalPath)
}

// passedOn reports whether a service worker passes a navigation on: its request
// keeps the mode, which no script can set, and loses the destination.
func passedOn(h http.Header) bool { return h.Get("Sec-Fetch-Mode") == "navigate" }

// fetchedAhead reports whether the answer goes into the browser's cache for a
// navigation to come, as with <link rel=prefetch>. Whether it is a page is for
// its type to tell.
func fetchedAhead(h http.Header) bool {
	purpose, _, _ := strings.Cut(h.Get("Sec-Purpose"), ";")
	return h.Get("Sec-Fetch-Mode") == "no-cors" && strings.EqualFold(strings.TrimSpace(purpose), "prefetch")
}

// acceptsHTML reports whether Accept names HTML, and whether it is missing or
// nothing but */*.
func acceptsHTML(accept []string) (named, anything bool) {
	anything = true
	for _, line := range accept {
		for item := range strings.SplitSeq(line, ",") {
			item, params, _ := strings.Cut(item, ";")
			item = strings.TrimSpace(item)
			switch {
			case strings.EqualFold(item, "text/html"), strings.EqualFold(item, "application/xhtml+xml"):
				if !refused(params) {
					return true, false
				}
				anything = false
			case item != "" && item != "*/*":
				anything = false
			}
		}
	}
	return false, anything
}

// refused reports whether the parameters of a media range include q=0.
func refused(params string) bool {
	for p := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(name, "q") {
			return strings.Trim(value, "0.") == "" && value != ""
		}
	}
	return false
}

// staticExtensions are those of files that no server answers with a page.
var staticExtensions = func() map[string]bool {
	m := make(map[string]bool)
	for ext := range strings.FieldsSeq(`
		7z aac apk atom avi avif bin bmp br bz2 css csv deb dmg doc docx eot epub exe
		flac flv gif gz ico ics iso jar jpeg jpg js json jsonld jxl m3u8 m4a m4v map
		md mid mjs mkv mov mp3 mp4 mpeg mpg msi odt oga ogg ogv opus otf pbf pdf png
		ppt pptx rar rpm rss rtf svg svgz swf tar tgz tif tiff toml ts ttf txt vtt
		wasm wav weba webm webmanifest webp wma wmv woff woff2 xls xlsx xml xz yaml
		yml zip zst`) {
		m["."+ext] = true
	}
	return m
}()

func staticPath(p string) bool { return staticExtensions[strings.ToLower(path.Ext(p))] }

// PrepareRequest changes r's header, in place, such that the upstream sends the
// whole page, uncompressed, rather than a part, a 304 or a 412. A page whose
// validators reach the browser (Options.Cacheable) keeps its conditions.
//
// Restore of what is returned puts everything back; call it when the upstream
// is done.
func PrepareRequest(r *http.Request, keepConditions bool) Prepared {
	if r.Header == nil {
		r.Header = make(http.Header)
	}
	p := Prepared{header: r.Header, n: len(preparedHeaders)}
	if keepConditions {
		p.n = alwaysPrepared
	}
	// The slices may be shared with a clone of the request (a log's, say), so
	// they are swapped, never edited.
	for i, name := range preparedHeaders[:p.n] {
		p.was[i], p.had[i] = r.Header[name]
		delete(r.Header, name)
	}
	r.Header["Accept-Encoding"] = []string{"identity"}
	return p
}

// Prepared is a request's header as it came.
type Prepared struct {
	header http.Header
	n      int // of preparedHeaders
	was    [len(preparedHeaders)][]string
	had    [len(preparedHeaders)]bool
}

// Restore puts it back.
func (p *Prepared) Restore() {
	for i, name := range preparedHeaders[:p.n] {
		delete(p.header, name)
		if p.had[i] {
			p.header[name] = p.was[i]
		}
	}
}

// alwaysPrepared is how many of preparedHeaders are never left alone.
const alwaysPrepared = 3

// preparedHeaders begin with those that are never left alone.
var preparedHeaders = [...]string{
	"Accept-Encoding", "Range", "If-Range",
	"If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since",
}
