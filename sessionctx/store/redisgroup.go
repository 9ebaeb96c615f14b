package store

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

// A group is a hash: field by field a member's name and its record, which
// holds the expiry. The hash lives as long as the member that ends last.

// joinGroup sets the members, leaves the two that end last, and prolongs the
// hash. What has no expiry stays until the hash ends: nobody knows whose it was.
const joinGroup = `
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
while redis.call('HLEN', KEYS[1]) > 2 do
	local all, first, least = redis.call('HGETALL', KEYS[1]), nil, nil
	for i = 1, #all, 2 do
		local ends = math.huge
		if #all[i + 1] >= 13 then ends = struct.unpack('>I8', string.sub(all[i + 1], 6, 13)) end
		if not least or ends < least then first, least = all[i], ends end
	end
	redis.call('HDEL', KEYS[1], first)
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return redis.status_reply('OK')`

// memberName is what a member's record is bound to.
func memberName(group, member string) string { return group + "/" + member }

// joining is the command that makes what is queued part of its group.
func (r *Redis) joining(c rueidis.Client, e *queued, now time.Time) rueidis.Completed {
	args := make([]string, 1, 1+2*len(e.members))
	args[0] = strconv.FormatInt(max(1, e.expiry.Sub(now).Milliseconds()), 10)
	for _, m := range e.members {
		record := encode(memberName(e.name, m.Name), m.Value, m.expiry, r.o.Sealer)
		args = append(args, m.Name, rueidis.BinaryString(record))
	}
	return c.B().Eval().Script(joinGroup).Numkeys(1).Key(r.key(e.name)).Arg(args...).Build()
}

// Join implements [Store].
func (r *Redis) Join(key, member string, value []byte, ttl time.Duration) {
	m := Member{member, append([]byte{}, value...), time.Now().Add(ttl).UnixMilli()}
	r.roll.longest.raise(ttl.Milliseconds())
	if checkMember(key, member, value, ttl) != nil {
		r.queue.dropped.Add(1)
	} else if r.queue.join(groupName(key), m) {
		return
	}
	r.unsure.extend(m.expiry)
}

// Lack implements [Store].
func (r *Redis) Lack(ttl time.Duration) { r.unsure.extend(time.Now().Add(ttl).UnixMilli()) }

// sure gives the time, and an error if groups may lack members by then.
func (r *Redis) sure() (now int64, err error) {
	if err := r.roll.sure(time.Now()); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnsure, err)
	}
	return r.unsure.check(func() int64 { return time.Now().UnixMilli() })
}

// Sole implements [Store], by one HGETALL a key in one pipeline.
func (r *Redis) Sole(ctx context.Context, keys ...string) (Member, error) {
	// What waits is looked at first: what is written meanwhile is on the server.
	pending := make([][]Member, len(keys))
	for i, key := range keys {
		if err := checkKey(key); err != nil {
			return Member{}, fmt.Errorf("reading group: %w", err)
		}
		pending[i] = r.queue.members(groupName(key))
	}
	groups, err := call(ctx, r, func(ctx context.Context, c rueidis.Client) ([]map[string]string, error) {
		select {
		case <-r.roll.first:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		commands := make(rueidis.Commands, len(keys))
		for i, key := range keys {
			commands[i] = c.B().Hgetall().Key(r.key(groupName(key))).Build()
		}
		out := make([]map[string]string, len(keys))
		for i, result := range c.DoMulti(ctx, commands...) {
			var err error
			if out[i], err = result.AsStrMap(); err != nil {
				return nil, err
			}
		}
		return out, nil
	})
	if err != nil {
		return Member{}, r.fail("reading group", err)
	}
	members := make([][]Member, len(keys))
	for i, fields := range groups {
		var written []Member
		for member, record := range fields {
			value, expiry, err := decode(memberName(groupName(keys[i]), member), []byte(record), r.o.Sealer)
			if err != nil {
				r.damaged.Add(1)
				return Member{}, r.fail("reading group", err)
			}
			written = append(written, Member{member, value, expiry})
		}
		members[i] = mergeMembers(written, pending[i])
	}
	now, err := r.sure()
	if err != nil {
		return Member{}, r.fail("reading group", err)
	}
	return soleOf(now, members...)
}
