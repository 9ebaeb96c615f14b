package tests

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// walker is a visitor whose every request goes to any of the nodes.
type walker struct {
	w    *nodesWalk
	name string
	rng  *rand.Rand
	v    *visitor
	kind walkerKind
	// tabs are its pages; those of one browser share cookies.
	tabs [2]*walkerTab
}

// walkerKind is how a visitor is known.
type walkerKind int

const (
	byCookies walkerKind = iota
	byToken              // without cookies, with a client that sends tokens
	byIDs                // without cookies, with the reference's client
	byConsent            // is asked, and says now this and now that
	walkerKinds
)

func (k walkerKind) String() string {
	return [...]string{"cookies", "token", "ids", "consent"}[k]
}

// walkerTab is a page that is open.
type walkerTab struct {
	user, session, token string
	expires              int64
	path                 string
	at                   time.Time // when the page came
}

func (w *nodesWalk) newWalker(n int, seed uint64) *walker {
	k := &walker{w: w, rng: rand.New(rand.NewPCG(seed, uint64(n))), kind: walkerKind(n) % walkerKinds}
	k.name = fmt.Sprintf("%s%d", k.kind, n)
	agent := desktop
	if k.kind != byCookies {
		// Two of a kind have one address and one agent, as colleagues do.
		agent += asked + fmt.Sprint(n/int(walkerKinds)/2)
	}
	k.v = newVisitor(w.t, "", agent, k.kind == byCookies || k.kind == byConsent)
	k.v.host = fleetHost
	k.v.client.Timeout = 20 * time.Second
	from := &net.TCPAddr{IP: net.IPv4(127, 0, 1+byte(k.kind), 1+byte(n/int(walkerKinds)/2))}
	k.v.client.Transport = &http.Transport{DialContext: (&net.Dialer{LocalAddr: from, Timeout: 10 * time.Second}).DialContext, DisableKeepAlives: true}
	return k
}

// walk goes on until quit is closed.
func (k *walker) walk(quit chan struct{}) {
	for {
		select {
		case <-quit:
			return
		case <-time.After(time.Duration(20+k.rng.IntN(150)) * time.Millisecond):
		}
		tab := k.rng.IntN(len(k.tabs))
		switch n := k.rng.IntN(10); {
		case k.tabs[tab] == nil || n == 0:
			k.page(tab)
		case n < 5:
			k.events(tab, 1)
		case n < 7:
			k.events(tab, 2+k.rng.IntN(4))
		case n < 9:
			k.renew(tab)
		case k.kind == byConsent:
			k.consent(tab)
		default:
			k.init(tab)
		}
	}
}

// somewhere sends a request to any node, and again to any where there was no
// answer: the same request. It gives up when the walk ends.
func somewhere[T any](k *walker, rng *rand.Rand, send func(v *visitor) (T, error)) (answer T, ok bool) {
	for range 200 {
		v := *k.v
		v.site = k.w.nodes[rng.IntN(len(k.w.nodes))].site
		a, err := send(&v)
		if err == nil {
			return a, true
		}
		k.w.count("no answer")
		time.Sleep(time.Duration(20+rng.IntN(100)) * time.Millisecond)
	}
	k.w.t.Errorf("%s: no node answers", k.name)
	return answer, false
}

type pageAnswer struct {
	status int
	body   string
}

// page loads a page in a tab: the first, a reload, or one that the last leads to.
func (k *walker) page(tab int) {
	was := k.tabs[tab]
	path := fmt.Sprintf("/?utm_source=%s-%d", k.name, k.rng.Uint32())
	follows := was != nil && k.rng.IntN(2) == 0
	if follows {
		path = []string{"/a.html", "/"}[k.rng.IntN(2)]
	}
	got, ok := somewhere(k, k.rng, func(v *visitor) (pageAnswer, error) {
		var header []string
		if follows {
			header = []string{"Sec-Fetch-Site", "same-origin", "Referer", v.origin() + was.path}
		}
		res, body, err := v.tryPage(path, header...)
		if err != nil {
			return pageAnswer{}, err
		}
		if res.StatusCode == 200 && !contextPattern.MatchString(body) {
			return pageAnswer{}, fmt.Errorf("a node that starts has no keys yet")
		}
		return pageAnswer{res.StatusCode, body}, nil
	})
	if !ok {
		return
	}
	if got.status != 200 {
		k.w.t.Errorf("%s: page %s got %d", k.name, path, got.status)
		return
	}
	s := parseContext(k.w.t, got.body)
	now := &walkerTab{user: s.UserID, session: s.Session.SessionID, token: s.Session.Token, expires: s.Session.ExpiresAt, path: path, at: time.Now()}
	source, _ := s.Attribution.Original["utm_source"].(string)
	k.w.saw(k, now, source)
	if k.kind == byCookies && was != nil && was.user != now.user && !k.w.revokedSince(was.at) {
		k.w.t.Errorf("%s: a visitor with cookies was user %s and is %s", k.name, was.user, now.user)
	}
	k.tabs[tab] = now
}

// proof is what a body says about whose it is.
func (k *walker) proof(t *walkerTab, whole bool) map[string]any {
	body := map[string]any{"session_id": t.session}
	if whole || k.kind == byCookies {
		body["campaign_id"] = "cmp_1"
	}
	if whole {
		body["user_id"] = t.user
	}
	if k.kind != byIDs {
		body["token"] = t.token
	}
	return body
}

// call is an API call that is to succeed in the end. What the answer refuses it
// refuses for a reason that is known.
func (k *walker) call(tab int, route string, body func(*walkerTab) map[string]any) *answer {
	tries := 0
	for range 40 {
		t := k.tabs[tab]
		b := body(t)
		a, ok := somewhere(k, k.rng, func(v *visitor) (*answer, error) { return v.tryCall("POST", route, b) })
		if !ok {
			return nil
		}
		code := a.Code
		if a.status == 200 {
			k.w.count("ok")
			return a
		}
		if code == "" {
			code = fmt.Sprint(a.status)
		}
		k.w.count(code)
		switch {
		case a.status == 409: // session_expired
			k.renew(tab)
		case a.status == 503 || a.status == 429:
			time.Sleep(200 * time.Millisecond)
		case a.status == 401 && k.w.revokedSince(t.at):
			k.page(tab)
			return nil
		case a.status == 401 && k.kind == byIDs:
			// Behind the page, its state is on the way to the other nodes; a
			// node that is killed takes it along.
			if tries++; tries > 20 {
				if !k.w.killedSince(t.at) {
					k.w.t.Errorf("%s: the state of session %s of %v ago is on no other node", k.name, t.session, time.Since(t.at))
				}
				k.page(tab)
				return nil
			}
			time.Sleep(100 * time.Millisecond)
		default:
			k.w.t.Errorf("%s: %s, of a page of %v ago, got %d %s", k.name, route, time.Since(t.at), a.status, a.body)
			return nil
		}
	}
	return nil
}

func (k *walker) events(tab, n int) {
	uuids := make([]string, n)
	events := make([]any, n)
	for i := range uuids {
		uuids[i] = fmt.Sprintf("%s-%x", k.name, k.rng.Uint64())
		events[i] = map[string]any{"event_id": "click", "event_type": "conversion", "event_uuid": uuids[i], "metadata": map[string]any{"uuid": uuids[i]}}
	}
	var session string
	a := k.call(tab, "events/batch-track", func(t *walkerTab) map[string]any {
		session = t.session
		return with(k.proof(t, false), "events", events)
	})
	if a == nil {
		return
	}
	for _, uuid := range uuids {
		k.w.taken.take(uuid, session)
	}
}

func (k *walker) init(tab int) {
	a := k.call(tab, "events/session/init", func(t *walkerTab) map[string]any { return k.proof(t, true) })
	if a != nil {
		k.moved(tab, a)
	}
}

// renew renews in both tabs' stead at two nodes at once: they make one session.
func (k *walker) renew(tab int) {
	t := *k.tabs[tab]
	body := k.proof(&t, true)
	var answers [2]*answer
	var all sync.WaitGroup
	for i := range answers {
		rng := rand.New(rand.NewPCG(k.rng.Uint64(), 1))
		all.Go(func() {
			answers[i], _ = somewhere(k, rng, func(v *visitor) (*answer, error) {
				a, err := v.tryCall("POST", "events/session/renew", body)
				if err == nil && (a.status == 503 || a.status == 429) {
					err = fmt.Errorf("%d", a.status)
				}
				return a, err
			})
		})
	}
	all.Wait()
	if answers[0] == nil || answers[1] == nil {
		return
	}
	for _, a := range answers {
		if a.status == 200 {
			continue
		}
		if a.status != 401 || !k.w.revokedSince(t.at) {
			k.w.t.Errorf("%s: renewing session %s got %d %s", k.name, t.session, a.status, a.body)
		}
		k.page(tab)
		return
	}
	if one, two := answers[0].Data["session_id"], answers[1].Data["session_id"]; one != two && !k.w.revokedSince(t.at) {
		// Two calls may stand on both sides of a moment at which one ended.
		ends := min(answers[0].Data["expires_at"].(float64), answers[1].Data["expires_at"].(float64))
		if time.Until(time.UnixMilli(int64(ends))) > time.Second {
			k.w.t.Errorf("%s: two tabs renewed %s to %v and %v, which both live", k.name, t.session, one, two)
		}
	}
	k.w.count("renewed together")
	k.moved(tab, answers[1])
}

// moved takes over what an answer says about the session.
func (k *walker) moved(tab int, a *answer) {
	t := k.tabs[tab]
	id, _ := a.Data["session_id"].(string)
	next := *t
	next.session = id
	if token, ok := a.Data["token"].(string); ok {
		next.token = token
	} else if id != t.session && k.kind != byIDs {
		return // the token is still the former session's: a renewal brings the next
	}
	if ends, ok := a.Data["expires_at"].(float64); ok {
		next.expires = int64(ends)
	}
	k.w.saw(k, &next, "")
	k.tabs[tab] = &next
}

// consent decides. That makes no other session of the page's: where the browser
// has no cookies yet, a yes sets those of the page that it was said on.
func (k *walker) consent(tab int) {
	purposes := []map[string]any{allPurposes, noPurposes}[k.rng.IntN(2)]
	k.v.site = k.w.nodes[0].site
	known := slices.ContainsFunc(k.v.cookieNames(), func(name string) bool { return strings.Contains(name, "fb_user") })
	a := k.call(tab, "consent/record", func(t *walkerTab) map[string]any {
		return map[string]any{"token": t.token, "purposes": purposes, "source": k.name}
	})
	if a == nil {
		return
	}
	t := k.tabs[tab]
	k.page(tab)
	now := k.tabs[tab]
	if purposes["analytics"] == true && !known && now.user != t.user && !k.w.revokedSince(t.at) {
		k.w.t.Errorf("%s: after a yes the next page is session %s of user %s, before it was %s of %s", k.name, now.session, now.user, t.session, t.user)
	}
}
