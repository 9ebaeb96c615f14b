package tests

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// TestDeliveryIsMendedByReloads: a host that does not exist, a certificate that
// nobody vouches for, a redirect and a wrong token are told one after the other;
// the event waits through a kill, and arrives once its token is right, with the
// bytes of every try before.
func TestDeliveryIsMendedByReloads(t *testing.T) {
	t.Parallel()
	tb := standin.New(t)
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	defer untrusted.Close()
	var mu sync.Mutex
	hashes := map[string]bool{}
	moved := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if r.URL.Query().Get("name") == "events_v1" {
			sum := sha256.Sum256(body)
			mu.Lock()
			hashes[hex.EncodeToString(sum[:])] = true
			mu.Unlock()
		}
		http.Redirect(w, r, "https://api.us-east.tinybird.co/v0/events", http.StatusTemporaryRedirect)
	}))
	defer moved.Close()
	config := func(url, token string) string {
		return globals(fmt.Sprintf("\t\tsink tinybird {\n\t\t\turl %s\n\t\t\ttoken %s\n\t\t}", url, token)) + landing("30m")
	}
	c := startLanding(t, config("https://api.tinybird.invalid", "p.secret"))
	v := newVisitor(t, c.site, desktop, false)
	s := v.visit("/")
	v.post("events/track", map[string]any{"token": s.Session.Token, "event_id": "a", "event_type": "system", "event_uuid": "1"}).ok(t)
	told := func(what string) {
		t.Helper()
		eventually(t, 30*time.Second, "the log tells of "+what, func() error {
			for line := range strings.Lines(c.log.String()) {
				if strings.Contains(line, "events_v1") && strings.Contains(line, "delivery is") && strings.Contains(line, what) {
					return nil
				}
			}
			return fmt.Errorf("it doesn't")
		})
	}
	told("api.tinybird.invalid")
	c.reload(config(untrusted.URL, "p.secret"))
	told("certificate")
	c.reload(config(moved.URL, "p.secret"))
	told("redirected to https://api.us-east.tinybird.co")
	c.reload(config(tb.URL, "p.secret"))
	told("token refused")
	if strings.Contains(c.log.String(), "p.secret") {
		t.Error("the log shows the token")
	}
	c.kill()
	refused := len(tb.Batches("events_v1"))
	c.start()
	eventually(t, 30*time.Second, "it is refused after the start too", func() error {
		if n := len(tb.Batches("events_v1")); n == refused {
			return fmt.Errorf("%d requests", n)
		}
		return nil
	})
	if n := tb.Count("events_v1"); n != 0 {
		t.Fatalf("%d rows are in", n)
	}
	c.reload(config(tb.URL, standin.DefaultToken))
	waitRows(t, tb, "events_v1", 1)
	for _, b := range tb.Batches("events_v1") {
		mu.Lock()
		hashes[b.WireSHA256] = true
		mu.Unlock()
	}
	if len(hashes) != 1 || tb.Count("events_v1") != 1 {
		t.Errorf("bodies %v, %d rows", hashes, tb.Count("events_v1"))
	}
}
