package tests

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const (
	// hugePage is far more than may ever be held of a page.
	hugePage = 200 << 20
	// warmPage goes before: what every page needs is there then.
	warmPage = 8 << 20
	// mayGrow is for a garbage collector that is late. One page that is held
	// whole is over ten times that.
	mayGrow = 16 << 20

	pagePiece = 64 << 10
)

// TestMemoryOfAHugePage: a page of any length takes no more memory than a short
// one, whoever makes it. The kernel tells how much the process ever had.
func TestMemoryOfAHugePage(t *testing.T) {
	t.Parallel()
	// The race detector keeps notes about memory, in memory.
	plain := filepath.Join(t.TempDir(), "caddy")
	build := exec.Command("go", "build", "-tags", "nobadger,nomysql,nopgx", "-o", plain, "../xcaddy")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building a Caddy without the race detector: %v\n%s", err, out)
	}
	first, later := pagePieces()
	zipped := [][]byte{gzipped(t, first), gzipped(t, later)}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pieces := [][]byte{first, later}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if strings.HasPrefix(r.URL.Path, "/gzip/") {
			w.Header().Set("Content-Encoding", "gzip")
			// A body of several gzip members is as good as one.
			pieces = zipped
		}
		size, _ := strconv.Atoi(filepath.Base(r.URL.Path))
		for n := 0; n < size; n += pagePiece {
			if _, err := w.Write(pieces[min(n, 1)]); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	}))
	t.Cleanup(upstream.Close)

	for name, path := range map[string]string{
		"reverse_proxy, length unknown": "/stream/",
		"reverse_proxy, gzip decoded":   "/gzip/",
		"file_server":                   "/file/",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCaddy(t)
			c.exe = plain
			for _, size := range []int64{warmPage, hugePage} {
				writePage(t, c, filepath.Join("file", strconv.FormatInt(size, 10)), string(first))
				// The rest is a hole: it takes no room on the disk.
				if err := os.Truncate(c.path(fmt.Sprintf("www/file/%d", size)), size); err != nil {
					t.Fatal(err)
				}
			}
			c.write(globals("") + `
SITE {
	` + campaignBlock + `
	handle /file/* {
		root DIR/www
		header Content-Type "text/html; charset=utf-8"
		file_server
	}
	handle {
		reverse_proxy ` + strings.TrimPrefix(upstream.URL, "http://") + `
	}
}
`)
			c.start()
			for range 3 {
				c.stream(fmt.Sprint(path, warmPage), warmPage)
			}
			before := c.peakMemory()
			c.stream(fmt.Sprint(path, hugePage), hugePage)
			after := c.peakMemory()
			t.Logf("peak %d KiB, then %d KiB", before>>10, after>>10)
			if grown := after - before; grown >= mayGrow {
				t.Errorf("a page of %d MiB made the process grow by %d KiB, from %d KiB", hugePage>>20, grown>>10, before>>10)
			}
		})
	}
}

// pagePieces are the first pagePiece bytes of a page, and all further ones.
func pagePieces() (first, later []byte) {
	later = bytes.Repeat(fmt.Appendf(nil, "%-63s\n", "<p>The quick brown fox jumps over the lazy dog."), pagePiece/64)
	const head = "<!doctype html><html><head><title>x</title></head><body>\n"
	first = append([]byte(head), later[:pagePiece-len(head)]...)
	return first, later
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// stream reads a page of so many bytes, without keeping it, and fails the test
// unless it is whole and has its script.
func (c *caddy) stream(path string, size int64) {
	c.t.Helper()
	req, err := http.NewRequest("GET", c.site+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", desktop)
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	first := make([]byte, pagePiece)
	if _, err := io.ReadFull(res.Body, first); err != nil {
		c.t.Fatal(err)
	}
	rest, err := io.Copy(io.Discard, res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	script := len(first) - len(withoutScript(c.t, string(first)))
	if got := int64(len(first)) + rest - int64(script); res.StatusCode != 200 || got != size {
		c.t.Fatalf("%s: status %d, %d bytes beside the script, want %d", path, res.StatusCode, got, size)
	}
}

// peakMemory is the most that the process ever had in memory.
func (c *caddy) peakMemory() int64 {
	c.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				c.t.Fatal(err)
			}
			return kib << 10
		}
	}
	c.t.Fatal("the kernel does not tell VmHWM")
	return 0
}
