package caddymodule

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

func init() {
	caddy.RegisterModule(FileSink{})
}

// FileSink writes rows to NDJSON files, one a datasource:
// `session_v1.ndjson`, `events_v1.ndjson` and so on. A file that has grown is
// put aside under a name with the time in it. Rows are synced before they
// leave the outbox; a crash in between writes a batch twice, which the rows'
// ids show.
type FileSink struct {
	// Name that what waits for this sink is kept under. Default: file.
	Name string `json:"name,omitempty"`
	// Directory of the files. Default: `session_context/rows` in Caddy's
	// data directory.
	Path string `json:"path,omitempty"`
	// A file is put aside when it is larger than that, in bytes.
	// Default: 64 MiB.
	RollSize int64 `json:"roll_size,omitempty"`
	// How many files put aside are kept for each datasource. Default: 10.
	RollKeep int `json:"roll_keep,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (FileSink) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "session_context.sinks.file",
		New: func() caddy.Module { return new(FileSink) },
	}
}

func defaultRowsPath() string { return filepath.Join(dataDir(), "rows") }

// Provision sets defaults. It makes nothing.
func (s *FileSink) Provision(caddy.Context) error {
	if s.Path == "" {
		s.Path = defaultRowsPath()
	}
	if s.RollSize == 0 {
		s.RollSize = 64 << 20
	}
	if s.RollKeep == 0 {
		s.RollKeep = 10
	}
	if s.RollSize < 1<<20 || s.RollKeep < 1 {
		return fmt.Errorf("sink file: roll_size %d is less than 1 MiB, or roll_keep %d less than 1", s.RollSize, s.RollKeep)
	}
	return nil
}

// UnmarshalCaddyfile sets up the sink from Caddyfile tokens:
//
//	file [<directory>] {
//		name      <name>
//		roll_size <size>
//		roll_keep <number>
//	}
func (s *FileSink) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	d.Args(&s.Path)
	if d.NextArg() {
		return d.Errf("sink file takes one directory at most, '%s' is one too many", d.Val())
	}
	b := newBlock(d, "sink file")
	return b.read(map[string]option{
		"name": b.id("name", &s.Name),
		"roll_size": func() error {
			var v string
			if err := b.text(&v)(); err != nil {
				return err
			}
			n, err := humanize.ParseBytes(v)
			if err != nil || n < 1<<20 || n > 1<<50 {
				return d.Errf("roll_size '%s' is not a size of at least 1MiB, like 64MiB", v)
			}
			s.RollSize = int64(n)
			return nil
		},
		"roll_keep": func() error {
			if err := b.count("roll_keep", &s.RollKeep); err != nil {
				return err
			}
			return b.end("roll_keep")
		},
	})
}

// Deliver implements outbox.Sink.
func (s *FileSink) Deliver(_ context.Context, b outbox.Batch) outbox.Outcome {
	if err := s.append(b); err != nil {
		return outbox.Retry(0, err)
	}
	return outbox.Delivered(0, nil)
}

// rowsFile keeps two outboxes of this process, as a reload may make for a
// while, from writing to one file at once.
type rowsFile struct {
	sync.Mutex
	// named: the file's name, and that of each directory above it, has been
	// synced. An earlier process may have ended before it did that.
	named bool
}

var rowsFiles sync.Map // path → *rowsFile

func (s *FileSink) append(b outbox.Batch) (err error) {
	path := filepath.Join(s.Path, b.Datasource+".ndjson")
	shared, _ := rowsFiles.LoadOrStore(path, new(rowsFile))
	file := shared.(*rowsFile)
	file.Lock()
	defer file.Unlock()
	if err := os.MkdirAll(s.Path, 0o700); err != nil {
		return fmt.Errorf("making the rows' directory: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("opening the rows' file: %w", err)
	}
	defer func() {
		if e := f.Close(); err == nil && e != nil {
			err = fmt.Errorf("closing %s: %w", path, e)
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("looking at %s: %w", path, err)
	}
	size, err := cutTornRow(f, info.Size())
	if err != nil {
		return fmt.Errorf("cutting half a row off %s: %w", path, err)
	}
	if size > s.RollSize {
		if err := s.roll(b.Datasource, path); err != nil {
			return err
		}
		// What is open has its new name now.
		f.Close()
		if f, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
			return fmt.Errorf("opening the rows' file: %w", err)
		}
		size = 0
	}
	file.named = file.named && size > 0
	_, err = f.Write(b.Body)
	if err == nil {
		err = f.Sync()
	}
	if err == nil && !file.named {
		err = syncNames(s.Path)
		file.named = err == nil
	}
	if err != nil {
		// The batch comes again: no half of it may stay.
		return fmt.Errorf("writing to %s: %w (cut back: %v)", path, err, f.Truncate(size))
	}
	return nil
}

// cutTornRow takes off what follows the last line feed: a write that a crash cut
// short, whose batch comes again. It returns the size then.
func cutTornRow(f *os.File, size int64) (int64, error) {
	whole := size
	var buf [32 << 10]byte
	for whole > 0 {
		n := min(whole, int64(len(buf)))
		if _, err := f.ReadAt(buf[:n], whole-n); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			whole -= n - int64(i) - 1
			break
		}
		whole -= n
	}
	if whole == size {
		return size, nil
	}
	return whole, f.Truncate(whole)
}

// syncNames makes the names in a directory durable, and its own: rows in a
// directory that a power cut forgets are lost.
func syncNames(path string) error {
	err := syncDir(path)
	for dir := path; dir != filepath.Dir(dir); {
		dir = filepath.Dir(dir)
		_ = syncDir(dir) // may belong to somebody else, who keeps it by other means
	}
	return err
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// roll puts the file aside and removes the oldest of those put aside.
func (s *FileSink) roll(datasource, path string) error {
	const stamp = "20060102T150405.000000000Z"
	entries, err := os.ReadDir(s.Path)
	if err != nil {
		return fmt.Errorf("listing files put aside: %w", err)
	}
	var old []string
	now := time.Now().UTC()
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), datasource+"-")
		if !ok || !strings.HasSuffix(name, ".ndjson") {
			continue
		}
		old = append(old, e.Name())
		// After a clock was set back, the newest must not pass for the oldest.
		if at, err := time.Parse(stamp, strings.TrimSuffix(name, ".ndjson")); err == nil && !now.After(at) {
			now = at.Add(1)
		}
	}
	aside := datasource + "-" + now.Format(stamp) + ".ndjson"
	if err := os.Rename(path, filepath.Join(s.Path, aside)); err != nil {
		return fmt.Errorf("putting %s aside: %w", path, err)
	}
	old = append(old, aside)
	slices.Sort(old)
	for len(old) > s.RollKeep {
		if err := os.Remove(filepath.Join(s.Path, old[0])); err != nil {
			return fmt.Errorf("removing a file put aside: %w", err)
		}
		old = old[1:]
	}
	return nil
}

var (
	_ outbox.Sink           = (*FileSink)(nil)
	_ caddy.Provisioner     = (*FileSink)(nil)
	_ caddyfile.Unmarshaler = (*FileSink)(nil)
)
