package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/bench/internal/rig"
)

// profileTime is how long the CPU is watched.
const profileTime = 30 * time.Second

// profile writes profiles of each variant with everything on, under load, as
// Caddy's admin API makes them.
func (b *bench) profile(to string, p page) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	d := profileTime
	if os.Getenv("BENCH_TIME") != "" {
		d = b.Round
	}
	list, stop, err := b.start(p, func(v variant) bool { return v.kind == everything })
	defer stop()
	if err != nil {
		return err
	}
	for i, v := range list {
		progress("%s, %s: %v", v.name, p.name, d)
		loaded := make(chan error, 1)
		go func() {
			_, _, err := wrk(b.dir, v, p, d+2*time.Second)
			loaded <- err
		}()
		pprof := "http://" + v.server.Admin + "/debug/pprof/"
		cpu, err := rig.Get(fmt.Sprintf("%sprofile?seconds=%d", pprof, int(d.Seconds())))
		if loadErr := <-loaded; err == nil {
			err = loadErr
		}
		if err != nil {
			return err
		}
		allocs, err := rig.Get(pprof + "allocs")
		if err != nil {
			return err
		}
		name := []string{"consent-asked", "new-visitor", "known-visitor"}[i]
		for kind, profile := range map[string][]byte{"cpu": cpu, "allocs": allocs} {
			path := filepath.Join(to, name+"."+kind+".pprof")
			if err := os.WriteFile(path, profile, 0o644); err != nil {
				return err
			}
			fmt.Println(path)
		}
	}
	return nil
}
