// Package visitor reads what one HTTP request tells about who sent it: where
// from, with what device and language, along which campaign, and why.
//
// It owns the rules that turn headers, URL and address into
// sessionctx.Facts: scheme and host, language, device and browser, bot score,
// fetch purpose, campaign touch, and place (from CDN headers or an mmdb file).
//
// It promises that every value is cut to a cap and free of control
// characters, that header words of proxies count only where the proxy is
// trusted, and that a read waits for nothing: no DNS, no disk, no network.
// (A Verifier asks DNS in the background, for later reads.)
//
// It never decides about sessions or consent, never parses X-Forwarded-For
// (the address is handed in), never changes the request and never fails: what
// can't be read is unknown.
package visitor
