package outbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// Each call that the outbox makes to the disk fails once, and then from one
// call on until the disk is mended: a full disk and a broken one, at opening,
// writing, sealing, delivering, splitting, burying and clearing up. Whatever
// fails, what was acknowledged is accounted for afterwards, after a power cut
// as well, and the outbox works again by itself.
func TestEveryDiskCallMayFail(t *testing.T) {
	ops := []string{"lock", "mkdir", "readdir", "read", "create", "write", "sync", "truncate", "rename", "remove", "syncdir"}
	for _, op := range ops {
		for _, cause := range []error{syscall.ENOSPC, syscall.EIO} {
			for _, lasting := range []bool{false, true} {
				name := fmt.Sprintf("%s %v", op, cause)
				if lasting {
					name += " until mended"
				}
				t.Run(name, func(t *testing.T) {
					n := 0
					for reached := true; reached && !t.Failed(); {
						n++
						synctest.Test(t, func(t *testing.T) { reached = faultAt(t, op, cause, n, lasting) })
					}
					if t.Failed() {
						t.Fatalf("call %d of %s failed", n, op)
					}
					if n == 1 {
						t.Fatalf("%s was never called: the test shows nothing", op)
					}
				})
			}
		}
	}
}

// faultAt lives a life in which the nth call of op fails, and reports whether
// there was one.
func faultAt(t *testing.T, op string, cause error, n int, lasting bool) (reached bool) {
	w := newWorld(uint64(n))
	opt := Options{SegmentRows: 4, SegmentBytes: 4000, Observer: w, CloseGrace: time.Second}
	m := usedDisk(t, w, opt)

	calls, writes := 0, 0
	mended := false
	m.failOn(func(was, _ string) error {
		if was == "write" && !mended {
			// Some writes fail in any case, so that something has to be cut.
			if writes++; writes%5 == 3 {
				return syscall.ENOSPC
			}
		}
		if was != op || mended {
			return nil
		}
		calls++
		if calls == n || lasting && calls > n {
			reached = true
			return cause
		}
		return nil
	})
	mend := func() {
		m.mu.Lock()
		mended = true
		m.mu.Unlock()
	}
	opt.fs = m
	o, err := Open("/q", opt)
	if err != nil {
		if !errors.Is(err, cause) {
			t.Errorf("opening: %v", err)
		}
		if lasting {
			mend()
		}
		if o, err = Open("/q", opt); err != nil {
			t.Errorf("opening again: %v", err)
			return reached
		}
	}
	o.SetSink(w)
	for i := range 12 {
		rows := []Row{row("events_v1", 100+i)}
		if i%3 == 0 {
			rows = append(rows, row("session_v1", 100+i), row("events_v1", 200+i))
		}
		if i%4 == 0 {
			_ = o.Add(row("traffic_v1", 100+i))
		}
		if err := o.Append(context.Background(), rows...); err == nil {
			w.promise(rows)
		} else if !errors.Is(err, ErrUnavailable) {
			t.Errorf("append: %v", err)
		}
		time.Sleep(200 * time.Millisecond)
	}
	_ = o.Flush(context.Background())
	time.Sleep(10 * time.Second)
	w.tidy(o)
	time.Sleep(time.Minute)
	mend()
	w.soothe()
	o.SetSink(w)
	time.Sleep(2 * time.Hour)
	appendRows(t, o, "events_v1", 300, 303)
	time.Sleep(time.Minute)
	synctest.Wait()
	if st := o.Stats(); st.Rows != 0 {
		t.Errorf("still there although disk and sink work: %+v", st)
	}
	w.check(t, o)
	cut := m.crash(rng(uint64(n)))
	if err := o.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
	for what, disk := range map[string]*memFS{"power cut": cut, "stop": m} {
		opt.fs = disk
		o, err := Open("/q", opt)
		if err != nil {
			t.Errorf("opening after a %s: %v", what, err)
			continue
		}
		w.check(t, o)
		mustClose(t, o)
	}
	return reached
}

// usedDisk is a disk with all that an earlier life can leave: a sealed segment,
// a dead letter, an open segment with a damaged line and a torn tail, halves of
// a split that did not end, and a file half written.
func usedDisk(t *testing.T, w *world, opt Options) *memFS {
	m := newMemFS()
	opt.fs = m
	o, err := Open("/q", opt)
	if err != nil {
		t.Fatal(err)
	}
	take := func(ds string, from, to int) {
		appendRows(t, o, ds, from, to)
		for i := from; i < to; i++ {
			w.promise([]Row{row(ds, i)})
		}
	}
	take("session_v1", 0, 4)
	o.SetSink(&recorder{answer: func(Batch) Outcome { return DeadLetter(errTest) }})
	time.Sleep(2 * time.Second)
	synctest.Wait()
	o.SetSink(nil)
	take("events_v1", 0, 4)
	take("events_v1", 4, 6)
	mustClose(t, o)
	for path, node := range m.files {
		if strings.HasSuffix(path, ".open") {
			node.live = append(node.live, "deadbeef {\"damaged\":1}\n0badc0de {\"torn\":"...)
			node.sync()
		}
	}
	for _, path := range m.paths("events_v1", ".sealed") {
		name, _, _, _ := parseFileName(filepath.Base(path))
		half := filepath.Join("/q/events_v1", fileName(name+"a", kindSealed, 2))
		data := headerFor("events_v1", name+"a")
		for _, r := range []Row{row("events_v1", 0), row("events_v1", 1)} {
			data = appendRecord(data, r.JSON)
		}
		m.put(half, data)
		m.put(filepath.Join("/q/events_v1", name+"b.tmp"), []byte("half"))
	}
	time.Sleep(time.Millisecond)
	return m.kill()
}

// paths are a datasource's files that end so.
func (m *memFS) paths(ds, end string) (list []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for path := range m.files {
		if strings.HasPrefix(path, "/q/"+ds+"/") && strings.HasSuffix(path, end) {
			list = append(list, path)
		}
	}
	return list
}

// put makes a file that has been there for long.
func (m *memFS) put(path string, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node := &memNode{live: data, synced: bytes.Clone(data)}
	m.files[path], m.durable[path] = node, node
}

// Opening reads no more than the head of what is sealed, however much that is.
func TestOpeningReadsHeadsOnly(t *testing.T) {
	m := newMemFS()
	o := mustOpen(t, m, Options{SegmentRows: 100})
	appendRows(t, o, "events_v1", 0, 5000)
	mustClose(t, o)
	sealed := len(m.paths("events_v1", ".sealed"))
	if sealed != 50 {
		t.Fatalf("%d sealed segments", sealed)
	}
	reads := &readCounter{fsys: m}
	o = mustOpen(t, reads, Options{})
	defer o.Close()
	if reads.bytes > int64(sealed*headLimit) {
		t.Errorf("%d bytes were read to open %d segments", reads.bytes, sealed)
	}
	if n := o.Stats().Rows; n != 5000 {
		t.Errorf("%d rows", n)
	}
}

type readCounter struct {
	fsys
	mu    sync.Mutex
	bytes int64
}

func (c *readCounter) ReadFile(path string, limit int64, buf []byte) ([]byte, error) {
	data, err := c.fsys.ReadFile(path, limit, buf)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes += int64(len(data))
	return data, err
}

// A damaged line must not keep an outbox on a full disk from opening: there is
// no room for its dead letter until something is delivered.
func TestStartOnAFullDiskWithADamagedLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		o := mustOpen(t, m, Options{SegmentRows: 5})
		appendRows(t, o, "events_v1", 0, 8)
		mustClose(t, o)
		for _, path := range m.paths("events_v1", ".open") {
			m.files[path].live = bytes.Replace(m.files[path].live, []byte(`"n":6}`), []byte(`"n":9}`), 1)
		}
		m.failOn(func(op, _ string) error {
			for path := range m.files {
				if strings.HasSuffix(path, ".5.sealed") && (op == "write" || op == "create") {
					return syscall.ENOSPC
				}
			}
			return nil
		})
		o, err := Open("/q", Options{fs: m})
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		r := &recorder{}
		o.SetSink(r)
		time.Sleep(time.Minute)
		synctest.Wait()
		rows := 0
		for _, b := range r.all() {
			rows += b.Rows
		}
		if dead := o.DeadLetters(); rows != 7 || len(dead) != 1 || dead[0].Kind != LetterDamaged {
			t.Errorf("%d rows were sent, dead letters %+v", rows, dead)
		}
	})
}
