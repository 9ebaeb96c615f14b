package visitor

import (
	_ "embed"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
)

// crawlersTxt is the kept list of programs' user agents, some 1,500 regular
// expressions with the kind of each. scripts/crawlers.sh takes it anew.
//
//go:embed crawlers.txt
var crawlersTxt string

// program is one line of the kept list.
type program struct {
	word  string         // a part of the user agent, case counts
	expr  *regexp.Regexp // instead of word, for the few that are no plain text
	score int
	// app says that the word also stands in the user agents of apps that show
	// pages to people, so that it says nothing beside a browser's.
	app bool
}

// programs reads the list when the first unknown user agent comes, in some 2 ms
// that a start of Caddy does not pay, and keeps 150 KB of it. All but 40 lines
// are plain text: compiled expressions would be a hundred times as many objects
// for the collector, and slower to ask. A user agent is held against all of it
// in 0.1 ms, once, and then remembered.
var programs = sync.OnceValue(func() []program { return readPrograms(crawlersTxt) })

func readPrograms(list string) []program {
	var out []program
	for line := range strings.Lines(list) {
		kind, pattern, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if !ok || kind == "#" {
			continue
		}
		p := program{score: kindScores[kind], app: slices.Contains(appWords, pattern)}
		if p.score == 0 {
			p.score = scoreCrawler
		}
		switch kind {
		case "social-preview", "feed-reader", "http-library":
			p.app = true
		}
		if p.word, ok = plainText(pattern); !ok {
			p.expr = regexp.MustCompile(pattern)
		}
		out = append(out, p)
	}
	return out
}

// kindScores are the scores of the list's kinds; all others are crawlers.
var kindScores = map[string]int{
	"social-preview":     scorePreviewer,
	"http-library":       scoreTool,
	"browser-automation": scoreHeadless,
}

// appWords are the list's patterns of other kinds that people's browsers and
// apps have too: a build of Android that one scanner copied, browsers and
// editors with a window on the web, and words of the dictionary.
var appWords = []string{
	`AP3A\.240617\.008`, `Code\/1\.`, `Trae\/`, `Fluid`, `Sogou`, `coccoc`, `PayPal\/`, `Klaviyo\/`, `Grammarly\/`,
	`Blackboard`, `Disqus`, `HubSpot`, `Splunk`, `GoPay`, `Stripe\/`, `Swisscows`, `Tweakers`, `speedy`, `Sonic`, `Trove`,
	`ds9`, `RED\/`, `Hello World`, `Magellan`, `Nitro-`, `Make\/`, `Operator\/`, `mail\.ru`,
}

// plainText is what an expression matches, if that is one text only.
func plainText(pattern string) (string, bool) {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil || re.Op != syntax.OpLiteral || re.Flags&syntax.FoldCase != 0 {
		return "", false
	}
	return string(re.Rune), true
}

// listed is the score of a user agent that the kept list has, else 0. likeABrowser
// says that it is written as browsers write theirs.
func listed(userAgent string, likeABrowser bool) int {
	list := programs()
	for i := range list {
		p := &list[i]
		if p.app && likeABrowser {
			continue
		}
		if p.expr != nil && p.expr.MatchString(userAgent) || p.expr == nil && strings.Contains(userAgent, p.word) {
			return p.score
		}
	}
	return 0
}

// systems begin the parenthesis of every browser's user agent.
var systems = []string{"Windows NT", "Macintosh", "X11", "Wayland", "Linux", "iPhone", "iPad", "iPod", "Android"}

// likeABrowser says that a user agent names a system where browsers do, and has
// none of the marks by which programs explain themselves.
func likeABrowser(userAgent string) bool {
	rest, ok := strings.CutPrefix(userAgent, "Mozilla/5.0 (")
	return ok && slices.ContainsFunc(systems, func(s string) bool { return strings.HasPrefix(rest, s) }) &&
		!strings.Contains(userAgent, "compatible;") && !strings.Contains(userAgent, "://")
}
