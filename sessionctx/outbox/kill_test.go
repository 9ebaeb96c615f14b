//go:build unix

package outbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestKilledProcess ends a real process by SIGKILL while 16 producers append:
// every row that it said was durable is there, and its lock is gone.
func TestKilledProcess(t *testing.T) {
	const variable = "OUTBOX_TEST_VICTIM"
	if dir := os.Getenv(variable); dir != "" {
		victim(dir)
	}
	dir := t.TempDir()
	said := map[string]bool{}
	for life := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$")
		cmd.Env = append(os.Environ(), variable+"="+dir, fmt.Sprintf("OUTBOX_TEST_LIFE=%d", life))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		before := len(said)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if len(said) == before {
				if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) {
					t.Errorf("open beside a living process: %v", err)
				}
			}
			if l := lines.Text(); strings.HasSuffix(l, "}") {
				said[l] = true
			}
			if len(said) == before+500 {
				cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
		if len(said) < before+500 {
			t.Fatalf("the process said only %d rows", len(said)-before)
		}
	}
	o, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	got := contents(t, o, "events_v1")
	for row := range said {
		if !got[row] {
			t.Errorf("lost: %s", row)
		}
	}
	if st := o.Stats(); st.Damaged != 0 {
		t.Errorf("%d damaged lines", st.Damaged)
	}
}

func victim(dir string) {
	o, err := Open(dir, Options{SegmentRows: 100})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	time.AfterFunc(30*time.Second, func() { os.Exit(1) })
	var out sync.Mutex
	var all sync.WaitGroup
	for g := range 16 {
		all.Go(func() {
			for i := 0; ; i++ {
				r := Row{"events_v1", fmt.Appendf(nil, `{"id":"%s-%d-%d"}`, os.Getenv("OUTBOX_TEST_LIFE"), g, i)}
				if err := o.Append(context.Background(), r); err != nil {
					os.Exit(1)
				}
				out.Lock()
				fmt.Println(string(r.JSON))
				out.Unlock()
			}
		})
	}
	all.Wait()
}
