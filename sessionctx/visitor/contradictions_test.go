package visitor

import (
	"strings"
	"testing"
)

func TestContradictingHints(t *testing.T) {
	const (
		chrome131 = `"Google Chrome";v="131", "Chromium";v="131", "Not_A Brand";v="24"`
		view      = "Mozilla/5.0 (Linux; Android 13; Pixel 7; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/120.0.6099.43 Mobile Safari/537.36"
		desk      = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
	)
	for _, c := range []struct {
		name string
		key  agentKey
		want bool
	}{
		{"none at all", agentKey{userAgent: uaChromeWin}, false},
		{"all agree", agentKey{uaChromeWin, `"Windows"`, "?0", chrome131}, false},
		{"another system", agentKey{uaChromeWin, `"Linux"`, "?0", chrome131}, true},
		{"a Mac's hint", agentKey{uaChromeWin, `"macOS"`, "?0", chrome131}, true},
		{"a phone's hint", agentKey{uaChromeWin, `"Android"`, "?0", chrome131}, true},
		{"Windows' hint on a phone", agentKey{uaChromeAndroid, `"Windows"`, "?1", chrome131}, true},
		{"ChromeOS", agentKey{uaChromeCrOS, `"Chrome OS"`, "?0", chrome131}, false},
		{"ChromeOS' hint elsewhere", agentKey{uaChromeWin, `"Chromium OS"`, "?0", chrome131}, true},
		{"a phone that asks for the desktop's page", agentKey{desk, `"Android"`, "?0", chrome131}, false},
		{"a system that is not known", agentKey{uaChromeWin, `"Fuchsia"`, "?0", chrome131}, false},
		{"mobile on a desktop", agentKey{uaChromeWin, `"Windows"`, "?1", chrome131}, true},
		{"mobile on a phone", agentKey{uaChromeAndroid, `"Android"`, "?1", chrome131}, false},
		{"not mobile on a phone: some tablets", agentKey{uaChromeAndroid, `"Android"`, "?0", chrome131}, false},
		{"brands without the engine", agentKey{uaChromeWin, `"Windows"`, "?0", `"Google Chrome";v="131"`}, true},
		{"brands without the engine, cut short", agentKey{uaChromeWin, `"Windows"`, "?0", strings.Repeat(`"A";v="1", `, maxBrands)[:maxBrands]}, false},
		{"brands that are none", agentKey{uaChromeWin, `"Windows"`, "?0", "Chrome"}, false},
		{"Chromium's brands in a Firefox", agentKey{uaFirefoxWin, "", "", chrome131}, true},
		{"Chromium's brands in a Safari", agentKey{uaSafariMac, "", "", chrome131}, true},
		{"Chromium's brands where the user agent says nothing", agentKey{"Mozilla/5.0 (Android; K)", `"Android"`, "?1", chrome131}, false},
		{"brands of years later", agentKey{uaChromeWin, `"Windows"`, "?0", strings.ReplaceAll(chrome131, "131", "154")}, true},
		{"brands of years before", agentKey{uaChromeWin, `"Windows"`, "?0", strings.ReplaceAll(chrome131, "131", "119")}, true},
		{"a little later", agentKey{uaChromeWin, `"Windows"`, "?0", strings.ReplaceAll(chrome131, "131", "135")}, false},
		{"a web view whose app froze the user agent", agentKey{view, `"Android"`, "?1", `"Android WebView";v="153", "Chromium";v="153"`}, false},
		{"another version of Opera's own", agentKey{uaOpera, `"Windows"`, "?0", `"Opera";v="116", "Chromium";v="131"`}, false},
	} {
		if got := hintsDisagree(c.key); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// Whatever the headers say, a contradiction costs once, and hints that are not
// there contradict nothing.
func FuzzContradictions(f *testing.F) {
	f.Add(uaChromeWin, `"Windows"`, "?0", `"Chromium";v="131"`)
	f.Add(uaSafariPhone, `"`, "?1", `"Chromium";v="`)
	f.Add("Chrome/", "Android", "?", `v="Chromium"`)
	f.Fuzz(func(t *testing.T, ua, platform, mobile, brands string) {
		k := agentKey{ua, platform, mobile, brands}
		with, without := judge(k, false), judge(agentKey{userAgent: ua}, false)
		if hintsDisagree(agentKey{userAgent: ua}) {
			t.Errorf("%q contradicts itself", ua)
		}
		if with.declared == 0 && with.penalty != without.penalty && with.penalty != without.penalty+penaltyHintsDisagree {
			t.Errorf("%d points, %d without hints", with.penalty, without.penalty)
		}
	})
}
