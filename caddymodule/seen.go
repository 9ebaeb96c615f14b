package caddymodule

import (
	"sync"

	"github.com/google/uuid"
)

// seenSessions remembers for which sessions this process has done something
// lately that need not be done with every event: made the row that they owe,
// say. It forgets, so it has to be something that may be done twice: a row has
// the same id then, and collapses. Ids are kept as their 16 bytes, which the
// collector has not to look at.
type seenSessions struct {
	mu         sync.Mutex
	young, old map[seenSession]struct{}
}

// seenSession tells a session from another view of it, where that matters: a
// page's may end sooner than the line's does. expires is Unix ms, or 0.
type seenSession struct {
	id      uuid.UUID
	expires int64
}

const seenGeneration = 50_000

func newSeenSessions() *seenSessions {
	return &seenSessions{young: map[seenSession]struct{}{}}
}

// has reports whether it was done for the session.
func (s *seenSessions) has(id string, expires int64) bool {
	u, err := uuid.Parse(id)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.young[seenSession{u, expires}]; ok {
		return true
	}
	_, ok := s.old[seenSession{u, expires}]
	return ok
}

// add is called when it is done for good.
func (s *seenSessions) add(id string, expires int64) {
	u, err := uuid.Parse(id)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.young) >= seenGeneration {
		s.old, s.young = s.young, map[seenSession]struct{}{}
	}
	s.young[seenSession{u, expires}] = struct{}{}
}
