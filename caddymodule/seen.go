package caddymodule

import "sync"

// seenSessions remembers for which sessions this process has done something
// lately that need not be done with every event: made the row that they owe,
// say. It forgets, so it has to be something that may be done twice: a row has
// the same id then, and collapses.
type seenSessions struct {
	mu         sync.Mutex
	young, old map[string]struct{}
}

const seenGeneration = 50_000

func newSeenSessions() *seenSessions {
	return &seenSessions{young: map[string]struct{}{}}
}

// has reports whether it was done for the session.
func (s *seenSessions) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.young[id]; ok {
		return true
	}
	_, ok := s.old[id]
	return ok
}

// add is called when it is done for good.
func (s *seenSessions) add(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.young) >= seenGeneration {
		s.old, s.young = s.young, map[string]struct{}{}
	}
	s.young[id] = struct{}{}
}
