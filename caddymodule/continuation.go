package caddymodule

import (
	"context"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// visitorSession is the one living session of this request's visitor key,
// today's or yesterday's, with all that goes with it. It is none where the
// key has several, where the visitor refused or sends a signal that the
// campaign respects, and where the store does not answer in time. c.handler is
// set; the session may be another user's, and of another campaign, than those
// that the body names.
func (c *call) visitorSession(ctx context.Context) (*sessionctx.Session, bool) {
	return nil, false
}
