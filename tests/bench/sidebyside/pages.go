package main

import (
	"fmt"
	"time"
)

// benchPages compares pages with everything on to pass-through.
func benchPages(s setting, plain, full *server) error {
	_, cookies, err := visit(full.addr)
	if err != nil {
		return err
	}
	fmt.Println("Pages (reverse_proxy, 32 connections); new: a paid visit by somebody new each, known: somebody with cookies")
	fmt.Printf("%-12s %-20s %-22s %-18s %-14s %-12s\n", "page", "req/s, of plain", "CPU µs/req, more", "ratio of CPU", "mallocs more", "KB more")
	for _, page := range []struct{ name, path, cookies string }{
		{"10k new", "/10k", ""}, {"10k known", "/10k", cookies},
		{"100k new", "/100k", ""}, {"100k known", "/100k", cookies},
	} {
		var a, b []sample
		for range s.rounds {
			for _, v := range []struct {
				server *server
				to     *[]sample
			}{{plain, &a}, {full, &b}} {
				req := pageRequest(v.server.addr, page.path, page.cookies)
				one, err := v.server.measure(s.round, func(d time.Duration) (int, error) {
					return load(v.server.addr, 32, d, func(_, _ int, dst []byte) []byte { return append(dst, req...) })
				})
				if err != nil {
					return err
				}
				*v.to = append(*v.to, one)
			}
		}
		ratio := func(figure func(sample) float64) (float64, float64, float64) {
			r := make([]sample, len(a))
			for i := range a {
				r[i].perSecond = figure(b[i]) / figure(a[i])
			}
			return median(r, func(s sample) float64 { return s.perSecond })
		}
		speed, slow, fast := ratio(func(s sample) float64 { return s.perSecond })
		cpu, low, high := ratio(func(s sample) float64 { return s.cpu })
		cpuPlain, _, _ := median(a, func(s sample) float64 { return s.cpu })
		cpuFull, _, _ := median(b, func(s sample) float64 { return s.cpu })
		mallocsPlain, _, _ := median(a, func(s sample) float64 { return s.mallocs })
		mallocsFull, _, _ := median(b, func(s sample) float64 { return s.mallocs })
		bytesPlain, _, _ := median(a, func(s sample) float64 { return s.bytes })
		bytesFull, _, _ := median(b, func(s sample) float64 { return s.bytes })
		fmt.Printf("%-12s %-20s %-22s %-18s %-14.0f %-12.1f\n", page.name,
			fmt.Sprintf("%.2f (%.2f–%.2f)", speed, slow, fast),
			fmt.Sprintf("%.0f → %.0f, +%.0f", cpuPlain, cpuFull, cpuFull-cpuPlain),
			fmt.Sprintf("%.2f (%.2f–%.2f)", cpu, low, high),
			mallocsFull-mallocsPlain, (bytesFull-bytesPlain)/1024)
	}
	fmt.Println()
	return nil
}
