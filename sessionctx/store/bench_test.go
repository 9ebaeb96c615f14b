package store

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/redis/rueidis"
	bolt "go.etcd.io/bbolt"
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

func BenchmarkClaimEmbedded(b *testing.B) {
	s := openAt(b, filepath.Join(b.TempDir(), "store.db"), Options{})
	clients(b, func(key string) {
		if _, _, err := s.Claim(ctx, key, benchValue, long); err != nil {
			b.Error(err)
		}
	})
	b.ReportMetric(float64(b.N)/float64(s.Stats().Commits), "claims/commit")
}

// BenchmarkClaimRawBbolt is the anchor: one bucket, one goroutine that makes
// a transaction of whatever waits, no expiry, no checksum.
func BenchmarkClaimRawBbolt(b *testing.B) {
	db, err := bolt.Open(filepath.Join(b.TempDir(), "raw.db"), 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType})
	must(b, err)
	defer db.Close()
	bucket := []byte("b")
	must(b, db.Update(func(tx *bolt.Tx) error { _, err := tx.CreateBucket(bucket); return err }))
	type request struct {
		key  string
		done chan bool
	}
	requests := make(chan request, 128)
	var commits atomic.Int64
	go func() {
		for first := range requests {
			group := []request{first}
			for len(requests) > 0 {
				group = append(group, <-requests)
			}
			won := make([]bool, len(group))
			must(b, db.Update(func(tx *bolt.Tx) error {
				bk := tx.Bucket(bucket)
				for i, r := range group {
					if bk.Get([]byte(r.key)) == nil {
						won[i] = true
						if err := bk.Put([]byte(r.key), benchValue); err != nil {
							return err
						}
					}
				}
				return nil
			}))
			commits.Add(1)
			for i, r := range group {
				r.done <- won[i]
			}
		}
	}()
	clients(b, func(key string) {
		r := request{key, make(chan bool, 1)}
		requests <- r
		<-r.done
	})
	b.ReportMetric(float64(b.N)/float64(commits.Load()), "claims/commit")
	close(requests)
}

func BenchmarkClaimRedis(b *testing.B) {
	s := startServer(b).open(b, RedisOptions{})
	clients(b, func(key string) {
		if _, _, err := s.Claim(ctx, key, benchValue, long); err != nil {
			b.Error(err)
		}
	})
}

func BenchmarkClaimRawRueidis(b *testing.B) {
	c := startServer(b).raw(b)
	value := rueidis.BinaryString(benchValue)
	clients(b, func(key string) {
		err := c.Do(ctx, c.B().Set().Key(key).Value(value).Nx().Get().Px(long).Build()).Error()
		if err != nil && !rueidis.IsRedisNil(err) {
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
