package store

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
)

// The size of a sealed session state.
var benchValue = make([]byte, 400)

// clients runs b.N operations by 64 concurrent clients, one in ten of them
// with a number that was used before.
func clients(b *testing.B, f func(key string)) {
	b.Helper()
	var seq atomic.Int64
	b.SetParallelism(max(1, 64/runtime.GOMAXPROCS(0)))
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := seq.Add(1)
			if n%10 == 0 {
				n -= 9
			}
			f(strconv.FormatInt(n*0x9e3779b1%(1<<40), 36))
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "claims/s")
}

// Beside what the engines below can do, interleaved: make bench-store.
func BenchmarkClaimEmbedded(b *testing.B) {
	s := openAt(b, filepath.Join(b.TempDir(), "store.db"), Options{})
	clients(b, func(key string) {
		if _, _, err := s.Claim(ctx, key, benchValue, long); err != nil {
			b.Error(err)
		}
	})
	b.ReportMetric(float64(b.N)/float64(s.Stats().Commits), "claims/commit")
}

func BenchmarkClaimRedis(b *testing.B) {
	s := startServer(b).open(b, RedisOptions{})
	clients(b, func(key string) {
		if _, _, err := s.Claim(ctx, key, benchValue, long); err != nil {
			b.Error(err)
		}
	})
}

func BenchmarkGetEmbedded(b *testing.B) {
	s := openAt(b, filepath.Join(b.TempDir(), "store.db"), Options{})
	for i := range 10_000 {
		s.Put(fmt.Sprint(i), benchValue, long)
	}
	must(b, s.Delete(ctx, "flush"))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if _, err := s.Get(ctx, strconv.Itoa(i%10_000)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPutEmbedded(b *testing.B) {
	s := openAt(b, filepath.Join(b.TempDir(), "store.db"), Options{})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		s.Put(strconv.Itoa(i%10_000), benchValue, long)
	}
}

func BenchmarkNextEmbedded(b *testing.B) {
	s := openAt(b, filepath.Join(b.TempDir(), "store.db"), Options{})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if _, err := s.Next(ctx, strconv.Itoa(i%1000), 1, long); err != nil {
			b.Fatal(err)
		}
	}
}
