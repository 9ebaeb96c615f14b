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

// Server answers over UDP, and over TCP what is too long for that.
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
	conn, listener := listen(t)
	s := &Server{Addr: conn.LocalAddr().String(), records: map[string][]dns.RR{}, broken: map[string]bool{}, asked: map[string]int{}}
	var ended sync.WaitGroup
	servers := []*dns.Server{{PacketConn: conn, Handler: dns.HandlerFunc(s.answer)}, {Listener: listener, Handler: dns.HandlerFunc(s.answer)}}
	for _, server := range servers {
		ended.Go(func() { _ = server.ActivateAndServe() })
	}
	t.Cleanup(func() {
		s.Release()
		for _, server := range servers {
			_ = server.Shutdown()
		}
		conn.Close()
		listener.Close()
		ended.Wait()
	})
	return s
}

// listen opens one port for both protocols.
func listen(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.ListenPacket("udp", listener.Addr().String())
		if err == nil {
			return conn, listener
		}
		listener.Close() // somebody has that one
	}
	t.Fatal("no port is free for both UDP and TCP")
	panic("unreachable")
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

// Questions is how many came in all.
func (s *Server) Questions() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, asked := range s.asked {
		n += asked
	}
	return n
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

// Alias makes a name one for another: its CNAME record. Questions about the name
// are answered with it and, as a server does that resolves for others, with what
// it leads to.
func (s *Server) Alias(name, to string) {
	s.add(&dns.CNAME{Hdr: header(name, dns.TypeCNAME), Target: dns.Fqdn(to)})
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
	records, known := s.resolved(name, asked.Qtype)
	broken := s.broken[name]
	s.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	m.Answer, m.RecursionAvailable = records, true
	switch {
	case broken:
		m.Answer, m.Rcode = nil, dns.RcodeServerFailure
	case !known:
		m.Rcode = dns.RcodeNameError
	}
	if w.RemoteAddr().Network() == "udp" {
		size := dns.MinMsgSize
		if o := q.IsEdns0(); o != nil {
			size = int(o.UDPSize())
		}
		m.Truncate(size)
	}
	_ = w.WriteMsg(m)
}

// mostAliases is where resolving ends, as it does with real servers.
const mostAliases = 16

// resolved are the records that answer a question, behind those of aliases.
func (s *Server) resolved(name string, kind uint16) (answer []dns.RR, known bool) {
	records, known := s.records[name]
	for range mostAliases {
		next := ""
		for _, rr := range records {
			switch alias, is := rr.(*dns.CNAME); {
			case rr.Header().Rrtype == kind:
				answer = append(answer, rr)
			case is:
				answer, next = append(answer, rr), dns.CanonicalName(alias.Target)
			}
		}
		if next == "" {
			break
		}
		records = s.records[next]
	}
	return answer, known
}
