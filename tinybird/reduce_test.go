package schema

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestReferenceRowsHaveTheReferencesColumnsAsTheyStood(t *testing.T) {
	for _, name := range names {
		ds := datasource(t, name)
		row := goodRow(t, name)
		got, err := ds.ReferenceRows(append(append(bytes.Clone(row), '\n'), row...))
		if !ds.HasReference() {
			if err == nil || !strings.Contains(err.Error(), "the reference has no such datasource") {
				t.Errorf("%s: %s, %v", name, got, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		lines := bytes.Split(got, []byte("\n"))
		if len(lines) != 2 || !bytes.Equal(lines[0], lines[1]) {
			t.Fatalf("%s: two equal rows became %q", name, got)
		}
		reduced(t, ds, row, lines[0])
	}
}

// reduced holds a reduced row against the row that it was made of.
func reduced(t *testing.T, ds *Datasource, row, got []byte) {
	t.Helper()
	if err := ds.CheckReference(got); err != nil {
		t.Fatalf("%q became %q: %v", row, got, err)
	}
	parse := func(row []byte) (parsed tree) {
		decoder := json.NewDecoder(bytes.NewReader(row))
		decoder.UseNumber()
		if err := decoder.Decode(&parsed); err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	was, is := parse(row), parse(got)
	for _, c := range ds.Columns {
		if c.Reference && !reflect.DeepEqual(was.get(c.Path), is.get(c.Path)) {
			t.Errorf("%s: %v became %v", c.Name, was.get(c.Path), is.get(c.Path))
		}
	}
}

func TestWhatIsNoRowIsNotReduced(t *testing.T) {
	ds := datasource(t, "events_v1")
	for _, row := range []string{
		"", "x", "{", `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{"a":"`, `{"a":{"b":[1,"}"`, `{a:1}`, `[1]`, `{"timestamp"x}`, "{\"a\":1\n}",
	} {
		if got, err := ds.ReferenceRows([]byte(row + "\n")); err == nil {
			t.Errorf("%q became %q", row, got)
		}
	}
	got, err := ds.ReferenceRows([]byte(`{"x": {"y":[1, "]}" ,{}],"z":"\"}"} , "id" : "a\"b\u00e9" ,"w":[],"v":-1.5e3,"environment":null,"u":true}` + "\n"))
	if want := `{"id":"a\"b\u00e9","environment":null}` + "\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

// Whatever Check takes is reduced to what CheckReference takes, and again to the
// same.
func FuzzReferenceRows(f *testing.F) {
	for i, name := range names {
		f.Add(uint8(i), goodRow(f, name))
	}
	f.Add(uint8(1), []byte(`{"a":[{"b":"\\\""}],"id":"x"}`))
	f.Fuzz(func(t *testing.T, which uint8, row []byte) {
		ds := datasource(t, names[int(which)%len(names)])
		got, err := ds.ReferenceRows(row)
		if !ds.HasReference() || ds.Check(row) != nil {
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", row, err)
		}
		reduced(t, ds, row, got)
		if again, err := ds.ReferenceRows(got); err != nil || !bytes.Equal(again, got) {
			t.Fatalf("%q became %q, then %q, %v", row, got, again, err)
		}
	})
}
