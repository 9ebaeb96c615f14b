package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTwoProcessesAcrossARotation: while a key comes into force under two
// processes on one storage, each takes what the other makes, and what either
// made before. A key waits ten minutes for that moment; here it is brought
// nearer in the ring as it lies in storage.
func TestTwoProcessesAcrossARotation(t *testing.T) {
	t.Parallel()
	a, b, storage := twoNodes(t)
	for _, c := range []*caddy{a, b} { // it is asked again and again
		text, err := os.ReadFile(c.path("Caddyfile"))
		if err != nil {
			t.Fatal(err)
		}
		c.write(strings.Replace(string(text), "debug", "rate_limit 100000 100000", 1))
	}
	a.start()
	eventually(t, 20*time.Second, "the ring is there", func() error {
		_, err := os.Stat(filepath.Join(storage, "session_context", "keys.json"))
		return err
	})
	b.start()
	nodes := []*caddy{a, b}
	before := newVisitor(t, a.site, desktop, true)
	old := before.visit("/")
	a.mustKeys("rotate")
	a.mustKeys("rotate", "--user")

	// Both have to have read it in time, as they do in ten minutes.
	var inForce time.Time
	for wait := 15 * time.Second; ; wait *= 2 {
		inForce = time.Now().Add(wait)
		bringNearer(t, filepath.Join(storage, "session_context", "keys.json"), inForce)
		stamp := inForce.UTC().Format("2006-01-02T15:04:05Z")
		eventually(t, time.Minute, "both have read the ring", func() error {
			for _, c := range nodes {
				if out := c.mustKeys("list"); strings.Count(out, stamp) < 2 {
					return fmt.Errorf("no key of %s among\n%s", stamp, out)
				}
			}
			return nil
		})
		if time.Until(inForce) > 5*time.Second {
			break
		}
	}
	made := map[string]bool{} // ids of the keys that tokens were sealed with
	after := 0
	for after < 3 {
		now := time.Now().After(inForce)
		for i, c := range nodes {
			v := newVisitor(t, c.site, desktop, true)
			s := v.visit("/")
			id, _, _ := strings.Cut(s.Session.Token, ".")
			made[id] = true
			if err := nodes[1-i].knows(v, s); err != nil {
				t.Fatalf("after %d keys: what one made, the other refuses: %v", len(made), err)
			}
			if err := c.knows(before, old); err != nil {
				t.Fatalf("after %d keys: of before the rotation: %v", len(made), err)
			}
		}
		if now {
			after++
		}
	}
	if len(made) != 2 {
		t.Errorf("tokens were made with %d keys, want the one before and the one after", len(made))
	}
}

// bringNearer sets when the newest keys of the ring come into force.
func bringNearer(t *testing.T, path string, at time.Time) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var ring map[string]any
	if err := json.Unmarshal(b, &ring); err != nil {
		t.Fatal(err)
	}
	for _, use := range []string{"keys", "user_id_keys"} {
		keys := ring[use].([]any)
		if len(keys) != 2 {
			t.Fatalf("%d %s", len(keys), use)
		}
		keys[1].(map[string]any)["not_before"] = at.UnixMilli()
	}
	if b, err = json.Marshal(ring); err != nil {
		t.Fatal(err)
	}
	// As a storage does it: nobody reads half of it.
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
