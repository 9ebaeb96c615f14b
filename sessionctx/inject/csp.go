package inject

import "strings"

const cspHeader = "Content-Security-Policy"

// amendCSP makes every enforced policy allow an inline script with our nonce,
// and returns the header's new values and that nonce; nil ours means none. With
// ok false the page forbids all scripts (a sandbox), which is not ours to
// change. The values given are left as they are.
//
// A nonce that the policies have is not used for our script: a policy that is
// set later, out of sight, can name ours only, and an element has one nonce.
//
// A policy that allows inline scripts by 'unsafe-inline' is not touched: a
// nonce beside it would turn it off for the page's own scripts.
func amendCSP(values []string, ours func() string) (amended []string, nonce string, ok bool) {
	for _, value := range values {
		for policy := range strings.SplitSeq(value, ",") {
			if parsePolicy(policy).sandboxed() {
				return nil, "", false
			}
		}
	}
	if ours == nil {
		return values, "", true
	}
	nonce = ours()
	amended = make([]string, len(values))
	for i, value := range values {
		policies := strings.Split(value, ",")
		for j, policy := range policies {
			policies[j] = parsePolicy(policy).allow(nonce)
		}
		amended[i] = strings.Join(policies, ",")
	}
	return amended, nonce, true
}

// addSource appends the nonce to a directive.
func addSource(directive, nonce string) string {
	return strings.TrimRight(directive, cspSpace) + " 'nonce-" + nonce + "'"
}

// loaderAllowed reports whether every policy lets a script from path on the
// page's own host run as it is, and the nonce it has to carry for that, if any.
func loaderAllowed(values []string, host string, https bool) (nonce string, ok bool) {
	var restricting []sourceList
	for _, value := range values {
		for policy := range strings.SplitSeq(value, ",") {
			p := parsePolicy(policy)
			if p.sandboxed() {
				return "", false
			}
			if p.rules() && !p.sources.ownHostAllowed(host, https) {
				restricting = append(restricting, p.sources)
			}
		}
	}
	if len(restricting) == 0 {
		return "", true
	}
	for _, candidate := range restricting[0].nonces() {
		everywhere := true
		for _, s := range restricting[1:] {
			everywhere = everywhere && s.hasNonce(candidate)
		}
		if everywhere {
			return candidate, true
		}
	}
	return "", false
}

// policy is one serialized policy, taken apart as far as it concerns scripts.
type policy struct {
	text       string
	name       string // of the directive that rules script elements, "" if none does
	start, end int    // of that directive in text
	sources    sourceList
	sandbox    string
	sandboxSet bool
}

// parsePolicy finds the directive that rules script elements. Of directives
// with one name only the first counts.
func parsePolicy(text string) policy {
	p := policy{text: text}
	rank := 0
	for offset := 0; offset <= len(text); {
		end := len(text)
		if i := strings.IndexByte(text[offset:], ';'); i >= 0 {
			end = offset + i
		}
		directive := strings.TrimLeft(text[offset:end], cspSpace)
		name := directive
		if i := strings.IndexAny(directive, cspSpace); i >= 0 {
			name = directive[:i]
		}
		r := 0
		switch {
		case strings.EqualFold(name, "script-src-elem"):
			r = 3
		case strings.EqualFold(name, "script-src"):
			r = 2
		case strings.EqualFold(name, "default-src"):
			r = 1
		case strings.EqualFold(name, "sandbox") && !p.sandboxSet:
			p.sandbox, p.sandboxSet = directive[len(name):], true
		}
		if r > rank {
			rank = r
			p.name, p.start, p.end = name, offset, end
			p.sources = strings.Fields(directive[len(name):])
		}
		offset = end + 1
	}
	return p
}

const cspSpace = " \t\r\n\f"

// rules reports whether the policy has anything to say about script elements.
func (p policy) rules() bool { return p.name != "" }

// sandboxed reports whether the policy forbids scripts altogether.
func (p policy) sandboxed() bool {
	if !p.sandboxSet {
		return false
	}
	for _, flag := range strings.Fields(p.sandbox) {
		if strings.EqualFold(flag, "allow-scripts") {
			return false
		}
	}
	return true
}

// allow is the policy's text with nonce allowed.
func (p policy) allow(nonce string) string {
	if !p.rules() || p.sources.inlineAllowed() || p.sources.hasNonce(nonce) {
		return p.text
	}
	sources := p.sources.withoutNone()
	if strings.EqualFold(p.name, "default-src") {
		// Added to default-src itself, a nonce would change what styles,
		// images and all else may do.
		directive := strings.Join(append([]string{"script-src"}, sources...), " ")
		return strings.TrimRight(p.text, cspSpace+";") + "; " + addSource(directive, nonce)
	}
	directive := p.text[p.start:p.end]
	if len(sources) == 0 {
		lead := directive[:len(directive)-len(strings.TrimLeft(directive, cspSpace))]
		directive = lead + p.name
	}
	return p.text[:p.start] + addSource(directive, nonce) + p.text[p.end:]
}

// sourceList is the value of a directive such as script-src.
type sourceList []string

// inlineAllowed reports whether 'unsafe-inline' is in force: a nonce, a hash or
// 'strict-dynamic' beside it turns it off.
func (s sourceList) inlineAllowed() bool {
	unsafe := false
	for _, source := range s {
		switch {
		case strings.EqualFold(source, "'unsafe-inline'"):
			unsafe = true
		case strings.EqualFold(source, "'strict-dynamic'"), nonceOf(source) != "", isHash(source):
			return false
		}
	}
	return unsafe
}

// ownHostAllowed reports whether an external script of the page's own host may
// run without a nonce. Sources with a path are taken not to match.
func (s sourceList) ownHostAllowed(host string, https bool) bool {
	allowed := false
	for _, source := range s {
		switch {
		case strings.EqualFold(source, "'strict-dynamic'"):
			return false
		case strings.EqualFold(source, "'self'"), source == "*",
			strings.EqualFold(source, "http:"), https && strings.EqualFold(source, "https:"):
			allowed = true
		case !strings.HasPrefix(source, "'") && hostMatches(source, host, https):
			allowed = true
		}
	}
	return allowed
}

func hostMatches(source, host string, https bool) bool {
	source = strings.ToLower(source)
	if rest, cut := strings.CutPrefix(source, "https://"); cut {
		if !https {
			return false
		}
		source = rest
	} else {
		source = strings.TrimPrefix(source, "http://")
	}
	source = strings.TrimSuffix(source, "/")
	host = strings.ToLower(host)
	if tail, wild := strings.CutPrefix(source, "*."); wild {
		return strings.HasSuffix(host, "."+tail)
	}
	return source != "" && source == host
}

func (s sourceList) nonces() (all []string) {
	for _, source := range s {
		if n := nonceOf(source); n != "" {
			all = append(all, n)
		}
	}
	return all
}

func (s sourceList) hasNonce(nonce string) bool {
	for _, source := range s {
		if nonceOf(source) == nonce {
			return true
		}
	}
	return false
}

// withoutNone is a copy of the list less 'none', which counts only when alone.
func (s sourceList) withoutNone() (rest []string) {
	for _, source := range s {
		if !strings.EqualFold(source, "'none'") {
			rest = append(rest, source)
		}
	}
	return rest
}

// nonceOf is the nonce that a source expression holds, or "".
func nonceOf(source string) string { return quoted(source, "'nonce-") }

func isHash(source string) bool {
	return quoted(source, "'sha256-") != "" || quoted(source, "'sha384-") != "" || quoted(source, "'sha512-") != ""
}

// quoted is what stands between prefix and the closing quote of a nonce or
// hash, or "". Browsers ignore what is not base64 there, such as a placeholder
// that nobody filled in; in an attribute it would not be safe.
func quoted(source, prefix string) string {
	if len(source) < len(prefix)+2 || !strings.EqualFold(source[:len(prefix)], prefix) || source[len(source)-1] != '\'' {
		return ""
	}
	value := source[len(prefix) : len(source)-1]
	body := strings.TrimRight(value, "=")
	if body == "" || len(value)-len(body) > 2 {
		return ""
	}
	for _, c := range []byte(body) {
		if !isAlpha(c) && (c < '0' || c > '9') && c != '+' && c != '/' && c != '-' && c != '_' {
			return ""
		}
	}
	return value
}
