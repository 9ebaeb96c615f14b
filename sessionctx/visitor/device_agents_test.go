package visitor

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	schema "github.com/firebuzz/caddy-sessionctx/tinybird"
)

// Ends of user agents that many share.
const (
	macSafari = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
	iPhone18  = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
	android14 = "Mozilla/5.0 (Linux; Android 14; Pixel 8 Build/AP1A.240505.005; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/131.0.6778.81 Mobile Safari/537.36"
	linuxDesk = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
	winChrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
	chromeCH  = `"Google Chrome";v="131", "Chromium";v="131", "Not_A Brand";v="24"`
)

// realAgents are browsers as they are met, with the hints that they send.
var realAgents = []struct {
	name, ua                  string
	platform, mobile, brands  string
	typ, os, browser, version string
}{
	// Apple's phones and tablets.
	{name: "Safari on an iPhone", ua: iPhone18 + "Version/18.1 Mobile/15E148 Safari/604.1", typ: "mobile", os: "iOS", browser: "Safari", version: "18.1"},
	{name: "Safari on an iPod", ua: "Mozilla/5.0 (iPod touch; CPU iPhone OS 12_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1.2 Mobile/15E148 Safari/604.1", typ: "mobile", os: "iOS", browser: "Safari", version: "12.1.2"},
	{name: "Safari on an iPad that asks for mobile pages", ua: "Mozilla/5.0 (iPad; CPU OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1", typ: "tablet", os: "iOS", browser: "Safari", version: "18.1"},
	{name: "Safari on an iPad as it comes can't be told from a Mac's", ua: macSafari + "Version/18.1 Safari/605.1.15", typ: "desktop", os: "macOS", browser: "Safari", version: "18.1"},
	{name: "Chrome on an iPad as it comes", ua: "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/131 Version/11.1.1 Safari/605.1.15", typ: "tablet", os: "iOS", browser: "Chrome", version: "131"},
	{name: "Firefox on an iPad as it comes", ua: "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/133.0 Safari/605.1.15", typ: "tablet", os: "iOS", browser: "Firefox", version: "133.0"},
	{name: "Edge on an iPad as it comes", ua: macSafari + "Version/17.0 EdgiOS/131.0.2903.68 Safari/605.1.15", typ: "tablet", os: "iOS", browser: "Edge", version: "131.0.2903.68"},
	{name: "an app's view on an iPad as it comes", ua: macSafari + "Mobile/15E148", typ: "tablet", os: "iOS", browser: "Safari"},
	{name: "Chrome on an iPhone", ua: iPhone18 + "CriOS/131.0.6778.73 Mobile/15E148 Safari/604.1", typ: "mobile", os: "iOS", browser: "Chrome", version: "131.0.6778.73"},
	{name: "Firefox on an iPhone", ua: iPhone18 + "FxiOS/133.0 Mobile/15E148 Safari/605.1.15", typ: "mobile", os: "iOS", browser: "Firefox", version: "133.0"},
	{name: "Edge on an iPhone", ua: iPhone18 + "Version/18.0 EdgiOS/131.0.2903.68 Mobile/15E148 Safari/605.1.15", typ: "mobile", os: "iOS", browser: "Edge", version: "131.0.2903.68"},
	{name: "Opera on an iPhone", ua: iPhone18 + "Version/18.1 Mobile/15E148 Safari/604.1 OPT/5.2.0", typ: "mobile", os: "iOS", browser: "Opera", version: "5.2.0"},
	{name: "DuckDuckGo on an iPhone", ua: iPhone18 + "Version/18.1 Mobile/15E148 DuckDuckGo/7 Safari/605.1.15", typ: "mobile", os: "iOS", browser: "Safari", version: "18.1"},
	{name: "Google's app on an iPhone", ua: iPhone18 + "GSA/344.0.695551749 Mobile/15E148 Safari/604.1", typ: "mobile", os: "iOS", browser: "Safari"},
	{name: "UC on an iPhone", ua: "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X; zh-CN) AppleWebKit/537.51.1 (KHTML, like Gecko) Mobile/21F90 UCBrowser/17.0.7.2276 Mobile AliApp(TUnionSDK/0.1.20)", typ: "mobile", os: "iOS", browser: "Safari"},

	// Androids.
	{name: "Chrome on a phone, reduced", ua: uaChromeAndroid, platform: `"Android"`, mobile: "?1", brands: chromeCH, typ: "mobile", os: "Android", browser: "Chrome", version: "131.0.0.0"},
	{name: "Chrome on a tablet, reduced", ua: "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36", platform: `"Android"`, mobile: "?0", brands: chromeCH, typ: "tablet", os: "Android", browser: "Chrome", version: "131.0.0.0"},
	{name: "a tablet that asks for desktop pages, over HTTPS", ua: linuxDesk, platform: `"Android"`, mobile: "?0", brands: chromeCH, typ: "tablet", os: "Android", browser: "Chrome", version: "131.0.0.0"},
	{name: "a phone in desktop mode calls itself a Linux in every word", ua: linuxDesk, platform: `"Linux"`, mobile: "?0", brands: chromeCH, typ: "desktop", os: "Linux", browser: "Chrome", version: "131.0.0.0"},
	{name: "Firefox on a phone", ua: "Mozilla/5.0 (Android 14; Mobile; rv:133.0) Gecko/133.0 Firefox/133.0", typ: "mobile", os: "Android", browser: "Firefox", version: "133.0"},
	{name: "Firefox on a tablet", ua: "Mozilla/5.0 (Android 14; Tablet; rv:133.0) Gecko/133.0 Firefox/133.0", typ: "tablet", os: "Android", browser: "Firefox", version: "133.0"},
	{name: "Edge on a phone", ua: "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36 EdgA/131.0.0.0", platform: `"Android"`, mobile: "?1", brands: `"Microsoft Edge";v="131", "Chromium";v="131"`, typ: "mobile", os: "Android", browser: "Edge", version: "131.0.0.0"},
	{name: "Samsung Internet on a phone", ua: "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/27.0 Chrome/125.0.0.0 Mobile Safari/537.36", platform: `"Android"`, mobile: "?1", brands: `"Samsung Internet";v="27.0", "Chromium";v="125"`, typ: "mobile", os: "Android", browser: "Chrome", version: "125.0.0.0"},
	{name: "Samsung Internet on a PC", ua: "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/27.0 Chrome/125.0.0.0 Safari/537.36", typ: "desktop", os: "Windows", browser: "Chrome", version: "125.0.0.0"},
	{name: "UC", ua: "Mozilla/5.0 (Linux; U; Android 12; en-US; RMX3231 Build/SP1A.210812.016) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/100.0.4896.58 UCBrowser/13.8.5.1325 Mobile Safari/537.36", typ: "mobile", os: "Android", browser: "Chrome", version: "100.0.4896.58"},
	{name: "Huawei's browser", ua: "Mozilla/5.0 (Linux; Android 12; HarmonyOS; ALN-AL00; HMSCore 6.13.0.302) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/99.0.4844.88 HuaweiBrowser/14.0.2.311 Mobile Safari/537.36", typ: "mobile", os: "Android", browser: "Chrome", version: "99.0.4844.88"},
	{name: "HarmonyOS NEXT on a phone", ua: "Mozilla/5.0 (Phone; OpenHarmony 5.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/114.0.0.0 Safari/537.36 ArkWeb/4.1.6.1 Mobile HuaweiBrowser/5.0.4.300", typ: "mobile", os: "Unknown", browser: "Chrome", version: "114.0.0.0"},
	{name: "HarmonyOS NEXT on a tablet", ua: "Mozilla/5.0 (Tablet; OpenHarmony 5.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/114.0.0.0 Safari/537.36 ArkWeb/4.1.6.1 HuaweiBrowser/5.0.4.300", typ: "tablet", os: "Unknown", browser: "Chrome", version: "114.0.0.0"},
	{name: "HarmonyOS NEXT on a PC", ua: "Mozilla/5.0 (PC; OpenHarmony 5.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/114.0.0.0 Safari/537.36 ArkWeb/4.1.6.1 HuaweiBrowser/5.0.4.300", typ: "desktop", os: "Unknown", browser: "Chrome", version: "114.0.0.0"},
	{name: "MIUI's browser", ua: "Mozilla/5.0 (Linux; U; Android 13; de-de; 2201117TY Build/TKQ1.221114.001) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/112.0.5615.136 Mobile Safari/537.36 XiaoMi/MiuiBrowser/14.10.1.3-gn", typ: "mobile", os: "Android", browser: "Chrome", version: "112.0.5615.136"},
	{name: "DuckDuckGo", ua: "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/131.0.6778.81 Mobile DuckDuckGo/5 Safari/537.36", typ: "mobile", os: "Android", browser: "Chrome", version: "131.0.6778.81"},
	{name: "Opera", ua: "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36 OPR/86.0.0.0", typ: "mobile", os: "Android", browser: "Opera", version: "86.0.0.0"},
	{name: "Opera Mini", ua: "Opera/9.80 (Android; Opera Mini/36.2.2254/119.132; U; id) Presto/2.12.423 Version/12.16", typ: "mobile", os: "Android", browser: "Opera", version: "36.2.2254"},
	{name: "Android's old browser", ua: "Mozilla/5.0 (Linux; U; Android 4.0.3; de-ch; HTC Sensation Build/IML74K) AppleWebKit/534.30 (KHTML, like Gecko) Version/4.0 Mobile Safari/534.30", typ: "mobile", os: "Android", browser: "Unknown"},
	{name: "Silk", ua: "Mozilla/5.0 (Linux; Android 9; KFMAWI) AppleWebKit/537.36 (KHTML, like Gecko) Silk/108.4.6 like Chrome/108.0.5359.220 Safari/537.36", typ: "tablet", os: "Android", browser: "Chrome", version: "108.0.5359.220"},
	{name: "Silk asking for desktop pages", ua: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Silk/108.4.6 like Chrome/108.0.5359.220 Safari/537.36", typ: "tablet", os: "Android", browser: "Chrome", version: "108.0.5359.220"},

	// Desktops.
	{name: "Chrome on Windows", ua: winChrome, platform: `"Windows"`, mobile: "?0", brands: chromeCH, typ: "desktop", os: "Windows", browser: "Chrome", version: "131.0.0.0"},
	{name: "Chrome on a Mac", ua: "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36", platform: `"macOS"`, mobile: "?0", brands: chromeCH, typ: "desktop", os: "macOS", browser: "Chrome", version: "131.0.0.0"},
	{name: "Chrome on Linux", ua: linuxDesk, typ: "desktop", os: "Linux", browser: "Chrome", version: "131.0.0.0"},
	{name: "Chrome on ChromeOS", ua: uaChromeCrOS, platform: `"Chrome OS"`, mobile: "?0", brands: chromeCH, typ: "desktop", os: "Linux", browser: "Chrome", version: "131.0.0.0"},
	{name: "Chrome on an old Chromebook", ua: "Mozilla/5.0 (X11; CrOS i686 4319.74.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/29.0.1547.57 Safari/537.36", typ: "desktop", os: "Linux", browser: "Chrome", version: "29.0.1547.57"},
	{name: "Arc", ua: "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36", platform: `"macOS"`, mobile: "?0", brands: `"Chromium";v="131", "Not_A Brand";v="24"`, typ: "desktop", os: "macOS", browser: "Chrome", version: "131.0.0.0"},
	{name: "Brave", ua: winChrome, platform: `"Windows"`, mobile: "?0", brands: `"Brave";v="131", "Chromium";v="131", "Not_A Brand";v="24"`, typ: "desktop", os: "Windows", browser: "Chrome", version: "131.0.0.0"},
	{name: "Vivaldi", ua: winChrome + " Vivaldi/7.0.3495.29", platform: `"Windows"`, mobile: "?0", brands: `"Chromium";v="131", "Vivaldi";v="7.0"`, typ: "desktop", os: "Windows", browser: "Chrome", version: "131.0.0.0"},
	{name: "Yandex", ua: "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 YaBrowser/24.10.0.0 Safari/537.36", typ: "desktop", os: "Windows", browser: "Chrome", version: "128.0.0.0"},
	{name: "Opera GX", ua: winChrome + " OPR/115.0.0.0", platform: `"Windows"`, mobile: "?0", brands: `"Opera GX";v="115", "Chromium";v="131", "Not_A Brand";v="24"`, typ: "desktop", os: "Windows", browser: "Opera", version: "115.0.0.0"},
	{name: "Opera of its own engine", ua: "Opera/9.80 (Windows NT 6.1; WOW64) Presto/2.12.388 Version/12.18", typ: "desktop", os: "Windows", browser: "Opera", version: "12.18"},
	{name: "Edge", ua: winChrome + " Edg/131.0.0.0", platform: `"Windows"`, mobile: "?0", brands: `"Microsoft Edge";v="131", "Chromium";v="131"`, typ: "desktop", os: "Windows", browser: "Edge", version: "131.0.0.0"},
	{name: "Edge of its own engine", ua: "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/70.0.3538.102 Safari/537.36 Edge/18.19042", typ: "desktop", os: "Windows", browser: "Edge", version: "18.19042"},
	{name: "Firefox on a Mac", ua: "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:133.0) Gecko/20100101 Firefox/133.0", typ: "desktop", os: "macOS", browser: "Firefox", version: "133.0"},
	{name: "Firefox on Ubuntu", ua: "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0", typ: "desktop", os: "Linux", browser: "Firefox", version: "133.0"},
	{name: "Firefox on a mixed Linux", ua: "Mozilla/5.0 (X11; Linux i686 on x86_64; rv:102.0) Gecko/20100101 Firefox/102.0", typ: "desktop", os: "Linux", browser: "Firefox", version: "102.0"},
	{name: "Firefox on FreeBSD, which has no word", ua: "Mozilla/5.0 (X11; FreeBSD amd64; rv:133.0) Gecko/20100101 Firefox/133.0", typ: "desktop", os: "Unknown", browser: "Firefox", version: "133.0"},
	{name: "GNOME Web", ua: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Safari/605.1.15", typ: "desktop", os: "Linux", browser: "Safari", version: "17.0"},
	{name: "Internet Explorer 11", ua: uaIE, typ: "desktop", os: "Windows", browser: "Unknown"},
	{name: "Internet Explorer 6", ua: "Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1; SV1)", typ: "desktop", os: "Windows", browser: "Unknown"},
	{name: "Internet Explorer 5", ua: "Mozilla/4.0 (compatible; MSIE 5.5; Windows 98)", typ: "desktop", os: "Windows", browser: "Unknown"},

	// Apps that show pages.
	{name: "Facebook on an iPhone", ua: iPhone18 + "Mobile/22B83 [FBAN/FBIOS;FBAV/489.0.0.44.80;FBBV/660087734;FBDV/iPhone14,5;FBMD/iPhone;FBSN/iOS;FBSV/18.1;FBSS/3;FBID/phone;FBLC/de_DE;FBOP/5]", typ: "mobile", os: "iOS", browser: "Safari"},
	{name: "Facebook on an iPad", ua: "Mozilla/5.0 (iPad; CPU OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/22B83 [FBAN/FBIOS;FBAV/489.0.0.44.80;FBDV/iPad13,1;FBMD/iPad;FBSN/iPadOS;FBSV/18.1;FBID/tablet]", typ: "tablet", os: "iOS", browser: "Safari"},
	{name: "Facebook on an Android", ua: android14 + " [FB_IAB/FB4A;FBAV/490.0.0.63.82;IABMV/1;]", platform: `"Android"`, mobile: "?1", brands: `"Android WebView";v="131", "Chromium";v="131"`, typ: "mobile", os: "Android", browser: "Chrome", version: "131.0.6778.81"},
	{name: "Instagram on an iPad as it comes", ua: macSafari + "Mobile/15E148 Instagram 358.0.0.34.98 (iPad13,4; iPadOS 18_1; de_DE; scale=2.00; 750x1334; 660087734)", typ: "tablet", os: "iOS", browser: "Safari"},
	{name: "Instagram on an Android", ua: android14 + " Instagram 358.0.0.51.97 Android (34/14; 420dpi; 1080x2400; Google/google; Pixel 8; shiba; shiba; de_DE; 660087734)", typ: "mobile", os: "Android", browser: "Chrome", version: "131.0.6778.81"},
	{name: "TikTok on an iPhone", ua: iPhone18 + "Mobile/15E148 musical_ly_35.1.0 JsSdk/2.0 NetType/WIFI Channel/App Store ByteLocale/de Region/DE isDarkMode/1 WKWebView/1 BytedanceWebview/d8a21c6", typ: "mobile", os: "iOS", browser: "Safari"},
	{name: "TikTok on an Android", ua: android14 + " trill_2023510030 JsSdk/1.0 NetType/4G Channel/googleplay AppName/musical_ly app_version/35.1.3 ByteLocale/de-DE Region/DE BytedanceWebview/d8a21c6", typ: "mobile", os: "Android", browser: "Chrome", version: "131.0.6778.81"},
	{name: "LinkedIn on an iPhone", ua: iPhone18 + "Mobile/15E148 [LinkedInApp]/9.30.2044", typ: "mobile", os: "iOS", browser: "Safari"},
	{name: "LinkedIn on an Android", ua: android14 + " [LinkedInApp]/4.1.1017", typ: "mobile", os: "Android", browser: "Chrome", version: "131.0.6778.81"},
	{name: "Line on an iPhone", ua: iPhone18 + "Mobile/15E148 Safari Line/14.18.0", typ: "mobile", os: "iOS", browser: "Safari"},
	{name: "Line on an Android", ua: android14 + " Line/14.18.1/IAB", typ: "mobile", os: "Android", browser: "Chrome", version: "131.0.6778.81"},
	{name: "WeChat on an iPhone", ua: iPhone18 + "Mobile/15E148 MicroMessenger/8.0.53(0x1800352e) NetType/WIFI Language/zh_CN", typ: "mobile", os: "iOS", browser: "Safari"},
	{name: "WeChat on an Android", ua: "Mozilla/5.0 (Linux; Android 14; 23127PN0CC Build/UKQ1.230804.001; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/126.0.6478.188 Mobile Safari/537.36 XWEB/1260117 MMWEBSDK/20240802 MicroMessenger/8.0.53.2740(0x2800353F) WeChat/arm64 Weixin NetType/5G Language/zh_CN ABI/arm64", typ: "mobile", os: "Android", browser: "Chrome", version: "126.0.6478.188"},
	{name: "Pinterest on an iPhone", ua: iPhone18 + "Mobile/22B83 [Pinterest/iOS]", typ: "mobile", os: "iOS", browser: "Safari"},
	{name: "Snapchat on an iPhone", ua: iPhone18 + "Version/18.1 Mobile/15E148 Snapchat/13.14.0.42 (like Safari/8619.2.8.10.7, panda)", typ: "mobile", os: "iOS", browser: "Safari", version: "18.1"},
	{name: "an app of Electron", ua: "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Slack/4.41.97 Chrome/130.0.6723.131 Electron/33.2.0 Safari/537.36", typ: "desktop", os: "Windows", browser: "Chrome", version: "130.0.6723.131"},

	// Other screens, and old phones.
	{name: "KaiOS has no word", ua: "Mozilla/5.0 (Mobile; Nokia_8110_4G; rv:48.0) Gecko/48.0 Firefox/48.0 KAIOS/2.5.2", typ: "mobile", os: "Unknown", browser: "Firefox", version: "48.0"},
	{name: "a Windows phone", ua: "Mozilla/5.0 (Windows Phone 10.0; Android 6.0.1; Microsoft; Lumia 950) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/52.0.2743.116 Mobile Safari/537.36 Edge/15.15254", typ: "mobile", os: "Windows", browser: "Edge", version: "15.15254"},
	{name: "a BlackBerry", ua: "Mozilla/5.0 (BB10; Touch) AppleWebKit/537.35+ (KHTML, like Gecko) Version/10.3.3.2205 Mobile Safari/537.35+", typ: "mobile", os: "Unknown", browser: "Unknown"},
	{name: "a Kindle that reads", ua: "Mozilla/5.0 (X11; U; Linux armv7l like Android; en-us) AppleWebKit/531.2+ (KHTML, like Gecko) Version/5.0 Safari/533.2+ Kindle/3.0+", typ: "tablet", os: "Linux", browser: "Safari", version: "5.0"},
	{name: "Samsung's TV", ua: uaTV, typ: "unknown", os: "Linux", browser: "Chrome", version: "76.0.3809.146"},
	{name: "LG's TV", ua: "Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/108.0.5359.211 Safari/537.36 WebAppManager", typ: "unknown", os: "Linux", browser: "Chrome", version: "108.0.5359.211"},
	{name: "Sony's TV", ua: "Mozilla/5.0 (Linux; Android 9; BRAVIA 4K UR2 Build/PTT1.190515.001.S52) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Safari/537.36", typ: "unknown", os: "Android", browser: "Chrome", version: "119.0.0.0"},
	{name: "Fire TV", ua: "Mozilla/5.0 (Linux; Android 9; AFTMM Build/PS7233; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/70.0.3538.110 Mobile Safari/537.36", typ: "unknown", os: "Android", browser: "Chrome", version: "70.0.3538.110"},
	{name: "PlayStation 5", ua: "Mozilla/5.0 (PlayStation; PlayStation 5/2.26) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.0 Safari/605.1.15", typ: "unknown", os: "Unknown", browser: "Safari", version: "13.0"},
	{name: "Xbox", ua: "Mozilla/5.0 (Windows NT 10.0; Win64; x64; Xbox; Xbox One) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0", typ: "unknown", os: "Windows", browser: "Edge", version: "131.0.0.0"},
	{name: "Switch", ua: "Mozilla/5.0 (Nintendo Switch; WifiWebAuthApplet) AppleWebKit/609.4 (KHTML, like Gecko) NF/6.0.2.21.3 NintendoBrowser/5.1.0.22474", typ: "unknown", os: "Unknown", browser: "Unknown"},
	{name: "a Quest", ua: "Mozilla/5.0 (Linux; Android 12; Quest 3) AppleWebKit/537.36 (KHTML, like Gecko) OculusBrowser/35.2.0.3.50 Chrome/126.0.6478.231 VR Safari/537.36", typ: "unknown", os: "Android", browser: "Chrome", version: "126.0.6478.231"},
	{name: "a Tesla", ua: "Mozilla/5.0 (X11; GNU/Linux) AppleWebKit/537.36 (KHTML, like Gecko) Chromium/109.0.5414.119 Chrome/109.0.5414.119 Safari/537.36 Tesla/DEV-BUILD", typ: "unknown", os: "Linux", browser: "Chrome", version: "109.0.5414.119"},
}

// TestRealAgents holds each to its words, and the rows made of it to what the
// datasource takes.
func TestRealAgents(t *testing.T) {
	set, err := schema.Load()
	if err != nil {
		t.Fatal(err)
	}
	traffic, _ := set.Datasource(sessionctx.TrafficDatasource)
	c := &sessionctx.Campaign{CampaignRef: sessionctx.CampaignRef{ID: "cmp_1", Environment: sessionctx.Production},
		WorkspaceID: "ws_1", ProjectID: "pr_1", Deployment: "production"}
	s := &sessionctx.Session{ID: "s", OriginalID: "s", UserID: "u", Campaign: c.CampaignRef}
	var rd Reader
	for _, a := range realAgents {
		h := hintHeaders(a.platform, a.mobile, a.brands)
		h.Set("User-Agent", a.ua)
		f := rd.Read(Request{HTTP: &http.Request{Method: "GET", Host: "a.example", URL: &url.URL{Path: "/"}, Header: h}, Now: noon})
		d := f.Device
		want := sessionctx.Device{Type: a.typ, OS: a.os, Browser: a.browser, BrowserVersion: a.version,
			Mobile: a.typ == "mobile", ConnectionType: d.ConnectionType}
		if d != want {
			t.Errorf("%s: %+v, want %+v", a.name, d, want)
		}
		checkVocabulary(t, d)
		row := sessionctx.AppendTrafficRow(nil, c, s, &f, "r", 200, true, noon.UnixMilli())
		if err := traffic.Check(row); err != nil {
			t.Errorf("%s: %v", a.name, err)
		}
	}
}

// TestNetworkOfApps: of apps that name it.
func TestNetworkOfApps(t *testing.T) {
	for ua, want := range map[string]string{
		iPhone18 + "MicroMessenger/8.0.53(0x1800352e) NetType/WIFI Language/zh_CN": "wifi",
		android14 + " JsSdk/1.0 NetType/4G Channel/googleplay":                     "4g",
		android14 + " NetType/3G":                "3g",
		android14 + " NetType/5G Language/zh_CN": "unknown",
		android14 + " NetType/":                  "unknown",
		android14:                                "unknown",
	} {
		var rd Reader
		h := http.Header{"User-Agent": {ua}}
		q := Request{HTTP: &http.Request{URL: &url.URL{Path: "/"}, Header: h}, Now: time.Time{}}
		if got := rd.Read(q).Device.ConnectionType; got != want {
			t.Errorf("%s: %s, want %s", ua, got, want)
		}
		h.Set("ECT", "2g")
		if got := rd.Read(q).Device.ConnectionType; got != "2g" {
			t.Errorf("%s with a hint: %s", ua, got)
		}
	}
}
