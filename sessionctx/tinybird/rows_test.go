package tinybird

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

func TestWhatIsSentIsMadeOfTheBatch(t *testing.T) {
	var sent []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		plain, err := unpacked(r.Body)
		if err != nil {
			t.Error(err)
		}
		sent = append(sent, string(plain))
		io.WriteString(w, `{"successful_rows":2,"quarantined_rows":0}`)
	}))
	defer srv.Close()
	broken := errors.New("a row is broken")
	c := newClient(t, srv.URL, func(cfg *Config) {
		cfg.Rows = func(datasource string, body []byte) ([]byte, bool, error) {
			switch datasource {
			case "events_v1":
				return bytes.ReplaceAll(body, []byte("n"), []byte("m")), true, nil
			case "session_v1":
				return nil, false, broken
			}
			return nil, false, nil
		}
	})
	for _, test := range []struct {
		datasource string
		verdict    outbox.Verdict
		reason     error
		sent       int
	}{
		{"events_v1", outbox.VerdictDelivered, nil, 1},
		{"session_v1", outbox.VerdictBlame, broken, 0},
		{"consents_v1", outbox.VerdictDelivered, nil, 0},
	} {
		sent = nil
		b := batch(2)
		b.Datasource = test.datasource
		body := bytes.Clone(b.Body)
		out := c.Deliver(context.Background(), b)
		if out.Verdict != test.verdict || !errors.Is(out.Reason, test.reason) || len(sent) != test.sent {
			t.Errorf("%s: %+v, sent %q", test.datasource, out, sent)
		}
		if !bytes.Equal(b.Body, body) {
			t.Errorf("%s: the batch was changed", test.datasource)
		}
		if len(sent) == 1 && sent[0] != "{\"m\":0}\n{\"m\":1}\n" {
			t.Errorf("sent %q", sent[0])
		}
	}
}
