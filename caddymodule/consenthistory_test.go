package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/store"
)

var testDay = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

func testHistory(t *testing.T) *consentHistory {
	t.Helper()
	st, err := store.OpenEmbedded(filepath.Join(t.TempDir(), "store.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	ring, err := sessionctx.NewRing(rand.NewChaCha8([32]byte{1}), testDay.Add(-time.Hour).UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	ref := sessionctx.CampaignRef{ID: "cmp_1", Environment: sessionctx.Production}
	return &consentHistory{ring: ring, store: st, subject: "s", ref: ref, domain: "a.example", now: testDay}
}

// consentOf is a record of the history's subject; policy tells them apart.
func (h *consentHistory) consentOf(t *testing.T, analytics bool, policy string, days int) *sessionctx.ConsentRecord {
	t.Helper()
	claim := &sessionctx.ConsentClaim{
		SubjectID: h.subject, Domain: h.domain, Purposes: sessionctx.Purposes{Analytics: analytics}, Days: days, PolicyVersion: policy, Source: "banner",
	}
	rec, err := sessionctx.NewConsentRecord(claim, sessionctx.ConsentByToken, &sessionctx.Campaign{CampaignRef: h.ref}, nil,
		&sessionctx.Facts{ClientIP: netip.Addr{}}, h.now.UnixMilli(), rand.NewChaCha8([32]byte{byte(days), byte(len(policy))}))
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func (h *consentHistory) mustAdd(t *testing.T, rec *sessionctx.ConsentRecord) (standing, before *sessionctx.ConsentRecord) {
	t.Helper()
	standing, before, err := h.add(context.Background(), rec)
	if err != nil {
		t.Fatal(err)
	}
	return standing, before
}

func (h *consentHistory) mustNewest(t *testing.T) (*sessionctx.ConsentRecord, int) {
	t.Helper()
	rec, n, err := h.newest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return rec, n
}

func TestTheNewestConsentCounts(t *testing.T) {
	h := testHistory(t)
	if rec, n := h.mustNewest(t); rec != nil || n != 0 {
		t.Fatalf("of none the newest is %+v, %d", rec, n)
	}
	yes, before := h.mustAdd(t, h.consentOf(t, true, "", 365))
	if before != nil || yes.Number != 1 {
		t.Errorf("the first is number %d after %+v", yes.Number, before)
	}
	h.now = h.now.Add(time.Second)
	no, before := h.mustAdd(t, h.consentOf(t, false, "", 365))
	if before == nil || before.ID != yes.ID || no.Number != 2 {
		t.Errorf("the second is number %d after %+v", no.Number, before)
	}
	retry, before := h.mustAdd(t, h.consentOf(t, false, "", 365))
	if retry.ID != no.ID || before == nil || before.ID != yes.ID {
		t.Error("a retry is another record, or forgets what it ended")
	}
	h.now = h.now.Add(3 * time.Minute)
	later, _ := h.mustAdd(t, h.consentOf(t, false, "", 365))
	if later.Number != 3 {
		t.Errorf("the same decision minutes later is number %d", later.Number)
	}
	other := *h
	other.domain = "b.example"
	if rec, _ := other.mustNewest(t); rec != nil {
		t.Error("another domain has the record")
	}
}

func TestConsentExpiresByTime(t *testing.T) {
	h := testHistory(t)
	rec, _ := h.mustAdd(t, h.consentOf(t, true, "", 1))
	for after, want := range map[time.Duration]sessionctx.ConsentStatus{
		24*time.Hour - time.Millisecond: sessionctx.ConsentActive,
		24 * time.Hour:                  sessionctx.ConsentExpired,
	} {
		if got := rec.Status(testDay.Add(after).UnixMilli()); got != want {
			t.Errorf("after %s it is %s", after, got)
		}
	}
	h.now = h.now.Add(48 * time.Hour)
	next, before := h.mustAdd(t, h.consentOf(t, true, "", 1))
	if next.Number != 2 || before == nil {
		t.Fatalf("the next is number %d", next.Number)
	}
	if status, at := before.Ended(next); status != sessionctx.ConsentExpired || at != rec.ExpiresAt {
		t.Errorf("what it follows is %s at %d", status, at)
	}
}

// A hint that was lost, is late or is damaged costs reads, never the order.
func TestTheHintOfTheNewestConsentMayBeWrong(t *testing.T) {
	for name, hint := range map[string][]byte{"late": {2}, "first": {1}, "zero": {0}, "empty": {}, "damaged": {0xff, 0xff, 0xff}, "none": nil} {
		t.Run(name, func(t *testing.T) {
			h := testHistory(t)
			for i := range 5 {
				h.mustAdd(t, h.consentOf(t, true, strings.Repeat("v", i), 365))
			}
			if hint == nil {
				if err := h.store.Delete(context.Background(), h.hintKey()); err != nil {
					t.Fatal(err)
				}
			} else {
				h.store.Put(h.hintKey(), hint, time.Hour)
			}
			if rec, n := h.mustNewest(t); n != 5 || rec.PolicyVersion != "vvvv" {
				t.Errorf("the newest is number %d, %q", n, rec.PolicyVersion)
			}
			if rec, _ := h.mustAdd(t, h.consentOf(t, false, "", 365)); rec.Number != 6 {
				t.Errorf("the next is number %d", rec.Number)
			}
		})
	}
}

// Records of a revoked key, or that somebody moved, count as absent, but keep
// their number: nothing older comes to life in their place.
func TestConsentThatCannotBeReadKeepsItsPlace(t *testing.T) {
	h := testHistory(t)
	first, _ := h.mustAdd(t, h.consentOf(t, true, "", 365))
	moved := h.ring.SealConsent(first, testDay.UnixMilli())
	for n, value := range map[int][]byte{2: []byte("garbage"), 3: moved} {
		if _, won, err := h.store.Claim(context.Background(), h.key(n), value, time.Hour); err != nil || !won {
			t.Fatal(won, err)
		}
	}
	if _, err := h.at(context.Background(), 3); !errors.Is(err, errConsentGone) {
		t.Errorf("a record that was copied to another number is read: %v", err)
	}
	if _, n := h.mustNewest(t); n != 3 {
		t.Errorf("%d numbers are taken", n)
	}
	rec, before := h.mustAdd(t, h.consentOf(t, false, "", 365))
	if rec.Number != 4 || before == nil || before.ID != first.ID {
		t.Errorf("the next is number %d after %+v", rec.Number, before)
	}
}

func TestConsentOfManyNodesIsOneLine(t *testing.T) {
	h := testHistory(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	ended := map[string]int{} // how often each record was ended by a successor
	numbers := map[int]bool{}
	for i := range 30 {
		node := *h
		node.now = h.now.Add(time.Duration(i%3-1) * time.Minute) // clocks differ
		rec := node.consentOf(t, i%2 == 0, fmt.Sprintf("%030d", i)[:1+i], 1+i)
		wg.Go(func() {
			standing, before, err := node.add(context.Background(), rec)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			numbers[standing.Number] = true
			if before != nil {
				ended[before.ID]++
			}
		})
	}
	wg.Wait()
	newest, n := h.mustNewest(t)
	if n != 30 || len(numbers) != 30 || len(ended) != 29 || ended[newest.ID] != 0 {
		t.Errorf("%d numbers, %d records, %d ended, the newest %d times", n, len(numbers), len(ended), ended[newest.ID])
	}
	for id, times := range ended {
		if times != 1 {
			t.Errorf("%s was ended %d times", id, times)
		}
	}
}

func TestConsentWithoutAStoreIsAnError(t *testing.T) {
	h := testHistory(t)
	h.store.Close()
	if _, _, err := h.add(context.Background(), h.consentOf(t, true, "", 1)); err == nil {
		t.Error("a closed store takes a record")
	}
	if _, _, err := h.newest(context.Background()); err == nil {
		t.Error("a closed store has a newest record")
	}
}
