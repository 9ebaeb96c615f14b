package caddymodule

import (
	"net/http"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/visitor"
)

// clientHints lets an injected page ask for the client hints that rows make
// something of, where consent is not required or was given, and tells whether
// the browser throws the answer away to ask again with others (Critical-CH).
//
// What is thrown away is no visit: it sets no cookie, so that the retry is the
// visitor's first page, and nobody finds its session by the visitor key. Its
// session's state is kept all the same, for browsers that show the page after
// all: their script's calls are answered, and set the cookies.
func (p *pageAnswer) clientHints(header http.Header, injecting bool) (retried bool) {
	v := p.view
	if injecting && v.handler.ClientHints != "off" {
		visitor.AskHints(p.request, header, v.visit.Consent.Analytics)
	}
	if v.facts.Purpose != sessionctx.PurposeNavigate || !visitor.Discards(p.request, header) {
		return false
	}
	v.facts.Purpose = sessionctx.PurposeRetried
	return true
}
