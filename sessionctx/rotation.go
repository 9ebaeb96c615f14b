package sessionctx

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

const (
	// PublishAhead is how long before its first use a key is in the ring,
	// in ms, so that every node has read it by then.
	PublishAhead = 10 * 60 * 1000

	// KeepRetired is how long a key goes on verifying after its successor
	// came into force, in ms. What lives longest is a user cookie of 400
	// days, which is taken for refreshUser more; another day is for nodes
	// that learned of the successor late.
	KeepRetired = 402 * 24 * 60 * 60 * 1000

	// MaxUserKeys bounds the user-id keys of a ring: a user id does not
	// tell when it was made, so each of them may have to be tried. As many
	// are tried for a session id.
	MaxUserKeys = 3
)

// Why a ring isn't changed. Errors wrap them with the key and a remedy.
var (
	ErrKeyPending  = errors.New("a new key is published already")
	ErrUnknownKey  = errors.New("no such key in the ring")
	ErrTooManyKeys = errors.New("too many keys")

	errIDTaken = errors.New("the random source gave the id of a key that is there: try again")
)

// KeyUse is what a key is for.
type KeyUse int

const (
	// SessionKeys make session ids, tokens, cookies and stored states. They
	// rotate by schedule.
	SessionKeys KeyUse = iota
	// UserKeys make user ids. They change only by command.
	UserKeys
)

func (r *Ring) of(use KeyUse) []*key {
	if use == UserKeys {
		return r.user
	}
	return r.keys
}

// with is the ring with other keys for one use.
func (r *Ring) with(use KeyUse, keys []*key) *Ring {
	if use == UserKeys {
		return &Ring{keys: r.keys, user: keys}
	}
	return &Ring{keys: keys, user: r.user}
}

// Rotate returns a ring with one more key, used from PublishAhead after now.
// ErrKeyPending if one waits for its first use already, so that a command
// given twice makes one key.
func (r *Ring) Rotate(random io.Reader, use KeyUse, now int64) (*Ring, error) {
	keys := r.of(use)
	if newest := keys[len(keys)-1].secret; newest.NotBefore > now {
		return nil, fmt.Errorf("%w: %s comes into force at %s; wait for that, or revoke it", ErrKeyPending, newest.ID, utc(newest.NotBefore))
	}
	if use == UserKeys && len(keys) >= MaxUserKeys {
		return nil, fmt.Errorf("%w: %d user-id keys are in the ring, which is the most; wait until the oldest is no longer needed, at %s, or revoke it (%s), which makes its users new ones", ErrTooManyKeys, len(keys), utc(keys[1].secret.NotBefore+KeepRetired), keys[0].secret.ID)
	}
	k, err := r.newKey(random, now+PublishAhead)
	if err != nil {
		return nil, err
	}
	return r.with(use, append(slices.Clone(keys), k)), nil
}

// Revoke returns a ring without the key of that id, or without the one in
// force at now if id is empty: what it made counts as absent. Where that was
// the one in force, a new key is in its place at once; nodes that have not
// read the ring yet refuse what it makes. ErrUnknownKey if there is none of
// that id and use.
func (r *Ring) Revoke(random io.Reader, use KeyUse, id string, now int64) (*Ring, error) {
	keys := r.of(use)
	current := inForce(keys, now)
	gone := current
	if id != "" {
		gone = slices.IndexFunc(keys, func(k *key) bool { return k.secret.ID == id })
	}
	if gone < 0 {
		return nil, ErrUnknownKey
	}
	left := slices.Delete(slices.Clone(keys), gone, gone+1)
	if gone == current {
		k, err := r.newKey(random, now)
		if err != nil {
			return nil, err
		}
		left = sortKeys(append(left, k))
	}
	return r.with(use, left), nil
}

// Prune returns a ring without the keys whose successor has been in force for
// longer than KeepRetired: nothing made with them still lives. It is the same
// ring if there are none.
func (r *Ring) Prune(now int64) *Ring {
	for _, use := range []KeyUse{SessionKeys, UserKeys} {
		keys := r.of(use)
		first := 0
		for first+1 < len(keys) && keys[first+1].secret.NotBefore < now-KeepRetired {
			first++
		}
		if first > 0 {
			r = r.with(use, slices.Clone(keys[first:]))
		}
	}
	return r
}

// NewestKeyAt is when the newest of the keys that rotate by schedule comes
// into force, in Unix ms: the schedule counts from it.
func (r *Ring) NewestKeyAt() int64 { return r.keys[len(r.keys)-1].secret.NotBefore }

// KeyState says what a key does now.
type KeyState string

const (
	// KeyPending is published, so that every node knows it before its use.
	KeyPending KeyState = "pending"
	// KeyInForce makes ids, tokens and cookies.
	KeyInForce KeyState = "in_force"
	// KeyRetired verifies what it made.
	KeyRetired KeyState = "retired"
)

// KeyInfo is what may be told of a key: never its secret.
type KeyInfo struct {
	// ID names the key, in 8 hexadecimal digits.
	ID    string   `json:"id"`
	State KeyState `json:"state"`
	// NotBefore is when the key is first used, in Unix ms.
	NotBefore int64 `json:"not_before"`
	// VerifiesUntil is when nothing made with the key lives any more, in
	// Unix ms. 0 as long as it has no successor.
	VerifiesUntil int64 `json:"verifies_until,omitempty"`
}

// List tells of the keys of one use, the oldest first.
func (r *Ring) List(use KeyUse, now int64) []KeyInfo {
	keys := r.of(use)
	current := inForce(keys, now)
	out := make([]KeyInfo, 0, len(keys))
	for i, k := range keys {
		info := KeyInfo{ID: k.secret.ID, State: KeyRetired, NotBefore: k.secret.NotBefore}
		switch {
		case i == current:
			info.State = KeyInForce
		case i > current:
			info.State = KeyPending
		}
		if i+1 < len(keys) {
			info.VerifiesUntil = keys[i+1].secret.NotBefore + KeepRetired
		}
		out = append(out, info)
	}
	return out
}

// newKey makes a key whose id none of the ring has, of either use: an id in a
// command means one key.
func (r *Ring) newKey(random io.Reader, notBefore int64) (*key, error) {
	rk, err := newRingKey(random, notBefore)
	if err != nil {
		return nil, err
	}
	for _, keys := range [][]*key{r.keys, r.user} {
		if slices.ContainsFunc(keys, func(k *key) bool { return k.secret.ID == rk.ID }) {
			return nil, errIDTaken
		}
	}
	return buildKey(rk)
}

func utc(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
