package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
	"github.com/firebuzz/caddy-sessionctx/sessionctx/tinybird"
)

// answerTime is how long the stand-in takes for a batch.
const answerTime = 200 * time.Millisecond

// slowAPI answers as the Events API does, late.
type slowAPI struct{ rows atomic.Int64 }

func (s *slowAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	z, err := gzip.NewReader(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(z)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	n := bytes.Count(body, []byte("\n"))
	time.Sleep(answerTime)
	s.rows.Add(int64(n))
	fmt.Fprintf(w, `{"successful_rows":%d,"quarantined_rows":0}`, n)
}

// measureCatchUp delivers what an outage left, through the client for
// Tinybird, while rows go on to arrive.
func (b *bench) measureCatchUp() error {
	minutes := 10
	if b.short {
		minutes = 2
	}
	api := &slowAPI{}
	server := httptest.NewServer(api)
	defer server.Close()
	client, err := tinybird.New(tinybird.Config{URL: server.URL, Token: "p.bench"})
	if err != nil {
		return err
	}
	o, err := outbox.Open(b.fresh("catchup"), outbox.Options{MaxDisk: 1 << 40})
	if err != nil {
		return err
	}
	defer o.Close()
	second := make([]outbox.Row, arrival/10)
	for i := range second {
		second[i] = outbox.Row{Datasource: datasource, JSON: eventRow}
	}
	backlog := minutes * 60 * arrival
	for range backlog / len(second) {
		if err := o.Append(context.Background(), second...); err != nil {
			return err
		}
	}
	began := time.Now()
	o.SetSink(client)
	tick := time.NewTicker(time.Second / 10)
	defer tick.Stop()
	for api.rows.Load() < int64(backlog) {
		<-tick.C
		if err := o.Append(context.Background(), second...); err != nil {
			return err
		}
		if time.Since(began) > 5*time.Minute {
			return fmt.Errorf("%d of %d rows are delivered after 5 minutes", api.rows.Load(), backlog)
		}
	}
	took := time.Since(began)
	rate := float64(api.rows.Load()) / took.Seconds()
	fmt.Printf("\n**Catching up** after %d minutes without a sink, at %d rows/s that go on to arrive, one request in flight, answered after %v: %.0f rows/s, all of it delivered after %v\n",
		minutes, arrival, answerTime, rate, took.Round(100*time.Millisecond))
	b.Bar("catching up ≥ 5 × arrival", fmt.Sprintf("%.1f ×", rate/arrival), rate >= 5*arrival)
	return nil
}
