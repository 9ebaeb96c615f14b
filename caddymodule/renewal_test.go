package caddymodule

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// TestRenewalsOfARevokedKeyAreAbsent: the line goes on, renewed once by all
// nodes. Its first session is of a key that was not revoked.
func TestRenewalsOfARevokedKeyAreAbsent(t *testing.T) {
	h := testHistory(t)
	campaign := &sessionctx.Campaign{CampaignRef: h.ref, WorkspaceID: "ws_1", SessionDuration: time.Minute, AttributionWindow: 24 * time.Hour}
	random := rand.NewChaCha8([32]byte{2})
	now := testDay.UnixMilli()
	user, err := h.ring.NewUserID(random, now, campaign.WorkspaceID)
	if err != nil {
		t.Fatal(err)
	}
	id, err := h.ring.NewSessionID(random, now, h.ref, user)
	if err != nil {
		t.Fatal(err)
	}
	first := sessionctx.Session{ID: id, UserID: user, Campaign: h.ref, CreatedAt: now, ExpiresAt: now + 60_000, OriginalID: id, OriginalAt: now}
	settle := func(ring *sessionctx.Ring, now int64) (string, bool) {
		t.Helper()
		s, won, err := first.Settle(ring, campaign, &renewals{context.Background(), h.store, ring, now}, now)
		if err != nil {
			t.Fatal(err)
		}
		return s.ID, won
	}

	ring := h.ring
	for range 3 {
		now += 10 * time.Minute.Milliseconds()
		if ring, err = ring.Rotate(random, sessionctx.SessionKeys, now); err != nil {
			t.Fatal(err)
		}
		now += sessionctx.PublishAhead + 1
		if _, won := settle(ring, now); !won {
			t.Fatal("nothing was renewed: the test shows nothing")
		}
		if ring, err = ring.Revoke(random, sessionctx.SessionKeys, "", now); err != nil {
			t.Fatal(err)
		}
		now++
		renewed, won := settle(ring, now)
		if !won {
			t.Error("the renewal that a revoked key sealed stands in the way")
		}
		for range 2 {
			if again, won := settle(ring, now); won || again != renewed {
				t.Errorf("renewed again: %s, then %s", renewed, again)
			}
		}
	}
}
