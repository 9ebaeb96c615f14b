package caddymodule

import (
	"context"
	"crypto/rand"
	"slices"

	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// keyOrder is what an operator asks of the ring.
type keyOrder struct {
	// User means the key that makes user ids, in place of the one that makes
	// session ids, tokens and cookies.
	User bool `json:"user,omitempty"`
	// Revoke drops a key at once, in place of adding one.
	Revoke bool `json:"revoke,omitempty"`
	// Key is the id of the key to revoke. Default: the one in force.
	Key string `json:"key,omitempty"`
}

func (o keyOrder) use() sessionctx.KeyUse {
	if o.User {
		return sessionctx.UserKeys
	}
	return sessionctx.SessionKeys
}

// keyList is what operators see of the ring: no secrets.
type keyList struct {
	// Keys make session ids, tokens and cookies; UserKeys make user ids.
	Keys     []sessionctx.KeyInfo `json:"keys"`
	UserKeys []sessionctx.KeyInfo `json:"user_id_keys"`
	// NextRotation is when the schedule adds the next of Keys, in Unix ms.
	NextRotation int64 `json:"next_rotation"`
	// ReadAt is when this node last read the ring from storage, in Unix ms.
	ReadAt int64 `json:"read_at"`
	// Trouble is why the last attempt to read, rotate or prune it failed.
	Trouble string `json:"trouble,omitempty"`
}

// list tells of the ring in use; ok is false if there is none yet.
func (k *keyRing) list() (l keyList, ok bool) {
	ring, state := k.ring.Load(), k.state.Load()
	if ring == nil {
		if state.err != nil {
			l.Trouble = state.err.Error()
		}
		return l, false
	}
	now := k.now().UnixMilli()
	l = keyList{
		Keys:         ring.List(sessionctx.SessionKeys, now),
		UserKeys:     ring.List(sessionctx.UserKeys, now),
		NextRotation: ring.NewestKeyAt() + k.rotate.Milliseconds(),
		ReadAt:       state.readAt.UnixMilli(),
	}
	if state.err != nil {
		l.Trouble = state.err.Error()
	}
	return l, true
}

// obey carries out an order. This node works by the result when it returns;
// others do when they have re-read the ring. Once begun it is finished, even
// if who gave the order is gone.
func (k *keyRing) obey(ctx context.Context, o keyOrder) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*lockPatience)
	defer cancel()
	if err := k.turn.take(ctx); err != nil {
		return err
	}
	defer k.turn.giveBack()
	var now int64
	var before []sessionctx.KeyInfo
	err := k.change(ctx, func(r *sessionctx.Ring) (*sessionctx.Ring, error) {
		if r == nil {
			return nil, errNoRing
		}
		now = k.now().UnixMilli()
		before = r.List(o.use(), now)
		if o.Revoke {
			return r.Revoke(rand.Reader, o.use(), o.Key, now)
		}
		return r.Prune(now).Rotate(rand.Reader, o.use(), now)
	})
	if err != nil {
		return err
	}
	after := k.ring.Load().List(o.use(), now)
	k.log.Info("keys changed by command", zap.Bool("user_id_key", o.User), zap.Bool("revoked", o.Revoke),
		zap.Strings("made", keysMissing(before, after)), zap.Strings("dropped", keysMissing(after, before)))
	return nil
}

// keysMissing are the ids of the keys that list has and from lacks.
func keysMissing(from, list []sessionctx.KeyInfo) []string {
	ids := []string{}
	for _, k := range list {
		if !slices.ContainsFunc(from, func(o sessionctx.KeyInfo) bool { return o.ID == k.ID }) {
			ids = append(ids, k.ID)
		}
	}
	return ids
}
