package caddymodule

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

func testSink(t *testing.T) *FileSink {
	t.Helper()
	s := &FileSink{Path: filepath.Join(t.TempDir(), "deep", "rows"), RollSize: 1 << 20, RollKeep: 2}
	if err := s.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Path); !os.IsNotExist(err) {
		t.Fatal("provisioning made the directory")
	}
	return s
}

func deliver(t *testing.T, s *FileSink, body string) {
	t.Helper()
	b := outbox.Batch{Datasource: "events_v1", Name: "1", Rows: 1, Body: []byte(body)}
	if out := s.Deliver(t.Context(), b); out.Verdict != outbox.VerdictDelivered {
		t.Fatalf("%+v", out)
	}
}

func TestFileSinkAppends(t *testing.T) {
	s := testSink(t)
	deliver(t, s, "{\"a\":1}\n")
	deliver(t, s, "{\"a\":2}\n")
	path := filepath.Join(s.Path, "events_v1.ndjson")
	b, err := os.ReadFile(path)
	if err != nil || string(b) != "{\"a\":1}\n{\"a\":2}\n" {
		t.Errorf("%q, %v", b, err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: others may read the rows", info.Mode())
	}
}

// TestFileSinkMendsATornFile: half a row that a kill left is gone before the
// next batch, which brings it again.
func TestFileSinkMendsATornFile(t *testing.T) {
	s := testSink(t)
	for _, torn := range []string{"{\"a\":1}\n{\"a\":", "{\"half\":\"" + strings.Repeat("x", 100<<10), "{\"a\":1}\n", ""} {
		path := filepath.Join(s.Path, "events_v1.ndjson")
		if err := os.MkdirAll(s.Path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(torn), 0o600); err != nil {
			t.Fatal(err)
		}
		deliver(t, s, "{\"a\":2}\n")
		want := torn[:strings.LastIndex(torn, "\n")+1] + "{\"a\":2}\n"
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("a file of %d bytes became %q, %v", len(torn), b, err)
		}
	}
}

func TestFileSinkRolls(t *testing.T) {
	s := testSink(t)
	big := strings.Repeat("x", 1<<20) + "\n"
	for i := range 5 {
		deliver(t, s, fmt.Sprint(i)+big)
	}
	entries, err := os.ReadDir(s.Path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if len(names) != 3 { // the current one and two put aside
		t.Fatalf("files %v", names)
	}
	b, err := os.ReadFile(filepath.Join(s.Path, "events_v1.ndjson"))
	if err != nil || !bytes.HasPrefix(b, []byte("4")) {
		t.Errorf("the current file begins with %.5q, %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(s.Path, names[0])); err != nil || !bytes.HasPrefix(b, []byte("2")) {
		t.Errorf("the oldest kept begins with %.5q, %v", b, err)
	}
}

// After a clock was set back, what was put aside last is still the youngest.
func TestFileSinkRollsThoughTheClockWasSetBack(t *testing.T) {
	s := testSink(t)
	if err := os.MkdirAll(s.Path, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, year := range []int{2098, 2099} {
		name := fmt.Sprintf("events_v1-%d0101T000000.000000000Z.ndjson", year)
		if err := os.WriteFile(filepath.Join(s.Path, name), []byte("old\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	big := strings.Repeat("x", 1<<20) + "\n"
	for i := range 3 {
		deliver(t, s, fmt.Sprint(i)+big)
	}
	var kept []string
	names, _ := filepath.Glob(filepath.Join(s.Path, "*.ndjson"))
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, string(b[:1]))
	}
	if got := strings.Join(kept, ""); got != "012" {
		t.Errorf("kept %q of %v", got, names)
	}
}

func TestFileSinkTakesTwoWriters(t *testing.T) {
	s := testSink(t)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 100 {
				deliver(t, s, fmt.Sprintf("{\"w\":%d,\"i\":%d}\n", w, i))
			}
		})
	}
	wg.Wait()
	b, err := os.ReadFile(filepath.Join(s.Path, "events_v1.ndjson"))
	if err != nil || bytes.Count(b, []byte("\n")) != 400 {
		t.Errorf("%d lines, %v", bytes.Count(b, []byte("\n")), err)
	}
}

func TestFileSinkKeepsTheBatchOnTrouble(t *testing.T) {
	s := testSink(t)
	if err := os.MkdirAll(filepath.Dir(s.Path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Path, nil, 0o600); err != nil { // a file where the directory should be
		t.Fatal(err)
	}
	out := s.Deliver(t.Context(), outbox.Batch{Datasource: "events_v1", Name: "1", Rows: 1, Body: []byte("{}\n")})
	if out.Verdict != outbox.VerdictRetry || out.Reason == nil {
		t.Errorf("%+v", out)
	}
}

// TestFileSinkOnAFullDisk: the batch is kept, with the disk's own words, and
// written once there is space.
func TestFileSinkOnAFullDisk(t *testing.T) {
	s := testSink(t)
	if err := os.MkdirAll(s.Path, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.Path, "events_v1.ndjson")
	if err := os.Symlink("/dev/full", path); err != nil {
		t.Fatal(err)
	}
	b := outbox.Batch{Datasource: "events_v1", Name: "1", Rows: 1, Body: []byte("{}\n")}
	out := s.Deliver(t.Context(), b)
	if out.Verdict != outbox.VerdictRetry || !errors.Is(out.Reason, syscall.ENOSPC) {
		t.Fatalf("%+v", out)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, "{}\n")
	if text, err := os.ReadFile(path); err != nil || string(text) != "{}\n" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestFileSinkHasAFileADatasource: and files put aside of one are not counted
// as another's.
func TestFileSinkHasAFileADatasource(t *testing.T) {
	s := testSink(t)
	big := strings.Repeat("x", 1<<20) + "\n"
	var wg sync.WaitGroup
	for _, ds := range []string{"events_v1", "session_v1"} {
		wg.Go(func() {
			for i := range 4 {
				b := outbox.Batch{Datasource: ds, Name: "1", Rows: 1, Body: []byte(fmt.Sprint(ds, i) + big)}
				if out := s.Deliver(t.Context(), b); out.Verdict != outbox.VerdictDelivered {
					t.Errorf("%+v", out)
				}
			}
		})
	}
	wg.Wait()
	entries, err := os.ReadDir(s.Path)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, e := range entries {
		ds := e.Name()[:strings.IndexAny(e.Name(), "-.")]
		count[ds]++
		text, err := os.ReadFile(filepath.Join(s.Path, e.Name()))
		if err != nil || !bytes.HasPrefix(text, []byte(ds)) || bytes.Count(text, []byte("\n")) != 1 {
			t.Errorf("%s begins with %.12q, %v", e.Name(), text, err)
		}
	}
	if count["events_v1"] != 3 || count["session_v1"] != 3 { // the current one and two put aside
		t.Errorf("files %v", count)
	}
}
