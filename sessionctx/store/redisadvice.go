package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/zap"
)

// adviseEvery is how often the servers' settings are looked at, beside whenever
// they were away.
const adviseEvery = time.Minute

// account is a server's own of itself (INFO).
type account map[string]string

func accountOf(info string) account {
	a := account{}
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			a[name] = value
		}
	}
	return a
}

// evicts: the server drops entries when it is full. Without a maxmemory it
// never is.
func (a account) evicts() bool {
	policy := a["maxmemory_policy"]
	return policy != "" && policy != "noeviction" && a["maxmemory"] != "0"
}

// evicted is how many entries it has dropped since it was started.
func (a account) evicted() int64 {
	n, _ := strconv.ParseInt(a["evicted_keys"], 10, 64)
	return n
}

// advice is what the account says against keeping sessions in the server:
// settings that lose what this store was told is kept.
func (a account) advice() []string {
	var out []string
	if a.evicts() {
		out = append(out, fmt.Sprintf("maxmemory-policy %s drops renewals, consent records and visitor keys before their time once maxmemory (%s) is full: a session may then be renewed twice, with two ids, and visitors without cookies get a new one with each page; set maxmemory-policy noeviction, and enough memory",
			a["maxmemory_policy"], a["maxmemory_human"]))
	}
	if a["aof_enabled"] == "0" {
		out = append(out, "appendonly is off: a server that starts again has forgotten what came since its last snapshot, renewals among it; set appendonly yes")
	}
	return out
}

// advise asks each server for its settings and tells of those that cost what
// was kept; of each once. What was evicted meanwhile, and by a server that goes
// on with it, is nobody's to rely on.
func (l *link) advise(client rueidis.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), l.o.CallTimeout)
	defer cancel()
	found := map[string]bool{}
	var evicted int64
	evicts := false
	for _, node := range client.Nodes() {
		info, err := node.Do(ctx, node.B().Info().Build()).ToString()
		if err != nil {
			return // it is no time to judge
		}
		a := accountOf(info)
		for _, text := range a.advice() {
			found[text] = true
		}
		evicted += a.evicted()
		evicts = evicts || a.evicts() && a.evicted() > 0
	}
	if evicts || l.evictedBefore >= 0 && evicted > l.evictedBefore {
		l.evicted.Store(true)
	}
	l.evictedBefore = evicted
	advice := slices.Sorted(maps.Keys(found))
	var before []string
	if p := l.advice.Load(); p != nil {
		before = *p
	}
	for _, a := range advice {
		if !slices.Contains(before, a) {
			l.o.Logger.Warn("redis store is set up to lose what it keeps", zap.String("address", l.address), zap.String("setting", a))
		}
	}
	l.advice.Store(&advice)
}
