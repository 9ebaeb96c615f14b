package caddymodule

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"golang.org/x/net/html"
)

// shownContext is what doctor needs of the injected document.
type shownContext struct {
	UserID      string `json:"userId"`
	WorkspaceID string `json:"workspaceId"`
	ProjectID   string `json:"projectId"`
	CampaignID  string `json:"campaignId"`
	Environment string `json:"campaignEnvironment"`
	ServerTime  int64  `json:"serverTime"`
	APIBaseURL  string `json:"apiBaseUrl"`
	Session     struct {
		SessionID string `json:"sessionId"`
		Token     string `json:"token"`
	} `json:"session"`
}

// shownPage is a page as a browser gets it, with the scripts that the module
// put into it.
type shownPage struct {
	url      *url.URL // after redirects
	tls      *tls.ConnectionState
	status   int
	header   http.Header
	cut      error // why the answer broke off, if it did
	wrong    bool  // it is no page that should have a context
	size     int
	contexts []contextScript
	runtimes []sourceScript
	loaders  []sourceScript
	// policies are those of the header and of `<meta>` elements in the head; only
	// those of the header rule our scripts, which stand before.
	policies, metaPolicies []string
}

// contextScript is an inline script with a context.
type contextScript struct {
	nonce   string
	context *shownContext
	err     error // why it can't be read
}

// sourceScript is a script that is loaded.
type sourceScript struct {
	nonce string
	src   *url.URL
}

// readPage finds what the module put into a page.
func readPage(p *shownPage, body []byte) {
	p.size = len(body)
	p.policies = p.header.Values("Content-Security-Policy")
	z := html.NewTokenizer(bytes.NewReader(body))
	inHead, templates := true, 0
	for {
		switch z.Next() {
		case html.ErrorToken:
			return
		case html.EndTagToken:
			switch t := z.Token(); t.Data {
			case "head":
				inHead = false
			case "template":
				templates--
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			t := z.Token()
			attrs := map[string]string{}
			for _, a := range t.Attr {
				attrs[a.Key] = a.Val
			}
			switch t.Data {
			case "html", "head", "title", "base", "link", "style", "noscript":
			case "template":
				templates++
			case "meta":
				if inHead && templates <= 0 && strings.EqualFold(attrs["http-equiv"], "Content-Security-Policy") {
					p.metaPolicies = append(p.metaPolicies, attrs["content"])
				}
			case "script":
				if _, ours := attrs["data-session-context"]; ours {
					p.addScript(attrs, z)
				}
			default: // it ends the head
				inHead = inHead && templates > 0
			}
		}
	}
}

func (p *shownPage) addScript(attrs map[string]string, z *html.Tokenizer) {
	if text := attrs["src"]; text != "" {
		src, err := p.url.Parse(text)
		if err == nil {
			src, err = normalize(src)
		}
		if err != nil {
			return
		}
		s := sourceScript{attrs["nonce"], src}
		if strings.HasSuffix(src.Path, "/session/context.js") {
			p.loaders = append(p.loaders, s)
		} else {
			p.runtimes = append(p.runtimes, s)
		}
		return
	}
	script := contextScript{nonce: attrs["nonce"]}
	if z.Next() == html.TextToken {
		script.context, script.err = contextOf(z.Text())
	} else {
		script.err = errNoContext
	}
	p.contexts = append(p.contexts, script)
}

var (
	errNoContext     = errors.New("it sets no context")
	contextStatement = regexp.MustCompile(`window\.[A-Za-z_$][A-Za-z0-9_$]*=\{`)
)

// contextOf reads the statement that sets the global.
func contextOf(script []byte) (*shownContext, error) {
	at := contextStatement.FindIndex(script)
	if at == nil {
		return nil, errNoContext
	}
	return decodeContext(script[at[1]-1:])
}

// decodeContext reads a context, and nothing of what stands behind it.
func decodeContext(text []byte) (*shownContext, error) {
	c := new(shownContext)
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(c); err != nil {
		return nil, err
	}
	if c.Session.SessionID == "" || c.UserID == "" {
		return nil, errNoContext
	}
	return c, nil
}

// fronts are headers by which proxies and caches give themselves away.
var fronts = []struct{ header, name string }{
	{"CF-Ray", "Cloudflare"},
	{"X-Amz-Cf-Id", "CloudFront"},
	{"X-Fastly-Request-Id", "Fastly"},
	{"X-Served-By", "Fastly or Varnish"},
	{"X-Varnish", "Varnish"},
	{"Fly-Request-Id", "Fly.io"},
	{"X-Vercel-Id", "Vercel"},
	{"X-Azure-Ref", "Azure Front Door"},
	{"X-Akamai-Transformed", "Akamai"},
	{"X-Cache", "a cache"},
	{"X-Cache-Status", "a cache"},
	{"X-Proxy-Cache", "a cache"},
}

// frontOf names what stands between a client and Caddy, "" if nothing is seen.
func frontOf(h http.Header) string {
	for _, f := range fronts {
		if h.Get(f.header) != "" {
			return f.name
		}
	}
	for _, via := range h.Values("Via") {
		for hop := range strings.SplitSeq(via, ",") {
			// "1.1 Caddy" is what reverse_proxy adds.
			if words := strings.Fields(hop); len(words) > 1 && !strings.EqualFold(words[1], "Caddy") {
				return words[1]
			}
		}
	}
	return ""
}

// fromCache says how an answer shows that a cache gave it, "" if it doesn't.
func fromCache(h http.Header) string {
	if age := h.Get("Age"); age != "" && age != "0" {
		return "Age: " + age
	}
	for _, name := range []string{"CF-Cache-Status", "X-Cache", "X-Cache-Status", "X-Proxy-Cache"} {
		if v := h.Get(name); strings.Contains(strings.ToUpper(v), "HIT") {
			return name + ": " + v
		}
	}
	return ""
}

// private reports whether shared caches may not keep the answer (RFC 9111
// §5.2.2).
func private(h http.Header) bool {
	for _, v := range h.Values("Cache-Control") {
		for directive := range strings.SplitSeq(v, ",") {
			name, _, _ := strings.Cut(strings.TrimSpace(directive), "=")
			if strings.EqualFold(name, "private") || strings.EqualFold(name, "no-store") {
				return true
			}
		}
	}
	return false
}
