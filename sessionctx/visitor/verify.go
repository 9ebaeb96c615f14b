package visitor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Resolver looks names up. *net.Resolver is one.
type Resolver interface {
	LookupAddr(ctx context.Context, addr string) (names []string, err error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Verification is how the check of an address ended.
type Verification string

// The outcomes of a check.
const (
	// Verified is an address that the name of a crawler's host leads to and
	// comes from.
	Verified Verification = "verified"
	// Refuted is one that DNS knows as something else, or not at all.
	Refuted Verification = "refuted"
	// LookupFailed is one that DNS gave no answer about.
	LookupFailed Verification = "lookup_failed"
	// QueueFull is one that was not checked, since too many waited or came.
	QueueFull Verification = "queue_full"
)

// How long answers count, and what is spent on them.
const (
	verifiedFor = 24 * time.Hour
	refutedFor  = time.Hour
	failedFor   = 5 * time.Minute
	// staleFor is how long an answer is given beyond its time, while it is
	// looked up again: a crawler that comes daily stays known.
	staleFor = 24 * time.Hour

	verifyWorkers = 4
	verifyQueue   = 256
	// verifyOfNetwork is how many addresses of one network may wait. An IPv6
	// client has as many as it likes, and may run the DNS servers for them, which
	// never answer: it must not take the queue from others.
	verifyOfNetwork = 16
	// verifyPerSecond is how many addresses are looked up in the long run,
	// verifyQueue of them at once: a flood of claims is none of DNS questions.
	verifyPerSecond = 20
	// verifyTimeout is for all look-ups of one address.
	verifyTimeout = 5 * time.Second
	// verifyAnswers is how many addresses are remembered of crawlers, and as many
	// of others, some 150 bytes each.
	verifyAnswers = 4096
	// verifyNames is how many names of one address are followed.
	verifyNames = 4
)

// Verifier checks by forward-confirmed reverse DNS that addresses belong to
// the crawlers that their user agents name: the address's name has to be of
// the form that the operator publishes, and lead back to the address. It
// answers from memory, and looks up in the background. It may be used by many
// goroutines at once, and by several Run.
type Verifier struct {
	resolver Resolver
	now      func() time.Time
	observe  func(Verification)
	// verified has those that were a crawler's when they were put there. Whoever
	// makes claims from many addresses fills the others only.
	verified, others *cache[netip.Addr, answer]
	queue            chan netip.Addr

	mu       sync.Mutex
	waiting  map[netip.Addr]struct{} // in the queue or being looked up
	networks map[netip.Prefix]int    // of these, by network
	pace     *rate.Limiter
}

// answer is what is known about an address.
type answer struct {
	confirmed uint64    // the crawlers whose host it is, a bit each
	until     time.Time // when it no longer counts; zero where DNS never answered
	again     time.Time // from when on it is looked up again
}

// NewVerifier makes a Verifier. observe, if not nil, is told how each check
// ended; it is called by many goroutines.
func NewVerifier(r Resolver, now func() time.Time, observe func(Verification)) *Verifier {
	if observe == nil {
		observe = func(Verification) {}
	}
	return &Verifier{
		resolver: r,
		now:      now,
		observe:  observe,
		verified: newCache[netip.Addr, answer](verifyAnswers),
		others:   newCache[netip.Addr, answer](verifyAnswers),
		queue:    make(chan netip.Addr, verifyQueue),
		waiting:  make(map[netip.Addr]struct{}),
		networks: make(map[netip.Prefix]int),
		pace:     rate.NewLimiter(verifyPerSecond, verifyQueue),
	}
}

// NewResolver makes a resolver that asks the DNS server at address (host:port),
// or the system's servers if address is empty. Unlike the standard library's,
// it gives a look-up up as soon as its context ends.
func NewResolver(address string) *net.Resolver {
	var d net.Dialer
	return &net.Resolver{
		PreferGo: address != "",
		Dial: func(ctx context.Context, network, server string) (net.Conn, error) {
			if address != "" {
				server = address
			}
			conn, err := d.DialContext(ctx, network, server)
			if err == nil {
				context.AfterFunc(ctx, func() { conn.Close() })
			}
			return conn, err
		},
	}
}

// check tells what is known about an address that claims to be a crawler. It
// waits for nothing: what is not known, or no longer, is put into the queue.
func (v *Verifier) check(ip netip.Addr, claim uint8) (verified, refuted bool) {
	if claim == 0 || !ip.IsGlobalUnicast() || ip.IsPrivate() {
		// Nobody publishes names of private addresses.
		return false, false
	}
	a, found := v.answer(ip)
	now := v.now()
	if !found || !now.Before(a.again) {
		v.ask(ip)
	}
	if !now.Before(a.until) {
		return false, false
	}
	verified = a.confirmed>>(claim-1)&1 == 1
	return verified, !verified
}

// answer is what is remembered about an address.
func (v *Verifier) answer(ip netip.Addr) (a answer, found bool) {
	if a, found = v.verified.get(ip); !found {
		a, found = v.others.get(ip)
	}
	return a, found
}

func (v *Verifier) remember(ip netip.Addr, a answer) {
	to := v.others
	if _, was := v.verified.get(ip); was || a.confirmed != 0 {
		to = v.verified
	}
	to.put(ip, a)
}

// ask puts an address into the queue, unless it waits already.
func (v *Verifier) ask(ip netip.Addr) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.waiting[ip]; ok {
		return
	}
	if of := network(ip); len(v.waiting) < verifyQueue && v.networks[of] < verifyOfNetwork && v.pace.AllowN(v.now(), 1) {
		v.waiting[ip] = struct{}{}
		v.networks[of]++
		v.queue <- ip // has room for all that wait
		return
	}
	v.observe(QueueFull)
}

// forget takes an address off those that wait.
func (v *Verifier) forget(ip netip.Addr) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.waiting, ip)
	of := network(ip)
	if v.networks[of]--; v.networks[of] == 0 {
		delete(v.networks, of)
	}
}

// network is what one customer of a provider is likely to have at most.
func network(ip netip.Addr) netip.Prefix {
	bits := 48
	if ip.Is4() {
		bits = 24
	}
	p, _ := ip.Prefix(bits)
	return p
}

// Run looks up what is asked until ctx ends, and returns when nothing runs any
// more. What waits then is left for the next Run.
func (v *Verifier) Run(ctx context.Context) {
	var workers sync.WaitGroup
	for range verifyWorkers {
		workers.Go(func() {
			for ctx.Err() == nil {
				select {
				case <-ctx.Done():
				case ip := <-v.queue:
					if outcome := v.settle(ctx, ip); outcome != "" {
						v.observe(outcome)
					}
				}
			}
		})
	}
	workers.Wait()
}

// settle looks an address up and remembers the answer. The outcome is empty if
// ctx ended meanwhile.
func (v *Verifier) settle(ctx context.Context, ip netip.Addr) Verification {
	defer v.forget(ip)
	lookup, cancel := context.WithTimeout(ctx, verifyTimeout)
	confirmed, err := v.lookup(lookup, ip)
	cancel()
	if ctx.Err() != nil {
		return ""
	}
	now := v.now()
	outcome, again := Refuted, now.Add(refutedFor)
	switch {
	case confirmed != 0:
		outcome, again = Verified, now.Add(verifiedFor)
	case err != nil:
		// What was known before stays for as long as it would have.
		a, _ := v.answer(ip)
		a.again = now.Add(failedFor)
		v.remember(ip, a)
		return LookupFailed
	}
	v.remember(ip, answer{confirmed: confirmed, again: again, until: again.Add(staleFor)})
	return outcome
}

// lookup is the set of crawlers whose host the address is. An error means that
// the set may lack some.
func (v *Verifier) lookup(ctx context.Context, ip netip.Addr) (confirmed uint64, err error) {
	names, err := v.resolver.LookupAddr(ctx, ip.String())
	if len(names) > 0 || notFound(err) {
		// With names, the error is about others that are none.
		err = nil
	}
	family := "ip6"
	if ip.Is4() {
		family = "ip4"
	}
	followed := 0
	for _, name := range names {
		set := named(strings.ToLower(strings.TrimSuffix(name, ".")))
		if set&^confirmed == 0 {
			continue
		}
		if followed++; followed > verifyNames {
			break
		}
		back, ferr := v.resolver.LookupNetIP(ctx, family, name)
		if ferr != nil && !notFound(ferr) {
			err = ferr
		}
		for _, b := range back {
			if b.Unmap() == ip {
				confirmed |= set
			}
		}
	}
	return confirmed, err
}

// notFound says that DNS answered, and has no such name.
func notFound(err error) bool {
	var d *net.DNSError
	return errors.As(err, &d) && d.IsNotFound
}
