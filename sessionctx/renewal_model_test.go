package sessionctx

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

var errDown = errors.New("store is down")

// ledger is a store of renewals with a clock and faults.
type ledger struct {
	now     *int64
	entries map[string]ledgerEntry
	claims  int
	down    bool
	// notes are those that have not taken effect yet.
	notes  []func()
	random *rand.Rand
}

type ledgerEntry struct {
	s   Session
	end int64
}

func (l *ledger) Claim(key string, s *Session, ttl time.Duration) (*Session, bool, error) {
	if l.down {
		return nil, false, errDown
	}
	l.claims++
	if e, ok := l.entries[key]; ok && e.end > *l.now {
		return &e.s, false, nil
	}
	l.entries[key] = ledgerEntry{*s, *l.now + ttl.Milliseconds()}
	return s, true, nil
}

func (l *ledger) Note(key string, s *Session, ttl time.Duration) {
	entry := ledgerEntry{*s, *l.now + ttl.Milliseconds()}
	if l.random.IntN(10) == 0 {
		return // lost
	}
	l.notes = append(l.notes, func() { l.entries[key] = entry })
}

// settleNotes lets some notes take effect, in any order.
func (l *ledger) settleNotes() {
	for len(l.notes) > 0 && l.random.IntN(3) > 0 {
		i := l.random.IntN(len(l.notes))
		l.notes[i]()
		l.notes = append(l.notes[:i], l.notes[i+1:]...)
	}
}

// tab is a page in a browser. It has a token; the cookie is its browser's.
type tab struct {
	s Session
	// heard is whether the session was settled since the store last answered.
	heard bool
}

// line is one visitor's line of sessions, with all that may renew it.
type line struct {
	t       *testing.T
	ring    []*Ring // a node's each
	c       *Campaign
	random  *rand.Rand
	now     int64
	store   *ledger
	tabs    []tab
	jar     Session
	first   Session
	ids     map[string]bool
	outages bool
	pages   bool
	counts  map[int]string // of the sessions that were heard of
	wiped   int64          // until when what a lost store knew may still live
}

func newLine(t *testing.T, seed uint64) *line {
	c := testCampaign()
	ring := testRing(t, 1)
	other, err := ParseRing(marshalled(t, ring))
	if err != nil {
		t.Fatal(err)
	}
	l := &line{t: t, ring: []*Ring{ring, other}, c: c, random: rand.New(seeded(seed)), now: noonMS, first: testSession(t, ring, c, seed), ids: map[string]bool{}, counts: map[int]string{}}
	l.store = &ledger{now: &l.now, entries: map[string]ledgerEntry{}, random: l.random}
	l.jar = l.first
	l.ids[l.first.ID] = true
	for range 4 {
		l.tabs = append(l.tabs, tab{s: l.first, heard: true})
	}
	return l
}

func (l *line) node() *Ring { return l.ring[l.random.IntN(len(l.ring))] }

// call is an API call of the tab that renews if it must, as the adapter does
// it. The browser keeps the cookie of the answer.
func (l *line) call(tb *tab) {
	old := tb.s
	expired := old.Expired(l.now)
	if !expired && (old.RenewalCount == 0 || tb.heard) {
		return
	}
	heard := tb.heard
	got, _, err := old.Settle(l.node(), l.c, l.store, l.now)
	tb.heard = err == nil
	switch {
	case errors.Is(err, errDown) && expired:
		if got, err = old.RenewDerived(l.node(), l.c, l.now); err != nil {
			l.t.Fatal(err)
		}
	case errors.Is(err, errDown):
		got = old
	case err != nil:
		l.t.Fatal(err)
	}
	if got.Expired(l.now) {
		l.t.Fatalf("a call at %d got a session that ended at %d", l.now, got.ExpiresAt)
	}
	if expired && heard && got.ID != old.ID && got.RenewalCount <= old.RenewalCount && !l.outages {
		l.t.Fatalf("renewal %d was followed by %d", old.RenewalCount, got.RenewalCount)
	}
	tb.s, l.jar = got, got
}

// page is a page load in the tab: it asks no store.
func (l *line) page(tb *tab) {
	s := l.jar
	if s.Expired(l.now) {
		var err error
		if s, err = s.RenewDerived(l.node(), l.c, l.now); err != nil {
			l.t.Fatal(err)
		}
	}
	*tb = tab{s: s}
	l.jar = s
}

// check holds what is true at any moment.
func (l *line) check() {
	living := map[string]bool{}
	heard := map[string]Session{}
	for _, tb := range l.tabs {
		s := tb.s
		if s.UserID != l.first.UserID || s.OriginalID != l.first.ID || s.OriginalAt != l.first.CreatedAt ||
			s.SegmentID != l.first.SegmentID || s.Test() != l.first.Test() {
			l.t.Fatalf("what stays through renewals changed:\n%+v\n%+v", s, l.first)
		}
		l.ids[s.ID] = true
		if s.RenewalCount >= len(l.ids) {
			l.t.Fatalf("renewal %d, but the line has only %d sessions", s.RenewalCount, len(l.ids))
		}
		if s.Expired(l.now) {
			continue
		}
		living[s.ID] = true
		if tb.heard && !l.store.down && l.now >= l.wiped {
			heard[s.ID] = s
			for _, o := range l.tabs {
				if o.heard && o.s.ID == s.ID && !o.s.Expired(l.now) && (o.s.ExpiresAt != s.ExpiresAt || o.s.CreatedAt != s.CreatedAt || o.s.RenewalCount != s.RenewalCount) {
					l.t.Fatalf("one session has two spans or counts:\n%+v\n%+v", o.s, s)
				}
			}
		}
		// A page that nobody was there to see the script of counts for nothing.
		if !l.pages && !l.outages && s.RenewalCount != len(l.ids)-1 {
			l.t.Fatalf("renewal %d of a line of %d sessions", s.RenewalCount, len(l.ids))
		}
		if tb.heard && !l.outages {
			if id, ok := l.counts[s.RenewalCount]; ok && id != s.ID {
				l.t.Fatalf("%s and %s are both renewal %d", id, s.ID, s.RenewalCount)
			}
			l.counts[s.RenewalCount] = s.ID
		}
	}
	switch {
	case len(heard) > 1:
		l.t.Fatalf("%d sessions of the line live though the store answers: %v", len(heard), heard)
	case !l.outages && len(living) > 1, len(living) > 2:
		l.t.Fatalf("%d sessions of the line live", len(living))
	}
}

// pass lets some time go by: tabs meet at one moment, slots are crossed, and
// visitors stay away for long.
func (l *line) pass() {
	d := l.c.SessionDuration.Milliseconds()
	switch l.random.IntN(8) {
	case 0, 1:
		l.now += l.random.Int64N(50)
	case 2, 3, 4:
		l.now += l.random.Int64N(d / 3)
	case 5:
		l.now += l.random.Int64N(2 * d)
	case 6: // the very end of a session
		if end := l.tabs[l.random.IntN(len(l.tabs))].s.ExpiresAt; end > l.now {
			l.now = end - l.random.Int64N(2)
		}
	}
	l.store.settleNotes()
}

func TestALineHasOneLivingSessionWhileTheStoreAnswers(t *testing.T) {
	for seed := range uint64(300) {
		l := newLine(t, seed)
		l.pages = seed%2 == 0
		for range 150 {
			l.pass()
			tb := &l.tabs[l.random.IntN(len(l.tabs))]
			if l.pages && l.random.IntN(3) == 0 {
				l.page(tb)
			} else {
				l.call(tb)
			}
			l.check()
		}
		if len(l.ids) < 5 {
			t.Fatalf("seed %d: only %d sessions: the test shows little", seed, len(l.ids))
		}
	}
}

// While the store is down two of a line's sessions may live for less than a
// duration: one that was settled before, and that of the next slot. As soon as
// the store answers, who calls gets the one that stands there.
func TestALineThatLostItsStoreComesTogetherAgain(t *testing.T) {
	forks := 0
	for seed := range uint64(300) {
		l := newLine(t, seed)
		l.outages = true
		for range 150 {
			l.pass()
			switch l.random.IntN(12) {
			case 0:
				l.store.down = true
			case 1:
				if l.store.down {
					l.store.down = false
					// What was derived meanwhile is settled with the next call.
					for i := range l.tabs {
						l.tabs[i].heard = l.tabs[i].heard && l.tabs[i].s.RenewalCount == 0
					}
				}
			case 2:
				if l.random.IntN(5) == 0 { // all of it is gone
					clear(l.store.entries)
					l.store.notes = nil
					l.wiped = l.now + l.c.SessionDuration.Milliseconds()
				}
			default:
				tb := &l.tabs[l.random.IntN(len(l.tabs))]
				if l.random.IntN(4) == 0 {
					l.page(tb)
				} else {
					l.call(tb)
				}
			}
			l.check()
			ids := map[string]bool{}
			for _, tb := range l.tabs {
				if !tb.s.Expired(l.now) {
					ids[tb.s.ID] = true
				}
			}
			if len(ids) > 1 {
				forks++
			}
		}
	}
	if forks == 0 {
		t.Error("no line ever had two living sessions: the test shows little")
	}
}

// A retry after a lost answer, also one that was derived, finds the session
// that the first call made.
func TestARetryFindsWhatTheFirstCallClaimed(t *testing.T) {
	l := newLine(t, 1)
	l.now = l.first.ExpiresAt + 7
	claimed, won, err := l.first.Settle(l.ring[0], l.c, l.store, l.now)
	if err != nil || !won {
		t.Fatal(won, err)
	}
	derived, err := l.first.RenewDerived(l.ring[1], l.c, l.now+3)
	if err != nil || derived.ID != claimed.ID {
		t.Fatalf("derived %s, claimed %s: %v", derived.ID, claimed.ID, err)
	}
	for _, again := range []Session{l.first, derived} {
		got, won, err := again.Settle(l.ring[1], l.c, l.store, l.now+5)
		if err != nil || won || got.ID != claimed.ID || got.CreatedAt != claimed.CreatedAt || got.ExpiresAt != claimed.ExpiresAt || got.RenewalCount != 1 {
			t.Errorf("got %+v, want %+v (%v)", got, claimed, err)
		}
	}
}

// Whichever of its sessions is named, however many renewals ago and with links
// of the chain missing, the line's living session is found.
func TestAnySessionOfALineLeadsToTheLivingOne(t *testing.T) {
	l := newLine(t, 2)
	sessions := []Session{l.first}
	for range 20 {
		last := sessions[len(sessions)-1]
		l.now = last.ExpiresAt + l.random.Int64N(90*minuteMS)
		next, won, err := last.Settle(l.ring[0], l.c, l.store, l.now)
		if err != nil || !won {
			t.Fatal(won, err)
		}
		for _, note := range l.store.notes {
			note()
		}
		l.store.notes = nil
		sessions = append(sessions, next)
		// Older links end before newer ones.
		for _, s := range sessions[1 : len(sessions)-1] {
			if l.random.IntN(2) == 0 && s.ID != next.ID {
				delete(l.store.entries, s.ID)
			}
		}
	}
	living := sessions[len(sessions)-1]
	if living.RenewalCount != 20 {
		t.Fatalf("renewal %d", living.RenewalCount)
	}
	l.store.claims = 0
	for i, s := range sessions {
		got, won, err := s.Settle(l.ring[1], l.c, l.store, l.now)
		if err != nil || won || got.ID != living.ID {
			t.Errorf("session %d led to %s, want %s (%v)", i, got.ID, living.ID, err)
		}
	}
	if l.store.claims != len(sessions) {
		t.Errorf("%d sessions asked the store %d times: the newest is known under the first one's id", len(sessions), l.store.claims)
	}
	// None lives: the eldest and the youngest make one together, and it
	// counts on.
	l.now = living.ExpiresAt
	got, won, err := sessions[0].Settle(l.ring[0], l.c, l.store, l.now)
	if err != nil || !won || got.RenewalCount != 21 {
		t.Fatalf("%+v %v %v", got, won, err)
	}
	if again, _, err := living.Settle(l.ring[1], l.c, l.store, l.now); err != nil || again.ID != got.ID {
		t.Errorf("got %s, want %s (%v)", again.ID, got.ID, err)
	}
	// The store is lost: what a token knows is enough to go on from.
	clear(l.store.entries)
	l.store.notes = nil
	l.now = got.ExpiresAt + 1
	last, won, err := got.Settle(l.ring[0], l.c, l.store, l.now)
	if err != nil || !won || last.RenewalCount != 22 {
		t.Fatalf("%+v %v %v", last, won, err)
	}
	if again, _, err := sessions[3].Settle(l.ring[1], l.c, l.store, l.now+1); err != nil || again.ID != last.ID || again.RenewalCount != 22 {
		t.Errorf("got %+v (%v)", again, err)
	}
}

// What stands in the store under a line's key and is another's is not taken.
func TestAForeignRenewalIsNotTaken(t *testing.T) {
	l := newLine(t, 3)
	l.now = l.first.ExpiresAt
	stranger := testSession(t, l.ring[0], l.c, 4)
	preview := l.first
	preview.Campaign.Environment = Preview
	for name, s := range map[string]Session{"another user's": stranger, "another campaign's": preview, "itself": l.first} {
		l.store.entries = map[string]ledgerEntry{l.first.ID: {s, l.now + minuteMS}}
		if got, _, err := l.first.Settle(l.ring[0], l.c, l.store, l.now); err == nil {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func TestSlotsAreWholeDurationsAfterTheLinesBeginning(t *testing.T) {
	d := (30 * time.Minute).Milliseconds()
	for _, tt := range []struct {
		name      string
		now, want int64
	}{
		{"before the beginning", noonMS - 5, noonMS},
		{"at the beginning", noonMS, noonMS},
		{"just before the first slot is over", noonMS + d - 1, noonMS},
		{"at the first slot's end", noonMS + d, noonMS + d},
		{"days later", noonMS + 100*d + 7, noonMS + 100*d},
	} {
		if got := slotAt(noonMS, d, tt.now); got != tt.want {
			t.Errorf("%s: %d ms after, want %d", tt.name, got-noonMS, tt.want-noonMS)
		}
	}
	// Where the duration was changed, the slot of a line's beginning is another.
	c := testCampaign()
	ring := testRing(t, 1)
	if ring.DeriveSessionID("x", noonMS, d, c.CampaignRef, "u") == ring.DeriveSessionID("x", noonMS, 2*d, c.CampaignRef, "u") {
		t.Error("slots of different durations share an id")
	}
}
