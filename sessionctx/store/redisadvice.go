package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/zap"
)

// adviseEvery is how often the servers' settings are looked at, beside whenever
// they were away.
const adviseEvery = time.Minute

// adviceOf is what a server's own account of itself (INFO) says against
// keeping sessions in it: settings that lose what this store was told is kept.
func adviceOf(info string) []string {
	fields := map[string]string{}
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	var out []string
	// Without a maxmemory nothing is ever evicted.
	if policy := fields["maxmemory_policy"]; policy != "" && policy != "noeviction" && fields["maxmemory"] != "0" {
		out = append(out, fmt.Sprintf("maxmemory-policy %s drops renewals, consent records and visitor keys before their time once maxmemory (%s) is full: a session may then be renewed twice, with two ids, and whoever shares a visitor key be given a session that is not theirs alone; set maxmemory-policy noeviction, and enough memory",
			policy, fields["maxmemory_human"]))
	}
	if fields["aof_enabled"] == "0" {
		out = append(out, "appendonly is off: a server that starts again has forgotten what came since its last snapshot, renewals among it; set appendonly yes")
	}
	return out
}

// advise asks each server for its settings and tells of those that cost what
// was kept; of each once. A user without the right to INFO is told nothing.
func (l *link) advise(client rueidis.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), l.o.CallTimeout)
	defer cancel()
	found := map[string]bool{}
	for _, node := range client.Nodes() {
		info, err := node.Do(ctx, node.B().Info().Build()).ToString()
		if err != nil {
			return // it is no time to judge
		}
		for _, a := range adviceOf(info) {
			found[a] = true
		}
	}
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
