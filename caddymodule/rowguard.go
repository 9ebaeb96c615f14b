package caddymodule

import (
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
	schema "github.com/firebuzz/caddy-sessionctx/tinybird"
)

// invalidRow is one that would not arrive as meant: Tinybird would set it aside
// and answer that all is well, or take it and garble it.
type invalidRow struct {
	outbox.Row
	why string // without the row's values
}

// guard holds rows to the columns that they are for, before they are in the
// outbox. It returns those that fit, which nearly always is what it was given,
// and the others. They would spoil a batch and must not be lost: they go to the
// dead letters, as durable as if they had been taken, and the client, whose
// fault they can't be, is answered so.
func guard(rows []outbox.Row) (fit []outbox.Row, invalid []invalidRow) {
	for i, row := range rows {
		err := checkRow(row)
		switch {
		case err == nil && invalid == nil:
		case err == nil:
			fit = append(fit, row)
		default:
			if invalid == nil {
				fit = append(fit, rows[:i]...)
			}
			invalid = append(invalid, invalidRow{row, outline(err)})
		}
	}
	if invalid == nil {
		return rows, nil
	}
	return fit, invalid
}

// checkRow reports whether a row would arrive as meant.
func checkRow(row outbox.Row) error {
	set, err := schema.Load() // once a process; tests keep it from failing
	if err != nil {
		return nil
	}
	columns, ok := set.Datasource(row.Datasource)
	if !ok {
		return fmt.Errorf("no datasource is called %s", row.Datasource)
	}
	return columns.Check(row.JSON)
}

// outline is an error's text without the row's values.
func outline(err error) string {
	var r *schema.RowError
	if errors.As(err, &r) {
		return r.Outline()
	}
	return err.Error()
}

// tell counts invalid rows and logs one of them a minute.
func (p *pooledOutbox) tell(invalid []invalidRow) {
	for _, row := range invalid {
		theMetrics.invalid.WithLabelValues(row.Datasource).Inc()
		p.invalidRows.Do(func() {
			p.log.Error("a row would not have arrived as meant, so it is kept among the dead letters and not sent: this is a fault of the module, please report it; `caddy session-context outbox letters` lists what is kept",
				zap.String("datasource", row.Datasource), zap.String("reason", row.why))
		})
	}
}
