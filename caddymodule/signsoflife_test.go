package caddymodule

import (
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/inject"
)

func TestWhenPagesAreSilent(t *testing.T) {
	at := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	// story is a life by steps: n pages, each so long after the one before, with
	// a sign of life after every signsEach of them, if that isn't 0.
	type step struct {
		pages     int
		each      time.Duration
		signsEach int
	}
	for _, tt := range []struct {
		name  string
		story []step
		want  bool
	}{
		{"a hundred pages in an hour and no sign", []step{{100, time.Minute, 0}}, true},
		{"not enough pages", []step{{99, time.Hour, 0}}, false},
		{"not long enough", []step{{5000, 100 * time.Millisecond, 0}}, false},
		{"just long enough", []step{{99, time.Second, 0}, {1, 502 * time.Second, 0}}, true},
		{"one sign in fourteen pages", []step{{100_000, time.Second, 14}}, false},
		{"one in ninety-nine", []step{{100_000, time.Second, 99}}, false},
		{"one in two hundred", []step{{2000, 10 * time.Second, 200}}, true},
		{"a long time well, then silence", []step{{100_000, time.Second, 5}, {120, 10 * time.Second, 0}}, true},
		{"silence, then well again", []step{{5000, time.Second, 0}, {20, time.Second, 2}}, false},
		{"silence, then one sign", []step{{5000, time.Second, 0}, {1, time.Second, 1}}, true},
		{"a quiet night with one bot an hour", []step{{50, time.Hour, 0}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, now := &life{pages: map[inject.Reason]int64{}}, at
			warned, changes := false, 0
			for _, s := range tt.story {
				for i := 1; i <= s.pages; i++ {
					now = now.Add(s.each)
					if l.page(now) {
						changes++
						if warned {
							t.Fatal("it begins twice")
						}
						warned = true
					}
					if s.signsEach > 0 && i%s.signsEach == 0 && l.sign(now) {
						changes++
						if !warned {
							t.Fatal("it ends before it begins")
						}
						warned = false
					}
				}
			}
			if warned != tt.want || l.figures(now).silent != tt.want {
				t.Errorf("warned: %v, shown: %v, want %v", warned, l.figures(now).silent, tt.want)
			}
			if changes > 4 {
				t.Errorf("it began and ended %d times", changes)
			}
		})
	}
}

func TestSilenceShowsThoughNoPageComesAnyMore(t *testing.T) {
	now := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	l := &life{}
	for range silentPages {
		if l.page(now) {
			t.Fatal("it warns at once")
		}
	}
	if l.figures(now.Add(silentFor-1)).silent || !l.figures(now.Add(silentFor)).silent {
		t.Error("it does not show when it is time")
	}
}

// A campaign's counts go on over reloads: they are kept by its name.
func TestOneLifeForEachCampaign(t *testing.T) {
	a := sessionctx.CampaignRef{ID: "cmp_life", Environment: sessionctx.Production}
	b := sessionctx.CampaignRef{ID: "cmp_life", Environment: sessionctx.Preview}
	of := lifeOf(a)
	if of != lifeOf(a) || of == lifeOf(b) {
		t.Error("lives are mixed up")
	}
}
