package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// The roll call tells each node whether the groups in Redis are complete. A
// hash has a line for each open store: its number, when it was written (the
// server's ms), and until when members may live that the node could not write
// since. Beside the lines stand
//
//	unsure   until when groups may lack a member whoever reads them (Unix ms)
//	horizon  until when any member lives at most
//	server   the run that the last line was written in
//
// Twice a second a node writes its line and reads all others, in one script.
// A node with members that wait for longer than rollLate writes none. So who
// was heard of within rollSilence lacks nothing that is older than both
// together; whoever was not may have members that nobody else knows of.
const (
	rollEvery   = 500 * time.Millisecond
	rollLate    = time.Second
	rollSilence = 3 * time.Second
	// rollKept is how long the hash outlives the last node. Without it nobody
	// knows whether a server is new or was emptied.
	rollKept = 30 * 24 * time.Hour
	// rollParts: a cluster has so many hashes, evenly spread over its slots,
	// since each of its primaries may lose what it has on its own.
	rollParts = 16
)

// rollCall writes a line and reads the others'. A hash without `unsure`, or
// with an older line of this node's than was acknowledged, has been lost, and
// groups with it. So may they where a new node is the first in a run of the
// server's. Lines of the silent go when what they stand for has ended by any
// node's clock.
var rollCall = fmt.Sprintf(`
local node, was, number, clock = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local ends, unsureNow, lossEnds, latest = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%%w+)') or ''
local text = function(n) return string.format('%%.0f', n) end
local all, mine, unsure, horizon, run, others = redis.call('HGETALL', KEYS[1]), 0, nil, 0, server, {}
for i = 1, #all, 2 do
	local name, value = all[i], all[i + 1]
	if name == 'unsure' then unsure = tonumber(value)
	elseif name == 'horizon' then horizon = tonumber(value) or 0
	elseif name == 'server' then run = value
	else
		local n, heard, last = string.match(value, '^(%%d+) (%%d+) (%%d+)$')
		n, heard, last = tonumber(n) or 0, tonumber(heard) or 0, tonumber(last) or latest
		if name == node then mine = n
		elseif math.abs(now - heard) > %d and last + %d < clock then redis.call('HDEL', KEYS[1], name)
		else for _, v in ipairs({name, text(heard), text(last)}) do others[#others + 1] = v end
		end
	end
end
if not unsure or mine < was or was == 0 and run ~= server then unsure = math.max(unsure or 0, horizon, lossEnds) end
unsure = math.min(math.max(unsure, unsureNow), latest)
horizon = math.min(math.max(horizon, ends), latest)
redis.call('HSET', KEYS[1], 'unsure', text(unsure), 'horizon', text(horizon), 'server', server)
if number > 0 then redis.call('HSET', KEYS[1], node, text(number) .. ' ' .. text(now) .. ' ' .. text(ends))
else redis.call('HDEL', KEYS[1], node) end
redis.call('PEXPIRE', KEYS[1], %d)
local out = {text(now), server, text(unsure), text(horizon)}
for _, v in ipairs(others) do out[#out + 1] = v end
return out`, rollSilence.Milliseconds(), clocksApart.Milliseconds(), rollKept.Milliseconds())

// clocksApart is how much nodes' clocks may differ.
const clocksApart = 5 * time.Minute

// roll is this node's part in the roll call.
type roll struct {
	r    *Redis
	node string

	first         chan struct{} // closed after the first attempt
	closing, done chan struct{}

	// longest is the longest time (ms) that a member of this node's was given.
	longest highest
	// since is until when the members live that were written since the last
	// line was sent: a failover may have lost them and nothing else.
	since highest

	parts atomic.Pointer[[]rollPart] // made by run alone
	last  uint64                     // number of the last line sent; run's
}

// rollPart is a hash, and what is known of it.
type rollPart struct {
	key    string
	acked  uint64 // the last line of ours that is in it
	server string // who answered then
	view   *rollView
}

// rollView is what a hash had.
type rollView struct {
	asked   time.Time // ours, before the server looked
	now     int64     // the server's, ms
	horizon int64
	others  []rollLine
}

type rollLine struct {
	node        string
	heard, ends int64
}

func newRoll(r *Redis) *roll {
	host, _ := os.Hostname()
	l := &roll{
		r: r, node: host + "/" + rand.Text()[:8],
		first: make(chan struct{}), closing: make(chan struct{}), done: make(chan struct{}),
	}
	go l.run()
	return l
}

func (l *roll) run() {
	defer close(l.done)
	again := time.NewTicker(rollEvery)
	defer again.Stop()
	l.call(false)
	close(l.first)
	for {
		select {
		case <-l.closing:
			if l.r.link.client.Load() != nil {
				l.call(true)
			}
			return
		case <-again.C:
			l.call(false)
		}
	}
}

// close says goodbye. Call it when the queue is closed.
func (l *roll) close() {
	close(l.closing)
	<-l.done
}

// call writes a line, unless members wait for too long; or takes it out.
func (l *roll) call(goodbye bool) {
	for range 2 {
		if l.r.queue.late() && !goodbye || !l.try(goodbye) {
			return
		}
		// What the change may have lost is told to all at once.
	}
}

// try reports whether the server is another than at the last line.
func (l *roll) try(goodbye bool) (changed bool) {
	l.last++
	number := l.last
	if goodbye {
		number = 0
	}
	before := l.since.Swap(0)
	asked := time.Now()
	if l.r.link.evicted.Swap(false) {
		l.r.unsure.extend(l.horizon(asked))
	}
	// Members are given up, and make unsure, before the queue is late no more.
	unsure := l.r.unsure.until.Load()
	var missed int
	parts, err := through(context.Background(), l.r.link, min(l.r.o.CallTimeout, rollSilence), func(ctx context.Context, c rueidis.Client) (parts []rollPart, err error) {
		parts, missed, err = l.exchange(ctx, c, asked, number, unsure)
		return parts, err
	})
	if err == nil {
		if old := l.parts.Swap(&parts); old != nil {
			for i, p := range *old {
				changed = changed || p.server != "" && p.server != parts[i].server
			}
		}
	}
	if err != nil || missed > 0 || changed {
		l.since.raise(before)
	}
	if changed {
		l.r.unsure.extend(l.since.Load())
	}
	return changed
}

// exchange gives what is known of the hashes afterwards, and how many were not
// read; an error where none was.
func (l *roll) exchange(ctx context.Context, c rueidis.Client, asked time.Time, number uint64, unsure int64) (parts []rollPart, missed int, err error) {
	if known := l.parts.Load(); known != nil {
		parts = append(parts, *known...)
	} else {
		for _, key := range rollKeys(c, l.r.o.KeyPrefix) {
			parts = append(parts, rollPart{key: key})
		}
	}
	clock := asked.UnixMilli()
	latest := clock + longestMember.Milliseconds()
	ends := min(clock+l.span(), latest)
	commands := make(rueidis.Commands, len(parts))
	lossEnds := l.horizon(asked)
	for i, p := range parts {
		args := []string{l.node}
		for _, n := range []int64{int64(p.acked), int64(number), clock, ends, unsure, lossEnds, latest} {
			args = append(args, strconv.FormatInt(n, 10))
		}
		commands[i] = c.B().Eval().Script(rollCall).Numkeys(1).Key(p.key).Arg(args...).Build()
	}
	for i, result := range c.DoMulti(ctx, commands...) {
		v, server, until, failed := readRoll(result)
		if failed != nil {
			missed, err = missed+1, failed
			continue
		}
		v.asked = asked
		parts[i].view, parts[i].server, parts[i].acked = v, server, number
		l.r.unsure.extend(until)
	}
	if missed == len(parts) {
		return nil, missed, err
	}
	l.r.link.note(err)
	return parts, missed, nil
}

// horizon is until when any node's members live at most, by any clock.
func (l *roll) horizon(now time.Time) int64 {
	horizon := now.UnixMilli() + l.span() + clocksApart.Milliseconds()
	if parts := l.parts.Load(); parts != nil {
		for _, p := range *parts {
			if p.view != nil {
				horizon = max(horizon, p.view.horizon)
			}
		}
	}
	return horizon
}

// span is how long (ms) members live at most that may be made now.
func (l *roll) span() int64 {
	span := longestMember
	if f := l.r.o.LongestMember; f != nil {
		if d := f(); d > 0 {
			span = min(span, d)
		}
	}
	return max(span.Milliseconds(), l.longest.Load())
}

func readRoll(result rueidis.RedisResult) (v *rollView, server string, unsure int64, err error) {
	fields, err := result.AsStrSlice()
	if err == nil && (len(fields) < 4 || len(fields)%3 != 1) {
		err = fmt.Errorf("a roll call of %d fields", len(fields))
	}
	if err != nil {
		return nil, "", 0, err
	}
	number := func(i int) (n int64) {
		if err == nil {
			n, err = strconv.ParseInt(fields[i], 10, 64)
		}
		return n
	}
	v = &rollView{now: number(0), horizon: number(3)}
	unsure = number(2)
	for i := 4; i < len(fields); i += 3 {
		v.others = append(v.others, rollLine{fields[i], number(i + 1), number(i + 2)})
	}
	return v, fields[1], unsure, err
}

// rollKeys are the keys of the hashes.
func rollKeys(c rueidis.Client, prefix string) []string {
	key := prefix + "nodes"
	if c.Mode() != rueidis.ClientModeCluster {
		return []string{key}
	}
	const slots = 16384
	var keys []string
	found := map[uint16]bool{}
	// A prefix with a hash tag has one slot, and one part.
	for i := 0; len(keys) < rollParts && i < 100*rollParts; i++ {
		k := fmt.Sprint(key, ":", i)
		probe := c.B().Exists().Key(k).Build()
		if part := probe.Slot() / (slots / rollParts); !found[part] {
			found[part] = true
			keys = append(keys, k)
		}
	}
	return keys
}

// errNoNews: this node has not read the roll lately.
var errNoNews = errors.New("other nodes have not been heard of lately")

// sure gives an error while groups may lack another node's members.
func (l *roll) sure(now time.Time) error {
	parts := l.parts.Load()
	if parts == nil {
		return errNoNews
	}
	for _, p := range *parts {
		v := p.view
		if v == nil || now.Sub(v.asked) > rollSilence {
			return errNoNews
		}
		server := v.now + now.Sub(v.asked).Milliseconds()
		for _, o := range v.others {
			// In the future: the server's clock was set back.
			if silent := max(server-o.heard, o.heard-server); silent > rollSilence.Milliseconds() && now.UnixMilli() < o.ends {
				return fmt.Errorf("node %s is silent since %s and did not say goodbye: its visitors may count until %s",
					o.node, readable(o.heard), readable(o.ends))
			}
		}
	}
	return nil
}

func readable(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
