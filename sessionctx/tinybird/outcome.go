package tinybird

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

// answer is all that an outcome depends on.
type answer struct {
	status     int
	header     http.Header
	body       []byte
	cut        error // the body broke off
	host       string
	datasource string
	sent       int
	now        time.Time
}

// counts is the body of a 200. Both must be there: a proxy's page is no
// acknowledgement.
type counts struct {
	Successful  *int `json:"successful_rows"`
	Quarantined *int `json:"quarantined_rows"`
}

// outcome reads an answer.
func (a answer) outcome() outbox.Outcome {
	switch s := a.status; {
	case s == http.StatusOK:
		return a.written()
	case s == http.StatusAccepted:
		return outbox.Delivered(0, a.errorf("accepted but not confirmed, though the request asked to wait: compare the row counts"))
	case s == http.StatusRequestTimeout, s == http.StatusTooEarly, s >= 500:
		after, _ := waitOf(a.header, a.now)
		return outbox.Retry(after, a.errorf("not written"))
	case s == http.StatusTooManyRequests:
		after, ok := waitOf(a.header, a.now)
		if !ok {
			after = defaultWait
		}
		return outbox.Throttle(after, a.errorf("too many requests"))
	case s == http.StatusRequestEntityTooLarge:
		return outbox.Split(a.errorf("%d rows are too large for one request", a.sent))
	case s == http.StatusUnprocessableEntity:
		return outbox.DeadLetter(a.errorf("written in part, a materialized view failed: mend the view and look at what is missing; the batch lies among the dead letters"))
	case s == http.StatusBadRequest && blamesRow(a.text()):
		return outbox.Blame(a.errorf("a row was refused"))
	default:
		return outbox.Hold(a.errorf("%s", a.remedy()))
	}
}

// written compares what a 200 says with what was sent.
func (a answer) written() outbox.Outcome {
	if a.cut != nil {
		return outbox.Retry(0, a.errorf("the answer broke off: %w", a.cut))
	}
	var n counts
	if err := json.Unmarshal(a.body, &n); err != nil || n.Successful == nil || n.Quarantined == nil {
		return outbox.Hold(a.errorf("the answer holds no row counts, so it is not the Events API's: check url, and proxies on the way"))
	}
	if got := *n.Successful + *n.Quarantined; got != a.sent || *n.Successful < 0 || *n.Quarantined < 0 {
		return outbox.DeadLetter(a.errorf("%d rows were sent, the answer counts %d written and %d quarantined: look at what is missing; the batch lies among the dead letters", a.sent, *n.Successful, *n.Quarantined))
	}
	if *n.Quarantined > 0 {
		return outbox.Delivered(*n.Quarantined, a.errorf("%d of %d rows are in %s_quarantine: its columns c__error_column and c__error tell why; a copy of the batch lies among the dead letters", *n.Quarantined, a.sent, a.datasource))
	}
	return outbox.Delivered(0, nil)
}

// remedy tells an operator what to do about a configuration.
func (a answer) remedy() string {
	switch s := a.status; {
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		return fmt.Sprintf("token refused: it needs the scope DATASOURCE:APPEND for %s, in the workspace of this host", a.datasource)
	case s == http.StatusNotFound:
		return fmt.Sprintf("workspace or datasource not found: check that url is the host of the workspace's region, and that %s is deployed there", a.datasource)
	case s == http.StatusMethodNotAllowed:
		return "the host does not take events here: url must be the API host, without a path"
	case s == http.StatusBadRequest:
		return fmt.Sprintf("request refused: check that %s is the datasource's name and is deployed with the columns of this version", a.datasource)
	case s >= 300 && s < 400:
		to := "elsewhere"
		if u, err := url.Parse(a.header.Get("Location")); err == nil && u.Host != "" {
			to = "to " + u.Scheme + "://" + u.Host
		}
		return "redirected " + to + ", which is not followed: set url to the final host"
	}
	return "unexpected answer: check url, and proxies on the way"
}

// errorf words an answer: what and where, what to do, what the service said.
func (a answer) errorf(format string, args ...any) error {
	err := fmt.Errorf("%s: answer %d for %s: "+format, append([]any{a.host, a.status, a.datasource}, args...)...)
	if text := a.text(); text != "" && a.status != http.StatusOK {
		err = fmt.Errorf("%w (%s)", err, text)
	}
	return err
}

// text is what the service said, fit for a log line.
func (a answer) text() string {
	var said struct {
		Error string `json:"error"`
	}
	text := string(a.body)
	if err := json.Unmarshal(a.body, &said); err == nil && said.Error != "" {
		text = said.Error
	}
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "?"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
	const limit = 300
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return text
}

var (
	// A 400 blames the request unless it speaks of the data: halving a good
	// batch over a wrong name would make a dead letter of every row.
	blamesData    = regexp.MustCompile(`(?i)\b(row|line|record|json|ndjson|parse|parsing|parsed|column|value|decode|encoding|utf-?8|malformed)\b`)
	blamesRequest = regexp.MustCompile(`(?i)\b(token|auth\w*|permission|scope|parameters?|param|query string|header|content-?type|workspace|host|region|compress\w*|gzip|data ?source\b.*\b(name|exist|found)|name\b.*\b(required|missing|invalid)|format)\b`)
)

// blamesRow tells whether a 400's text speaks of a row rather than of the
// request. In doubt it is the request: then nothing is lost or moved.
func blamesRow(text string) bool {
	return blamesData.MatchString(text) && !blamesRequest.MatchString(text)
}
