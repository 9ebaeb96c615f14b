package outbox

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func sampleSegment(rows int) (data []byte, want []string) {
	data = appendHeader(nil, header{"events_v1", 42, time.UnixMicro(42).UTC()})
	for i := range rows {
		json := fmt.Sprintf(`{"n":%d,"text":"deadbeef {\"x\":1}"}`, i)
		data = appendRecord(data, []byte(json))
		want = append(want, json)
	}
	return data, want
}

func rowStrings(s scan) []string {
	var list []string
	for _, r := range s.rows {
		list = append(list, string(r))
	}
	return list
}

func TestSegmentReadsBack(t *testing.T) {
	data, want := sampleSegment(5)
	s, err := scanSegment(data)
	if err != nil || !slices.Equal(rowStrings(s), want) || len(s.damaged) != 0 || len(s.tail) != 0 {
		t.Fatalf("got %q, %d damaged, tail %q, %v", rowStrings(s), len(s.damaged), s.tail, err)
	}
	if s.header.Datasource != "events_v1" || s.header.Sequence != 42 {
		t.Errorf("header is %+v", s.header)
	}
	if s.whole != int64(len(data)) {
		t.Errorf("whole is %d of %d", s.whole, len(data))
	}
}

// Every byte of a segment, header, checksum, space, JSON and LF, flipped in
// several ways: one row is lost at most, none is made up, and what was lost
// shows.
func TestAFlipCostsOneRow(t *testing.T) {
	data, want := sampleSegment(4)
	for i := range data {
		for _, flip := range []byte{0x01, 0x20, 0x80, data[i] ^ '\n', data[i] ^ ' '} {
			if flip == 0 {
				continue
			}
			bad := bytes.Clone(data)
			bad[i] ^= flip
			s, err := scanSegment(bad)
			if err != nil {
				t.Fatalf("byte %d ^ %#x: %v", i, flip, err)
			}
			got := rowStrings(s)
			missing := 0
			for _, w := range want {
				if !slices.Contains(got, w) {
					missing++
				}
			}
			if missing > 1 || len(got) != len(want)-missing {
				t.Fatalf("byte %d ^ %#x: %d rows missing, got %q", i, flip, missing, got)
			}
			if missing == 1 && len(s.damaged) == 0 {
				t.Fatalf("byte %d ^ %#x: a row vanished without a trace", i, flip)
			}
		}
	}
}

func TestEveryTornTailIsSeparated(t *testing.T) {
	data, want := sampleSegment(3)
	for cut := range data {
		s, err := scanSegment(data[:cut])
		if err != nil {
			t.Fatal(cut, err)
		}
		got := rowStrings(s)
		if !slices.Equal(got, want[:len(got)]) || len(s.damaged) != 0 {
			t.Fatalf("cut at %d: %q, %d damaged", cut, got, len(s.damaged))
		}
		if s.whole+int64(len(s.tail)) != int64(cut) {
			t.Fatalf("cut at %d: %d whole and %d tail", cut, s.whole, len(s.tail))
		}
	}
}

func TestNewerVersionIsToldFromDamage(t *testing.T) {
	newer := newerSegment()
	if _, err := scanSegment(newer); !errors.Is(err, ErrVersion) {
		t.Errorf("newer version: %v", err)
	}
	flipped := bytes.Replace(newer, []byte("/2 "), []byte("/3 "), 1)
	if _, err := scanSegment(flipped); err != nil {
		t.Errorf("a damaged version digit must not refuse the file: %v", err)
	}
}

func newerSegment() []byte {
	prefix, body := "session-outbox/2 ", `{"what":"ever"}`
	record := appendRecord(nil, []byte(prefix+body)) // the CRC over both
	return append([]byte(prefix+string(record[:8])+" "+body+"\n"), "something else\n"...)
}

func TestTextInARowIsNotSalvagedAsARow(t *testing.T) {
	forged := strings.TrimSuffix(string(appendRecord(nil, []byte(`{"forged":1}`))), "\n")
	honest := fmt.Sprintf(`{"text":"x%s`, forged) // even without the escapes that JSON asks for
	line := strings.TrimSuffix(string(appendRecord(nil, []byte(honest))), "\n")
	bad := []byte(line)
	bad[12] ^= 1
	if got := salvage(bad); got != nil {
		t.Fatalf("salvaged %q", got)
	}
}

// FuzzRecover opens an outbox over arbitrary bytes: it must not panic, must make
// up no row, must account for every byte, and a second start must find the
// same.
func FuzzRecover(f *testing.F) {
	data, _ := sampleSegment(3)
	f.Add(data)
	f.Add(data[:len(data)-4])
	f.Add(bytes.Replace(data, []byte("\n"), []byte("X"), 1))
	f.Add(bytes.Replace(data, []byte("text"), []byte("tex\n"), 2))
	f.Add(append(bytes.Clone(data), make([]byte, 100)...))
	f.Add(newerSegment())
	f.Add([]byte{})
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		bad := bytes.Clone(data)
		bad[r.IntN(len(bad))] = byte(r.IntN(256))
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		const dir, path = "/q/events_v1", "/q/events_v1/0000000000000042.open"
		m := newMemFS()
		m.dirs["/q"], m.dirs[dir], m.kept["/q"], m.kept[dir] = true, true, true, true
		n := &memNode{live: bytes.Clone(data)}
		n.sync()
		m.files[path], m.durable[path] = n, n
		o, err := Open("/q", Options{fs: m})
		if err != nil {
			if _, _, ok := parseHeader(bytes.SplitN(data, []byte("\n"), 2)[0]); !ok {
				t.Fatal("refused without a whole header:", err)
			}
			return
		}
		rows, err := o.Peek("events_v1", 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		st := o.Stats()
		if int(st.Rows) != len(rows) {
			t.Fatalf("%d rows counted, %d read", st.Rows, len(rows))
		}
		found, _ := scanSegment(data)
		size := int(st.Cut)
		for _, row := range rows {
			record := appendRecord(nil, row)
			if !bytes.Contains(data, record[:len(record)-1]) {
				t.Fatalf("made up row %q", row)
			}
		}
		if size+int(found.whole) != len(data) {
			t.Fatalf("%d bytes, of which %d whole and %d cut", len(data), found.whole, size)
		}
		if int(st.Damaged) != len(found.damaged) {
			t.Fatalf("%d damaged counted, %d found", st.Damaged, len(found.damaged))
		}
		mustClose(t, o)
		again := mustOpen(t, m, Options{})
		rows2, _ := again.Peek("events_v1", 1<<30)
		if !slices.EqualFunc(rows, rows2, bytes.Equal) {
			t.Fatalf("second start: %q, then %q", rows, rows2)
		}
		mustClose(t, again)
	})
}

// The example in the documentation is a segment.
func TestDocumentedSegmentIsOne(t *testing.T) {
	text, err := os.ReadFile("../../docs/outbox.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "    "+formatMagic)
	example, _, _ := strings.Cut(after, "\n\n")
	data := formatMagic + strings.ReplaceAll(example, "\n    ", "\n") + "\n"
	found, err := scanSegment([]byte(data))
	if err != nil || len(found.rows) != 2 || len(found.damaged) > 0 || found.header.Datasource != "events_v1" {
		t.Errorf("%+v, %v; it should be\n%s", found, err, segmentText("events_v1", "1790000000000000", found))
	}
}

// segmentText is a segment with the rows that were meant.
func segmentText(ds, name string, s scan) []byte {
	data := headerFor(ds, name)
	for _, row := range s.rows {
		data = appendRecord(data, row)
	}
	for _, d := range s.damaged {
		if len(d.line) > 9 && d.line[8] == ' ' {
			data = appendRecord(data, d.line[9:])
		}
	}
	return data
}
