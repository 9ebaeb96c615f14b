package visitor

import (
	"net/http"
	"slices"
	"strings"

	"github.com/mileusna/useragent"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// Caps on the client hints that are looked at.
const (
	maxHint   = 32
	maxBrands = 256
)

// agentKey is all that device and browser follow from.
type agentKey struct {
	userAgent, platform, mobile, brands string
}

// agent is what follows from an agentKey.
type agent struct {
	device  sessionctx.Device
	verdict verdict
	// hints says that this browser sends client hints over HTTPS, fetch
	// that it sends Fetch Metadata.
	hints, fetch bool
}

// agent looks the request's browser up, or works it out and remembers it.
func (st *state) agent(cleanUA string, h http.Header) agent {
	key := agentKey{
		userAgent: cleanUA,
		platform:  cut(field(h, "Sec-Ch-Ua-Platform"), maxHint),
		mobile:    cut(field(h, "Sec-Ch-Ua-Mobile"), maxHint),
		brands:    cut(field(h, "Sec-Ch-Ua"), maxBrands),
	}
	if a, ok := st.agents.get(key); ok {
		return a
	}
	key = agentKey{
		strings.Clone(key.userAgent), strings.Clone(key.platform),
		strings.Clone(key.mobile), strings.Clone(key.brands),
	}
	a := newAgent(key)
	st.agents.put(key, a)
	return a
}

func newAgent(k agentKey) agent {
	parsed := useragent.Parse(k.userAgent)
	d := sessionctx.Device{OS: osName(k, parsed.OS)}
	d.Browser, d.BrowserVersion = browser(k, &parsed)
	d.Type = deviceType(k, d.OS, &parsed)
	d.Mobile = d.Type == "mobile"
	a := agent{device: d, verdict: judge(k, parsed.Bot)}
	major := majorVersion(d.BrowserVersion)
	switch {
	case d.OS == "iOS":
		// Every browser there is WebKit, whatever its name and version.
	case d.Browser == "Chrome", d.Browser == "Edge", d.Browser == "Opera":
		// Engine versions since which both are sent for every page; web
		// views of apps began later and are left out.
		webView := strings.Contains(k.userAgent, "; wv)") || strings.Contains(k.userAgent, "Version/4.0")
		chromium := majorVersion(versionAfter(k.userAgent, "Chrome/"))
		a.hints = chromium >= 90 && !webView
		a.fetch = chromium >= 80 && !webView
	case d.Browser == "Firefox":
		a.fetch = major >= 90
	case d.Browser == "Safari":
		a.fetch = major >= 17
	}
	return a
}

// osName prefers the client hint: user agents are frozen and lie.
func osName(k agentKey, parsed string) string {
	switch unquote(k.platform) {
	case "Windows":
		return "Windows"
	case "macOS":
		return "macOS"
	case "Android":
		return "Android"
	case "iOS":
		return "iOS"
	case "Linux", "Chrome OS", "Chromium OS":
		return "Linux"
	}
	switch parsed {
	case useragent.Windows, useragent.WindowsPhone:
		return "Windows"
	case useragent.MacOS:
		return "macOS"
	case useragent.Android:
		if strings.Contains(k.userAgent, "Tizen") {
			return "Linux" // the parser takes every Samsung browser for an Android
		}
		return "Android"
	case useragent.IOS:
		return "iOS"
	case useragent.Linux, useragent.ChromeOS:
		// The vocabulary has no word for ChromeOS; it is a Linux.
		return "Linux"
	}
	return "Unknown"
}

// deviceType is a word of the vocabulary. Android tells phones by "Mobile";
// tablets leave it out. What is neither screen on a desk nor in a hand (TVs,
// consoles, programs) is unknown.
func deviceType(k agentKey, os string, parsed *useragent.UserAgent) string {
	mobi := strings.Contains(k.userAgent, "Mobi") || strings.Contains(k.userAgent, "Opera Mini")
	switch {
	case k.mobile == "?1":
		return "mobile"
	case isTV(k.userAgent):
		return "unknown"
	case os == "iOS" && strings.Contains(k.userAgent, "iPad"):
		return "tablet"
	case os == "iOS":
		return "mobile"
	case os == "Android" && mobi && k.mobile != "?0":
		return "mobile"
	case os == "Android":
		return "tablet"
	case mobi:
		return "mobile"
	case strings.Contains(k.userAgent, "Kindle"):
		return "tablet"
	case os != "Unknown":
		return "desktop"
	}
	switch {
	case parsed.Mobile:
		return "mobile"
	case parsed.Tablet:
		return "tablet"
	case parsed.Desktop:
		return "desktop"
	}
	return "unknown"
}

// tvMarks stand in the user agents of televisions, of what is plugged into
// them, and of consoles.
var tvMarks = []string{
	"TV", "Large Screen", "CrKey", "Roku", "Web0S", "BRAVIA", "; AFT", "Nexus Player",
	"PlayStation", "PLAYSTATION", "Xbox", "XBOX", "Nintendo",
}

func isTV(userAgent string) bool {
	return slices.ContainsFunc(tvMarks, func(mark string) bool { return strings.Contains(userAgent, mark) })
}

// browser is name and version. Browsers on Chromium that the vocabulary has
// no word for (Samsung Internet, Vivaldi, Yandex, Silk …) are Chrome in the
// version of their engine: that is what decides how a page behaves there.
func browser(k agentKey, parsed *useragent.UserAgent) (name, version string) {
	switch parsed.Name {
	case useragent.Chrome, useragent.HeadlessChrome:
		name = "Chrome"
	case useragent.Firefox:
		name = "Firefox"
	case useragent.Safari:
		name = "Safari"
	case useragent.Edge:
		name = "Edge"
	case useragent.Opera, useragent.OperaMini, useragent.OperaTouch:
		name = "Opera"
	default:
		if v := versionAfter(k.userAgent, "Chrome/"); v != "" {
			return "Chrome", v
		}
	}
	if name != "" {
		version = cleanVersion(parsed.Version)
	}
	// The brands correct a user agent that names only its engine.
	for _, b := range [...]struct{ brand, name string }{
		{`"Microsoft Edge"`, "Edge"}, {`"Opera"`, "Opera"}, {`"Google Chrome"`, "Chrome"}, {`"Chromium"`, "Chrome"},
	} {
		i := strings.Index(k.brands, b.brand)
		if i < 0 {
			continue
		}
		brandVersion := versionAfter(k.brands[i+len(b.brand):], `v="`)
		switch {
		case name == b.name && version != "":
		case name == "", name == "Chrome" && b.name != "Chrome", name == b.name:
			return b.name, brandVersion
		}
		break
	}
	if name == "" && parsed.OS == useragent.IOS {
		// Apps have browsers of their own, and all are WebKit.
		name = "Safari"
	}
	if name == "" {
		name = "Unknown"
	}
	return name, version
}

// connectionType is the effective type of the ECT client hint. No header
// tells about Wi-Fi.
func connectionType(h http.Header) string {
	switch v := field(h, "Ect"); v {
	case "slow-2g", "2g", "3g", "4g":
		return v
	}
	return "unknown"
}

// versionAfter is the version number that follows the first mark in s.
func versionAfter(s, mark string) string {
	i := strings.Index(s, mark)
	if i < 0 {
		return ""
	}
	return cleanVersion(s[i+len(mark):])
}

// cleanVersion is the digits and dots at the start of s.
func cleanVersion(s string) string {
	n := 0
	for n < len(s) && n < 24 && (s[n] >= '0' && s[n] <= '9' || s[n] == '.') {
		n++
	}
	return strings.Trim(s[:n], ".")
}

func majorVersion(v string) int {
	n := 0
	for i := 0; i < len(v) && i < 6 && v[i] >= '0' && v[i] <= '9'; i++ {
		n = n*10 + int(v[i]-'0')
	}
	return n
}

func unquote(s string) string {
	s = strings.TrimSpace(s)
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

func cut(s string, max int) string {
	if len(s) > max {
		return s[:max]
	}
	return s
}
