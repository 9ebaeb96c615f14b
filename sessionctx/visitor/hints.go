package visitor

import (
	"net/http"
	"slices"
	"strings"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// Client hints (RFC 8942) are headers that a browser sends about itself, over
// HTTPS and to localhost. Three come by themselves (Sec-CH-UA, -Mobile,
// -Platform); others only once a page's answer has asked for them by
// Accept-CH. Only Chromium knows them. What it does is read from its sources
// (content/browser/client_hints) and held to by a test with a real one.

// hint is one that has to be asked for.
type hint struct {
	name  string // as it is written
	key   string // in http.Header
	since int    // Chromium's version; older than 101 is not told apart
}

// pageHints are those that come with requests for pages. Width is none: it
// goes with images only.
var pageHints = func() []hint {
	list := []hint{
		{name: "Sec-CH-UA-Full-Version-List"}, {name: "ECT"}, // what we make something of
		{name: "Sec-CH-UA-Arch"}, {name: "Sec-CH-UA-Bitness"}, {name: "Sec-CH-UA-Full-Version"},
		{name: "Sec-CH-UA-Model"}, {name: "Sec-CH-UA-Platform-Version"}, {name: "Sec-CH-UA-WoW64"},
		{name: "Sec-CH-UA-Form-Factors", since: 124},
		{name: "Sec-CH-Prefers-Color-Scheme"}, {name: "Sec-CH-Prefers-Reduced-Motion", since: 108},
		{name: "Sec-CH-Prefers-Reduced-Transparency", since: 119},
		{name: "Device-Memory"}, {name: "DPR"}, {name: "Viewport-Width"},
		{name: "Sec-CH-Device-Memory"}, {name: "Sec-CH-DPR"}, {name: "Sec-CH-Viewport-Width"}, {name: "Sec-CH-Viewport-Height"},
		{name: "RTT"}, {name: "Downlink"},
	}
	for i := range list {
		list[i].key = http.CanonicalHeaderKey(list[i].name)
	}
	return list
}()

// usedHints are those that refine reads, and AskHints asks for.
var usedHints = pageHints[:2]

// oldestRetrying is the oldest Chromium whose retries are told; Critical-CH is
// known to those since 96, but not with each of the hints.
const oldestRetrying = 101

// refine adds what asked hints tell to what the browser's agent did.
func refine(d sessionctx.Device, h http.Header) sessionctx.Device {
	switch v := field(h, "Ect"); v {
	case "slow-2g", "2g", "3g", "4g":
		d.ConnectionType = v
	}
	if list := field(h, "Sec-Ch-Ua-Full-Version-List"); list != "" {
		if v := fullVersion(list, d.Browser); majorVersion(v) > 0 && majorVersion(v) == majorVersion(d.BrowserVersion) {
			d.BrowserVersion = v
		}
	}
	return d
}

// brandsOf are the brands of a browser of the vocabulary, the best first.
var brandsOf = map[string][]string{
	"Chrome": {`"Google Chrome"`, `"Chromium"`},
	"Edge":   {`"Microsoft Edge"`},
	"Opera":  {`"Opera"`, `"Opera GX"`},
}

// fullVersion is the version of the browser in a list of brands.
func fullVersion(list, browser string) string {
	list = cut(list, maxFullVersions)
	for _, brand := range brandsOf[browser] {
		if v := versionAfter(list, brand+`;v="`); v != "" {
			return v
		}
	}
	return ""
}

// asksForPages reports whether the request is for a whole tab's page by a
// browser that sends hints: only such answers may ask for more.
func asksForPages(h http.Header) bool {
	return len(h["Sec-Ch-Ua"]) > 0 && field(h, "Sec-Fetch-Dest") == "document"
}

// AskHints makes a page's answer ask for the hints that Read makes something
// of: the browser's full version and the speed of its network. Where they are
// not allowed, it takes them back from a browser that sends them.
//
// A browser remembers the latest Accept-CH for as long as cookies, and forgets
// what an earlier one asked for. So what the answer asks for already stays, and
// where it says nothing those that the request brought, which other pages of
// the origin need. (Hints of images, like Width, can't be seen there.)
func AskHints(r *http.Request, answer http.Header, allowed bool) {
	request := r.Header
	if !asksForPages(request) {
		return
	}
	brought := 0
	for _, hint := range usedHints {
		if len(request[hint.key]) > 0 {
			brought++
		}
	}
	own, asks := answer["Accept-Ch"]
	var names []string
	switch {
	case asks && !allowed:
		return // it takes the place of what was asked for before
	case asks:
		names = slices.DeleteFunc(slices.Clone(own), func(line string) bool { return strings.TrimSpace(line) == "" })
	case allowed && brought == len(usedHints), !allowed && brought == 0:
		return
	default:
		for _, hint := range pageHints[len(usedHints):] {
			if len(request[hint.key]) > 0 {
				names = append(names, hint.name)
			}
		}
	}
	for _, hint := range usedHints {
		if allowed && !lists(names, hint.key) {
			names = append(names, hint.name)
		}
	}
	answer["Accept-Ch"] = []string{strings.Join(names, ", ")}
}

// Discards reports whether the browser throws this answer away unseen, because
// it names hints that the request lacks (Critical-CH), and asks again with
// them: it does so for whole pages that are got, not for forms that are posted.
// Brave, which sends no such hints, doesn't.
func Discards(r *http.Request, answer http.Header) bool {
	critical, request := answer["Critical-Ch"], r.Header
	if len(critical) == 0 || r.Method != http.MethodGet || !asksForPages(request) {
		return false
	}
	brands := cut(field(request, "Sec-Ch-Ua"), maxBrands)
	version := majorVersion(versionAfter(brands, `"Chromium";v="`))
	if version < oldestRetrying || strings.Contains(brands, `"Brave"`) {
		return false
	}
	for _, hint := range pageHints {
		if len(request[hint.key]) == 0 && version >= hint.since &&
			lists(critical, hint.key) && lists(answer["Accept-Ch"], hint.key) {
			return true
		}
	}
	return false
}

// lists reports whether a list of names in a header has the one with this key.
func lists(lines []string, key string) bool {
	for _, line := range lines {
		for name := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(name), key) {
				return true
			}
		}
	}
	return false
}
