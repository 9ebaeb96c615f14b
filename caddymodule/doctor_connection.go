package caddymodule

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"golang.org/x/net/idna"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/visitor"
)

// errRedirects is what a page ends in that leads in circles.
var errRedirects = errors.New("10 redirects, and no page")

func (d *doctor) connectBy() {
	dialer := &net.Dialer{Timeout: doctorPatience}
	d.client = &http.Client{
		Timeout: doctorPatience,
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) == 10 {
				return errRedirects
			}
			d.present(r)
			return nil
		},
		Transport: &http.Transport{
			Proxy:             d.proxy,
			ForceAttemptHTTP2: true,
			DisableKeepAlives: true, // behind a balancer each request may come to another node
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: d.skipVerify, RootCAs: d.roots},
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, d.dialed(addr))
			},
		},
	}
}

// dialed is where an address is dialed: with `--to`, the page's host there. On
// another port than the page's, as after a redirect to HTTPS, it is that port.
func (d *doctor) dialed(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || d.to == "" || !strings.EqualFold(host, d.page.Hostname()) {
		return addr
	}
	if port == portOf(d.page) {
		return d.to
	}
	to, _, err := net.SplitHostPort(d.to)
	if err != nil {
		return addr
	}
	return net.JoinHostPort(to, port)
}

// proxy is that of the environment, unless the way is named.
func (d *doctor) proxy(r *http.Request) (*url.URL, error) {
	if d.to != "" {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}

// mayKnow reports whether a URL may be asked with the headers that were given,
// which may be secrets: it is the page's host, and not by plain HTTP where the
// page was asked by HTTPS.
func (d *doctor) mayKnow(u *url.URL) bool {
	u, err := normalize(u)
	if err != nil {
		return false
	}
	upgraded := d.page.Scheme == "http" && u.Scheme == "https" && u.Hostname() == d.page.Hostname()
	return upgraded || originOf(u) == originOf(d.page)
}

// present gives a request the headers that it may have, and takes off those
// that it had before a redirect.
func (d *doctor) present(r *http.Request) {
	may := d.mayKnow(r.URL)
	for name, values := range d.header {
		switch {
		case may:
			r.Header[name] = values
		case name == "User-Agent":
			r.Header.Set(name, visitor.ProbeAgent)
		default:
			r.Header.Del(name)
		}
	}
}

// normalize gives a URL the form that browsers give it: its host in lower case
// and in ASCII, and no port that its scheme has anyway.
func normalize(u *url.URL) (*url.URL, error) {
	host := strings.ToLower(u.Hostname())
	if strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII }) {
		ascii, err := idna.Lookup.ToASCII(host)
		if err != nil {
			return nil, err
		}
		host = ascii
	}
	out := *u
	out.User, out.Host = nil, host
	if strings.Contains(host, ":") {
		out.Host = "[" + host + "]"
	}
	if port := u.Port(); port != "" && port != portOf(&url.URL{Scheme: u.Scheme}) {
		out.Host += ":" + port
	}
	if out.Path == "" {
		out.Path = "/"
	}
	return &out, nil
}

func originOf(u *url.URL) string { return u.Scheme + "://" + u.Host }

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}

// atHome reports whether browsers take plain HTTP for safe there.
func atHome(u *url.URL) bool {
	host := u.Hostname()
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host).IsLoopback()
}

// findHost resolves the host's name.
func (d *doctor) findHost(ctx context.Context) bool {
	host := d.page.Hostname()
	if d.to != "" {
		d.found(levelNote, "address", "", "%s is asked at %s, whatever its name resolves to", host, d.to)
		return true
	}
	if via, _ := d.proxy(&http.Request{URL: d.page}); via != nil {
		d.found(levelNote, "address", "", "%s is asked through the proxy at %s, by the environment", host, via.Host)
		return true
	}
	addrs, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		d.found(levelError, "address", "give the name an A or AAAA record, or name the server's address by --to", "the name does not resolve: %v", err)
		return false
	}
	d.found(levelOK, "address", "", "%s is %s", host, strings.Join(addrs, ", "))
	return true
}

// request makes one of the site, as a browser would that fetches ahead.
func (d *doctor) request(ctx context.Context, method string, u *url.URL, dest, mode string, body any) (*http.Request, error) {
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, u.String(), sent)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", visitor.ProbeAgent)
	r.Header.Set("Accept-Language", "en")
	r.Header.Set("Sec-Purpose", "prefetch")
	r.Header.Set("Sec-Fetch-Dest", dest)
	r.Header.Set("Sec-Fetch-Mode", mode)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return r, nil
}

// do sends a request. Where the answer breaks off, what came of it comes with
// the error.
func (d *doctor) do(r *http.Request) (*http.Response, []byte, error) {
	d.present(r)
	res, err := d.client.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxDoctorBody))
	return res, body, err
}

// getPage fetches the page.
func (d *doctor) getPage(ctx context.Context) (*shownPage, error) {
	r, err := d.request(ctx, http.MethodGet, d.page, "document", "navigate", nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
	r.Header.Set("Sec-Fetch-Site", "none")
	res, body, err := d.do(r)
	if err != nil && len(body) == 0 {
		return nil, err
	}
	u, bad := normalize(res.Request.URL)
	if bad != nil {
		return nil, bad
	}
	p := &shownPage{url: u, status: res.StatusCode, header: res.Header, tls: res.TLS, cut: err}
	readPage(p, body)
	return p, nil
}

// lookAtPage fetches the page and tells of connection, certificate and answer.
func (d *doctor) lookAtPage(ctx context.Context) *shownPage {
	p, err := d.getPage(ctx)
	if err != nil {
		code, remedy := "connection", "see that Caddy runs, listens there, and is let through by the firewall"
		var bad *tls.CertificateVerificationError
		var op *net.OpError
		switch {
		case errors.Is(err, errRedirects):
			remedy = "see what redirects: often a proxy that asks Caddy by plain HTTP, which sends its visitors to HTTPS, which it is again asked for by plain HTTP"
		case errors.Is(err, http.ErrSchemeMismatch):
			code, remedy = "certificate", "that port speaks plain HTTP: write http:// before the name, or serve the site by HTTPS"
		case errors.As(err, &bad), errors.As(err, &op) && op.Op == "remote error": // as where Caddy has none for the name
			code, remedy = "certificate", "Caddy's log says why it has no certificate that visitors trust: names, DNS, ports 80 and 443, rate limits of the issuer"
		}
		d.found(levelError, code, remedy, "no page from %s: %v", d.page, unwrapURL(err))
		return nil
	}
	d.lookAtTLS(p)
	kind, _, _ := mime.ParseMediaType(p.header.Get("Content-Type"))
	at := ""
	if p.url.String() != d.page.String() {
		at = ", after a redirect to " + p.url.String()
	}
	p.wrong = true
	switch {
	case p.status < 200 || p.status > 299:
		d.found(levelError, "page", "name a page that is answered with 200; --header adds what it needs to be let in", "the answer is %d%s", p.status, at)
	case kind != "text/html" && kind != "application/xhtml+xml":
		d.found(levelError, "page", "name a page of HTML", "the answer is no page: its type is %q%s", p.header.Get("Content-Type"), at)
	default:
		p.wrong = false
		d.found(levelOK, "page", "", "%d %s, %s%s", p.status, kind, size(int64(p.size)), at)
	}
	if p.cut != nil {
		d.found(levelNote, "page", "", "it broke off: %v", unwrapURL(p.cut))
	}
	return p
}

// unwrapURL takes off what names method and URL once more.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func (d *doctor) lookAtTLS(p *shownPage) {
	if p.tls == nil {
		if atHome(p.url) {
			d.found(levelNote, "certificate", "", "plain HTTP, which on this machine is like HTTPS for browsers")
			return
		}
		d.found(levelError, "certificate", "serve the site by HTTPS: cookies have no protection here, and sendBeacon, crypto and client hints are restricted", "the page is served by plain HTTP")
		return
	}
	leaf := p.tls.PeerCertificates[0]
	if d.skipVerify {
		_, err := leaf.Verify(x509.VerifyOptions{DNSName: p.url.Hostname(), Roots: d.roots, Intermediates: poolOf(p.tls.PeerCertificates[1:])})
		if err != nil {
			d.found(levelNote, "certificate", "", "visitors would not trust it: %v", err)
			return
		}
	}
	left, life := leaf.NotAfter.Sub(d.now()), leaf.NotAfter.Sub(leaf.NotBefore)
	if left < life/5 { // Caddy renews when a third is left
		d.found(levelWarning, "certificate", "Caddy's log says why it is not renewed", "valid until %s only, by %s", leaf.NotAfter.UTC().Format(time.DateTime), leaf.Issuer)
		return
	}
	d.found(levelOK, "certificate", "", "valid until %s, by %s", leaf.NotAfter.UTC().Format(time.DateTime), leaf.Issuer)
}

func poolOf(certs []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool
}
