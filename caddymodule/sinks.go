package caddymodule

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

// namedSink is a sink with the name that what waits for it is kept under.
type namedSink struct {
	name string
	outbox.Sink
}

// loadSinks loads the sinks in their order. Without any, rows go to files.
func (a *App) loadSinks(ctx caddy.Context) error {
	if len(a.SinksRaw) == 0 {
		a.SinksRaw = []json.RawMessage{json.RawMessage(`{"sink":"file"}`)}
	}
	known := map[string]bool{}
	for _, raw := range a.SinksRaw {
		id, err := identify(raw)
		if err != nil {
			return err
		}
		for _, own := range id.owns() {
			if known[own.key] {
				return own.clash
			}
			known[own.key] = true
		}
		a.sinks = append(a.sinks, namedSink{name: id.name})
	}
	mods, err := ctx.LoadModule(a, "SinksRaw")
	if err != nil {
		return fmt.Errorf("loading sink: %w", err)
	}
	for i, mod := range mods.([]any) {
		sink, ok := mod.(outbox.Sink)
		if !ok {
			return fmt.Errorf("module %T is no sink", mod)
		}
		a.sinks[i].Sink = sink
		a.guests = append(a.guests, mod)
	}
	return nil
}

// sinkNames are the names of the sinks in their order.
func (a *App) sinkNames() []string {
	names := make([]string, len(a.sinks))
	for i, s := range a.sinks {
		names[i] = s.name
	}
	return names
}

// sinkID is what no two sinks may share.
type sinkID struct {
	// name is the sink's own, else its module's.
	name string
	// files is where it writes, if it is a file sink: two would write each row
	// to one file twice.
	files string
}

func identify(raw json.RawMessage) (sinkID, error) {
	var s struct {
		Sink string `json:"sink"`
		Name string `json:"name"`
		Path string `json:"path"`
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return sinkID{}, fmt.Errorf("reading sink: %w", err)
	}
	id := sinkID{name: s.Sink}
	if s.Sink == "file" {
		id.files = filepath.Clean(cmp.Or(s.Path, defaultRowsPath()))
	}
	if s.Name == "" {
		return id, nil
	}
	id.name = s.Name
	return id, checkID("name", s.Name)
}

// owned is what a sink must have for itself.
type owned struct {
	key   string
	clash error // if another has it
}

func (id sinkID) owns() []owned {
	list := []owned{{"name " + id.name, fmt.Errorf("two sinks are called '%s': give one a name of its own", id.name)}}
	if id.files != "" {
		list = append(list, owned{"files " + id.files, fmt.Errorf("two sinks write to %s: give one a directory of its own", id.files)})
	}
	return list
}

// parseSink reads a `sink` line. lines has what those before it own.
func (a *App) parseSink(d *caddyfile.Dispenser, lines map[string]int) error {
	start := *d
	raw, err := guest(d, "session_context.sinks", "sink")
	if err != nil {
		return err
	}
	id, err := identify(raw)
	if err != nil {
		return start.WrapErr(err)
	}
	for _, own := range id.owns() {
		if line, twice := lines[own.key]; twice {
			return start.Errf("%v, the first is in line %d", own.clash, line)
		}
		lines[own.key] = start.Line()
	}
	a.SinksRaw = append(a.SinksRaw, raw)
	return nil
}

// mirrorsOf are the sinks after the first. What the first left when it was a
// mirror itself goes to it too.
func mirrorsOf(sinks []namedSink) []outbox.Mirror {
	var list []outbox.Mirror
	for i, s := range sinks {
		list = append(list, outbox.Mirror{Name: s.name, Sink: discreetSink{s.Sink}, Observer: mirrorMetrics{sink: s.name}, DrainOnly: i == 0})
	}
	return list
}

// discreetSink keeps secrets of URLs out of what a sink says, before it is
// logged or written down: sinks are guests.
type discreetSink struct {
	outbox.Sink
}

// Deliver implements outbox.Sink.
func (s discreetSink) Deliver(ctx context.Context, b outbox.Batch) outbox.Outcome {
	out := s.Sink.Deliver(ctx, b)
	if out.Reason != nil {
		if text := withoutSecrets(out.Reason.Error()); text != out.Reason.Error() {
			out.Reason = discreetError{text, out.Reason}
		}
	}
	return out
}

// Close closes the sink, if it can be.
func (s discreetSink) Close() error {
	if c, ok := s.Sink.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// discreetError is an error with another text.
type discreetError struct {
	text string
	error
}

func (e discreetError) Error() string { return e.text }

func (e discreetError) Unwrap() error { return e.error }
