package caddymodule

import "sync"

// seenSessions remembers which sessions' rows this process has made lately,
// so that the row that a session owes is not made with every event. It
// forgets: a row made twice has the same id and collapses.
type seenSessions struct {
	mu         sync.Mutex
	young, old map[string]struct{}
}

const seenGeneration = 50_000

func newSeenSessions() *seenSessions {
	return &seenSessions{young: map[string]struct{}{}}
}

// has reports whether the session's row was made.
func (s *seenSessions) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.young[id]; ok {
		return true
	}
	_, ok := s.old[id]
	return ok
}

// add is called when the row is durable.
func (s *seenSessions) add(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.young) >= seenGeneration {
		s.old, s.young = s.young, map[string]struct{}{}
	}
	s.young[id] = struct{}{}
}
