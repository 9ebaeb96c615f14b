package visitor

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

func hintHeaders(platform, mobile, brands string) http.Header {
	h := http.Header{}
	for name, v := range map[string]string{"Sec-CH-UA-Platform": platform, "Sec-CH-UA-Mobile": mobile, "Sec-CH-UA": brands} {
		if v != "" {
			h.Set(name, v)
		}
	}
	return h
}

func TestDevice(t *testing.T) {
	for _, c := range []struct {
		name, ua                  string
		hints                     http.Header
		typ, os, browser, version string
	}{
		{"Chrome on Windows", uaChromeWin, nil, "desktop", "Windows", "Chrome", "131.0.0.0"},
		{"Android is not Linux", uaChromeAndroid, nil, "mobile", "Android", "Chrome", "131.0.0.0"},
		{"an Android without Mobile is a tablet", uaTabAndroid, nil, "tablet", "Android", "Chrome", "120.0.0.0"},
		{"ChromeOS is a Linux", uaChromeCrOS, nil, "desktop", "Linux", "Chrome", "131.0.0.0"},
		{"a web view", uaWebView, nil, "mobile", "Android", "Chrome", "120.0.6099.43"},
		{"Samsung Internet is the Chrome of its engine", uaSamsung, nil, "mobile", "Android", "Chrome", "117.0.0.0"},
		{"a phone named like a bot", uaCubot, nil, "mobile", "Android", "Chrome", "109.0.0.0"},
		{"Firefox on Windows", uaFirefoxWin, nil, "desktop", "Windows", "Firefox", "133.0"},
		{"Firefox on Linux", uaFirefoxLinux, nil, "desktop", "Linux", "Firefox", "133.0"},
		{"Edge", uaEdge, nil, "desktop", "Windows", "Edge", "131.0.2903.86"},
		{"Opera", uaOpera, nil, "desktop", "Windows", "Opera", "116.0.0.0"},
		{"Safari on a Mac", uaSafariMac, nil, "desktop", "macOS", "Safari", "17.4"},
		{"an iPhone is iOS, not macOS", uaSafariPhone, nil, "mobile", "iOS", "Safari", "17.4"},
		{"Chrome on an iPad", uaChromePad, nil, "tablet", "iOS", "Chrome", "119.0.6045.109"},
		{"Instagram's browser", uaInstagram, nil, "mobile", "iOS", "Safari", ""},
		{"Internet Explorer has no word", uaIE, nil, "desktop", "Windows", "Unknown", ""},
		{"a TV is no device of the vocabulary", uaTV, nil, "unknown", "Linux", "Chrome", "76.0.3809.146"},
		{"a crawler's smartphone", uaGooglebot, nil, "mobile", "Android", "Chrome", "131.0.6778.69"},
		{"curl", "curl/8.5.0", nil, "unknown", "Unknown", "Unknown", ""},
		{"nothing", "", nil, "unknown", "Unknown", "Unknown", ""},
		{"noise", "\x7f;;((((//// %%% 🦊 Chrome/", nil, "unknown", "Unknown", "", ""},
		{"the platform hint wins", uaChromeWin, hintHeaders(`"macOS"`, "?0", ""), "desktop", "macOS", "Chrome", "131.0.0.0"},
		{"a mobile hint", "Mozilla/5.0 (Linux; K)", hintHeaders(`"Android"`, "?1", `"Chromium";v="131", "Google Chrome";v="131"`), "mobile", "Android", "Chrome", "131"},
		{"brands know Edge", uaChromeWin, hintHeaders(`"Windows"`, "?0", `"Microsoft Edge";v="130", "Chromium";v="130"`), "desktop", "Windows", "Edge", "130"},
		{"brands of Chrome keep the longer version", uaChromeWin, hintHeaders(`"Windows"`, "?0", `"Google Chrome";v="131"`), "desktop", "Windows", "Chrome", "131.0.0.0"},
		{"hints that say nonsense are not heard", uaFirefoxWin, hintHeaders(`"<script>"`, "maybe", strings.Repeat(`"`, 1e5)), "desktop", "Windows", "Firefox", "133.0"},
	} {
		h := c.hints
		if h == nil {
			h = http.Header{}
		}
		var rd Reader
		a := rd.state().agent(c.ua, h)
		d := a.device
		if c.browser == "" {
			d.Browser, d.BrowserVersion = "", ""
		}
		want := sessionctx.Device{Type: c.typ, OS: c.os, Browser: c.browser, BrowserVersion: c.version, Mobile: c.typ == "mobile", ConnectionType: "unknown"}
		if d != want {
			t.Errorf("%s: %+v, want %+v", c.name, d, want)
		}
		if again := rd.state().agent(c.ua, h); again != a {
			t.Errorf("%s: from the cache: %+v", c.name, again)
		}
	}
}

func TestConnectionType(t *testing.T) {
	for sent, want := range map[string]string{
		"": "unknown", "4g": "4g", "3g": "3g", "2g": "2g", "slow-2g": "slow-2g", "5g": "unknown", "wifi": "unknown", "4G<": "unknown",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("ECT", sent)
		var rd Reader
		if got := rd.Read(Request{HTTP: r}).Device.ConnectionType; got != want {
			t.Errorf("ECT %q: %s", sent, got)
		}
	}
}

// checkVocabulary fails unless every word is one that the rows allow.
func checkVocabulary(tb testing.TB, d sessionctx.Device) {
	tb.Helper()
	if !slices.Contains([]string{"desktop", "mobile", "tablet", "unknown"}, d.Type) ||
		!slices.Contains([]string{"Windows", "macOS", "Linux", "Android", "iOS", "Unknown"}, d.OS) ||
		!slices.Contains([]string{"Chrome", "Firefox", "Safari", "Edge", "Opera", "Unknown"}, d.Browser) ||
		!slices.Contains([]string{"slow-2g", "2g", "3g", "4g", "wifi", "unknown"}, d.ConnectionType) {
		tb.Errorf("not in the vocabulary: %+v", d)
	}
	if strings.Trim(d.BrowserVersion, "0123456789.") != "" || len(d.BrowserVersion) > 24 {
		tb.Errorf("browser version %q", d.BrowserVersion)
	}
}
