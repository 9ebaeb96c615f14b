package visitor

import "strings"

// maxVersionGap is how many versions the brands may be from the user agent:
// apps that freeze one of both lag a little, copied user agents lag years.
const maxVersionGap = 4

// hintsDisagree says that client hints and user agent can't be of one browser.
// Only what no browser does counts: people switch to desktop mode, and apps
// freeze their user agents.
func hintsDisagree(k agentKey) bool {
	if otherSystem(k.userAgent, unquote(k.platform)) {
		return true
	}
	if k.mobile == "?1" && isDesktop(k.userAgent) {
		return true
	}
	return otherBrowser(k.userAgent, k.brands)
}

// otherSystem compares the system of the user agent with the hint's, where the
// hint is plain.
func otherSystem(userAgent, platform string) bool {
	switch platform {
	case "Windows":
		return !strings.Contains(userAgent, "Windows")
	case "macOS":
		return !strings.Contains(userAgent, "Mac")
	case "Android":
		// Desktop mode writes X11, and some browsers leave the hint.
		return !strings.Contains(userAgent, "Android") && !strings.Contains(userAgent, "X11")
	case "Linux":
		return !strings.Contains(userAgent, "Linux")
	case "Chrome OS", "Chromium OS":
		return !strings.Contains(userAgent, "CrOS")
	}
	return false
}

func isDesktop(userAgent string) bool {
	return strings.Contains(userAgent, "Windows NT") || strings.Contains(userAgent, "Macintosh") || strings.Contains(userAgent, "CrOS")
}

// otherBrowser compares the user agent's engine with the brands. All that send
// brands today are Chromium, and say so.
func otherBrowser(userAgent, brands string) bool {
	if !strings.Contains(brands, `v="`) || len(brands) == maxBrands {
		return false // none, or cut short
	}
	engine := majorVersion(versionAfter(userAgent, "Chrome/"))
	i := strings.Index(brands, `"Chromium"`)
	switch {
	case i < 0:
		return engine > 0
	case engine == 0:
		return strings.HasPrefix(userAgent, "Mozilla/5.0 (") &&
			(strings.Contains(userAgent, "Firefox/") || strings.Contains(userAgent, "Safari/"))
	case strings.Contains(userAgent, "; wv)"):
		return false // apps write the web view's user agent themselves
	}
	brand := majorVersion(versionAfter(brands[i:], `v="`))
	return brand > 0 && (brand-engine > maxVersionGap || engine-brand > maxVersionGap)
}
