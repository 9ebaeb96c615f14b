package caddymodule

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/visitor"
)

// Bots says how programs are told from people.
type Bots struct {
	// Whether crawlers are verified by DNS. Only addresses whose user agent
	// names a crawler that publishes its host names are looked up, in the
	// background. Default: true.
	Verify *bool `json:"verify,omitempty"`
	// The DNS server that is asked, as host:port. Default: the system's.
	Resolver string `json:"resolver,omitempty"`
	// File of the address ranges of datacenters, one a line. Visitors from
	// there lose points of their score. A file that is replaced is taken into
	// use within half a minute.
	Datacenters string `json:"datacenters,omitempty"`
	// File of the address ranges by which companies' people reach the web
	// (Zscaler, Netskope …), one a line. It costs them no points, even where
	// the addresses are a datacenter's.
	CorporateProxies string `json:"corporate_proxies,omitempty"`
}

// rangesPoll is how often files of ranges are looked at.
const rangesPoll = 10 * time.Second

// verifiers are shared by the configs that ask the same DNS server: a reload
// forgets nobody.
var verifiers = caddy.NewUsagePool()

// sharedVerifier is what lies in the pool. Nothing is left to do at its end:
// what runs belongs to the apps.
type sharedVerifier struct{ *visitor.Verifier }

func (sharedVerifier) Destruct() error { return nil }

// bots is what an app has of it while it is in use.
type bots struct {
	resolver string
	verifier *visitor.Verifier // nil if nobody is verified
	ranges   []namedRanges
}

type namedRanges struct {
	name, path string
	file       *visitor.RangeFile
}

// provision reads the files, and dials nothing.
func (b *Bots) provision(rd *visitor.Reader, m *metrics) (*bots, error) {
	if b == nil {
		b = &Bots{}
	}
	if b.Resolver != "" {
		if err := checkResolver(b.Resolver); err != nil {
			return nil, fmt.Errorf("bots: %w", err)
		}
	}
	used := &bots{resolver: b.Resolver}
	for _, f := range []struct {
		name, path string
		to         **visitor.RangeFile
	}{
		{"datacenters", b.Datacenters, &rd.Datacenters},
		{"corporate_proxies", b.CorporateProxies, &rd.CorporateProxies},
	} {
		if f.path == "" {
			continue
		}
		*f.to = visitor.NewRangeFile(f.path)
		if _, err := (*f.to).Refresh(); err != nil {
			return nil, fmt.Errorf("bots: %s: %w", f.name, err)
		}
		used.ranges = append(used.ranges, namedRanges{f.name, f.path, *f.to})
	}
	if b.Verify == nil || *b.Verify {
		v, _, err := verifiers.LoadOrNew(b.Resolver, func() (caddy.Destructor, error) {
			return sharedVerifier{visitor.NewVerifier(visitor.NewResolver(b.Resolver), time.Now, m.verified)}, nil
		})
		if err != nil {
			return nil, err
		}
		used.verifier = v.(sharedVerifier).Verifier
		rd.Crawlers = used.verifier
	}
	return used, nil
}

// run verifies crawlers and watches the files, until ctx ends.
func (u *bots) run(ctx context.Context, log *zap.Logger) {
	if u.verifier != nil {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			u.verifier.Run(ctx)
		}()
		defer func() { <-ended }()
	}
	var watching sync.WaitGroup
	for _, r := range u.ranges {
		watching.Go(func() { r.file.Watch(ctx, rangesPoll, func(err error) { r.report(err, log) }) })
	}
	watching.Wait()
	<-ctx.Done()
}

func (r *namedRanges) report(err error, log *zap.Logger) {
	if err != nil {
		log.Error("new address ranges can't be read: the former stay in use", zap.String("bots", r.name), zap.String("path", r.path), zap.Error(err))
		return
	}
	log.Info("address ranges reloaded", zap.String("bots", r.name), zap.String("path", r.path), zap.Int("ranges", r.file.Lines()))
}

// release lets go of what provision took.
func (u *bots) release() {
	if u != nil && u.verifier != nil {
		_, _ = verifiers.Delete(u.resolver)
	}
}

func checkResolver(s string) error {
	host, port, err := net.SplitHostPort(s)
	if _, ipErr := netip.ParseAddr(s); err != nil && ipErr == nil {
		return fmt.Errorf("resolver %q has no port: write %s", s, net.JoinHostPort(s, "53"))
	}
	if n, _ := strconv.Atoi(port); err != nil || host == "" || n < 1 || n > 65535 {
		return fmt.Errorf("resolver %q is no DNS server's host:port, like 192.0.2.53:53", s)
	}
	return nil
}

// parseBots reads the block:
//
//	bots {
//		verify            on|off
//		resolver          <host:port>
//		datacenters       <file>
//		corporate_proxies <file>
//	}
func parseBots(d *caddyfile.Dispenser, to *Bots) error {
	b := newBlock(d, "bots")
	if err := b.end("bots"); err != nil {
		return err
	}
	return b.read(map[string]option{
		"verify": func() error {
			to.Verify = new(bool)
			return b.onOff(to.Verify)()
		},
		"resolver":          b.checked(&to.Resolver, checkResolver),
		"datacenters":       b.text(&to.Datacenters),
		"corporate_proxies": b.text(&to.CorporateProxies),
	})
}
