package caddymodule

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

func init() {
	caddy.RegisterModule(AdminOutbox{})
}

// Where Caddy's admin API answers for the outbox.
const (
	adminOutboxPath  = adminPath + "outbox"
	adminRowsPath    = adminOutboxPath + "/rows"
	adminFlushPath   = adminOutboxPath + "/flush"
	adminLettersPath = adminOutboxPath + "/letters"
	adminShowPath    = adminLettersPath + "/show"
	adminResendPath  = adminLettersPath + "/resend"
	adminDeletePath  = adminLettersPath + "/delete"
)

// AdminOutbox shows the outbox in Caddy's admin API and lets operators deal with
// dead letters and parked batches:
//
//	GET  /session_context/outbox                 what waits, by datasource
//	GET  /session_context/outbox/rows            ?datasource=&n=10: the newest rows that wait
//	POST /session_context/outbox/flush           seals what waits and tries it at once
//	GET  /session_context/outbox/letters         ?datasource=&kind=: dead letters and parked batches
//	GET  /session_context/outbox/letters/show    ?id=&n=10: one, with rows; &download=true: all of them
//	POST /session_context/outbox/letters/resend  {"id": ""} or {"all": true, "datasource": "", "kind": ""}
//	POST /session_context/outbox/letters/delete  likewise
//
// All of them take ?sink=, the name of a sink after the first, for what waits
// for that one.
//
// Rows hold personal data: only the routes that are asked for rows answer with
// some.
type AdminOutbox struct{}

// CaddyModule returns the Caddy module information.
func (AdminOutbox) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.session_context_outbox",
		New: func() caddy.Module { return new(AdminOutbox) },
	}
}

// Routes returns the routes of the admin API.
func (a *AdminOutbox) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: adminOutboxPath, Handler: a.ofOutbox(http.MethodGet, outboxState)},
		{Pattern: adminRowsPath, Handler: a.ofOutbox(http.MethodGet, peekRows)},
		{Pattern: adminFlushPath, Handler: a.ofOutbox(http.MethodPost, flushOutbox)},
		{Pattern: adminLettersPath, Handler: a.ofOutbox(http.MethodGet, listLetters)},
		{Pattern: adminShowPath, Handler: a.ofOutbox(http.MethodGet, showLetter)},
		{Pattern: adminResendPath, Handler: a.ofOutbox(http.MethodPost, resendLetters)},
		{Pattern: adminDeletePath, Handler: a.ofOutbox(http.MethodPost, deleteLetters)},
	}
}

// ofOutbox makes a handler of what is asked of the outbox.
func (a *AdminOutbox) ofOutbox(method string, serve func(*outbox.Outbox, *http.Request) (any, error)) caddy.AdminHandler {
	return adminAnswer(method, func(app *App, r *http.Request) (any, error) {
		e := app.engine()
		defer e.release()
		box, err := e.outboxOf(r.Context(), r.URL.Query().Get("sink"))
		if err != nil {
			return nil, err
		}
		value, err := serve(box, r)
		if err != nil {
			return nil, outboxRefusal(err)
		}
		return value, nil
	})
}

// outboxOf finds the outbox of a sink, and waits a moment for it to open.
func (e engine) outboxOf(ctx context.Context, sink string) (*outbox.Outbox, error) {
	box, err := e.outbox.get(ctx)
	if err != nil {
		return nil, refuse(http.StatusServiceUnavailable, "outbox_unavailable", "%v; it is tried again by itself", err)
	}
	if sink == "" {
		return box, nil
	}
	if mirror := box.Mirror(sink); mirror != nil {
		return mirror, nil
	}
	known := "there is none"
	if names := box.MirrorNames(); len(names) > 0 {
		known = "known are " + strings.Join(names, ", ")
	}
	return nil, refuse(http.StatusNotFound, "unknown_sink", "no sink after the first is called %q and open: %s; leave sink out for the first", sink, known)
}

// outboxRefusal is what is answered for an error.
func outboxRefusal(err error) *refusal {
	var r *refusal
	switch {
	case errors.As(err, &r):
		return r
	case errors.Is(err, outbox.ErrNoLetter):
		return refuse(http.StatusNotFound, "unknown_letter", "%v: list the letters for those that there are; one that was sent again has gone", err)
	case errors.Is(err, outbox.ErrLetterDamaged):
		return refuse(http.StatusConflict, "letter_damaged", "%v", err)
	case errors.Is(err, outbox.ErrLetterBusy):
		return refuse(http.StatusConflict, "letter_busy", "%v", err)
	case errors.Is(err, outbox.ErrClosed), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return refuse(http.StatusServiceUnavailable, "outbox_unavailable", "%v; try again", err)
	}
	return refuse(http.StatusServiceUnavailable, "outbox_failed", "%v; mend the disk, then try again", err)
}

// outboxStatus is what operators see of an outbox. Ages are in seconds.
type outboxStatus struct {
	Path    string  `json:"path"`
	Rows    int64   `json:"rows"` // that wait
	Bytes   int64   `json:"bytes"`
	MaxDisk int64   `json:"max_disk"`
	Oldest  float64 `json:"oldest_age"`
	// Since the outbox was opened.
	Damaged int64 `json:"damaged_lines"`
	Cut     int64 `json:"cut_bytes"`
	Dropped int64 `json:"dropped_rows"`

	Datasources []datasourceStatus `json:"datasources"`
	// Mirrors are the further sinks. A mirror has none.
	Mirrors []mirrorStatus `json:"mirrors,omitempty"`
}

// mirrorStatus is what waits for a further sink.
type mirrorStatus struct {
	Sink string `json:"sink"`
	// InUse is false for what a sink left that is configured no more, or can't
	// be opened: only its path, rows and bytes are known.
	InUse bool `json:"in_use"`
	outboxStatus
}

type datasourceStatus struct {
	Name        string       `json:"name"`
	Rows        int64        `json:"rows"`
	Bytes       int64        `json:"bytes"`
	Oldest      float64      `json:"oldest_age"`
	Sealed      int          `json:"sealed"`
	Parked      int          `json:"parked"`
	DeadLetters int          `json:"dead_letters"`
	DeadRows    int          `json:"dead_rows"`
	State       outbox.State `json:"state"`
	LastError   string       `json:"last_error,omitempty"`
}

func outboxState(box *outbox.Outbox, _ *http.Request) (any, error) { return statusOf(box), nil }

func statusOf(box *outbox.Outbox) outboxStatus {
	out := queueStatus(box.Dir(), box.Stats())
	for _, m := range box.Mirrors() {
		out.Mirrors = append(out.Mirrors, mirrorStatus{Sink: m.Name, InUse: m.InUse, outboxStatus: queueStatus(m.Path, m.Stats)})
	}
	return out
}

func queueStatus(path string, st outbox.Stats) outboxStatus {
	out := outboxStatus{
		Path: path, Rows: st.Rows, Bytes: st.Bytes, MaxDisk: st.MaxDisk, Oldest: st.Oldest.Seconds(),
		Damaged: st.Damaged, Cut: st.Cut, Dropped: st.Dropped, Datasources: []datasourceStatus{},
	}
	for _, name := range slices.Sorted(maps.Keys(st.Datasources)) {
		d := st.Datasources[name]
		out.Datasources = append(out.Datasources, datasourceStatus{
			Name: name, Rows: d.Rows, Bytes: d.Bytes, Oldest: d.Oldest.Seconds(), Sealed: d.Sealed, Parked: d.Parked,
			DeadLetters: d.DeadLetters, DeadRows: d.DeadRows, State: d.State, LastError: withoutSecrets(d.LastError),
		})
	}
	return out
}

// Rows that an answer holds at most; a download has no limit.
const (
	defaultRowsShown = 10
	maxRowsShown     = 1000
)

func rowsWanted(r *http.Request) (int, error) {
	text := r.URL.Query().Get("n")
	if text == "" {
		return defaultRowsShown, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > maxRowsShown {
		return 0, refuse(http.StatusBadRequest, "invalid_number", "n is %q: give the number of rows, 0 to %d", text, maxRowsShown)
	}
	return n, nil
}

func peekRows(box *outbox.Outbox, r *http.Request) (any, error) {
	n, err := rowsWanted(r)
	if err != nil {
		return nil, err
	}
	datasource := r.URL.Query().Get("datasource")
	if err := knownDatasource(box, datasource); err != nil {
		return nil, err
	}
	rows, err := box.Peek(datasource, n)
	if err != nil {
		return nil, err
	}
	out := struct {
		Datasource string     `json:"datasource"`
		Rows       []shownRow `json:"rows"`
	}{datasource, []shownRow{}}
	for _, row := range rows {
		out.Rows = append(out.Rows, shownRow{Row: jsonOrText(row)})
	}
	return out, nil
}

// knownDatasource refuses the name of a datasource that the outbox has none of.
func knownDatasource(box *outbox.Outbox, name string) error {
	known := slices.Sorted(maps.Keys(box.Stats().Datasources))
	if slices.Contains(known, name) {
		return nil
	}
	list := "there is none yet"
	if len(known) > 0 {
		list = "known are " + strings.Join(known, ", ")
	}
	if name == "" {
		return refuse(http.StatusBadRequest, "missing_datasource", "no datasource is named: %s", list)
	}
	return refuse(http.StatusNotFound, "unknown_datasource", "the outbox has no datasource %q: %s", name, list)
}

// flushPatience is how long a flush waits for the disk.
const flushPatience = 10 * time.Second

func flushOutbox(box *outbox.Outbox, r *http.Request) (any, error) {
	if err := readOrder(r, &struct{}{}, "none: send {}"); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), flushPatience)
	defer cancel()
	if err := box.Flush(ctx); err != nil {
		return nil, err
	}
	return outboxState(box, r)
}

// URLs may carry secrets in their user part and in their query.
var (
	urlUser  = regexp.MustCompile(`://[^/?#\s"']*@`)
	urlQuery = regexp.MustCompile(`(://[^?\s"']*)\?[^\s"']*`)
)

// withoutSecrets is a sink's or a disk's error as it may be shown: sinks are
// guests, and an error of theirs may quote a URL.
func withoutSecrets(text string) string {
	return urlQuery.ReplaceAllString(urlUser.ReplaceAllString(text, "://[hidden]@"), "$1?[hidden]")
}

var _ caddy.AdminRouter = (*AdminOutbox)(nil)
