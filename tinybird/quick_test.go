package schema

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// walked is the verdict of the walk alone.
func walked(ds *Datasource, row []byte) error { return ds.walk(ds.full, row) }

// The two ways of checking agree: what quick takes, the walk takes.
func FuzzRowCheck(f *testing.F) {
	for i, name := range names {
		row := goodRow(f, name)
		f.Add(uint8(i), row)
		for _, edit := range [][2]string{
			{`"`, `\"`}, {`:0`, `:00`}, {`:0`, `:256`}, {`:1`, `:1.0`}, {`null`, `nul`}, {`,`, `,,`}, {`}`, `}}`}, {`{`, `{"row_id":"a",`},
			{`Z"`, "\xffZ\""}, {`a`, `\n`}, {`a`, "é"}, {`a`, "\n"}, {`:"`, `: "`}, {`"Unknown"`, `""`}, {`:`, `:-`},
		} {
			f.Add(uint8(i), bytes.Replace(row, []byte(edit[0]), []byte(edit[1]), 1))
			f.Add(uint8(i), bytes.ReplaceAll(row, []byte(edit[0]), []byte(edit[1])))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, row []byte) {
		ds := datasource(t, names[int(which)%len(names)])
		for _, p := range []*plan{ds.full, ds.reference} {
			if p == nil {
				continue
			}
			err := ds.walk(p, row)
			if p.takes(row) && err != nil {
				t.Fatalf("quick takes what the walk refuses: %v\n%q", err, row)
			}
			if (ds.check(p, row) == nil) != (err == nil) {
				t.Fatalf("check and walk differ: %v\n%q", err, row)
			}
		}
	})
}

// Every byte of a good row, changed into every other, is judged alike.
func TestQuickAgreesOnEveryChangedByte(t *testing.T) {
	for _, name := range names {
		ds, row := datasource(t, name), goodRow(t, name)
		taken := 0
		for i := range row {
			was := row[i]
			for _, c := range []byte("\"\\{}[],:0159-+.eEntuZ \t\n\r\x00\x1f\x7f\x80\xc3\xff/aA_") {
				row[i] = c
				if ds.full.takes(row) {
					taken++
					if err := walked(ds, row); err != nil {
						t.Fatalf("%v\n%s", err, row)
					}
				}
			}
			row[i] = was
		}
		if taken < 1000 {
			t.Errorf("%s: only %d changed rows are good: the test shows little", name, taken)
		}
	}
}

// Rows as our code writes them need no walk, whatever their texts hold, and no
// allocation.
func TestQuickTakesWhatOurCodeWrites(t *testing.T) {
	for _, name := range names {
		ds := datasource(t, name)
		for _, text := range []string{"", "a", "1234567", "12345678", "123456789", `a\"b`, `\\`, `\n\t\/`, "é", "日本語日本語", strings.Repeat("x", 500), strings.Repeat(`\"`, 100), "\u007f"} {
			row := goodTree(t, name)
			for _, c := range ds.Columns {
				if _, ruled := rulesFor(name)[c.Name]; c.Type.Family == String && !ruled {
					row.set(c.Path, `"`+text+`"`)
				}
			}
			b := row.row()
			if err := walked(ds, b); err != nil {
				t.Fatal(err)
			}
			if !ds.full.takes(b) {
				t.Errorf("%s: %q is left to the walk", name, text)
			}
		}
		row := goodRow(t, name)
		if !ds.full.takes(row) {
			t.Errorf("%s: the good row is left to the walk", name)
		}
		if n := testing.AllocsPerRun(100, func() { _ = ds.Check(row) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// plainUntil finds each byte that ends a plain run, at every offset.
func TestPlainUntil(t *testing.T) {
	for c := range 256 {
		plain := c >= ' ' && c < 0x80 && c != '"' && c != '\\'
		for at := range 20 {
			for from := range at + 1 {
				b := []byte(strings.Repeat("~", 20))
				b[at] = byte(c)
				want := at
				if plain {
					want = len(b)
				}
				if got := plainUntil(b, from); got != want {
					t.Fatalf("byte %#x at %d, from %d: %d", c, at, from, got)
				}
			}
		}
	}
}

// A guess that another row left behind is no more than a guess.
func TestQuickIsSafeForConcurrentUse(t *testing.T) {
	ds := datasource(t, "traffic_v1")
	done := make(chan error)
	for i := range 4 {
		go func() {
			for range 200 {
				row := goodTree(t, "traffic_v1").row() // in another order each time
				if !ds.full.takes(row) {
					done <- fmt.Errorf("worker %d: %s", i, row)
					return
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
