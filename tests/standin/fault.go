package standin

import (
	"net"
	"net/http"
	"strconv"
	"time"
)

// Fault is one way in which a request goes wrong. Its parts go together: rows
// may be stored first, then the Server may hang, then answer, break off, or
// both by halves. The zero Fault answers 500.
type Fault struct {
	// When limits the fault to requests whose decompressed body it is true for,
	// such as those that hold one poisonous row. Nil means all.
	When func(body []byte) bool
	// BeforeBody acts without reading the body. It excludes When and CommitFirst.
	BeforeBody bool
	// CommitFirst takes and stores the rows as if nothing was wrong. Where they
	// are not taken, for a wrong token say, no 2xx is answered: that refusal is.
	CommitFirst bool
	// Hang waits before anything is answered, at most until the client gives up
	// or the Server is closed. Negative means for ever.
	Hang time.Duration
	// Status is what is answered. Zero means what would have been answered with
	// CommitFirst, else 500.
	Status int
	// Header is added to the answer.
	Header http.Header
	// Body is the answer's body. Empty means one of Tinybird's form.
	Body string
	// CloseConn breaks the connection instead of answering.
	CloseConn bool
	// TruncateBody announces the whole body, sends half, and breaks the
	// connection.
	TruncateBody bool
	// SlowDrip is a pause before each byte of the body.
	SlowDrip time.Duration
}

// armed is a fault with the number of times that it still acts; negative means
// for ever.
type armed struct {
	Fault
	left int
}

// Fail programs a fault for the next requests to a datasource: so many times,
// or for ever if times is negative. Faults act in the order of the calls, each
// until it is used up; one whose When is not true is passed over.
func (s *Server) Fail(datasource string, f Fault, times int) {
	if times == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[datasource] = append(s.faults[datasource], &armed{Fault: f, left: times})
}

// Heal removes the faults of a datasource that are still to come.
func (s *Server) Heal(datasource string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.faults, datasource)
}

// Pending returns how many faults of a datasource are still to come; those that
// act for ever count once.
func (s *Server) Pending(datasource string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, f := range s.faults[datasource] {
		n += max(f.left, 1)
	}
	return n
}

// due takes the fault that a request meets: the first of its datasource, if
// that acts at this point.
func (s *Server) due(datasource string, body []byte, beforeBody bool) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.faults[datasource]
	for i, f := range list {
		if f.BeforeBody != beforeBody {
			if beforeBody {
				return nil // one that needs the body may come first
			}
			continue
		}
		if f.When != nil && !f.When(body) {
			continue
		}
		if f.left > 0 {
			if f.left--; f.left == 0 {
				s.faults[datasource] = append(list[:i:i], list[i+1:]...)
			}
		}
		fault := f.Fault
		return &fault
	}
	return nil
}

// act plays a fault. The reply is what the rows got, if they were taken.
func (s *Server) act(w http.ResponseWriter, r *http.Request, f *Fault, reply answer, b *Batch) {
	status := f.Status
	if status == 0 {
		status = http.StatusInternalServerError
	}
	refused := f.CommitFirst && reply.status >= 300
	switch {
	case refused && status < 300:
		// No service says that it has what it did not take.
	case f.Status != 0 || reply.status == 0:
		reply = refuse(status, "programmed fault")
		fallthrough
	default:
		if f.Body != "" {
			reply.body = []byte(f.Body)
		}
	}
	b.Status = reply.status
	if f.CloseConn {
		b.Status = 0
	}
	s.record(*b)
	if waited := s.hang(r, f.Hang); !waited || f.CloseConn {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			reset(conn)
			return
		}
		panic(http.ErrAbortHandler) // breaks it too, and logs nothing
	}
	s.answerBadly(w, r, f, reply)
}

// hang waits, and reports false if the client or the test ended it.
func (s *Server) hang(r *http.Request, d time.Duration) bool {
	if d == 0 {
		return true
	}
	var after <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		after = timer.C
	}
	select {
	case <-after:
		return true
	case <-r.Context().Done():
	case <-s.done:
	}
	return false
}

func (s *Server) answerBadly(w http.ResponseWriter, r *http.Request, f *Fault, reply answer) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	for name, values := range f.Header {
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(reply.body)))
	w.WriteHeader(reply.status)
	body := reply.body
	if f.TruncateBody {
		body = body[:len(body)/2]
	}
	flusher := http.NewResponseController(w)
	if f.SlowDrip == 0 {
		_, _ = w.Write(body)
	} else {
		_ = flusher.Flush()
		for i := range body {
			if !s.hang(r, f.SlowDrip) {
				panic(http.ErrAbortHandler)
			}
			_, _ = w.Write(body[i : i+1])
			_ = flusher.Flush()
		}
	}
	if f.TruncateBody {
		_ = flusher.Flush()
		panic(http.ErrAbortHandler)
	}
}

// reset closes a connection so that the other side sees it broken, not ended.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
