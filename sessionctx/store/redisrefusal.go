package store

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/zap"
)

// refusal is what a server says when it can't do a call, or won't.
type refusal struct {
	// sign is what its errors begin with, or contain where that tells more.
	sign string
	// whole: nothing can be done over this server or connection at present, and
	// a PING says so too. Such calls count as unanswered: the circuit breaks.
	whole  bool
	remedy string
}

var refusals = []refusal{
	{"LOADING", true, "the server reads its data, and answers when it has"},
	{"WRONGPASS", true, "user name or password are wrong: mend them, and reload if they stand in the config"},
	{"NOAUTH", true, "the server wants a password: give the store its user name and password"},
	{"MASTERDOWN", true, "the server is a replica without its primary: name the sentinels (?master_set=), or the primary"},
	{"READONLY", false, "the server is a replica: name the primary, or the sentinels (?master_set=)"},
	{"OOM", false, "the server's maxmemory is full: raise it; what this store keeps ends by its time"},
	{"MISCONF", false, "the server can't write to its disk: see its log"},
	{"NOREPLICAS", false, "the server has fewer replicas than its min-replicas-to-write: see that they run"},
	{"NOPERM", false, "the user lacks a right: docs/store.md has the ACL rule that is needed"},
	{"can't run this command", false, "the user lacks a right that a script needs: docs/store.md has the ACL rule that is needed"},
	{"CLUSTERDOWN", false, "the cluster does not serve all of its slots: see that its nodes run"},
	{"TRYAGAIN", false, "the cluster is moving this slot, and will be done soon"},
	{"MOVED", false, "the server is part of a cluster that this store can't see: give the user +cluster|slots and +cluster|shards"},
	{"ERR SELECT is not allowed in cluster mode", false, "a cluster has the database 0 alone: take the number off the URL"},
	{"DB index is out of range", true, "the server has no database of this number: take another in the URL"},
	{"syntax error", false, "SET with NX and GET needs Redis 7 or Valkey: update the server"},
}

// refusalOf is what an error of the server's says; nil: nothing known.
func refusalOf(err error) *refusal {
	e, said := rueidis.IsRedisErr(err)
	if !said {
		return nil
	}
	text := e.Error()
	for i := range refusals {
		if strings.Contains(text, refusals[i].sign) {
			return &refusals[i]
		}
	}
	return nil
}

// explain adds the remedy to errors that an operator can mend.
func explain(err error) error {
	if r := refusalOf(err); r != nil {
		return fmt.Errorf("%w: %s", err, r.remedy)
	}
	return err
}

// refusalsTold is how often a refusal of one kind is logged at most, and how
// long after the last it still counts as the store's trouble.
const refusalsTold = time.Minute

// refused are the refusals of late.
type refused struct {
	mu     sync.Mutex
	told   map[*refusal]time.Time // in the log
	since  map[*refusal]int       // how many came after that
	last   error
	lastAt time.Time
}

// note remembers err if it is a refusal, and logs it unless its like was logged
// just now.
func (f *refused) note(err error, log *zap.Logger, address string) {
	r := refusalOf(err)
	if r == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.last, f.lastAt = err, now
	if at, before := f.told[r]; before && now.Sub(at) < refusalsTold {
		f.since[r]++
		return
	}
	if f.told == nil {
		f.told, f.since = map[*refusal]time.Time{}, map[*refusal]int{}
	}
	log.Warn("redis store refuses calls", zap.String("address", address), zap.Error(err),
		zap.String("remedy", r.remedy), zap.Int("more_since_last_told", f.since[r]))
	f.told[r], f.since[r] = now, 0
}

// trouble is the last refusal, if it is not long past.
func (f *refused) trouble() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil || time.Since(f.lastAt) >= refusalsTold {
		return ""
	}
	return explain(f.last).Error()
}

// forget ends the trouble: the server answers again.
func (f *refused) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = nil
}
