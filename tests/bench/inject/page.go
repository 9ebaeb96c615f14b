package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/bench/internal/rig"
)

// page is one that every variant serves.
type page struct {
	name string
	path string
	size int
	// rate is the least share of the pass-through's requests a second that
	// everything on has to reach; 0 where nothing is asked for.
	rate float64
}

const (
	known   = "known"  // the upstream sends Content-Length
	unknown = "stream" // it flushes chunks instead
	file    = "file"   // Caddy's file_server, or nginx itself, reads it
)

func makePage(size int, from string, rate float64) page {
	name := fmt.Sprintf("%d KB", size>>10)
	if size >= 1<<20 {
		name = fmt.Sprintf("%d MB", size>>20)
	}
	switch from {
	case known:
		name += ", known length"
	case unknown:
		name += ", unknown length"
	default:
		name += ", a file"
	}
	return page{name: name, path: fmt.Sprintf("/%s/%d.html", from, size), size: size, rate: rate}
}

// pages are those to measure.
func pages(full bool) (list []page) {
	list = []page{makePage(10<<10, known, 0.85), makePage(100<<10, known, 0.90)}
	if full {
		list = append(list,
			makePage(1<<20, known, 0.97),
			makePage(10<<10, unknown, 0.85), makePage(100<<10, unknown, 0.90), makePage(1<<20, unknown, 0.97),
			makePage(100<<10, file, 0))
	}
	return list
}

// action is what the variant with templates executes; to all others it is text.
const action = `{{env "BENCH_ACTION"}}`

// body is a landing page of about so many bytes.
func body(size int) []byte {
	var b bytes.Buffer
	b.WriteString("<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n<title>Landing</title>\n<link rel=stylesheet href=/style.css>\n</head>\n<body>\n<p>" + action + "</p>\n")
	for b.Len() < size-100 {
		b.WriteString("<section class=feature><h2>A heading</h2><p>Some text of a landing page.</p></section>\n")
	}
	b.WriteString("</body>\n</html>\n")
	return b.Bytes()
}

// writeFiles puts the file_server's pages under root.
func writeFiles(root string, list []page) error {
	dir := filepath.Join(root, file)
	// nginx's worker may be another user.
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range list {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(p.path)), body(p.size), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// upstreamArg makes this program the upstream, on the address that follows. It
// is a process of its own so that its CPU time is not the proxy's.
const upstreamArg = "upstream"

func startUpstream() (*rig.Server, error) {
	addr, err := rig.FreeAddr()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return rig.Start(exec.Command(self, upstreamArg, addr), addr, "")
}

// chunk is what the upstream flushes at a time.
const chunk = 8 << 10

func serveUpstream(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	bodies := map[string][]byte{}
	for _, p := range pages(true) {
		bodies[p.path] = body(p.size)
	}
	server := http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, found := bodies[r.URL.Path]
		if !found {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if strings.HasPrefix(r.URL.Path, "/"+known+"/") {
			w.Header().Set("Content-Length", strconv.Itoa(len(page)))
			_, _ = w.Write(page)
			return
		}
		flush := http.NewResponseController(w)
		for len(page) > 0 {
			n := min(len(page), chunk)
			if _, err := w.Write(page[:n]); err != nil {
				return
			}
			_ = flush.Flush()
			page = page[n:]
		}
	})}
	return server.Serve(l)
}
