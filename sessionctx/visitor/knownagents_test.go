package visitor

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What a browser sends beside its user agent when it opens a page over HTTPS.
// Hints are those of the agent; apps' web views name the app.
type sender string

const (
	blink   sender = "Chromium"
	webView sender = "Android's web view"
	gecko   sender = "Firefox"
	webKit  sender = "Safari, and all on iOS since 16.4"
	plain   sender = "a program"
)

func (s sender) headers() map[string]string {
	fetch := map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
	with := func(kv ...string) map[string]string {
		for i := 0; i < len(kv); i += 2 {
			fetch[kv[i]] = kv[i+1]
		}
		return fetch
	}
	const chromiumAccept = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"
	switch s {
	case blink:
		return with("Accept", chromiumAccept, "Accept-Language", "de-DE,de;q=0.9", "Accept-Encoding", "gzip, deflate, br, zstd",
			"Sec-Fetch-User", "?1", "Upgrade-Insecure-Requests", "1", "Priority", "u=0, i")
	case webView:
		return with("Accept", chromiumAccept, "Accept-Language", "de-DE,de;q=0.9,en-US;q=0.8", "Accept-Encoding", "gzip, deflate, br, zstd",
			"Sec-Fetch-User", "?1", "Upgrade-Insecure-Requests", "1", "X-Requested-With", "com.example.app")
	case gecko:
		return with("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "Accept-Language", "de,en-US;q=0.7,en;q=0.3",
			"Accept-Encoding", "gzip, deflate, br, zstd", "Sec-Fetch-User", "?1", "Upgrade-Insecure-Requests", "1", "TE", "trailers")
	case webKit:
		return with("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "Accept-Language", "de-DE,de;q=0.9",
			"Accept-Encoding", "gzip, deflate, br", "Priority", "u=0, i")
	}
	return map[string]string{"Accept": "*/*", "Accept-Encoding": "gzip"}
}

// person is a browser that people have; brands, mobile and platform are its
// hints, empty where it sends none.
type person struct {
	name                     string
	sends                    sender
	userAgent                string
	brands, mobile, platform string
	device, os, browser      string
}

// brands is a header of Chromium's brands in the order of one of its releases.
func brands(own, version, chromium string) string {
	list := `"Chromium";v="` + chromium + `", "Not_A Brand";v="99"`
	if own == "" {
		return list
	}
	return `"` + own + `";v="` + version + `", ` + list
}

const (
	windows    = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/"
	mac        = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/"
	linux      = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/"
	androidK   = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/"
	appleMac   = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
	iPhoneOS18 = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
	iPhone17   = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
	iPad17     = "Mozilla/5.0 (iPad; CPU OS 17_5_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
	galaxy     = "Mozilla/5.0 (Linux; Android 16; SM-S926U Build/BP4A.251205.006; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/"
	oppo       = "Mozilla/5.0 (Linux; Android 15; CPH2557 Build/AP3A.240617.008; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/"
	inView     = ".0.0.0 Mobile Safari/537.36 "
	onDesk     = ".0.0.0 Safari/537.36"
)

// persons are browsers of the last three years. Their user agents are those of
// the npm packages user-agents and top-user-agents, which count real visitors,
// and for apps those that the apps are known by (51Degrees, Wikimedia's task
// T324376, and the kept list, which took some for programs).
var persons = []person{
	{"Chrome on Windows", blink, windows + "154" + onDesk, brands("Google Chrome", "154", "154"), "?0", `"Windows"`, "desktop", "Windows", "Chrome"},
	{"Chrome on Windows, three years old", blink, windows + "119" + onDesk, brands("Google Chrome", "119", "119"), "?0", `"Windows"`, "desktop", "Windows", "Chrome"},
	{"Chrome on a Mac", blink, mac + "153" + onDesk, brands("Google Chrome", "153", "153"), "?0", `"macOS"`, "desktop", "macOS", "Chrome"},
	{"Chrome on Linux", blink, linux + "131" + onDesk, brands("Google Chrome", "131", "131"), "?0", `"Linux"`, "desktop", "Linux", "Chrome"},
	{"Chromium on Linux", blink, linux + "140" + onDesk, brands("", "", "140"), "?0", `"Linux"`, "desktop", "Linux", "Chrome"},
	{"Chrome on ChromeOS", blink, "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142" + onDesk, brands("Google Chrome", "142", "142"), "?0", `"Chrome OS"`, "desktop", "Linux", "Chrome"},
	{"Chrome on Android", blink, androidK + "153.0.0.0 Mobile Safari/537.36", brands("Google Chrome", "153", "153"), "?1", `"Android"`, "mobile", "Android", "Chrome"},
	{"Chrome on an Android tablet", blink, androidK + "145" + onDesk, brands("Google Chrome", "145", "145"), "?0", `"Android"`, "tablet", "Android", "Chrome"},
	{"Chrome on Android, asked for the desktop's page", blink, linux + "150" + onDesk, brands("Google Chrome", "150", "150"), "?0", `"Linux"`, "desktop", "Linux", "Chrome"},
	{"Chrome on an iPhone", webKit, iPhone17 + "CriOS/148.0.7778.166 Mobile/15E148 Safari/604.1", "", "", "", "mobile", "iOS", "Chrome"},
	{"Chrome on an iPad", webKit, iPad17 + "CriOS/148.0.7778.166 Mobile/15E148 Safari/604.1", "", "", "", "tablet", "iOS", "Chrome"},
	{"Edge on Windows", blink, windows + "153" + onDesk + " Edg/153.0.0.0", brands("Microsoft Edge", "153", "153"), "?0", `"Windows"`, "desktop", "Windows", "Edge"},
	{"Edge on a Mac", blink, mac + "120" + onDesk + " Edg/120.0.0.0", brands("Microsoft Edge", "120", "120"), "?0", `"macOS"`, "desktop", "macOS", "Edge"},
	{"Edge on Android", blink, androidK + "140.0.0.0 Mobile Safari/537.36 EdgA/140.0.0.0", brands("Microsoft Edge", "140", "140"), "?1", `"Android"`, "mobile", "Android", "Edge"},
	{"Edge on an iPhone", webKit, iPhoneOS18 + "EdgiOS/153.0.4234.46 Version/26.0 Mobile/15E148 Safari/604.1", "", "", "", "mobile", "iOS", "Edge"},
	{"Firefox on Windows", gecko, "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:153.0) Gecko/20100101 Firefox/153.0", "", "", "", "desktop", "Windows", "Firefox"},
	{"Firefox's long-term release", gecko, "Mozilla/5.0 (Windows NT 6.1; Win64; x64; rv:115.0) Gecko/20100101 Firefox/115.0", "", "", "", "desktop", "Windows", "Firefox"},
	{"Firefox on a Mac", gecko, "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:128.0) Gecko/20100101 Firefox/128.0", "", "", "", "desktop", "macOS", "Firefox"},
	{"Firefox on Ubuntu", gecko, "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0", "", "", "", "desktop", "Linux", "Firefox"},
	{"Firefox on Android", gecko, "Mozilla/5.0 (Android 16; Mobile; rv:156.0) Gecko/156.0 Firefox/156.0", "", "", "", "mobile", "Android", "Firefox"},
	{"Firefox on an iPhone", webKit, iPhoneOS18 + "FxiOS/156.0 Mobile/15E148 Safari/604.1", "", "", "", "mobile", "iOS", "Firefox"},
	{"Safari on a Mac", webKit, appleMac + "Version/18.1.1 Safari/605.1.15", "", "", "", "desktop", "macOS", "Safari"},
	{"Safari on a Mac, three years old", webKit, appleMac + "Version/17.1 Safari/605.1.15", "", "", "", "desktop", "macOS", "Safari"},
	{"Safari on an iPhone", webKit, iPhoneOS18 + "Version/26.0 Mobile/15E148 Safari/604.1", "", "", "", "mobile", "iOS", "Safari"},
	{"Safari on an iPad", webKit, iPad17 + "Version/17.5 Mobile/15E148 Safari/604.1", "", "", "", "tablet", "iOS", "Safari"},
	{"Samsung Internet", blink, "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/30.0 Chrome/143.0.0.0 Mobile Safari/537.36", brands("Samsung Internet", "30.0", "143"), "?1", `"Android"`, "mobile", "Android", "Chrome"},
	{"Opera on Windows", blink, windows + "150" + onDesk + " OPR/134.0.0.0", brands("Opera", "134", "150"), "?0", `"Windows"`, "desktop", "Windows", "Opera"},
	{"Opera GX", blink, windows + "124" + onDesk + " OPR/110.0.0.0", brands("Opera GX", "110", "124"), "?0", `"Windows"`, "desktop", "Windows", "Opera"},
	{"Opera on Android", blink, androidK + "137.0.0.0 Mobile Safari/537.36 OPR/90.0.0.0", brands("Opera", "90", "137"), "?1", `"Android"`, "mobile", "Android", "Opera"},
	{"Brave on Windows", blink, windows + "141" + onDesk, brands("Brave", "141", "141"), "?0", `"Windows"`, "desktop", "Windows", "Chrome"},
	{"Brave on an iPhone", webKit, iPhoneOS18 + "Version/26.5.2 Mobile/15E148 Safari/604.1 Brave", "", "", "", "mobile", "iOS", "Safari"},
	{"Vivaldi", blink, windows + "134" + onDesk, brands("Vivaldi", "7.3", "134"), "?0", `"Windows"`, "desktop", "Windows", "Chrome"},
	{"Yandex Browser", blink, windows + "150.0.0.0 YaBrowser/26.8.0.0 Safari/537.36", brands("YaBrowser", "26.8", "150"), "?0", `"Windows"`, "desktop", "Windows", "Chrome"},
	{"DuckDuckGo on Android", webView, "Mozilla/5.0 (Linux; Android 17) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/153.0.0.0 Mobile DuckDuckGo/5 Safari/537.36", brands("Android WebView", "153", "153"), "?1", `"Android"`, "mobile", "Android", "Chrome"},
	{"DuckDuckGo on a Mac", webKit, appleMac + "Version/18.3 Safari/605.1.15 Ddg/17.1", "", "", "", "desktop", "macOS", "Safari"},
	{"Ecosia on Android", blink, androidK + "150.0.0.0 Mobile Safari/537.36 (Ecosia android@150.0.0.0)", brands("Ecosia", "150", "150"), "?1", `"Android"`, "mobile", "Android", "Chrome"},

	{"Google's app on an iPhone", webKit, iPhone17 + "GSA/319.0.638705450 Mobile/15E148 Safari/604.1", "", "", "", "mobile", "iOS", "Safari"},
	{"Instagram on an iPhone", webKit, iPhone17 + "Mobile/15E148 Instagram 334.0.4.32.98 (iPhone14,5; iOS 17_5_1; de_DE; de; scale=3.00; 1170x2532; 605596538)", "", "", "", "mobile", "iOS", "Safari"},
	{"Instagram on Android", webView, oppo + "142" + inView + "Instagram 406.0.0.58.159 Android (35/15; 480dpi; 1080x2400; OPPO; CPH2557; OP573DL1; mt6833; en_MY; 822918295; IABMV/1) NV/1", brands("Android WebView", "142", "142"), "?1", `"Android"`, "mobile", "Android", "Chrome"},
	{"any app on the phone that a scanner copied", webView, oppo + "142" + inView, brands("Android WebView", "142", "142"), "?1", `"Android"`, "mobile", "Android", "Chrome"},
	{"Facebook on an iPhone", webKit, iPhone17 + "Mobile/15E148 [FBAN/FBIOS;FBAV/466.0.0.38.104;FBBV/611023521;FBDV/iPhone14,5;FBMD/iPhone;FBSN/iOS;FBSV/17.5.1;FBSS/3;FBID/phone;FBLC/de_DE;FBOP/5]", "", "", "", "mobile", "iOS", "Safari"},
	{"Facebook on Android", webView, galaxy + "122" + inView + "[FB_IAB/FB4A;FBAV/453.0.0.40.107;]", brands("Android WebView", "122", "122"), "?1", `"Android"`, "mobile", "Android", "Chrome"},
	{"Facebook on Android by its new name", webView, "Mozilla/5.0 (Linux; Android 16; Pixel 10 Pro XL Build/CP1A.260305.018; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/146.0.7680.174 Mobile Safari/537.36 MetaIAB Facebook", brands("Android WebView", "146", "146"), "?1", `"Android"`, "mobile", "Android", "Chrome"},
	{"Threads on Android", webView, galaxy + "153" + inView + "Barcelona 448.0.0.54.85 Android (36/16; 540dpi; 1080x2340; samsung; SM-S926U; e2q; qcom; en_US; 1073639361)", brands("Android WebView", "153", "153"), "?1", `"Android"`, "mobile", "Android", "Chrome"},
	{"TikTok on an iPhone", webKit, iPhone17 + "Mobile/15E148 musical_ly_35.1.0 JsSdk/2.0 NetType/WIFI Channel/App Store ByteLocale/de Region/DE isDarkMode/0 WKWebView/1 RevealType/Dialog BytedanceWebview/d8a21c6", "", "", "", "mobile", "iOS", "Safari"},
	{"TikTok on Android", webView, galaxy + "126" + inView + "trill_2023409030 JsSdk/1.0 NetType/WIFI Channel/googleplay AppName/musical_ly app_version/34.9.3 ByteLocale/en Region/DE AppId/1233 BytedanceWebview/d8a21c6", brands("Android WebView", "126", "126"), "?1", `"Android"`, "mobile", "Android", "Chrome"},
	{"LinkedIn on an iPhone", webKit, iPhone17 + "Mobile/15E148 [LinkedInApp]/9.29.7209", "", "", "", "mobile", "iOS", "Safari"},
	{"LinkedIn on Android", webView, galaxy + "130" + inView + "[LinkedInApp]", brands("Android WebView", "130", "130"), "?1", `"Android"`, "mobile", "Android", "Chrome"},
	{"Snapchat on an iPhone", webKit, iPhoneOS18 + "Version/26.6.1 Mobile/15E148 Snapchat/14.25.0.48 (like Safari/8624.5.1.10.3, panda)", "", "", "", "mobile", "iOS", "Safari"},
	{"Pinterest on an iPhone", webKit, iPhone17 + "Mobile/15E148 [Pinterest/iOS]", "", "", "", "mobile", "iOS", "Safari"},
	{"Pinterest on Android", webView, galaxy + "138" + inView + "[Pinterest/Android]", brands("Android WebView", "138", "138"), "?1", `"Android"`, "mobile", "Android", "Chrome"},
	{"X on an iPhone", webKit, iPhone17 + "Mobile/15E148 Twitter for iPhone/10.45", "", "", "", "mobile", "iOS", "Safari"},
	{"WeChat on an iPhone", webKit, iPhone17 + "Mobile/15E148 MicroMessenger/8.0.49(0x18003137) NetType/WIFI Language/de", "", "", "", "mobile", "iOS", "Safari"},
	{"LINE on an iPhone", webKit, iPhone17 + "Safari Line/14.8.0", "", "", "", "mobile", "iOS", "Safari"},
	{"a program that drives a real Chrome: nothing shows", blink, windows + "154" + onDesk, brands("Google Chrome", "154", "154"), "?0", `"Windows"`, "desktop", "Windows", "Chrome"},
}

func (p *person) request() *http.Request {
	r := requestOf(p.sends, p.userAgent)
	for name, v := range map[string]string{"Sec-CH-UA": p.brands, "Sec-CH-UA-Mobile": p.mobile, "Sec-CH-UA-Platform": p.platform} {
		if v != "" {
			r.Header.Set(name, v)
		}
	}
	return r
}

func requestOf(s sender, userAgent string) *http.Request {
	r := httptest.NewRequest("GET", "https://lp.example.com/", nil)
	r.TLS = &tls.ConnectionState{}
	r.Header.Set("User-Agent", userAgent)
	for name, v := range s.headers() {
		r.Header.Set(name, v)
	}
	return r
}

// People pay for what they are shown in the browsers that they have: nothing
// may speak against one of these.
func TestPeoplesBrowsersScoreFull(t *testing.T) {
	var rd Reader
	for _, p := range persons {
		f := rd.Read(Request{HTTP: p.request()})
		if f.Bot.Score != scoreHuman {
			t.Errorf("%s scores %d", p.name, f.Bot.Score)
		}
		if f.Device.Type != p.device || f.Device.OS != p.os || f.Device.Browser != p.browser {
			t.Errorf("%s is %s, %s, %s", p.name, f.Device.Type, f.Device.OS, f.Device.Browser)
		}
	}
}

// machine is a program that says what it is.
type machine struct {
	name, userAgent string
	score           int
	// claims says that it names a crawler that DNS can verify.
	claims bool
}

// machines are from the pages on which their operators publish them, as far as
// there is one (see crawlers), and from the kept list's examples.
var machines = []machine{
	{"Google's ad review", "AdsBot-Google (+http://www.google.com/adsbot.html)", 1, true},
	{"Google's ad review on phones", "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.6778.69 Mobile Safari/537.36 (compatible; AdsBot-Google-Mobile; +http://www.google.com/mobile/adsbot.html)", 1, true},
	{"Google's check of ad conversions", "Mozilla/5.0 AppleWebKit/537.36 Chrome/139.0.7258.127 Safari/537.36 Google-Ads-Conversions", 1, false},
	{"Google's shop check", "Mozilla/5.0 (X11; Linux x86_64; Storebot-Google/1.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36", 1, true},
	{"AdSense", "Mediapartners-Google", 1, true},
	{"Meta's ad review", "meta-externalads/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)", 1, false},
	{"Microsoft's ad review", "Mozilla/5.0 (compatible; adidxbot/2.0; +http://www.bing.com/bingbot.htm)", 1, true},
	{"Amazon's ad review", "Mozilla/5.0 (compatible; AmazonAdBot/1.0; +https://adbot.amazon.com)", 1, true},
	{"Snapchat's ad review", "Mozilla/5.0 (compatible; SnapchatAds/1.0; +https://businesshelp.snapchat.com/s/article/adsbot-crawler)", 1, false},
	{"TikTok's ad review", "Mozilla/5.0 (Linux; Android 5.0) AppleWebKit/537.36 (KHTML, like Gecko) Mobile Safari/537.36 (compatible; TikTokSpider; ttspider-feedback@tiktok.com)", 1, false},
	{"Criteo", "CriteoBot/0.1 (+https://www.criteo.com/criteo-crawler/)", 1, false},
	{"IAS", "IAS crawler (ias_crawler; http://integralads.com/site-indexing-policy/)", 1, false},
	{"BrandVerity as an app's browser", "Mozilla/5.0 (iPhone; CPU iPhone OS 7_0 like Mac OS X) AppleWebKit/537.51.1 (KHTML, like Gecko) Mobile/11A465 Twitter for iPhone BrandVerity/1.0 (http://www.brandverity.com/why-is-brandverity-visiting-me)", 1, false},

	{"Facebook's preview", "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", 1, false},
	{"iMessage's preview", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_11_1) AppleWebKit/601.2.4 (KHTML, like Gecko) Version/9.0.1 Safari/601.2.4 facebookexternalhit/1.1 Facebot Twitterbot/1.0", 1, false},
	{"X's preview", "Twitterbot/1.0", 1, false},
	{"LinkedIn's preview", "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)", 1, false},
	{"Slack's preview", "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", 1, false},
	{"Discord's preview", "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)", 1, false},
	{"Telegram's preview", "TelegramBot (like TwitterBot)", 1, false},
	{"WhatsApp's preview", "WhatsApp/2.23.20.0 A", 2, false},
	{"Skype's preview", "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5", 2, false},
	{"Snapchat's preview", "Snap URL Preview Service; bot; snapchat; https://developers.snap.com/robots", 1, false},
	{"Pinterest", "Mozilla/5.0 (compatible; Pinterestbot/1.0; +https://www.pinterest.com/bot.html)", 1, true},

	{"Google Search", uaGooglebot, 1, true},
	{"Google's inspection tool", "Mozilla/5.0 (compatible; Google-InspectionTool/1.0;)", 1, true},
	{"Bing", "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm) Chrome/116.0.1938.76 Safari/537.36", 1, true},
	{"Bing's preview", "Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/534+ (KHTML, like Gecko) BingPreview/1.0b", 2, true},
	{"Apple", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15 (Applebot/0.1; +http://www.apple.com/go/applebot)", 1, true},
	{"Yandex", "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)", 1, true},
	{"Yandex on a phone", "Mozilla/5.0 (iPhone; CPU iPhone OS 8_1 like Mac OS X) AppleWebKit/600.1.4 (KHTML, like Gecko) Version/8.0 Mobile/12B411 Safari/600.1.4 (compatible; YandexMobileBot/3.0; +http://yandex.com/bots)", 1, true},
	{"Baidu", "Mozilla/5.0 (compatible; Baiduspider-render/2.0; +http://www.baidu.com/search/spider.html)", 1, true},
	{"DuckDuckGo's crawler", "Mozilla/5.0 (compatible; DuckDuckBot-Https/1.1; https://duckduckgo.com/duckduckbot)", 1, false},
	{"Seznam", "Mozilla/5.0 (compatible; SeznamBot/4.0; +http://napoveda.seznam.cz/seznambot-intro/)", 1, true},
	{"Petal", "Mozilla/5.0 (Linux; Android 7.0;) AppleWebKit/537.36 (KHTML, like Gecko) Mobile Safari/537.36 (compatible; PetalBot;+https://webmaster.petalsearch.com/site/petalbot)", 1, true},
	{"Qwant", "Mozilla/5.0 (compatible; Qwantbot/1.0_12345; +https://help.qwant.com/bot/)", 1, true},
	{"Yahoo", "Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)", 1, true},
	{"Naver", "Mozilla/5.0 (compatible; Yeti/1.1; +http://naver.me/spd)", 1, false},
	{"Yisou, dressed as a Chrome", "Mozilla/5.0 (Windows NT 6.1; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/69.0.3497.81 YisouSpider/5.0 Safari/537.36", 1, false},

	{"OpenAI's training", "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; GPTBot/1.2; +https://openai.com/gptbot", 1, false},
	{"OpenAI's search", "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; OAI-SearchBot/1.0; +https://openai.com/searchbot", 1, false},
	{"ChatGPT for its user", "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; ChatGPT-User/1.0; +https://openai.com/bot", 1, false},
	{"Anthropic", "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)", 1, false},
	{"Claude for its user", "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Claude-User/1.0; +Claude-User@anthropic.com)", 1, false},
	{"Perplexity", "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; PerplexityBot/1.0; +https://perplexity.ai/perplexitybot)", 1, false},
	{"Meta's training", "meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)", 1, false},
	{"ByteDance", "Mozilla/5.0 (Linux; Android 8.0; Pixel 2 Build/OPD3.170816.012) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/58.0.9038.1080 Mobile Safari/537.36; Bytespider", 1, false},
	{"Amazon", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_10_1) AppleWebKit/600.2.5 (KHTML, like Gecko) Version/8.0.2 Safari/600.2.5 (Amazonbot/0.1; +https://developer.amazon.com/support/amazonbot)", 1, true},
	{"Common Crawl", "CCBot/2.0 (https://commoncrawl.org/faq/)", 1, true},
	{"Mistral for its user", "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; MistralAI-User/1.0; +https://docs.mistral.ai/robots)", 1, false},

	{"headless Chrome", uaHeadless, 3, false},
	{"Playwright by name", windows + "120" + onDesk + " Playwright/1.40.0", 3, false},
	{"PhantomJS", "Mozilla/5.0 (Unknown; Linux x86_64) AppleWebKit/538.1 (KHTML, like Gecko) PhantomJS/2.1.1 Safari/538.1", 3, false},
	{"Lighthouse", "Mozilla/5.0 (Linux; Android 11; moto g power (2022)) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Mobile Safari/537.36 Chrome-Lighthouse", 1, false},

	{"UptimeRobot", "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)", 1, false},
	{"Pingdom", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/78.0.3904.130 Electron/7.3.2 Safari/537.36 PingdomTMS/2020.2", 1, false},
	{"StatusCake", "StatusCake_Uptime_Checker/1.0", 1, false},
	{"Datadog", linux + "138" + onDesk + " DatadogSynthetics", 1, false},
	{"Checkly", linux + "134" + onDesk + " (Checkly, https://www.checklyhq.com)", 1, false},
	{"New Relic", linux + "100" + onDesk + " NewRelicSynthetics/1.0", 1, false},
	{"WebPageTest", "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:94.0) Gecko/20100101 Firefox/94.0 PTST/211202.211915", 1, false},
	{"GTmetrix", linux + "117" + onDesk + " GTmetrix", 1, false},

	{"Semrush", "Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)", 1, false},
	{"Ahrefs", "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)", 1, false},
	{"Censys", "Mozilla/5.0 (compatible; CensysInspect/1.1; +https://about.censys.io/)", 1, false},
	{"a scanner", "Mozilla/5.0 zgrab/0.x", 1, false},
	{"curl", "curl/8.5.0", 2, false},
	{"wget", "Wget/1.21.4", 2, false},
	{"Python", "python-requests/2.31.0", 2, false},
	{"Go", "Go-http-client/2.0", 2, false},
	{"Android's HTTP library", "okhttp/4.12.0", 2, false},
	{"Node", "node-fetch/1.0 (+https://github.com/bitinn/node-fetch)", 1, false},
}

func TestProgramsThatNameThemselves(t *testing.T) {
	var rd Reader
	for _, m := range machines {
		// With a browser's headers too: a name counts whatever comes with it.
		for _, s := range []sender{plain, blink} {
			if f := rd.Read(Request{HTTP: requestOf(s, m.userAgent)}); f.Bot.Score != m.score {
				t.Errorf("%s, with the headers of %s, scores %d, want %d", m.name, s, f.Bot.Score, m.score)
			}
		}
		if got := claim(strings.ToLower(m.userAgent)) != 0; got != m.claims {
			t.Errorf("%s: claims to be a crawler that can be verified: %v", m.name, got)
		}
	}
	if n := len(persons) + len(machines); n < 60 || len(persons) < 50 {
		t.Errorf("%d agents are known, %d of them people's", n, len(persons))
	}
}

func TestKeptList(t *testing.T) {
	list := programs()
	expressions := 0
	for _, p := range list {
		if p.expr != nil {
			expressions++
		} else if p.word == "" {
			t.Error("a word is empty: it would find everybody")
		}
	}
	// Each expression is hundreds of objects for the collector.
	if len(list) < 1000 || expressions > 60 {
		t.Errorf("%d lines, %d of them expressions", len(list), expressions)
	}
	for _, w := range appWords {
		if !strings.Contains(crawlersTxt, " "+w+"\n") {
			t.Errorf("%s is no longer in the list: take it out of appWords", w)
		}
	}
	// What is a program's name by itself is an app's beside a browser's.
	if listed("Instapaper/1.0", false) == 0 || listed("PayPal/1.0", false) == 0 || listed("PayPal/1.0", true) != 0 {
		t.Error("apps are not told from programs")
	}
}

// What a user agent costs that comes for the first time: nobody's list has a
// person's, so it is held against all of it.
func BenchmarkNewAgent(b *testing.B) {
	k := agentKey{userAgent: persons[0].userAgent, platform: persons[0].platform, mobile: persons[0].mobile, brands: persons[0].brands}
	programs()
	b.ReportAllocs()
	for b.Loop() {
		newAgent(k)
	}
}

func BenchmarkReadPrograms(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		readPrograms(crawlersTxt)
	}
}
