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
	mu sync.Mutex
	recent[seenSession, struct{}]
}

// seenSession tells a session from another view of it, where that matters: a
// page's may end sooner than the line's does. expires is Unix ms, or 0.
type seenSession struct {
	id      uuid.UUID
	expires int64
}

const seenGeneration = 50_000

func newSeenSessions() *seenSessions {
	return &seenSessions{recent: newRecent[seenSession, struct{}](seenGeneration)}
}

// has reports whether it was done for the session.
func (s *seenSessions) has(id string, expires int64) bool {
	u, err := uuid.Parse(id)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.get(seenSession{u, expires})
	return ok
}

// add is called when it is done for good. It reports whether that is news.
func (s *seenSessions) add(id string, expires int64) (first bool) {
	u, err := uuid.Parse(id)
	if err != nil {
		return true
	}
	k := seenSession{u, expires}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, young := s.young[k]; young {
		return false
	}
	_, old := s.old[k]
	s.put(k, struct{}{})
	return !old
}
