package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/firebuzz/caddy-sessionctx/tests/bench/internal/rig"
)

// answer is a page as it came.
type answer struct {
	res  *http.Response
	body []byte
}

// checkAnswer sees to it that a variant does what its name says, before its
// figures are taken for that.
func checkAnswer(v *running, p page) error {
	res, got, err := rig.GetPage(v.server.Addr, p.path, v.visitor.Cookies)
	if err != nil {
		return fmt.Errorf("%s: %w", v.name, err)
	}
	a := answer{res, got}
	if err := v.check(v, p, a); err != nil {
		return fmt.Errorf("%s: page %s: %w", v.name, p.path, err)
	}
	// A length that is lost makes the answer chunked, which costs more.
	// templates and sub_filter cannot keep it, which is their cost.
	_, told := res.Header["Content-Length"]
	if v.kind != other && told == strings.HasPrefix(p.path, "/"+unknown+"/") {
		return fmt.Errorf("%s: page %s: Content-Length is %q", v.name, p.path, res.Header.Get("Content-Length"))
	}
	return nil
}

func sameAsUpstream(_ *running, p page, a answer) error {
	return equal(a.body, body(p.size))
}

func withFixedScript(_ *running, p page, a answer) error {
	return equal(a.body, bytes.Replace(body(p.size), []byte("<head>"), []byte("<head>"+rig.FixedScript), 1))
}

func withAction(_ *running, p page, a answer) error {
	return equal(a.body, bytes.Replace(body(p.size), []byte(action), nil, 1))
}

// withContext is a page with a new visitor's context and so many cookies.
func withContext(cookies int) func(*running, page, answer) error {
	return func(v *running, p page, a answer) error {
		if err := equal(withoutScript(a.body), body(p.size)); err != nil {
			return err
		}
		if _, err := rig.ReadVisitor(a.res, a.body); err != nil {
			return err
		}
		if n := len(a.res.Cookies()); n != cookies {
			return fmt.Errorf("it sets %d cookies, not %d", n, cookies)
		}
		want := []byte(`"consent":{"required":` + strconv.FormatBool(cookies == 0))
		if !bytes.Contains(a.body, want) {
			return fmt.Errorf("its context does not say %s", want)
		}
		return nil
	}
}

// withKnownContext is a page with the context of the session in the cookies.
func withKnownContext(v *running, p page, a answer) error {
	if err := equal(withoutScript(a.body), body(p.size)); err != nil {
		return err
	}
	got, err := rig.ReadVisitor(a.res, a.body)
	if err != nil {
		return err
	}
	if got.SessionID != v.visitor.SessionID || got.Cookies != "" {
		return fmt.Errorf("session %s became %s, with cookies %q: it should be known", v.visitor.SessionID, got.SessionID, got.Cookies)
	}
	return nil
}

// withoutScript takes our script, first in head, out of a page.
func withoutScript(page []byte) []byte {
	const begin, end = "<head><script data-session-context=", "</script>"
	i := bytes.Index(page, []byte(begin))
	if i < 0 {
		return page
	}
	n := bytes.Index(page[i:], []byte(end))
	if n < 0 {
		return page
	}
	return append(append([]byte(nil), page[:i+len("<head>")]...), page[i+n+len(end):]...)
}

func equal(got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	return fmt.Errorf("it has %d bytes, not %d, and differs from byte %d: %.80q, not %.80q", len(got), len(want), at, got[at:], want[at:])
}
