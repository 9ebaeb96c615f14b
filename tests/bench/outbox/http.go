package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/bench/internal/rig"
)

// connections post at the same time.
const connections = 64

// site answers posts and shows a page; with the directive before, the posts
// never get here.
const site = `	handle /client-api/* {
		header Content-Type application/json
		respond "{\"success\":true,\"data\":{}}"
	}
	handle {
		header Content-Type "text/html; charset=utf-8"
		respond "<!doctype html><html><head><title>x</title></head><body>x</body></html>"
	}`

// measureHTTP compares durable event posts to a static answer to the same
// posts by the same Caddy.
func (b *bench) measureHTTP() error {
	binary, err := rig.BuildCaddy(b.dir, "xcaddy")
	if err != nil {
		return err
	}
	plain, err := rig.StartCaddy(binary, filepath.Join(b.dir, "plain"), site)
	if err != nil {
		return err
	}
	defer plain.Stop()
	full, err := rig.StartCaddy(binary, filepath.Join(b.dir, "full"), rig.EverythingOn("")+site)
	if err != nil {
		return err
	}
	defer full.Stop()
	visitor, err := rig.Visit(full.Addr, "/")
	if err != nil {
		return err
	}
	var static, durable []rig.Sample
	var rates, cpus []float64
	for range b.Rounds {
		one, err := post(plain, b.Round, visitor)
		if err != nil {
			return err
		}
		two, err := post(full, b.Round, visitor)
		if err != nil {
			return err
		}
		static, durable = append(static, one), append(durable, two)
		rates, cpus = append(rates, two.PerSecond/one.PerSecond), append(cpus, two.CPU/one.CPU)
	}
	rate, used := rig.Median(rates), rig.Median(cpus)
	fmt.Printf("\n**Over HTTP**, events/track with a token, %d connections, each answered after its sync\n\n| | requests/s | CPU µs a request | mallocs |\n|---|---|---|---|\n", connections)
	for _, v := range []struct {
		name    string
		samples []rig.Sample
	}{{"static 200", static}, {"durable", durable}} {
		fmt.Printf("| %s | %s | %s | %.0f |\n", v.name, rig.MedianOf(v.samples, perSecond).Text(0), rig.MedianOf(v.samples, cpu).Text(1), rig.MedianOf(v.samples, mallocs).Mid)
	}
	fmt.Printf("| durable of static | %s | %s | |\n", rate.Text(2), used.Text(2))
	b.Bar("durable posts ≥ 0.45 of a static 200's requests/s", rate.Text(2), rate.Mid >= 0.45)
	b.Bar("CPU a durable post ≤ 2.2 of a static 200's", used.Text(2), used.Mid <= 2.2)
	if err := b.measureLatency(full, visitor, rig.MedianOf(durable, perSecond).Mid/2); err != nil {
		return err
	}
	return b.profile(full, visitor)
}

func perSecond(s rig.Sample) float64 { return s.PerSecond }
func cpu(s rig.Sample) float64       { return s.CPU }
func mallocs(s rig.Sample) float64   { return s.Mallocs }

// measureLatency posts at half of the most, by the clock, and counts from when
// a post was due.
func (b *bench) measureLatency(full *rig.Server, who rig.Visitor, rate float64) error {
	var acks, syncs []time.Duration
	for range b.Rounds {
		disk, err := rawWrites(b.fresh("single"), recordSize, b.Round/2)
		if err != nil {
			return err
		}
		some, err := pace(full.Addr, connections, b.Round, rate, eventPosts(full, who))
		if err != nil {
			return err
		}
		syncs, acks = append(syncs, disk.each...), append(acks, some...)
	}
	fmt.Printf("\n**Latency at half load**, %.0f posts/s, in ms\n\n| | p50 | p99 |\n|---|---|---|\n", rate)
	fmt.Printf("| one row's write and fdatasync, nothing else going on | %.2f | %.2f |\n", quantile(syncs, 0.5), quantile(syncs, 0.99))
	fmt.Printf("| acknowledgement, from when it was due | %.2f | %.2f |\n", quantile(acks, 0.5), quantile(acks, 0.99))
	return nil
}

// eventPosts are posts of an event each, by a browser with its cookies.
func eventPosts(server *rig.Server, who rig.Visitor) func(conn, seq int, dst []byte) []byte {
	return func(conn, seq int, dst []byte) []byte {
		body := fmt.Appendf(nil, `{"token":"%s","event_id":"click","event_type":"engagement","event_value":1,"page_url":"https://lp.example.com/","event_uuid":"%d-%d-%d"}`,
			who.Token, time.Now().UnixNano(), conn, seq)
		dst = fmt.Appendf(dst, "POST /client-api/v1/events/track HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nContent-Type: application/json\r\nOrigin: http://%s\r\nCookie: %s\r\nContent-Length: %d\r\n\r\n",
			server.Addr, rig.Agent, server.Addr, who.Cookies, len(body))
		return append(dst, body...)
	}
}

// post loads a server with events for a round.
func post(server *rig.Server, round time.Duration, who rig.Visitor) (rig.Sample, error) {
	return server.Measure(func() (int, time.Duration, error) {
		began := time.Now()
		n, err := load(server.Addr, connections, round, eventPosts(server, who))
		return n, time.Since(began), err
	})
}

// profile shows where the time of a durable post goes.
func (b *bench) profile(full *rig.Server, who rig.Visitor) error {
	d := 5 * b.Round
	loaded := make(chan error, 1)
	go func() {
		_, err := load(full.Addr, connections, d+time.Second, eventPosts(full, who))
		loaded <- err
	}()
	profile, err := rig.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", full.Admin, int(d.Seconds())))
	if loadErr := <-loaded; err == nil {
		err = loadErr
	}
	if err != nil {
		return err
	}
	path := filepath.Join(b.dir, "cpu.pprof")
	if err := os.WriteFile(path, profile, 0o600); err != nil {
		return err
	}
	top, err := exec.Command("go", "tool", "pprof", "-top", "-cum", "-nodecount", "45", path).Output()
	if err != nil {
		return fmt.Errorf("reading the profile: %w", err)
	}
	if to := os.Getenv("BENCH_PROFILE"); to != "" {
		if err := os.WriteFile(to, profile, 0o644); err != nil {
			return err
		}
	}
	fmt.Printf("\n**Where the CPU of a durable post goes**, by function with what it calls\n\n```\n%s```\n", shorten(string(top)))
	return nil
}

// shorten leaves the names of packages without their hosts and paths.
func shorten(profile string) string {
	return strings.NewReplacer("github.com/firebuzz/caddy-sessionctx/", "", "github.com/caddyserver/caddy/v2/", "caddy/").Replace(profile)
}
