package caddymodule

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestLocalTimeOfVisitors: hour and weekday at the visitor's place, over the
// changes of the clocks, as variables, placeholders and in expressions.
func TestLocalTimeOfVisitors(t *testing.T) {
	var now atomic.Pointer[time.Time]
	now.Store(new(time.Now()))
	setClock(t, func() time.Time { return *now.Load() })
	site, _ := loadSite(t, `geo headers custom {
			country X-Country
			timezone X-Zone
		}`, `	session_context {
		workspace ws_1
		project pr_1
		campaign cmp_1
	}
	@weekend vars session.local.weekday saturday sunday
	@office expression `+"`"+`{session.local.hour} != "" && int({session.local.hour}) >= 9 && int({session.local.hour}) < 17`+"`"+`
	handle @weekend {
		respond "{session.local.hour} {session.local.weekday} weekend"
	}
	handle @office {
		respond "{session.local.hour} {session.local.weekday} office"
	}
	handle {
		respond "{session.local.hour} {session.local.weekday} closed"
	}
`)

	for _, c := range []struct{ name, zone, utc, want string }{
		{"winter", "Europe/Berlin", "2026-01-14T08:30:00Z", "9 wednesday office"},
		{"the last second of winter time", "Europe/Berlin", "2026-03-29T00:59:59Z", "1 sunday weekend"},
		{"the first second of summer time", "Europe/Berlin", "2026-03-29T01:00:00Z", "3 sunday weekend"},
		{"the last second of summer time", "Europe/Berlin", "2026-10-25T00:59:59Z", "2 sunday weekend"},
		{"the same hour once more", "Europe/Berlin", "2026-10-25T01:00:00Z", "2 sunday weekend"},
		{"in the south it is the other way round", "Australia/Sydney", "2026-10-03T16:00:00Z", "3 sunday weekend"},
		{"a change at an hour that others have not", "America/New_York", "2026-03-08T07:00:00Z", "3 sunday weekend"},
		{"half hours", "Asia/Kolkata", "2026-06-01T11:29:00Z", "16 monday office"},
		{"and quarters", "Asia/Kathmandu", "2026-06-01T11:15:00Z", "17 monday closed"},
		{"tomorrow already", "Pacific/Kiritimati", "2026-05-29T10:00:00Z", "0 saturday weekend"},
		{"yesterday still", "Pacific/Honolulu", "2026-06-01T09:59:00Z", "23 sunday weekend"},
		{"an unknown zone", "Europe/Atlantis", "2026-06-01T09:59:00Z", "  closed"},
		{"the server's own zone is no visitor's", "Local", "2026-06-01T09:59:00Z", "  closed"},
		{"no zone", "", "2026-06-01T09:59:00Z", "  closed"},
		{"a file", "../../../etc/localtime", "2026-06-01T09:59:00Z", "  closed"},
	} {
		at, err := time.Parse(time.RFC3339, c.utc)
		if err != nil {
			t.Fatal(err)
		}
		now.Store(&at)
		req, err := http.NewRequest("GET", site+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/html")
		req.Header.Set("X-Country", "DE")
		req.Header.Set("X-Zone", c.zone)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != 200 || strings.TrimRight(string(body), "\n") != c.want {
			t.Errorf("%s: status %d, %q, error %v; want %q", c.name, res.StatusCode, body, err, c.want)
		}
	}
}
