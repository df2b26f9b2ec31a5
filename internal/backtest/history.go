package backtest

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks/clickhouse"
)

// History is a Source of the events in ClickHouse.
type History struct {
	Conn     *clickhouse.Conn
	Database string
	From, To time.Time // From <= time < To
	// Progress is called with the rows read and their number. It must not block.
	Progress func(done, total int64)
}

const historyColumns = `time, ingest_time, id, source, event_type, account, region, device, client_id, thing_name, certificate_id,
	source_ip, role_session, outcome, certificate_status, certificate_days_to_expiry, message`

// Events implements Source. It reads day by day, as the table is partitioned, in
// whatever order ClickHouse finds cheapest.
func (h *History) Events(ctx context.Context, emit func(*schemas.Event) error) (SourceStats, error) {
	var stats SourceStats
	table := "`" + h.Database + "`.events_distinct"
	var total uint64
	row := h.Conn.QueryRow(ctx, "SELECT count() FROM "+table+" WHERE time >= fromUnixTimestamp64Milli(?) AND time < fromUnixTimestamp64Milli(?)",
		h.From.UnixMilli(), h.To.UnixMilli())
	if err := row.Scan(&total); err != nil {
		return stats, fmt.Errorf("count the events in ClickHouse: %w", err)
	}
	var done int64
	for from := h.From; from.Before(h.To); {
		to := from.UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
		if to.After(h.To) {
			to = h.To
		}
		err := h.read(ctx, table, from, to, func(ev *schemas.Event) error {
			if done++; h.Progress != nil && done%10_000 == 0 {
				h.Progress(done, int64(total))
			}
			return emit(ev)
		})
		if err != nil {
			return stats, fmt.Errorf("events from %s to %s in ClickHouse: %w", from.Format(time.RFC3339), to.Format(time.RFC3339), err)
		}
		from = to
	}
	return stats, nil
}

func (h *History) read(ctx context.Context, table string, from, to time.Time, emit func(*schemas.Event) error) error {
	rows, err := h.Conn.Query(ctx, "SELECT "+historyColumns+" FROM "+table+
		" WHERE time >= fromUnixTimestamp64Milli(?) AND time < fromUnixTimestamp64Milli(?)", from.UnixMilli(), to.UnixMilli())
	if err != nil {
		return err
	}
	defer rows.Close()
	var at, ingested time.Time
	var id uuid.UUID
	var source, eventType, account, region, device, clientID, thing, certificate, address, session, outcome, status, message string
	var days *int32
	for rows.Next() {
		if err := rows.Scan(&at, &ingested, &id, &source, &eventType, &account, &region, &device, &clientID, &thing, &certificate,
			&address, &session, &outcome, &status, &days, &message); err != nil {
			return err
		}
		ev := schemas.Event{
			ID: schemas.EventID(id), Time: at.UnixMilli(), IngestTime: ingested.UnixMilli(),
			Source: []byte(source), Type: []byte(eventType), Account: []byte(account), Region: []byte(region),
			Device: []byte(device), ClientID: []byte(clientID), ThingName: []byte(thing), CertificateID: []byte(certificate),
			SourceIP: []byte(address), RoleSession: []byte(session), Message: []byte(message),
		}
		for o := schemas.OutcomeUnknown; o <= schemas.OutcomeFailure; o++ {
			if o.String() == outcome {
				ev.Outcome = o
			}
		}
		for s := schemas.CertUnspecified; s <= schemas.CertUnknown; s++ {
			if s.String() == status {
				ev.CertificateStatus = s
			}
		}
		if days != nil {
			ev.HasExpiry, ev.DaysToExpiry = true, *days
		}
		if err := emit(&ev); err != nil {
			return err
		}
	}
	return rows.Err()
}
