package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	bolt "go.etcd.io/bbolt"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/store"
	"github.com/firebuzz/caddy-sessionctx/tests/bench/internal/rig"
)

const (
	clients = 64
	ttl     = time.Hour
)

// value has the size of a sealed session.
var value = make([]byte, 400)

// claimer is what is measured.
type claimer interface {
	claim(key string) error
	// end closes it, and says how many transactions there were; 0: none to count.
	end() (transactions int64, err error)
}

// variant is a claimer and its figures, one a round.
type variant struct {
	name                 string
	open                 func() (claimer, error)
	of                   int // what it is compared with
	rates, cpu, together []float64
}

func (v *variant) measure(d time.Duration) error {
	c, err := v.open()
	if err != nil {
		return err
	}
	if err := c.claim("warm"); err != nil {
		return err
	}
	var seq, done atomic.Int64
	var all sync.WaitGroup
	failed := make(chan error, clients)
	before, err := rig.CPUTime(os.Getpid()) // a server's is not in it
	if err != nil {
		return err
	}
	began := time.Now()
	for range clients {
		all.Go(func() {
			for time.Since(began) < d {
				n := seq.Add(1)
				if n%10 == 0 {
					n -= 9
				}
				if err := c.claim(strconv.FormatInt(n*0x9e3779b1%(1<<40), 36)); err != nil {
					failed <- err
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	after, err := rig.CPUTime(os.Getpid())
	if err != nil {
		return err
	}
	transactions, err := c.end()
	select {
	case err := <-failed:
		return err
	default:
	}
	n := float64(done.Load())
	v.rates = append(v.rates, n/took.Seconds())
	v.cpu = append(v.cpu, float64((after-before).Microseconds())/n)
	if transactions > 0 {
		v.together = append(v.together, n/float64(transactions))
	}
	return err
}

// ofStore claims at a store of ours.
type ofStore struct{ store.Store }

func (s ofStore) claim(key string) error {
	_, _, err := s.Claim(context.Background(), key, value, ttl)
	return err
}

func (s ofStore) end() (int64, error) {
	transactions := int64(0)
	if e, ok := s.Store.(*store.Embedded); ok {
		transactions = int64(e.Stats().Commits)
	}
	return transactions, s.Close()
}

var opened atomic.Int64

// fresh is a name that was not there before.
func fresh(name string) string { return name + strconv.FormatInt(opened.Add(1), 10) }

func openRedis(addr string) (claimer, error) {
	s, err := store.OpenRedis(store.RedisOptions{URL: "redis://" + addr, KeyPrefix: fresh("ours") + ":", CallTimeout: 10 * time.Second})
	return ofStore{s}, err
}

func openEmbedded(dir string) (claimer, error) {
	s, err := store.OpenEmbedded(filepath.Join(dir, fresh("embedded")+".db"), store.Options{})
	return ofStore{s}, err
}

// rueidisRaw is the command alone, by a client as it comes.
type rueidisRaw struct {
	rueidis.Client
	prefix string
}

func openRueidis(addr string) (claimer, error) {
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true})
	return rueidisRaw{c, fresh("raw") + ":"}, err
}

func (c rueidisRaw) claim(key string) error {
	err := c.Do(context.Background(), c.B().Set().Key(c.prefix+key).Value(rueidis.BinaryString(value)).Nx().Get().Px(ttl).Build()).Error()
	if rueidis.IsRedisNil(err) {
		return nil
	}
	return err
}

func (c rueidisRaw) end() (int64, error) {
	c.Close()
	return 0, nil
}

// bboltRaw is one bucket, and one goroutine that makes a transaction of
// whatever waits: no expiry, no checksum.
type bboltRaw struct {
	path         string
	db           *bolt.DB
	requests     chan request
	transactions atomic.Int64
	done         chan struct{}
}

type request struct {
	key  string
	done chan error
}

func openBbolt(dir string) (claimer, error) {
	path := filepath.Join(dir, fresh("raw")+".db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	bucket := []byte("b")
	if err := db.Update(func(tx *bolt.Tx) error { _, err := tx.CreateBucket(bucket); return err }); err != nil {
		return nil, err
	}
	c := &bboltRaw{path: path, db: db, requests: make(chan request, 2*clients), done: make(chan struct{})}
	go func() {
		defer close(c.done)
		for first := range c.requests {
			group := []request{first}
			for len(c.requests) > 0 {
				group = append(group, <-c.requests)
			}
			err := db.Update(func(tx *bolt.Tx) error {
				b := tx.Bucket(bucket)
				for _, r := range group {
					if b.Get([]byte(r.key)) == nil {
						if err := b.Put([]byte(r.key), value); err != nil {
							return err
						}
					}
				}
				return nil
			})
			c.transactions.Add(1)
			for _, r := range group {
				r.done <- err
			}
		}
	}()
	return c, nil
}

func (c *bboltRaw) claim(key string) error {
	r := request{key, make(chan error, 1)}
	c.requests <- r
	return <-r.done
}

func (c *bboltRaw) end() (int64, error) {
	close(c.requests)
	<-c.done
	err := c.db.Close()
	os.Remove(c.path)
	return c.transactions.Load(), err
}
