package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"time"
)

// ErrSeveral: a group has more than one living member.
var ErrSeveral = errors.New("more than one living member")

// Member is one of a group.
type Member struct {
	Name  string
	Value []byte

	expiry int64 // Unix ms
}

// groupKeeps is how many members a group keeps: those that end last. That is
// enough to tell at any time whether exactly one is living: whoever was left
// out has ended by the time that one of two is alone.
const groupKeeps = 2

// groupName is apart from those of values and numbers.
func groupName(key string) string { return "g:" + key }

// mergeMembers puts newer members in the place of older ones of their name,
// and keeps the groupKeeps that end last.
func mergeMembers(older, newer []Member) []Member {
	out := make([]Member, 0, len(older)+len(newer))
	out = append(out, newer...)
	for _, m := range older {
		if !slices.ContainsFunc(newer, func(n Member) bool { return n.Name == m.Name }) {
			out = append(out, m)
		}
	}
	slices.SortStableFunc(out, func(a, b Member) int { return cmp.Compare(b.expiry, a.expiry) })
	return out[:min(len(out), groupKeeps)]
}

// soleOf is the only living member of several groups. Where two have one of
// the same name, that of the earlier counts.
func soleOf(now int64, groups ...[]Member) (Member, error) {
	var sole *Member
	for _, g := range groups {
		for i := range g {
			switch m := &g[i]; {
			case m.expiry <= now, sole != nil && sole.Name == m.Name:
			case sole != nil:
				return Member{}, ErrSeveral
			default:
				sole = m
			}
		}
	}
	if sole == nil {
		return Member{}, ErrNotFound
	}
	return Member{sole.Name, append([]byte{}, sole.Value...), sole.expiry}, nil
}

// appendMembers is how a group is encoded.
func appendMembers(dst []byte, members []Member) []byte {
	for i := range members {
		dst = appendMember(dst, &members[i])
	}
	return dst
}

// appendMember encodes one of a group: its name and value with their lengths
// before them, and between these its expiry (8 bytes).
func appendMember(dst []byte, m *Member) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(m.Name)))
	dst = append(dst, m.Name...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.expiry))
	dst = binary.AppendUvarint(dst, uint64(len(m.Value)))
	return append(dst, m.Value...)
}

// cutMember is appendMember's inverse: it takes one off the front of b.
func cutMember(b []byte) (name, value []byte, expiry int64, rest []byte, ok bool) {
	if name, b, ok = cutText(b); !ok || len(b) < 8 {
		return nil, nil, 0, nil, false
	}
	expiry = int64(binary.BigEndian.Uint64(b))
	value, rest, ok = cutText(b[8:])
	return name, value, expiry, rest, ok
}

func cutText(b []byte) (text, rest []byte, ok bool) {
	n, width := binary.Uvarint(b)
	if width <= 0 || n > uint64(len(b)-width) {
		return nil, nil, false
	}
	end := width + int(n)
	return b[width:end], b[end:], true
}

// decodeMembers is appendMembers' inverse. Values are parts of b.
func decodeMembers(b []byte) (out []Member, err error) {
	for len(b) > 0 {
		name, value, expiry, rest, ok := cutMember(b)
		if !ok {
			return nil, errDamaged
		}
		out, b = append(out, Member{string(name), value, expiry}), rest
	}
	return out, nil
}

// expiries are when each of the encoded members ends.
func expiries(encoded []byte) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for b := encoded; len(b) > 0; {
			_, _, expiry, rest, ok := cutMember(b)
			if !ok || !yield(expiry) {
				return
			}
			b = rest
		}
	}
}

// lastExpiry is when the last of the encoded members ends.
func lastExpiry(encoded []byte) (last int64) {
	for expiry := range expiries(encoded) {
		last = max(last, expiry)
	}
	return last
}

func checkMember(key, member string, value []byte, ttl time.Duration) error {
	if err := checkEntry(key, value, ttl); err != nil {
		return err
	}
	return checkKey(member)
}

// longestMember is the longest time that members live: twice the longest
// session.
const longestMember = 48 * time.Hour

// highest is the highest number that it was raised to.
type highest struct{ atomic.Int64 }

func (h *highest) raise(n int64) {
	for {
		old := h.Load()
		if n <= old || h.CompareAndSwap(old, n) {
			return
		}
	}
}

// unsure remembers until when groups may lack a member: what looks alone until
// then may not be.
type unsure struct{ until highest }

func (u *unsure) extend(until int64) { u.until.raise(until) }

// check gives the time, and the error of a Sole that can't be sure by then.
// Call it after the members were read. It reads the clock last: what has ended
// by a sweep's time has ended by this one.
func (u *unsure) check(clock func() int64) (now int64, err error) {
	until := u.until.Load()
	now = clock()
	if latest := now + longestMember.Milliseconds(); until > latest { // the clock ran ahead
		u.until.CompareAndSwap(until, latest)
		until = latest
	}
	if now < until {
		return now, fmt.Errorf("%w: members that are not known may live until %s", ErrUnsure, readable(until))
	}
	return now, nil
}
