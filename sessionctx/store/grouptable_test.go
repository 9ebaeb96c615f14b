package store

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// A groupTable is a map, whatever is done to it, and takes no more than twice
// what lives in it.
func TestGroupTableIsAMap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var table groupTable
	want := map[string]string{}
	hash := func(key string) uint64 { return uint64(len(key))<<32 | uint64(key[0])<<8 | uint64(key[len(key)-1]) }
	living := func() (n int) {
		for k, v := range want {
			n += groupHead + len(k) + len(v)
		}
		return n
	}
	for step := range 50_000 {
		key := fmt.Sprintf("%c%0*d", 'a'+random.IntN(20), random.IntN(5), random.IntN(10))
		got, clash := table.get(hash(key), key)
		if _, known := want[key]; clash && known {
			t.Fatalf("step %d: %q is lost", step, key)
		} else if !clash && string(got) != want[key] {
			t.Fatalf("step %d: %q is %q, want %q", step, key, got, want[key])
		}
		if !clash {
			members := fmt.Sprintf("%0*d", 1+random.IntN(200), step)
			table.set(hash(key), key, []byte(members))
			want[key] = members
		}
		if step%1000 == 999 {
			table.deleteFunc(func(key, members []byte) bool {
				if random.IntN(2) > 0 {
					return false
				}
				if want[string(key)] != string(members) {
					t.Fatalf("%q is %q, want %q", key, members, want[string(key)])
				}
				delete(want, string(key))
				return true
			})
			all := map[string]string{}
			table.each(func(key, members []byte) { all[string(key)] = string(members) })
			if !maps.Equal(all, want) {
				t.Fatalf("step %d: %d groups, want %d", step, len(all), len(want))
			}
		}
		if most := 2*living() + 2*compactAt; len(table.b) > most {
			t.Fatalf("step %d: %d bytes, want at most %d", step, len(table.b), most)
		}
	}
	table.deleteFunc(func(_, _ []byte) bool { return true })
	if table.at != nil || table.b != nil {
		t.Errorf("an empty table keeps %d bytes", cap(table.b))
	}
}

// Two keys of one hash are told apart: the later one has no group.
func TestGroupTableClash(t *testing.T) {
	var table groupTable
	table.set(7, "a", []byte("of a"))
	if got, clash := table.get(7, "b"); !clash || got != nil {
		t.Errorf("b is %q, %v", got, clash)
	}
	if got, clash := table.get(7, "a"); clash || string(got) != "of a" {
		t.Errorf("a is %q, %v", got, clash)
	}
}
