package clickhouse

import (
	"context"
	"fmt"
	"strings"

	"go.uber.org/zap"
)

// Retention is how many days the tables keep their rows; 0 is for ever. Certificates
// stay as long as the registry has them. It is no part of the migrations, because it may change at any time.
type Retention struct {
	EventsDays      int // since they were ingested
	DetectionsDays  int // since the rule's condition was met
	DeadLettersDays int // since they were rejected
	EventCountsDays int // since the minute
	ActionsDays     int // since the step
}

// maxRetention keeps time + retention within what DateTime holds (2106); beyond
// it the sum would wrap around, and every row would be due at once.
const maxRetention = 50 * 365

func (r Retention) tables() []tableRetention {
	return []tableRetention{
		{"events", "toDateTime(ingest_time)", r.EventsDays},
		{"detections", "toDateTime(created_time)", r.DetectionsDays},
		{"dead_letters", "toDateTime(time)", r.DeadLettersDays},
		{"event_counts", "minute", r.EventCountsDays},
		{"actions", "toDateTime(time)", r.ActionsDays},
	}
}

type tableRetention struct {
	table, from string
	days        int
}

func (r Retention) validate() error {
	for _, t := range r.tables() {
		if t.days < 0 || t.days > maxRetention {
			return fmt.Errorf("retention of %s is %d days: want 0 (for ever) to %d", t.table, t.days, maxRetention)
		}
	}
	return nil
}

// setRetention changes the tables whose TTL is not the one wanted.
func (m *Migrator) setRetention(ctx context.Context) error {
	for _, t := range m.Retention.tables() {
		var engine string
		err := m.Conn.QueryRow(ctx, "SELECT any(engine_full) FROM system.tables WHERE database = ? AND name = ?", m.Database, t.table).Scan(&engine)
		if err != nil {
			return fmt.Errorf("retention of %s: %w", t.table, err)
		}
		if engine == "" {
			continue // not among these migrations
		}
		has := strings.Contains(engine, " TTL ")
		alter := "ALTER TABLE " + quote(m.Database) + "." + t.table + m.onCluster()
		switch {
		case t.days == 0 && has:
			alter += " REMOVE TTL"
		case t.days > 0 && !strings.Contains(engine, fmt.Sprintf(" TTL %s + toIntervalDay(%d) ", t.from, t.days)):
			alter += fmt.Sprintf(" MODIFY TTL %s + toIntervalDay(%d)", t.from, t.days)
		default:
			continue
		}
		if err := m.exec(ctx, alter); err != nil {
			return fmt.Errorf("retention of %s: %w", t.table, err)
		}
		m.log().Info("retention set", zap.String("table", t.table), zap.Int("days", t.days))
	}
	return nil
}
