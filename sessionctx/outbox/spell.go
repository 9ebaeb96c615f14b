package outbox

import "time"

// spellOver is how long trouble has to stay away for the next to be news.
const spellOver = time.Hour

// spell is trouble that may come with every batch. It is told the first time and
// at each tenfold, so that a day of it is five lines in the log.
type spell struct {
	times int
	last  time.Time
}

func (s *spell) tell(now time.Time) bool {
	if now.Sub(s.last) > spellOver {
		s.times = 0
	}
	s.last = now
	s.times++
	tenfold := 1
	for tenfold < s.times {
		tenfold *= 10
	}
	return tenfold == s.times
}

// news reports whether trouble of a kind, met now with a datasource, is to be
// told, and how many times it was met in this spell.
func (o *Outbox) news(kind, datasource string) (times int, told bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := [2]string{kind, datasource}
	s := o.spells[key]
	if s == nil {
		if o.spells == nil {
			o.spells = map[[2]string]*spell{}
		}
		s = &spell{}
		o.spells[key] = s
	}
	told = s.tell(time.Now())
	return s.times, told
}
