package caddymodule

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

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
		name, err := sinkNameOf(raw)
		if err != nil {
			return err
		}
		if known[name] {
			return twoSinks(name)
		}
		known[name] = true
		a.sinks = append(a.sinks, namedSink{name: name})
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

// sinkNameOf reads a sink's name: its own, else its module's.
func sinkNameOf(raw json.RawMessage) (string, error) {
	var s struct {
		Sink string `json:"sink"`
		Name string `json:"name"`
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", fmt.Errorf("reading sink: %w", err)
	}
	if s.Name == "" {
		return s.Sink, nil
	}
	return s.Name, checkID("name", s.Name)
}

func twoSinks(name string) error {
	return fmt.Errorf("two sinks are called '%s': give one a name of its own", name)
}

// parseSink reads a `sink` line. lines has the names of those before it.
func (a *App) parseSink(d *caddyfile.Dispenser, lines map[string]int) error {
	start := *d
	raw, err := guest(d, "session_context.sinks", "sink")
	if err != nil {
		return err
	}
	name, err := sinkNameOf(raw)
	if err != nil {
		return start.WrapErr(err)
	}
	if line, twice := lines[name]; twice {
		return start.Errf("%v, the first is in line %d", twoSinks(name), line)
	}
	lines[name] = start.Line()
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
