package browser

import (
	"context"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// Unattended opens the URL in a tab that nothing is attached to, which shares
// cookies and storage with others of its kind. What it shows has to drive
// itself and tell what becomes of it. Chromium prerenders nothing for a page
// that is debugged (PrerenderingDisabledByDevTools), which a Page always is.
func (b *Browser) Unattended(tb testing.TB, url string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	browser := chromedp.FromContext(ctx).Browser
	opened, err := cdp.Call(ctx, browser, target.CreateTarget, target.CreateTargetParams{URL: url})
	if err != nil {
		tb.Fatalf("opening a tab: %v", err)
	}
	tb.Cleanup(func() {
		cdp.Call(b.ctx, browser, target.CloseTarget, target.CloseTargetParams(opened))
	})
}
