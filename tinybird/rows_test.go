package schema

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var names = []string{"consents_v1", "events_v1", "session_v1", "traffic_v1"}

// datasource returns an embedded datasource.
func datasource(tb testing.TB, name string) *Datasource {
	tb.Helper()
	set, err := Load()
	if err != nil {
		tb.Fatal(err)
	}
	ds, ok := set.Datasource(name)
	if !ok {
		tb.Fatalf("no datasource %s", name)
	}
	return ds
}

// goodRow returns the row of testdata that is right in every column.
func goodRow(tb testing.TB, name string) []byte {
	tb.Helper()
	row, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		tb.Fatal(err)
	}
	return bytes.TrimSuffix(row, []byte("\n"))
}

// tree is a row that can be changed by path.
type tree map[string]any

func goodTree(tb testing.TB, name string) tree {
	tb.Helper()
	var t tree
	decoder := json.NewDecoder(bytes.NewReader(goodRow(tb, name)))
	decoder.UseNumber()
	if err := decoder.Decode(&t); err != nil {
		tb.Fatal(err)
	}
	return t
}

// set puts raw JSON at a path.
func (t tree) set(path []string, raw string) tree {
	at := t.parent(path)
	at[path[len(path)-1]] = json.RawMessage(raw)
	return t
}

func (t tree) drop(path []string) tree {
	delete(t.parent(path), path[len(path)-1])
	return t
}

func (t tree) get(path []string) any { return t.parent(path)[path[len(path)-1]] }

func (t tree) parent(path []string) map[string]any {
	at := map[string]any(t)
	for _, key := range path[:len(path)-1] {
		at = at[key].(map[string]any)
	}
	return at
}

// row writes the tree. It does not use encoding/json for the values that were
// set, which may be what that package would refuse or mend.
func (t tree) row() []byte {
	var b bytes.Buffer
	write(&b, map[string]any(t))
	return b.Bytes()
}

func write(b *bytes.Buffer, v any) {
	switch v := v.(type) {
	case map[string]any:
		b.WriteByte('{')
		first := true
		for key, member := range v {
			if !first {
				b.WriteByte(',')
			}
			first = false
			b.WriteString(`"` + key + `":`)
			write(b, member)
		}
		b.WriteByte('}')
	case json.RawMessage:
		b.Write(v)
	default:
		text, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		b.Write(text)
	}
}

// wantError fails unless err is a RowError that holds all the parts.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	if _, ok := err.(*RowError); !ok {
		t.Fatalf("%T, want a *RowError: %v", err, err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Fatalf("%q does not say %q", err, part)
		}
	}
}
