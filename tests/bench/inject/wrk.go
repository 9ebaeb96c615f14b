package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/bench/internal/rig"
)

// connections that wrk keeps busy.
const connections = 32

// visitors counts those that were there before a load, and visitorsOfALoad is
// more than come in one.
var visitors atomic.Int64

const visitorsOfALoad = 1 << 20

// wrk loads one page of a running variant.
func wrk(dir string, v *running, p page, d time.Duration) (n int, took time.Duration, err error) {
	program, err := tool("wrk")
	if err != nil {
		return 0, 0, err
	}
	var request strings.Builder
	fmt.Fprintf(&request, "GET %s%s%%08x HTTP/1.1\r\nHost: %s\r\nX-Forwarded-For: %%d.%%d.%%d.%%d\r\n", p.path, rig.Query, v.server.Addr)
	if err := rig.PageHeader(v.visitor.Cookies).Write(&request); err != nil {
		return 0, 0, err
	}
	request.WriteString("\r\n")
	// Each request is another visitor's, with a click and an address of its own
	// as a proxy in front tells it: all of one address would be one visitor, or
	// several behind it, and cost something else.
	script := fmt.Sprintf(`local n, text, format, floor = %d, %q, string.format, math.floor
function request()
	n = n + 1
	return format(text, n, 60 + floor(n / 16777216), floor(n / 65536) %% 256, floor(n / 256) %% 256, n %% 256)
end
function done(summary, latency, requests)
	local e = summary.errors
	io.write(format('\nRESULT {"requests":%%d,"micros":%%d,"bytes":%%d,"status":%%d,"failed":%%d}\n',
		summary.requests, summary.duration, summary.bytes, e.status, e.connect + e.read + e.write + e.timeout))
end
`, visitors.Add(visitorsOfALoad), request.String())
	path := filepath.Join(dir, "wrk.lua")
	if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
		return 0, 0, err
	}
	out, err := exec.Command(program, "-t1", fmt.Sprintf("-c%d", connections), fmt.Sprintf("-d%ds", int(d.Seconds())),
		"-s", path, "http://"+v.server.Addr+p.path).CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("wrk on %s: %w\n%s", v.name, err, out)
	}
	_, result, _ := strings.Cut(string(out), "\nRESULT ")
	var r struct{ Requests, Micros, Bytes, Status, Failed int }
	if err := json.Unmarshal([]byte(result), &r); err != nil {
		return 0, 0, fmt.Errorf("wrk on %s: its result can't be read: %w\n%s", v.name, err, out)
	}
	// wrk counts answers of 400 and more; a redirect would be shorter than the
	// page, even with the whole script.
	if r.Status > 0 || r.Failed > 0 || r.Bytes < r.Requests*len(body(p.size)) {
		return 0, 0, fmt.Errorf("wrk on %s: of %d answers with %d bytes of page %s, %d had a bad status and %d failed", v.name, r.Requests, r.Bytes, p.path, r.Status, r.Failed)
	}
	return r.Requests, time.Duration(r.Micros) * time.Microsecond, nil
}
