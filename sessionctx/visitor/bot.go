package visitor

import (
	"net/http"
	"strings"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// The score is 1 (surely a program) to 99 (nothing speaks against a person).
// It is a first sieve, made of what one request shows by itself, and of two
// lists of addresses, if there are any:
//
//   - Programs that say so (crawlers, link previewers, HTTP libraries,
//     headless browsers) get 1 to 5, whatever else they send.
//   - Everybody else starts at 99 and loses points for each thing that a
//     browser does and this request did not: see penalties below.
//
// It labels; nothing is refused by it. A program that copies a browser's
// headers exactly scores 99. docs/bots.md explains each number.

// verdict is what the user agent and the client hints say.
type verdict struct {
	// declared is 1 … 5 for a program that names itself, else 0.
	declared int
	// penalty is what the user agent costs a visitor that does not.
	penalty int
	// claim is the crawler that the program says to be, see claim.
	claim uint8
}

// Scores of programs that name themselves.
const (
	scoreCrawler   = 1
	scorePreviewer = 2
	scoreTool      = 2
	scoreHeadless  = 3
	scoreNoAgent   = 5
)

// Penalties, in points.
const (
	penaltyNotMozilla     = 60 // every browser since 1994 begins with Mozilla/, but for old Opera
	penaltyLibraryBot     = 40 // the user agent library takes it for a bot, we don't know it
	penaltyHintsDisagree  = 35 // user agent and client hints contradict each other
	penaltyNoLanguage     = 40 // browsers always send Accept-Language
	penaltyNoAccept       = 15 // and Accept
	penaltyPlainAccept    = 15 // and ask for HTML when they navigate
	penaltyNoHints        = 20 // Chromium sends client hints to every HTTPS site
	penaltyNoFetch        = 20 // and all current browsers Fetch Metadata
	penaltyOldProtocol    = 25 // HTTP/1.0 is spoken by tools
	penaltyNoEncoding     = 15 // browsers always accept a compressed answer
	penaltyDatacenter     = 40 // people live elsewhere, but for those behind a VPN
	scoreHuman            = 99
	lowestUndeclaredScore = 6
)

// marks are lower-case parts of user agents of programs that name themselves,
// for what the kept list (see programs) lacks: words that programs make their
// names of, and what works on a landing page's behalf rather than crawls. Words
// that end in "bot" are found by namesBot.
var marks = []struct {
	score int
	words []string
}{
	{scoreHeadless, []string{"headless", "slimerjs", "cypress/", "jsdom", "htmlunit"}},
	{scorePreviewer, []string{"preview", "google-pagerenderer", "quora link"}},
	{scoreCrawler, []string{
		"crawler", "crawling", "spider", "archiver", "monitor", "uptime", "validator", "linkcheck", "favicon",
		"newrelicpinger", "+http",
	}},
	{scoreTool, []string{
		"curl/", "lwp::", "python", "java/", "apache-httpasyncclient", "jakarta", "perl/", "ruby/", "php/", "guzzle",
		"undici", "superagent", "postman", "insomnia", "reqwest", "hyper/", "dart/", "cfnetwork", "winhttp", "k6/",
		"vegeta", "apachebench", "jmeter", "locust", "gatling", "nuclei",
	}},
}

// people are lower-case marks of apps that show pages to people. The library
// takes some of them for bots, and their traffic is what ads pay for.
var people = []string{
	"instagram ", "fban/", "fbav/", "fb_iab", "pinterest/ios", "pinterest/android", "gsa/", "snapchat", "musical_ly",
	"bytedancewebview", "tiktok", "trill_", "twitter for", "linkedinapp", "micromessenger", "line/", "duckduckgo/",
	"metaiab", "iabmv/", "barcelona ", "reddit/version", "kakaotalk", "naver(inapp",
}

// judge says what a user agent and its hints tell about being a program.
func judge(k agentKey, library bool) verdict {
	if k.userAgent == "" {
		return verdict{declared: scoreNoAgent}
	}
	ua := strings.ToLower(k.userAgent)
	person := containsAny(ua, people)
	if score := declared(k, ua, person); score > 0 {
		return verdict{declared: score, claim: claim(ua)}
	}
	var v verdict
	if !strings.HasPrefix(ua, "mozilla/") && !strings.HasPrefix(ua, "opera/") {
		v.penalty += penaltyNotMozilla
	}
	if library && !person {
		v.penalty += penaltyLibraryBot
	}
	if hintsDisagree(k) {
		v.penalty += penaltyHintsDisagree
	}
	return v
}

// declared is the score of a program that names itself, else 0. ua is the user
// agent in lower case; person says that an app for people is in it.
func declared(k agentKey, ua string, person bool) int {
	if strings.Contains(k.brands, "Headless") {
		return scoreHeadless
	}
	if namesBot(ua) {
		return scoreCrawler
	}
	for _, m := range marks {
		// An app's web view may carry a library's name, never a crawler's.
		if containsAny(ua, m.words) && !(person && m.score == scoreTool) {
			return m.score
		}
	}
	browser := likeABrowser(k.userAgent)
	if person && browser {
		return 0
	}
	return listed(k.userAgent, browser)
}

// bot judges the request; trusted says that a proxy stands between.
func (rd *Reader) bot(r *http.Request, trusted bool, f *sessionctx.Facts, a agent) sessionctx.Bot {
	b := sessionctx.Bot{Score: score(r, trusted, f, a)}
	if rd.Crawlers != nil && a.verdict.claim != 0 {
		b.Verified, b.Refuted = rd.Crawlers.check(f.ClientIP, a.verdict.claim)
	}
	b.CorporateProxy = rd.CorporateProxies.Contains(f.ClientIP)
	if a.verdict.declared == 0 && !b.CorporateProxy && rd.Datacenters.Contains(f.ClientIP) {
		b.Score = max(lowestUndeclaredScore, b.Score-penaltyDatacenter)
	}
	return b
}

// score is what the request's own words say.
func score(r *http.Request, trusted bool, f *sessionctx.Facts, a agent) int {
	if a.verdict.declared > 0 {
		return a.verdict.declared
	}
	h, lost := r.Header, a.verdict.penalty
	if field(h, "Accept-Language") == "" {
		lost += penaltyNoLanguage
	}
	switch accept := field(h, "Accept"); {
	case accept == "":
		lost += penaltyNoAccept
	case f.Purpose == sessionctx.PurposeNavigate && !strings.Contains(accept, "text/html"):
		lost += penaltyPlainAccept
	}
	if len(h["Accept-Encoding"]) == 0 {
		lost += penaltyNoEncoding
	}
	// A proxy's protocol says nothing about the visitor's.
	if r.ProtoMajor == 1 && r.ProtoMinor == 0 && !trusted {
		lost += penaltyOldProtocol
	}
	if f.Scheme == "https" {
		if a.hints && len(h["Sec-Ch-Ua"]) == 0 {
			lost += penaltyNoHints
		}
		if a.fetch && f.Fetch.Site == "" {
			lost += penaltyNoFetch
		}
	}
	return max(lowestUndeclaredScore, scoreHuman-lost)
}

// namesBot finds words that end in "bot" (Googlebot, GPTBot/1.2), but not the
// phones of the maker Cubot.
func namesBot(ua string) bool {
	for i := 0; ; {
		j := strings.Index(ua[i:], "bot")
		if j < 0 {
			return false
		}
		start, end := i+j, i+j+len("bot")
		i = end
		if end < len(ua) && (isAlnum(ua[end]) && ua[end] != 's') {
			continue
		}
		if strings.HasSuffix(ua[:start], "cu") {
			continue
		}
		return true
	}
}

func containsAny(s string, words []string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}
