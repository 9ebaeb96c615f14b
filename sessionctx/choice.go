package sessionctx

import "time"

// ChoiceLifetime is how long a browser keeps the visitor's choice. Then the
// visitor is asked again.
const ChoiceLifetime = 180 * 24 * time.Hour

// aheadOfUs is how far a browser's clock may go before ours, in ms, for the
// times that it wrote to count.
const aheadOfUs = 24 * 60 * 60 * 1000

// Choose is the visitor's explicit decision, made now (Unix ms). reference is
// what the reference manager's cookie said at that moment, nil if nothing: it
// is older than this, even where the browser's clock is ahead of ours.
func Choose(p Purposes, reference *Choice, now int64) Choice {
	c := Choice{Purposes: p, At: now}
	if reference != nil && reference.At <= now+aheadOfUs {
		c.At = max(c.At, reference.At)
	}
	return c
}

// ChoiceCookie is the cookie that keeps the choice in the browser that made
// it, with all campaigns of the workspace. It names nobody, so it may be set
// whatever was chosen.
func (r *Ring) ChoiceCookie(choice Choice, c *Campaign, secure bool, at time.Time) Cookie {
	var buf [256]byte
	return Cookie{
		Name:   c.CookieNames(secure).Choice,
		Value:  string(r.sealChoice(buf[:0], &choice, c, at.UnixMilli())),
		MaxAge: ChoiceLifetime,
	}
}

func (r *Ring) sealChoice(dst []byte, choice *Choice, c *Campaign, now int64) []byte {
	w := takeBench()
	defer putBench(w)
	w.byte(stateVersion)
	w.text(c.WorkspaceID)
	w.bools(choice.flags())
	w.int(choice.At)
	return w.seal(dst, r, sealChoice, now)
}

// openChoice reads the choice of a cookie. nil is one that is over: the
// browser's Max-Age is its own word.
func (r *Ring) openChoice(v string, c *Campaign, now int64) *Choice {
	w := takeBench()
	defer putBench(w)
	plain, err := w.open(r, sealChoice, v)
	if err != nil {
		// A choice that can't be read means no: better to ask again than
		// to take a refusal for a yes.
		return &Choice{}
	}
	var d decoder
	d.read(plain)
	if d.byte() != stateVersion {
		return &Choice{}
	}
	workspace := d.text()
	choice := &Choice{Purposes: purposesOf(d.bools()), At: d.int()}
	if d.err != nil || workspace != c.WorkspaceID {
		return &Choice{}
	}
	if now-choice.At > ChoiceLifetime.Milliseconds() {
		return nil
	}
	return choice
}

// flags are the purposes as a number, as they are sealed.
func (p Purposes) flags() (flags uint64) {
	for i, granted := range [...]bool{p.Analytics, p.Marketing, p.Functional} {
		if granted {
			flags |= 1 << i
		}
	}
	return flags
}

func purposesOf(flags uint64) Purposes {
	return Purposes{Analytics: flags&1 != 0, Marketing: flags&2 != 0, Functional: flags&4 != 0}
}

// And leaves the purposes that both grant.
func (p Purposes) And(q Purposes) Purposes { return purposesOf(p.flags() & q.flags()) }
