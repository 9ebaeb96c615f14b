package visitor

import "strings"

// crawler is a program whose operator publishes by what host names its
// addresses are known. Operators that publish addresses only (OpenAI,
// Anthropic, Meta, DuckDuckGo, Perplexity) and those that publish nothing
// (LinkedIn, X) are not here: their claims are neither confirmed nor denied.
type crawler struct {
	// words are lower-case parts of its user agents.
	words []string
	hosts []hostRule
}

// hostRule is a published form of host names: what the first label begins
// with, if anything is said about that, and the domain with its leading dot.
type hostRule struct{ prefix, domain string }

func (h hostRule) matches(host string) bool {
	return strings.HasPrefix(host, h.prefix) && strings.HasSuffix(host, h.domain) && len(host) > len(h.domain)
}

// maxCrawlers is how many a confirmed set can hold.
const maxCrawlers = 64

// crawlers are those that can be verified. A claim is an index here plus 1.
var crawlers = [...]crawler{
	// https://developers.google.com/crawling/docs/crawlers-fetchers/verify-google-requests
	// Common crawlers are crawl-… and geo-crawl-… of googlebot.com, special ones
	// (ads, safe browsing) rate-limited-proxy-… of google.com. The whole domain
	// google.com would also take in Google's offices.
	{
		words: []string{
			"googlebot", "storebot-google", "google-inspectiontool", "googleother", "google-cloudvertexbot",
			"adsbot-google", "mediapartners-google", "apis-google", "google-safety", "duplexweb-google",
		},
		hosts: []hostRule{{"crawl-", ".googlebot.com"}, {"geo-crawl-", ".googlebot.com"}, {"rate-limited-proxy-", ".google.com"}},
	},
	// https://developers.google.com/crawling/docs/crawlers-fetchers/google-user-triggered-fetchers
	// The other published form, ….gae.googleusercontent.com, belongs to whoever
	// rents there, and proves nothing.
	{
		words: []string{"feedfetcher-google", "google-read-aloud", "google-site-verification", "googleproducer", "google-notebooklm", "google-pinpoint"},
		hosts: []hostRule{{"google-proxy-", ".google.com"}},
	},
	// https://www.bing.com/webmasters/help/how-to-verify-bingbot-3905dc26
	{
		words: []string{"bingbot", "msnbot", "adidxbot", "bingpreview"},
		hosts: []hostRule{{"", ".search.msn.com"}},
	},
	// https://support.apple.com/en-us/119829
	{words: []string{"applebot"}, hosts: []hostRule{{"", ".applebot.apple.com"}}},
	// https://developer.amazon.com/amazonbot
	{words: []string{"amazonbot"}, hosts: []hostRule{{"", ".crawl.amazonbot.amazon"}}},
	// https://adbot.amazon.com/
	{words: []string{"amazonadbot"}, hosts: []hostRule{{"", ".amazonadbot.com"}}},
	// https://yandex.com/support/webmaster/robot-workings/check-yandex-robots.html
	{
		words: []string{"yandexbot", "yandex.com/bots"},
		hosts: []hostRule{{"", ".yandex.ru"}, {"", ".yandex.net"}, {"", ".yandex.com"}},
	},
	// https://help.baidu.com/question?prod_id=99&class=476&id=2996
	{
		words: []string{"baiduspider"},
		hosts: []hostRule{{"", ".baidu.com"}, {"", ".baidu.jp"}},
	},
	// https://help.pinterest.com/en/business/article/pinterest-crawler
	{words: []string{"pinterestbot", "pinterest/0."}, hosts: []hostRule{{"", ".pinterest.com"}}},
	// https://napoveda.seznam.cz/en/seznambot-crawler
	{words: []string{"seznambot"}, hosts: []hostRule{{"fulltextrobot-", ".seznam.cz"}}},
	// https://help.qwant.com/bot
	{words: []string{"qwantbot"}, hosts: []hostRule{{"", ".qwant.com"}}},
	// http://aspiegel.com/petalbot, which has become petalsearch.com
	{
		words: []string{"petalbot", "aspiegelbot"},
		hosts: []hostRule{{"", ".petalsearch.com"}, {"", ".aspiegel.com"}},
	},
	// https://commoncrawl.org/ccbot
	{words: []string{"ccbot/"}, hosts: []hostRule{{"", ".crawl.commoncrawl.org"}}},
	// https://adkernel.com/robot
	{words: []string{"adkerneltopiccrawler"}, hosts: []hostRule{{"", ".crawler.adkernel.com"}}},
	// http://www.ysearchblog.com/2007/06/05/yahoo-search-crawler-slurp-has-a-new-address-and-signature-card/
	{words: []string{"yahoo! slurp"}, hosts: []hostRule{{"", ".crawl.yahoo.net"}}},
}

// claim is the crawler that a lower-case user agent says to be, 0 for none that
// can be verified. Of several the first counts.
func claim(userAgent string) uint8 {
	for i := range crawlers {
		if containsAny(userAgent, crawlers[i].words) {
			return uint8(i + 1)
		}
	}
	return 0
}

// named is the set of crawlers that have hosts of this name (in lower case,
// without the last dot), a bit each.
func named(host string) (set uint64) {
	for i := range crawlers {
		for _, h := range crawlers[i].hosts {
			if h.matches(host) {
				set |= 1 << i
			}
		}
	}
	return set
}
