// Package browser drives a real Chromium, for tests of what a page's visitor
// sees.
//
// A Browser is one process with a profile of its own; a Page is a tab with
// cookies and storage of its own. Both end with the test that opened them.
package browser

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// patience is how long one step may take. A test machine that is busy with
// race detectors is slow.
const patience = 60 * time.Second

// Browser is a running Chromium.
type Browser struct {
	ctx context.Context
}

// Start starts Chromium. Options come on top of the defaults, which keep it
// from calling anything but the pages that are opened.
func Start(tb testing.TB, options ...chromedp.ExecAllocatorOption) *Browser {
	tb.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		tb.Fatal("chromium is not installed: run make setup")
	}
	defaults := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path),
		chromedp.UserDataDir(tb.TempDir()),
		chromedp.NoFirstRun,
		chromedp.NoDefaultBrowserCheck,
		chromedp.Headless,
		chromedp.NoSandbox, // it can't be had as root
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.WSURLReadTimeout(patience),
	}
	allocator, endAllocator := chromedp.NewExecAllocator(context.Background(), append(defaults, options...)...)
	ctx, end := chromedp.NewContext(allocator)
	tb.Cleanup(func() {
		end()
		endAllocator() // waits for the process
	})
	if err := start(ctx); err != nil {
		tb.Fatalf("starting Chromium: %v", err)
	}
	return &Browser{ctx: ctx}
}

// start makes what belongs to the context. It lives as long as the context of
// its first run, so that must not be one with a limit.
func start(ctx context.Context) error {
	_, err := chromedp.Run(ctx, chromedp.Evaluate[int]("1"))
	return err
}

// Page is a tab.
type Page struct {
	tb  testing.TB
	ctx context.Context
}

// Page opens a tab that shares nothing with others.
func (b *Browser) Page(tb testing.TB) *Page {
	tb.Helper()
	ctx, end := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	tb.Cleanup(end)
	p := &Page{tb: tb, ctx: ctx}
	if err := start(ctx); err != nil {
		tb.Fatalf("opening a tab: %v", err)
	}
	return p
}

// Tab opens another tab with the same cookies and storage.
func (p *Page) Tab() *Page {
	p.tb.Helper()
	ctx, end := chromedp.NewContext(p.ctx)
	p.tb.Cleanup(end)
	if err := start(ctx); err != nil {
		p.tb.Fatalf("opening a tab: %v", err)
	}
	return &Page{tb: p.tb, ctx: ctx}
}

// Run runs an action of chromedp and gives its value; the test fails if it
// does.
func Run[T any](p *Page, action chromedp.Action[T]) T {
	p.tb.Helper()
	v, err := Try(p, action)
	if err != nil {
		p.tb.Fatalf("Chromium: %v", err)
	}
	return v
}

// Try is Run where a failure is an outcome.
func Try[T any](p *Page, action chromedp.Action[T]) (T, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, action)
}

// Eval gives the value of a JavaScript expression, awaited if it is a promise.
func Eval[T any](p *Page, expression string) T {
	p.tb.Helper()
	return Run(p, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// Open goes to the URL and waits for the page's load event.
func (p *Page) Open(url string) {
	p.tb.Helper()
	Run(p, chromedp.Navigate(url))
}

// Context is the tab's, for what chromedp offers beyond this package:
// listeners, say.
func (p *Page) Context() context.Context { return p.ctx }
