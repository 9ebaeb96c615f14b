package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

func namedSink(name string, s *standin.Server) string {
	return fmt.Sprintf("\n\t\tsink tinybird {\n\t\t\tname %s\n\t\t\turl %s\n\t\t\ttoken %s\n\t\t}", name, s.URL, standin.DefaultToken)
}

// track sends an event and returns once it is acknowledged.
func track(t *testing.T, v *visitor, token, uuid string) {
	t.Helper()
	v.post("events/track", map[string]any{"token": token, "event_id": "a", "event_type": "system", "event_uuid": uuid, "metadata": map[string]any{"uuid": uuid}}).ok(t)
}

// missing are those events of a list that a stand-in has not got.
func missing(s *standin.Server, uuids []string) (list []string) {
	rows, _ := s.Distinct("events_v1")
	have := map[string]bool{}
	for _, r := range rows {
		have[fmt.Sprint(r["metadata"])] = true
	}
	for _, u := range uuids {
		if !have[`{"uuid":"`+u+`"}`] {
			list = append(list, u)
		}
	}
	return list
}

func waitAll(t *testing.T, who string, s *standin.Server, uuids []string) {
	t.Helper()
	eventually(t, 60*time.Second, who+" gets every event", func() error {
		if list := missing(s, uuids); len(list) > 0 {
			return fmt.Errorf("%d of %d are missing, %s first", len(list), len(uuids), list[0])
		}
		return nil
	})
}

// TestMirrorHasItsOwnProgress: while one sink fails the other gets everything,
// whichever it is; the one that failed gets the same after a kill.
func TestMirrorHasItsOwnProgress(t *testing.T) {
	for _, failing := range []int{0, 1} {
		t.Run(fmt.Sprint("sink ", failing, " fails"), func(t *testing.T) {
			t.Parallel()
			sinks := []*standin.Server{standin.New(t), standin.New(t)}
			bad, good := sinks[failing], sinks[1-failing]
			bad.Fail("events_v1", standin.Fault{Status: 503}, -1)
			c := startLanding(t, globals(namedSink("a", sinks[0])+namedSink("b", sinks[1]))+landing("30m"))
			v := newVisitor(t, c.site, desktop, false)
			s := v.visit("/")
			var sent []string
			for i := range 5 {
				sent = append(sent, fmt.Sprint(i))
				track(t, v, s.Session.Token, fmt.Sprint(i))
			}
			waitAll(t, "the one that works", good, sent)
			waitRows(t, good, "session_v1", 1)
			waitRows(t, bad, "session_v1", 1)
			c.kill()
			if n := bad.Count("events_v1"); n != 0 {
				t.Fatalf("the one that fails has %d rows", n)
			}
			bad.Heal("events_v1")
			c.start()
			waitAll(t, "the other", bad, sent)
			if failing == 1 {
				eventually(t, 10*time.Second, "the mirror's rows are counted", func() error {
					if n := c.metric(`caddy_session_context_mirror_delivered_rows_total{datasource="events_v1",sink="b"}`); n != 5 {
						return fmt.Errorf("the metric is %v", n)
					}
					return nil
				})
			}
		})
	}
}

// TestLettersOfAMirror: the dead letters of a mirror are listed, shown, sent
// again and deleted under its name, and the first sink has none of them.
func TestLettersOfAMirror(t *testing.T) {
	t.Parallel()
	a, b := standin.New(t), standin.New(t)
	b.Fail("events_v1", standin.Fault{Status: 422}, 2)
	c := startLanding(t, globals(namedSink("a", a)+namedSink("b", b))+landing("30m"))
	first := sends(t, c, "one")
	letters := func(n int) (list []letter) {
		eventually(t, 20*time.Second, fmt.Sprintf("%d letters of the mirror", n), func() error {
			var answer struct{ Letters []letter }
			out := c.mustOutbox("letters", "--sink", "b", "--json")
			if err := json.Unmarshal([]byte(out), &answer); err != nil || len(answer.Letters) != n {
				return fmt.Errorf("%v: %s", err, out)
			}
			list = answer.Letters
			return nil
		})
		return list
	}
	letters(1)
	second := sends(t, c, "two")
	list := letters(2)
	eventually(t, 20*time.Second, "the first sink has both", func() error {
		return errors.Join(arrived(a, "events_v1", first), arrived(a, "events_v1", second))
	})
	if out := c.mustOutbox("letters"); !strings.HasPrefix(out, "none") {
		t.Errorf("letters of the first sink: %s", out)
	}
	if out := c.mustOutbox("status", "--sink", "b"); !strings.Contains(out, "mirror.b: 0 rows wait") {
		t.Errorf("status: %s", out)
	}
	if out := c.mustOutbox("show", list[0].ID, "--sink", "b"); !strings.Contains(out, first) {
		t.Errorf("show: %s", out)
	}
	if out := c.mustOutbox("show", list[1].ID, "--sink", "b", "--raw"); !strings.HasPrefix(out, "{") || !strings.Contains(out, second) {
		t.Errorf("show --raw: %s", out)
	}
	c.mustOutbox("resend", list[0].ID, "--sink", "b")
	eventually(t, 20*time.Second, "the mirror gets what is sent again", func() error { return arrived(b, "events_v1", first) })
	c.mustOutbox("delete", list[1].ID, "--sink", "b")
	letters(0)
	if arrived(b, "events_v1", second) == nil {
		t.Error("the mirror got what was deleted")
	}
	if out, err := c.outbox("letters", "--sink", "nope"); err == nil || !strings.Contains(out, "unknown_sink") || !strings.Contains(out, "known are b") {
		t.Errorf("an unknown sink: %v %s", err, out)
	}
}

// TestMirrorsComeAndGoUnderLoad: sinks are added, taken out and swapped by
// reloads while events come in. One that is always there, as the first or as a
// mirror, gets all of them; a mirror that was taken out gets, when it is back,
// what came in while it was there.
func TestMirrorsComeAndGoUnderLoad(t *testing.T) {
	t.Parallel()
	always, guest := standin.New(t), standin.New(t)
	a, b := namedSink("always", always), namedSink("guest", guest)
	site := landing("10m", "rate_limit 1000000 100000")
	c := startLanding(t, globals(a)+site)
	s := newVisitor(t, c.site, desktop, false).visit("/")
	guest.Fail("events_v1", standin.Fault{Status: 503}, -1) // what it gets waits over its absence

	var mu sync.Mutex
	var all, shared []string
	both := false // the guest is configured, and no reload is going on
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for worker := range 3 {
		wg.Go(func() {
			v := newVisitor(t, c.site, desktop, false)
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				mu.Lock()
				before := both
				mu.Unlock()
				uuid := fmt.Sprintf("%d-%d", worker, n)
				answer, err := v.tryCall("POST", "events/track", map[string]any{
					"token": s.Session.Token, "event_id": "a", "event_type": "system", "event_uuid": uuid, "metadata": map[string]any{"uuid": uuid},
				})
				if err != nil {
					continue // a reload closes idle connections
				}
				if answer.status != 200 {
					t.Errorf("an event during reloads: %d %s", answer.status, answer.body)
					return
				}
				mu.Lock()
				all = append(all, uuid)
				if before && both {
					shared = append(shared, uuid)
				}
				mu.Unlock()
			}
		})
	}
	set := func(v bool) { mu.Lock(); both = v; mu.Unlock() }
	for _, step := range []struct {
		sinks string
		guest bool
	}{{a + b, true}, {a, false}, {a + b, true}, {b + a, true}, {a + b, true}, {a, false}, {b + a, true}, {a + b, true}} {
		set(false)
		c.reload(globals(step.sinks) + site)
		set(step.guest)
		time.Sleep(400 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	if len(shared) < 20 || len(shared) == len(all) {
		t.Fatalf("%d events, %d of them with the guest: the test shows nothing", len(all), len(shared))
	}
	waitAll(t, "the one that is always there", always, all)
	guest.Heal("events_v1")
	c.mustOutbox("flush", "--sink", "guest") // it is tried ever more seldom by now
	waitAll(t, "the guest", guest, shared)
	t.Logf("%d events, %d of them with the guest", len(all), len(shared))
}

// TestMirrorThatLeavesIsTold: what it leaves is in the log at the reload and at
// the next start.
func TestMirrorThatLeavesIsTold(t *testing.T) {
	t.Parallel()
	first, second := standin.New(t), standin.New(t)
	second.Fail("events_v1", standin.Fault{Status: 503}, -1)
	c := startLanding(t, globals(namedSink("a", first)+namedSink("b", second))+landing("30m"))
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	track(t, v, s.Session.Token, "1")
	waitAll(t, "the first", first, []string{"1"})
	c.reload(globals(namedSink("a", first)) + landing("30m"))
	const line = "rows wait for a sink that is not configured any more"
	eventually(t, 30*time.Second, "the log tells", func() error {
		if c.log.count(line) != 1 {
			return fmt.Errorf("%d lines", c.log.count(line))
		}
		return nil
	})
	c.stop()
	c.start()
	eventually(t, 30*time.Second, "the log tells again", func() error {
		if c.log.count(line) != 2 {
			return fmt.Errorf("%d lines", c.log.count(line))
		}
		return nil
	})
	second.Heal("events_v1")
	c.reload(globals(namedSink("b", second)+namedSink("a", first)) + landing("30m"))
	waitAll(t, "it, as the first now,", second, []string{"1"})
}

// TestKafkaMirror: rows reach kfake, franz-go's stand-in for a cluster, keyed
// by their session; what waited while it was away comes after a stop and start.
func TestKafkaMirror(t *testing.T) {
	t.Parallel()
	topics := kfake.SeedTopics(3, "web.events_v1", "web.session_v1", "web.traffic_v1", "web.consents_v1")
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), topics, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "caddy", "s3cret"))
	if err != nil {
		t.Fatal(err)
	}
	addr := cluster.ListenAddrs()[0]
	first := standin.New(t)
	c := newCaddy(t, "KAFKA_PASSWORD=s3cret")
	writePage(t, c, "index.html", plainPage)
	c.write(globals(tinybirdSink(first)+"\n\t\tsink kafka "+addr+" {\n\t\t\ttopic_prefix web.\n\t\t\ttimeout 5s\n\t\t\tsasl scram_sha_256 caddy {env.KAFKA_PASSWORD}\n\t\t}") + landing("30m"))
	c.start()
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	track(t, v, s.Session.Token, "1")
	values := consumeKafka(t, addr, "web.events_v1", 1, s.Session.SessionID)
	if !strings.Contains(values[0], `{\"uuid\":\"1\"}`) {
		t.Errorf("message %s", values[0])
	}
	consumeKafka(t, addr, "web.session_v1", 1, s.Session.SessionID)
	cluster.Close()
	track(t, v, s.Session.Token, "2")
	waitAll(t, "the first", first, []string{"1", "2"})
	c.stop()
	if strings.Contains(c.log.String(), "s3cret") {
		t.Error("the log shows the password")
	}
	var port int
	fmt.Sscanf(addr[strings.LastIndex(addr, ":")+1:], "%d", &port)
	cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), topics, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "caddy", "s3cret"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	c.start()
	values = consumeKafka(t, addr, "web.events_v1", 1, s.Session.SessionID)
	if !strings.Contains(values[0], `{\"uuid\":\"2\"}`) {
		t.Errorf("message %s", values[0])
	}
}

// consumeKafka reads n messages and checks that their key is the session.
func consumeKafka(t *testing.T, addr, topic string, n int, session string) (values []string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SASL(scram.Auth{User: "caddy", Pass: "s3cret"}.AsSha256Mechanism()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for len(values) < n {
		for _, r := range client.PollFetches(ctx).Records() {
			if string(r.Key) != session {
				t.Errorf("key %s, session %s", r.Key, session)
			}
			values = append(values, string(r.Value))
		}
		if ctx.Err() != nil {
			t.Fatalf("%s has %d messages, want %d", topic, len(values), n)
		}
	}
	return values
}

// TestFileSinkThatCannotWrite: a directory that may not be written keeps rows
// in the outbox, pages and API go on, and they are written when it may.
func TestFileSinkThatCannotWrite(t *testing.T) {
	t.Parallel()
	c := newCaddy(t)
	writePage(t, c, "index.html", plainPage)
	if err := os.WriteFile(c.path("rows"), nil, 0o600); err != nil { // root may write anywhere, but not into a file
		t.Fatal(err)
	}
	c.write(globals("\t\tsink file DIR/rows") + landing("30m"))
	c.start()
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	track(t, v, s.Session.Token, "1")
	eventually(t, 30*time.Second, "the log tells", func() error {
		if !strings.Contains(c.log.String(), "delivery is failing") {
			return fmt.Errorf("it doesn't")
		}
		return nil
	})
	if res, _ := v.page("/"); res.StatusCode != http.StatusOK {
		t.Errorf("a page got %d", res.StatusCode)
	}
	if err := os.Remove(c.path("rows")); err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, "the rows are in their files", func() error {
		for _, ds := range []string{"events_v1", "session_v1", "traffic_v1"} {
			text, err := os.ReadFile(c.path("rows/" + ds + ".ndjson"))
			if err != nil {
				return err
			}
			if !strings.Contains(string(text), s.Session.SessionID) {
				return fmt.Errorf("%s has %q", ds, text)
			}
		}
		return nil
	})
}
