package visitor

import (
	"net/http"
	"strings"

	"github.com/mileusna/useragent"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// Caps on the client hints that are looked at.
const (
	maxHint         = 32
	maxBrands       = 256
	maxFullVersions = 512
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
	key = key.clone()
	a := newAgent(key)
	st.agents.put(key, a)
	return a
}

// clone makes the key independent of its request: one object for the
// collector to find, however many parts it has.
func (k agentKey) clone() agentKey {
	all := strings.Join([]string{k.userAgent, k.platform, k.mobile, k.brands}, "")
	next := func(n int) (part string) {
		part, all = all[:n], all[n:]
		return part
	}
	return agentKey{next(len(k.userAgent)), next(len(k.platform)), next(len(k.mobile)), next(len(k.brands))}
}

func newAgent(k agentKey) agent {
	parsed := useragent.Parse(k.userAgent)
	d := sessionctx.Device{OS: osName(k, parsed.OS)}
	d.Browser, d.BrowserVersion = browser(k, d.OS, &parsed)
	d.Type = deviceType(k, d.OS, &parsed)
	d.Mobile = d.Type == "mobile"
	d.ConnectionType = networkOf(k.userAgent)
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
	for _, o := range correctedOS {
		if containsAny(k.userAgent, o.marks) {
			return o.name
		}
	}
	switch parsed {
	case useragent.Windows:
		return "Windows"
	case useragent.MacOS:
		if onPad(k.userAgent) {
			return "iOS"
		}
		return "macOS"
	case useragent.Android:
		return "Android"
	case useragent.IOS:
		return "iOS"
	case useragent.Linux, useragent.ChromeOS:
		// The vocabulary has no word for ChromeOS; it is a Linux.
		return "Linux"
	case "":
		for _, o := range namedOS {
			if containsAny(k.userAgent, o.marks) {
				return o.name
			}
		}
	}
	return "Unknown"
}

type osMarks struct {
	name  string
	marks []string
}

// correctedOS are systems that the parser takes for others, in order.
var correctedOS = []osMarks{
	// Edge on phones called itself an Android too.
	{"Windows", []string{"Windows Phone"}},
	// Every Samsung browser is an Android's to the parser: those of televisions
	// and of PCs are none.
	{"Linux", []string{"Tizen"}},
	{"Windows", []string{"Windows NT"}},
	// Silk runs on Fire OS only, which is an Android, and asks for desktop
	// pages as a Linux or a Mac.
	{"Android", []string{"Silk/"}},
	// Not an Android any more, and the parser knows it by one of its forms.
	{"Unknown", []string{"OpenHarmony"}},
}

// namedOS is for what the parser finds no system in: it knows whole words only
// ("iPod touch", "CrOS i686", "Linux i686 on x86_64", "Windows 98").
var namedOS = []osMarks{
	{"Linux", []string{"like Android"}}, // Kindles that read
	{"Android", []string{"Android"}},
	{"iOS", []string{"iPhone", "iPad", "iPod"}},
	{"Windows", []string{"Windows"}},
	{"macOS", []string{"Macintosh", "Mac OS X"}},
	{"Linux", []string{"Linux", "CrOS"}},
}

// onPad reports whether what calls itself a Mac is an iPad that asks for
// desktop pages, as they all do by default: no Mac has these browsers, or says
// Mobile. (An iPhone may do so too, when told to.) Safari's own user agent is
// the Mac's to the letter and it sends no hints, so that one stays a Mac.
func onPad(userAgent string) bool {
	return containsAny(userAgent, []string{"CriOS/", "FxiOS/", "EdgiOS/", "OPiOS/", "OPT/", "GSA/", "Mobile/", "iPad", "iPhone"})
}

// deviceType is a word of the vocabulary. Android tells phones by "Mobile";
// tablets leave it out. What is neither screen on a desk nor in a hand (TVs,
// consoles, headsets, cars, programs) is unknown.
func deviceType(k agentKey, os string, parsed *useragent.UserAgent) string {
	mobi := strings.Contains(k.userAgent, "Mobi") || strings.Contains(k.userAgent, "Opera Mini")
	switch {
	case k.mobile == "?1":
		return "mobile"
	case containsAny(k.userAgent, otherScreens):
		return "unknown"
	case os == "iOS" && !strings.Contains(k.userAgent, "iPhone") && containsAny(k.userAgent, []string{"iPad", "Macintosh"}):
		return "tablet"
	case os == "iOS":
		return "mobile"
	case os == "Android" && mobi && k.mobile != "?0":
		return "mobile"
	case os == "Android":
		return "tablet"
	case containsAny(k.userAgent, []string{"Tablet;", "Kindle"}):
		return "tablet"
	case mobi:
		return "mobile"
	case os != "Unknown", containsAny(k.userAgent, []string{"X11", "PC;"}):
		return "desktop"
	}
	switch {
	case parsed.Mobile:
		return "mobile"
	case parsed.Tablet:
		return "tablet"
	}
	return "unknown"
}

// otherScreens stand in the user agents of televisions, of what is plugged into
// them, of consoles, headsets and cars.
var otherScreens = []string{
	"TV", "Large Screen", "CrKey", "Roku", "Web0S", "BRAVIA", "; AFT", "Nexus Player",
	"PlayStation", "PLAYSTATION", "Xbox", "XBOX", "Nintendo", "OculusBrowser", "Tesla/",
}

// browser is name and version. Browsers on Chromium that the vocabulary has
// no word for (Samsung Internet, Vivaldi, Yandex, Silk …) are Chrome in the
// version of their engine: that is what decides how a page behaves there.
func browser(k agentKey, os string, parsed *useragent.UserAgent) (name, version string) {
	switch parsed.Name {
	case useragent.Chrome, useragent.HeadlessChrome:
		name = "Chrome"
	case useragent.Firefox:
		name = "Firefox"
	case useragent.Safari:
		if v := versionAfter(k.userAgent, "Chrome/"); v != "" {
			return "Chrome", v // "Silk/108 like Chrome/108": the parser sees the last word
		}
		name = "Safari"
	case useragent.Edge:
		name = "Edge"
	case useragent.Opera, useragent.OperaMini, useragent.OperaTouch:
		name = "Opera"
	default:
		if v := versionAfter(k.userAgent, "Chrome/"); v != "" {
			return "Chrome", v
		}
		if os == "iOS" {
			// Apps have browsers of their own, and all are WebKit.
			name = "Safari"
		}
	}
	switch {
	case name == "Safari":
		// Its own number is WebKit's build, which the parser falls back to.
		version = versionAfter(k.userAgent, "Version/")
	case strings.HasPrefix(k.userAgent, "Opera/9.80"):
		// What the last Operas of their own engine called themselves for good.
		version = cleanVersion(parsed.Version)
		if v := versionAfter(k.userAgent, "Version/"); v != "" && parsed.Name == useragent.Opera {
			version = v
		}
	case name != "":
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
	if name == "" {
		name = "Unknown"
	}
	return name, version
}

// networkOf is the network that WeChat and TikTok name in the user agents of
// their browsers, which send no hint of it. 5G has no word.
func networkOf(userAgent string) string {
	_, word, _ := strings.Cut(userAgent, "NetType/")
	word, _, _ = strings.Cut(word, " ")
	switch word {
	case "WIFI", "2G", "3G", "4G":
		return strings.ToLower(word)
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
