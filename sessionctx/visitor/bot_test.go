package visitor

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"
)

// browserRequest is a navigation as a current Chrome sends it.
func browserRequest(target, ua string) *http.Request {
	r := httptest.NewRequest("GET", target, nil)
	r.TLS = &tls.ConnectionState{}
	for name, v := range map[string]string{
		"User-Agent": ua, "Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Accept-Language": "de-DE,de;q=0.9,en;q=0.8",
		"Accept-Encoding": "gzip, deflate, br, zstd", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate",
		"Sec-Fetch-Dest": "document", "Sec-Fetch-User": "?1",
	} {
		r.Header.Set(name, v)
	}
	return r
}

func chromeRequest(target string) *http.Request {
	r := browserRequest(target, uaChromeWin)
	r.Header.Set("Sec-CH-UA", `"Google Chrome";v="131", "Chromium";v="131", "Not_A Brand";v="24"`)
	r.Header.Set("Sec-CH-UA-Mobile", "?0")
	r.Header.Set("Sec-CH-UA-Platform", `"Windows"`)
	return r
}

func TestBotScore(t *testing.T) {
	drop := func(names ...string) func(*http.Request) {
		return func(r *http.Request) {
			for _, n := range names {
				r.Header.Del(n)
			}
		}
	}
	agentOf := func(ua string) func(*http.Request) {
		return func(r *http.Request) {
			*r = *browserRequest("https://lp.example.com/", ua)
		}
	}
	for _, c := range []struct {
		name     string
		change   func(*http.Request)
		min, max int
	}{
		{"a current Chrome", drop(), 99, 99},
		{"Firefox has no client hints", agentOf(uaFirefoxWin), 99, 99},
		{"Safari neither", agentOf(uaSafariPhone), 99, 99},
		{"Chrome on iOS is a Safari", agentOf(uaChromePad), 99, 99},
		{"Instagram's browser is a person", agentOf(uaInstagram), 99, 99},
		{"Facebook's web view is a person", agentOf(uaWebView), 99, 99},
		{"a Cubot phone without hints", agentOf(uaCubot), 70, 98},
		{"Chrome over HTTPS without hints", drop("Sec-CH-UA"), 70, 85},
		{"without language", drop("Accept-Language"), 50, 65},
		{"without anything but a copied user agent", drop("Accept-Language", "Accept", "Accept-Encoding", "Sec-CH-UA", "Sec-Fetch-Site"), 6, 10},
		{"hints of another system", func(r *http.Request) { r.Header.Set("Sec-CH-UA-Platform", `"Linux"`) }, 50, 70},
		{"HTTP/1.0", func(r *http.Request) { r.ProtoMajor, r.ProtoMinor = 1, 0 }, 60, 80},
		{"a headless brand", func(r *http.Request) { r.Header.Set("Sec-CH-UA", `"HeadlessChrome";v="131"`) }, 3, 3},
		{"headless Chrome", agentOf(uaHeadless), 3, 3},
		{"Googlebot", agentOf(uaGooglebot), 1, 1},
		{"GPTBot", agentOf("Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; GPTBot/1.2; +https://openai.com/gptbot"), 1, 1},
		{"a spider", agentOf("Mozilla/5.0 (compatible; Baiduspider/2.0)"), 1, 1},
		{"Facebook's previewer", agentOf("facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)"), 1, 2},
		{"WhatsApp's previewer", agentOf("WhatsApp/2.23.20.0 A"), 2, 2},
		{"Telegram's", agentOf("TelegramBot (like TwitterBot)"), 1, 1},
		{"curl", agentOf("curl/8.5.0"), 2, 2},
		{"Python", agentOf("python-requests/2.31"), 2, 2},
		{"Go", agentOf("Go-http-client/1.1"), 2, 2},
		{"an unknown program", agentOf("MyChecker 1.0"), 6, 40},
		{"no user agent", drop("User-Agent"), 5, 5},
	} {
		r := chromeRequest("https://lp.example.com/")
		c.change(r)
		var rd Reader
		f := rd.Read(Request{HTTP: r})
		if f.Bot.Score < c.min || f.Bot.Score > c.max || f.Bot.Verified || f.Bot.CorporateProxy {
			t.Errorf("%s: %+v, want %d to %d", c.name, f.Bot, c.min, c.max)
		}
	}
}

func TestBotScoreOfCalls(t *testing.T) {
	r := chromeRequest("https://lp.example.com/client-api/v1/events/track")
	r.Header.Set("Accept", "*/*")
	r.Header.Set("Sec-Fetch-Mode", "cors")
	r.Header.Set("Sec-Fetch-Dest", "empty")
	var rd Reader
	if f := rd.Read(Request{HTTP: r}); f.Bot.Score != 99 {
		t.Errorf("a script's call scores %d", f.Bot.Score)
	}
	// nginx speaks HTTP/1.0 to what is behind it.
	r = chromeRequest("https://lp.example.com/")
	r.ProtoMajor, r.ProtoMinor = 1, 0
	if f := rd.Read(Request{HTTP: r, TrustedProxy: true}); f.Bot.Score != 99 {
		t.Errorf("behind an old proxy: %d", f.Bot.Score)
	}
	// Over plain HTTP browsers send neither hints nor Fetch Metadata.
	r = browserRequest("http://localhost/", uaChromeWin)
	r.TLS = nil
	for _, n := range []string{"Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Sec-Fetch-User"} {
		r.Header.Del(n)
	}
	if f := rd.Read(Request{HTTP: r}); f.Bot.Score != 99 {
		t.Errorf("Chrome over HTTP scores %d", f.Bot.Score)
	}
}
