package caddymodule

import (
	"sync"

	"github.com/google/uuid"
)

// seenSessions remembers which sessions' rows this process has made lately,
// so that the row that a session owes is not made with every event. It
// forgets: a row made twice has the same id and collapses. Ids are kept as
// their 16 bytes, which the collector has not to look at.
type seenSessions struct {
	mu         sync.Mutex
	young, old map[uuid.UUID]struct{}
}

const seenGeneration = 50_000

func newSeenSessions() *seenSessions {
	return &seenSessions{young: map[uuid.UUID]struct{}{}}
}

// has reports whether the session's row was made.
func (s *seenSessions) has(id string) bool {
	u, err := uuid.Parse(id)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.young[u]; ok {
		return true
	}
	_, ok := s.old[u]
	return ok
}

// add is called when the row is durable.
func (s *seenSessions) add(id string) {
	u, err := uuid.Parse(id)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.young) >= seenGeneration {
		s.old, s.young = s.young, map[uuid.UUID]struct{}{}
	}
	s.young[u] = struct{}{}
}
