package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// reduceNaively is what ReferenceRows makes of a row, by encoding/json.
func reduceNaively(t *testing.T, n *node, row []byte) string {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(row))
	if _, err := decoder.Token(); err != nil {
		t.Fatalf("%s: %v", row, err)
	}
	var kept []string
	for decoder.More() {
		begin := decoder.InputOffset()
		key, err := decoder.Token()
		if err != nil {
			t.Fatalf("%s: %v", row, err)
		}
		text := strings.TrimLeft(string(row[begin:decoder.InputOffset()]), " \t,")
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			t.Fatalf("%s: %v", row, err)
		}
		child := n.children[key.(string)]
		if child == nil {
			continue
		}
		if child.column == nil {
			value = json.RawMessage(reduceNaively(t, child, value))
		}
		kept = append(kept, text+":"+string(value))
	}
	return "{" + strings.Join(kept, ",") + "}"
}

// rows makes rows that are JSON, and hard to read.
type rows struct{ *rand.Rand }

func (r rows) space() string { return []string{"", "", " ", "\t", "  "}[r.IntN(5)] }

func (r rows) list(open, end string, items []string) string {
	between := r.space() + "," + r.space()
	return open + r.space() + strings.Join(items, between) + r.space() + end
}

func (r rows) text() string {
	parts := []string{"a", `\"`, `\\`, "é", "😀", `\u00e9`, `\ud83d\ude00`, "}", "{", "]", ",", ":", `\n`, `\/`, " "}
	s := `"`
	for range r.IntN(8) {
		s += parts[r.IntN(len(parts))]
	}
	return s + `"`
}

func (r rows) value(depth int) string {
	if depth > 3 {
		return r.text()
	}
	var items []string
	switch r.IntN(7) {
	case 0:
		return []string{"null", "true", "false"}[r.IntN(3)]
	case 1: // more digits than a float64 has
		return fmt.Sprintf("-%d%d.%de+%d", r.Int64(), r.Int64(), r.Uint32(), r.IntN(300))
	case 2:
		for range r.IntN(4) {
			items = append(items, r.value(depth+1))
		}
		return r.list("[", "]", items)
	case 3:
		for range r.IntN(4) {
			items = append(items, r.text()+r.space()+":"+r.space()+r.value(depth+1))
		}
		return r.list("{", "}", items)
	}
	return r.text()
}

// object has some of a plan's keys, written in one way or another, some of them
// twice, and others.
func (r rows) object(n *node) string {
	names := slices.Sorted(maps.Keys(n.children))
	var items []string
	for range 12 {
		key, value := r.text(), r.value(0)
		if r.IntN(3) > 0 {
			name := names[r.IntN(len(names))]
			if key = `"` + name + `"`; r.IntN(4) == 0 {
				key = fmt.Sprintf(`"\u%04x%s"`, name[0], name[1:])
			}
			if child := n.children[name]; child.column == nil {
				value = r.object(child)
			}
		}
		items = append(items, key+r.space()+":"+r.space()+value)
	}
	return r.list("{", "}", items)
}

// TestReferenceRowsAreWhatANaiveReaderKeeps: byte for byte, in whatever way a
// row is written.
func TestReferenceRowsAreWhatANaiveReaderKeeps(t *testing.T) {
	r := rows{rand.New(rand.NewPCG(7, 11))}
	for i := range 3000 {
		ds := datasource(t, names[i%len(names)])
		if !ds.HasReference() {
			continue
		}
		row := []byte(r.object(ds.reference.root))
		want := reduceNaively(t, ds.reference.root, row)
		if got, err := ds.ReferenceRows(row); err != nil || string(got) != want {
			t.Fatalf("%s\nrow  %s\ngot  %s, %v\nwant %s", ds.Name, row, got, err, want)
		}
	}
}
