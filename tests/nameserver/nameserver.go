// Package nameserver is a DNS server for tests, on a socket of its own. It
// knows the names that a test gives it, and nobody else's.
package nameserver

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// Server answers over UDP.
type Server struct {
	// Addr is where it listens, host:port.
	Addr string

	mu      sync.Mutex
	records map[string][]dns.RR // by name, in lower case and with its last dot
	broken  map[string]bool
	asked   map[string]int
	hold    chan struct{}
	held    chan struct{}
}

// New starts a server that ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: conn.LocalAddr().String(), records: map[string][]dns.RR{}, broken: map[string]bool{}, asked: map[string]int{}}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(s.answer)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.ActivateAndServe()
	}()
	t.Cleanup(func() {
		s.Release()
		_ = server.Shutdown()
		conn.Close()
		<-ended
	})
	return s
}

// Name makes an address known by a name: its PTR record.
func (s *Server) Name(address, name string) {
	s.add(&dns.PTR{Hdr: header(Reverse(address), dns.TypePTR), Ptr: dns.Fqdn(name)})
}

// Address makes a name lead to an address: its A or AAAA record.
func (s *Server) Address(name, address string) {
	ip := netip.MustParseAddr(address)
	if ip.Is4() {
		s.add(&dns.A{Hdr: header(name, dns.TypeA), A: ip.AsSlice()})
		return
	}
	s.add(&dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: ip.AsSlice()})
}

// Both is what operators of crawlers set up: Name and Address.
func (s *Server) Both(address, name string) {
	s.Name(address, name)
	s.Address(name, address)
}

// Break makes questions about a name fail (SERVFAIL); Mend ends that.
func (s *Server) Break(name string) { s.set(name, true) }

// Mend ends what Break began.
func (s *Server) Mend(name string) { s.set(name, false) }

// Hold makes questions wait for Release. The channel tells of each that comes.
func (s *Server) Hold() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold, s.held = make(chan struct{}), make(chan struct{}, 100)
	return s.held
}

// Release lets those go that Hold holds.
func (s *Server) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hold != nil {
		close(s.hold)
		s.hold = nil
	}
}

// Asked is how many questions about a name came.
func (s *Server) Asked(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[dns.CanonicalName(name)]
}

// Reverse is the name under which an address's PTR record lies.
func Reverse(address string) string {
	name, err := dns.ReverseAddr(address)
	if err != nil {
		panic(err)
	}
	return name
}

func header(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: dns.Fqdn(name), Rrtype: kind, Class: dns.ClassINET, Ttl: 60}
}

func (s *Server) add(rr dns.RR) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := dns.CanonicalName(rr.Header().Name)
	s.records[name] = append(s.records[name], rr)
}

func (s *Server) set(name string, broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken[dns.CanonicalName(name)] = broken
}

func (s *Server) answer(w dns.ResponseWriter, q *dns.Msg) {
	asked := q.Question[0]
	name := dns.CanonicalName(asked.Name)
	s.mu.Lock()
	s.asked[name]++
	hold, held := s.hold, s.held
	s.mu.Unlock()
	if hold != nil {
		held <- struct{}{}
		<-hold
	}

	s.mu.Lock()
	records, known := s.records[name]
	broken := s.broken[name]
	s.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	for _, rr := range records {
		if rr.Header().Rrtype == asked.Qtype {
			m.Answer = append(m.Answer, rr)
		}
	}
	switch {
	case broken:
		m.Answer, m.Rcode = nil, dns.RcodeServerFailure
	case !known:
		m.Rcode = dns.RcodeNameError
	}
	_ = w.WriteMsg(m)
}
