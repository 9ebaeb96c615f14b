package engine

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/engine/month"
)

// The month ends before today, and so is younger than what datasources keep.
var aMonth = sync.OnceValue(func() *month.Truth {
	today := time.Now().UTC().Truncate(24 * time.Hour)
	return month.Make(7, today.AddDate(0, 0, -45), 3000)
})

// loads are the month's rows as they arrive in two orders, with other batches
// and events twice in each. The databases are kept for all tests, which read.
var loads = []func() (*ClickHouse, error){
	sync.OnceValues(func() (*ClickHouse, error) { return load(1) }),
	sync.OnceValues(func() (*ClickHouse, error) { return load(2) }),
}

func load(seed uint64) (*ClickHouse, error) {
	c, err := Open(data)
	if err != nil {
		return nil, err
	}
	for _, batch := range aMonth().Batches(seed) {
		if err := c.Insert(batch.Datasource, batch.Rows); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// asked calls f with each question about the first load of the month, and with
// the first ones about the other, from which no figure may differ.
func asked(t *testing.T, f func(t *testing.T, c *ClickHouse, q question)) {
	for i, load := range loads {
		c, err := load()
		if err != nil {
			t.Fatal(err)
		}
		names := questionNames
		if i > 0 {
			names = names[:3]
		}
		for _, name := range names {
			t.Run(fmt.Sprintf("load %d, %s", i+1, name), func(t *testing.T) {
				f(t, c, questions()[name])
			})
		}
	}
}

var questionNames = []string{
	"ten days", "the whole month", "three hours and a bit", "a period without anybody", "each renewal too",
	"programs too", "euros", "the preview", "a deployment for development", "another workspace", "another project", "another campaign",
}

func questions() map[string]question {
	base := question{truth: aMonth(), tenant: month.Main, period: days(aMonth(), 12, 10), conversion: month.Conversion, currency: "USD"}
	with := func(change func(*question)) question {
		q := base
		change(&q)
		return q
	}
	return map[string]question{
		"ten days":        base,
		"the whole month": with(func(q *question) { q.period = days(aMonth(), 0, 40) }),
		"three hours and a bit": with(func(q *question) {
			start := aMonth().Start.AddDate(0, 0, 9).Add(14*time.Hour + 17*time.Minute + 3*time.Millisecond)
			q.period = period{start, start.Add(3*time.Hour + 14*time.Minute)}
		}),
		"a period without anybody":     with(func(q *question) { q.period = days(aMonth(), -20, 2) }),
		"each renewal too":             with(func(q *question) { q.renewals = true }),
		"programs too":                 with(func(q *question) { q.programs = true }),
		"euros":                        with(func(q *question) { q.currency = "EUR" }),
		"the preview":                  with(func(q *question) { q.tenant = month.Preview }),
		"a deployment for development": with(func(q *question) { q.tenant = month.Development }),
		"another workspace":            with(func(q *question) { q.tenant = month.OtherTenant }),
		"another project":              with(func(q *question) { q.tenant = month.OtherOne }),
		"another campaign":             with(func(q *question) { q.tenant = month.OtherPage }),
	}
}
