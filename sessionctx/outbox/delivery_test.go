package outbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// delivering opens an outbox with a sink in a world of fake time.
func delivering(t *testing.T, opt Options, f func(t *testing.T, o *Outbox, r *recorder)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		o := mustOpen(t, newMemFS(), opt)
		o.SetSink(r)
		f(t, o, r)
		mustClose(t, o)
	})
}

func flush(t testing.TB, o *Outbox) {
	t.Helper()
	if err := o.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func always(out Outcome) func(Batch) Outcome { return func(Batch) Outcome { return out } }

func TestDeliveredRowsLeaveTheDisk(t *testing.T) {
	delivering(t, Options{}, func(t *testing.T, o *Outbox, r *recorder) {
		appendRows(t, o, "events_v1", 0, 3)
		flush(t, o)
		b := r.all()
		if len(b) != 1 || b[0].Rows != 3 || b[0].Datasource != "events_v1" {
			t.Fatalf("batches %+v", b)
		}
		want := "{\"ds\":\"events_v1\",\"n\":0}\n{\"ds\":\"events_v1\",\"n\":1}\n{\"ds\":\"events_v1\",\"n\":2}\n"
		if string(b[0].Body) != want {
			t.Errorf("body %q", b[0].Body)
		}
		if st := o.Stats(); st.Rows != 0 || st.Bytes != 0 {
			t.Errorf("left %+v", st)
		}
	})
}

func TestSameBytesOnEveryTryAndAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		r := &recorder{answer: always(Retry(0, errTest))}
		hashes := map[string]map[[32]byte]int{}
		for range 4 {
			o := mustOpen(t, m, Options{SegmentRows: 7})
			o.SetSink(r)
			appendRows(t, o, "events_v1", 0, 10)
			time.Sleep(10 * time.Minute)
			mustClose(t, o)
			if m2 := m.crash(rng(1)); len(m2.files) > 0 {
				m = m2
			}
		}
		for _, b := range r.all() {
			if hashes[b.Name] == nil {
				hashes[b.Name] = map[[32]byte]int{}
			}
			hashes[b.Name][sha256.Sum256(b.Body)]++
		}
		if r.count() < 20 || len(hashes) < 1 {
			t.Fatalf("%d tries of %d batches", r.count(), len(hashes))
		}
		for name, h := range hashes {
			if len(h) != 1 {
				t.Errorf("batch %s was sent with %d different bodies", name, len(h))
			}
		}
	})
}

func TestRetryBacksOffWithJitterForEver(t *testing.T) {
	log, logs := logged()
	delivering(t, Options{Logger: log}, func(t *testing.T, o *Outbox, r *recorder) {
		r.script(always(Retry(0, errors.New("connection reset"))))
		appendRows(t, o, "events_v1", 0, 1)
		flush(t, o)
		time.Sleep(24 * time.Hour)
		tries := r.all()
		for i := 1; i < len(tries); i++ {
			limit := min(time.Second<<min(i-1, 12), 5*time.Minute) + time.Millisecond
			if gap := tries[i].at.Sub(tries[i-1].at); gap > limit {
				t.Errorf("try %d came after %v, limit %v", i+1, gap, limit)
			}
		}
		if n := len(tries); n < 290 || n > 2000 {
			t.Errorf("%d tries in a day", n)
		}
		if st := o.Stats().Datasources["events_v1"]; st.State != StateFailing || st.LastError != "connection reset" || st.Oldest < 24*time.Hour {
			t.Errorf("stats %+v", st)
		}
		r.script(nil)
		time.Sleep(6 * time.Minute)
		if n := o.Stats().Rows; n != 0 {
			t.Errorf("%d rows left", n)
		}
		if n := logs.Len(); n != 2 {
			t.Errorf("%d log lines for one failure and one recovery: %v", n, logs.All())
		}
	})
}

func TestRetryAfterIsHeeded(t *testing.T) {
	delivering(t, Options{}, func(t *testing.T, o *Outbox, r *recorder) {
		r.script(always(Retry(7*time.Minute, errTest)))
		appendRows(t, o, "events_v1", 0, 1)
		flush(t, o)
		time.Sleep(8 * time.Minute)
		tries := r.all()
		if len(tries) != 2 || tries[1].at.Sub(tries[0].at) < 7*time.Minute {
			t.Errorf("%d tries", len(tries))
		}
	})
}

func TestThrottleWaitsAsToldAndOnlyThatDatasource(t *testing.T) {
	delivering(t, Options{}, func(t *testing.T, o *Outbox, r *recorder) {
		r.script(func(b Batch) Outcome {
			if b.Datasource == "events_v1" {
				return Throttle(90*time.Second, errTest)
			}
			return Delivered(0, nil)
		})
		appendRows(t, o, "events_v1", 0, 1)
		appendRows(t, o, "traffic_v1", 0, 1)
		flush(t, o)
		start := r.all()[0].at
		flush(t, o) // an operator's flush does not override the sink
		time.Sleep(89 * time.Second)
		if n := r.count(); n != 2 {
			t.Errorf("%d tries, want one each", n)
		}
		r.script(nil)
		time.Sleep(2 * time.Second)
		last := r.all()[2]
		if last.Datasource != "events_v1" || last.at.Sub(start) != 90*time.Second {
			t.Errorf("tried %s after %v", last.Datasource, last.at.Sub(start))
		}
		if st := o.Stats().Datasources["events_v1"].State; st != StateOK {
			t.Errorf("throttling is state %s", st)
		}
	})
}

func TestTooLargeIsSplitAndLearned(t *testing.T) {
	delivering(t, Options{SegmentBytes: 1 << 20}, func(t *testing.T, o *Outbox, r *recorder) {
		const limit = 300 << 10
		r.script(func(b Batch) Outcome {
			if len(b.Body) > limit {
				return Split(errTest)
			}
			return Delivered(0, nil)
		})
		pad := strings.Repeat("x", 1000)
		fill := func(from, to int) {
			for i := from; i < to; i++ {
				if err := o.Append(context.Background(), Row{"events_v1", fmt.Appendf(nil, `{"n":%d,"pad":%q}`, i, pad)}); err != nil {
					t.Fatal(err)
				}
			}
		}
		fill(0, 1000)
		flush(t, o)
		taken := map[string]int{}
		for _, b := range r.all() {
			if len(b.Body) <= limit {
				for _, l := range lines(b.Body) {
					taken[l]++
				}
			}
		}
		if len(taken) != 1000 {
			t.Errorf("%d rows taken", len(taken))
		}
		for l, n := range taken {
			if n != 1 {
				t.Errorf("%.20s was taken %d times", l, n)
			}
		}
		before := r.count()
		fill(1000, 2000)
		flush(t, o)
		for _, b := range r.all()[before:] {
			if len(b.Body) > limit {
				t.Errorf("later batch of %d bytes", len(b.Body))
			}
		}
		if n := o.Stats().Rows; n != 0 {
			t.Errorf("%d rows left", n)
		}
		r.script(always(Split(errTest)))
		fill(5000, 5001)
		flush(t, o)
		if dead := o.DeadLetters(); len(dead) != 1 || dead[0].Kind != LetterTooLarge || dead[0].Rows != 1 {
			t.Errorf("dead letters %+v", dead)
		}
	})
}

func TestHoldKeepsEverythingAndProbesEachMinute(t *testing.T) {
	log, logs := logged()
	delivering(t, Options{Logger: log}, func(t *testing.T, o *Outbox, r *recorder) {
		r.script(always(Hold(errors.New("token needs DATASOURCE:APPEND"))))
		for i := range 30 {
			appendRows(t, o, "events_v1", i, i+1)
			time.Sleep(20 * time.Second)
		}
		tries := r.all()
		for i := 1; i < len(tries); i++ {
			if gap := tries[i].at.Sub(tries[i-1].at); gap != time.Minute || tries[i].Name != tries[0].Name {
				t.Errorf("probe %d of %s came after %v", i, tries[i].Name, gap)
			}
		}
		if st := o.Stats(); st.Rows != 30 || st.Datasources["events_v1"].State != StateHeld {
			t.Errorf("stats %+v", st)
		}
		if n := logs.Len(); n != 1 || !strings.Contains(fmt.Sprint(logs.All()[0].ContextMap()), "DATASOURCE:APPEND") {
			t.Errorf("log: %v", logs.All())
		}
		// A reload with a good token must not wait for the next probe.
		good := &recorder{}
		o.SetSink(good)
		time.Sleep(3 * time.Second)
		if st := o.Stats(); st.Rows != 0 || st.Datasources["events_v1"].State != StateOK {
			t.Errorf("after the reload: %+v", st)
		}
	})
}

func TestPoisonBatchIsParkedWhileOthersPass(t *testing.T) {
	log, logs := logged()
	delivering(t, Options{Logger: log}, func(t *testing.T, o *Outbox, r *recorder) {
		r.script(func(b Batch) Outcome {
			if bytes.Contains(b.Body, []byte(`"n":0}`)) {
				return Retry(0, errors.New("500 because of this data"))
			}
			return Delivered(0, nil)
		})
		appendRows(t, o, "events_v1", 0, 5)
		flush(t, o)
		appendRows(t, o, "events_v1", 5, 10)
		time.Sleep(14 * time.Minute)
		if n := o.Stats().Datasources["events_v1"].Parked; n != 0 {
			t.Errorf("parked within 14 minutes")
		}
		time.Sleep(40 * time.Minute)
		list := o.DeadLetters()
		if len(list) != 1 || list[0].Kind != LetterParked || list[0].Rows != 5 || list[0].Reason != "500 because of this data" {
			t.Fatalf("parked: %+v", list)
		}
		if n := o.Stats().Rows; n != 5 {
			t.Errorf("%d rows wait", n)
		}
		if n := logs.FilterMessageSnippet("parked").Len(); n != 1 {
			t.Errorf("%d lines about it", n)
		}
		before := r.count()
		time.Sleep(10 * time.Hour)
		if n := r.count() - before; n < 9 || n > 11 {
			t.Errorf("%d tries in ten hours", n)
		}
		appendRows(t, o, "events_v1", 10, 12) // others still pass
		time.Sleep(5 * time.Second)
		if n := o.Stats().Rows; n != 5 {
			t.Errorf("%d rows wait", n)
		}
		r.script(nil)
		if err := o.Requeue(list[0].ID); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := o.Stats().Rows; n != 0 {
			t.Errorf("%d rows wait after requeue", n)
		}
	})
}

func TestOutageParksNothing(t *testing.T) {
	delivering(t, Options{SegmentRows: 10}, func(t *testing.T, o *Outbox, r *recorder) {
		r.script(always(Retry(0, errTest)))
		for i := range 200 {
			appendRows(t, o, "events_v1", i, i+1)
			time.Sleep(time.Minute)
		}
		if n := o.Stats().Datasources["events_v1"].Parked; n != 0 {
			t.Errorf("%d parked", n)
		}
		r.script(nil)
		time.Sleep(11 * time.Minute)
		if st := o.Stats(); st.Rows != 0 {
			t.Errorf("left after the outage: %+v", st.Datasources)
		}
	})
}

func TestSessionsGoBeforeTheEventsThatFollow(t *testing.T) {
	opt := Options{After: map[string]string{"events_v1": "session_v1"}}
	t.Run("in order", func(t *testing.T) {
		delivering(t, opt, func(t *testing.T, o *Outbox, r *recorder) {
			for i := range 5 {
				appendRows(t, o, "session_v1", i, i+1)
				appendRows(t, o, "events_v1", i, i+1)
				time.Sleep(4 * time.Second)
			}
			var order []string
			for _, b := range r.all() {
				order = append(order, b.Datasource)
			}
			want := slices.Repeat([]string{"session_v1", "events_v1"}, 5)
			if !slices.Equal(order, want) {
				t.Errorf("order %v", order)
			}
		})
	})
	t.Run("ten seconds at most", func(t *testing.T) {
		delivering(t, opt, func(t *testing.T, o *Outbox, r *recorder) {
			r.script(func(b Batch) Outcome {
				if b.Datasource == "session_v1" {
					return Hold(errTest)
				}
				return Delivered(0, nil)
			})
			start := time.Now()
			appendRows(t, o, "session_v1", 0, 1)
			appendRows(t, o, "events_v1", 0, 1)
			flush(t, o)
			time.Sleep(11 * time.Second)
			if tries := r.all(); len(tries) != 2 || tries[1].at.Sub(start) != 10*time.Second {
				t.Fatalf("tries %+v", tries)
			}
			// The hold is not served again by each later batch.
			appendRows(t, o, "events_v1", 1, 2)
			flush(t, o)
			// (Flush makes the held session be tried again too, in either order.)
			var last time.Duration
			for _, try := range r.all() {
				if try.Datasource == "events_v1" {
					last = try.at.Sub(start)
				}
			}
			if last != 11*time.Second {
				t.Errorf("the second event was tried after %v", last)
			}
		})
	})
	t.Run("later sessions don't hold", func(t *testing.T) {
		delivering(t, opt, func(t *testing.T, o *Outbox, r *recorder) {
			o.SetSink(nil)
			appendRows(t, o, "events_v1", 0, 1)
			flush(t, o)
			time.Sleep(time.Millisecond)
			appendRows(t, o, "session_v1", 0, 1)
			o.SetSink(r)
			synctest.Wait()
			if n := r.count(); n != 1 {
				t.Errorf("%d tries", n)
			}
		})
	})
}

// waitingSink answers when it is told to, or when its context ends.
type waitingSink struct {
	entered atomic.Int64
	inside  atomic.Int64
	most    atomic.Int64
	release chan Outcome
}

func (s *waitingSink) Deliver(ctx context.Context, _ Batch) Outcome {
	s.entered.Add(1)
	n := s.inside.Add(1)
	defer s.inside.Add(-1)
	for {
		most := s.most.Load()
		if n <= most || s.most.CompareAndSwap(most, n) {
			break
		}
	}
	select {
	case out := <-s.release:
		return out
	case <-ctx.Done():
		return Retry(0, ctx.Err())
	}
}

func TestOneInFlightADatasourceAndDatasourcesInParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &waitingSink{release: make(chan Outcome)}
		o := mustOpen(t, newMemFS(), Options{SegmentRows: 1})
		o.SetSink(s)
		for _, ds := range []string{"events_v1", "session_v1", "traffic_v1"} {
			appendRows(t, o, ds, 0, 5)
		}
		synctest.Wait()
		if n := s.inside.Load(); n != 3 {
			t.Errorf("%d in flight", n)
		}
		for range 15 {
			s.release <- Delivered(0, nil)
		}
		synctest.Wait()
		if n := s.most.Load(); n != 3 || o.Stats().Rows != 0 {
			t.Errorf("%d at once, %d rows left", n, o.Stats().Rows)
		}
		mustClose(t, o)
	})
}

func TestCloseWhileDelivering(t *testing.T) {
	t.Run("an answer within the grace counts", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &waitingSink{release: make(chan Outcome)}
			m := newMemFS()
			o := mustOpen(t, m, Options{SegmentRows: 1})
			o.SetSink(s)
			appendRows(t, o, "events_v1", 0, 2)
			synctest.Wait()
			go func() { time.Sleep(time.Second); s.release <- Delivered(0, nil) }()
			mustClose(t, o)
			o = mustOpen(t, m, Options{})
			if n := o.Stats().Rows; n != 1 {
				t.Errorf("%d rows", n)
			}
			mustClose(t, o)
		})
	})
	t.Run("one that hangs is cancelled and kept", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			log, logs := logged()
			s := &waitingSink{release: make(chan Outcome)}
			m := newMemFS()
			o := mustOpen(t, m, Options{SegmentRows: 1, CloseGrace: 3 * time.Second, Logger: log})
			o.SetSink(s)
			appendRows(t, o, "events_v1", 0, 2)
			synctest.Wait()
			start := time.Now()
			mustClose(t, o)
			if d := time.Since(start); d != 3*time.Second {
				t.Errorf("close took %v", d)
			}
			if logs.Len() != 0 {
				t.Errorf("our own cancelling was logged as a failure: %v", logs.All())
			}
			o = mustOpen(t, m, Options{})
			if n := o.Stats().Rows; n != 2 {
				t.Errorf("%d rows", n)
			}
			mustClose(t, o)
		})
	})
}

func TestSinkSwapReleasesTheOldOneAfterItsLastDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := &waitingSink{release: make(chan Outcome)}
		o := mustOpen(t, newMemFS(), Options{SegmentRows: 1})
		<-o.SetSink(old)
		appendRows(t, o, "events_v1", 0, 3)
		synctest.Wait()
		r := &recorder{}
		released := o.SetSink(r)
		synctest.Wait()
		select {
		case <-released:
			t.Error("released while delivering")
		default:
		}
		old.release <- Delivered(0, nil)
		<-released
		synctest.Wait()
		if old.entered.Load() != 1 || r.count() != 2 {
			t.Errorf("%d through the old, %d through the new", old.entered.Load(), r.count())
		}
		<-o.SetSink(nil)
		appendRows(t, o, "events_v1", 3, 5)
		time.Sleep(time.Minute)
		if r.count() != 2 || o.Stats().Rows != 2 {
			t.Errorf("delivered without a sink: %d", r.count())
		}
		mustClose(t, o)
	})
}

// What a sink answers after it was replaced delays nothing: a token that was
// mended while a request with the old one was under way is used at once.
func TestAReplacedSinksAnswerDoesNotHoldTheNext(t *testing.T) {
	for name, late := range map[string]Outcome{"hold": Hold(errTest), "retry": Retry(time.Hour, errTest), "throttle": Throttle(time.Hour, errTest)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := mustOpen(t, newMemFS(), Options{})
				defer o.Close()
				appendRows(t, o, "events_v1", 0, 3)
				o.SetSink(&recorder{answer: func(Batch) Outcome { time.Sleep(5 * time.Second); return late }})
				time.Sleep(3 * time.Second)
				r := &recorder{}
				o.SetSink(r)
				time.Sleep(4 * time.Second)
				synctest.Wait()
				if r.count() != 1 || o.Stats().Rows != 0 || o.Stats().Datasources["events_v1"].State != StateOK {
					t.Errorf("%d tries, %+v", r.count(), o.Stats())
				}
			})
		})
	}
}
