package schema

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"
)

// What Check takes, encoding/json reads as the same columns, all there and of
// their types; and writing it again changes nothing for Check.
func FuzzCheck(f *testing.F) {
	for i, name := range names {
		f.Add(uint8(i), goodRow(f, name))
	}
	f.Add(uint8(0), []byte(`{"timestamp":"\ud83d","row_id":1e9}`))
	f.Fuzz(func(t *testing.T, which uint8, row []byte) {
		name := names[int(which)%len(names)]
		ds := datasource(t, name)
		if err := ds.Check(row); err != nil {
			if !utf8.ValidString(err.Error()) || len(err.Error()) > 600 {
				t.Fatalf("unfit error %q", err)
			}
			return
		}
		if !utf8.Valid(row) || bytes.ContainsAny(row, "\r\n") {
			t.Fatalf("took %q", row)
		}
		var parsed tree
		decoder := json.NewDecoder(bytes.NewReader(row))
		decoder.UseNumber()
		if err := decoder.Decode(&parsed); err != nil {
			t.Fatalf("took what is not JSON: %v", err)
		}
		for _, c := range ds.Columns {
			oracle(t, c, parsed.get(c.Path))
		}
		again, err := json.Marshal(parsed)
		if err != nil {
			t.Fatal(err)
		}
		if err := ds.Check(again); err != nil {
			t.Fatalf("took %q but not %q: %v", row, again, err)
		}
	})
}

func oracle(t *testing.T, c Column, v any) {
	switch v := v.(type) {
	case nil:
		if !c.Type.Nullable && c.Default == "" {
			t.Fatalf("null in %s", c.Name)
		}
	case string:
		if c.Type.Family == Time {
			if at, err := time.Parse(TimeLayout, v); err != nil || at.Year() < 2000 {
				t.Fatalf("time %q in %s: %v", v, c.Name, err)
			}
		} else if c.Type.Family != String {
			t.Fatalf("string in %s", c.Name)
		}
	case json.Number:
		var err error
		if c.Type.Family == Uint {
			_, err = v.Int64()
		} else if c.Type.Family == Float {
			_, err = v.Float64()
		} else {
			t.Fatalf("number in %s", c.Name)
		}
		if err != nil {
			t.Fatalf("number %s in %s: %v", v, c.Name, err)
		}
	default:
		t.Fatalf("%T in %s", v, c.Name)
	}
}

// Every date of four centuries' ends is judged as package time judges it.
func TestTimesAgreeWithPackageTime(t *testing.T) {
	for year := 1999; year <= 2301; year++ {
		for month := range 14 {
			for day := range 33 {
				text := []byte{
					byte('0' + year/1000), byte('0' + year/100%10), byte('0' + year/10%10), byte('0' + year%10), '-',
					byte('0' + month/10), byte('0' + month%10), '-', byte('0' + day/10), byte('0' + day%10),
				}
				text = append(text, "T01:02:03.456Z"...)
				_, err := time.Parse(TimeLayout, string(text))
				want := err == nil && year >= 2000 && year <= 2299
				if isTime(text) != want {
					t.Fatalf("%s: %v, want %v", text, !want, want)
				}
			}
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, name := range names {
		b.Run(name, func(b *testing.B) {
			ds, row := datasource(b, name), goodRow(b, name)
			b.SetBytes(int64(len(row)))
			b.ReportAllocs()
			for b.Loop() {
				if err := ds.Check(row); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
