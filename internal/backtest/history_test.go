package backtest

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	embedded "github.com/tocsin-io/tocsin/internal/embedded/clickhouse"
	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks/clickhouse"
)

func TestMain(m *testing.M) {
	// The embedded engine runs in a child, which is this program once more.
	if len(os.Args) > 1 && os.Args[1] == embedded.Command {
		os.Exit(embedded.ServeMain())
	}
	os.Exit(m.Run())
}

// TestHistory reads from the real engine what was stored there.
func TestHistory(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	engine, err := embedded.Start(ctx, embedded.Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	conn, err := clickhouse.Open(clickhouse.Options{URL: engine.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	m := clickhouse.Migrator{Conn: conn, Database: "past"}
	if _, err := m.Up(ctx); err != nil {
		t.Fatal(err)
	}
	first := time.Date(2026, 11, 20, 23, 59, 59, 999e6, time.UTC)
	want := schemas.Event{
		ID: schemas.NewEventID([]byte("1")), Time: first.UnixMilli(), IngestTime: first.UnixMilli() + 1500,
		Source: []byte("iot"), Type: []byte("Connect"), Account: []byte("1"), Region: []byte("eu-west-1"), Device: []byte("a"),
		ClientID: []byte("a"), ThingName: []byte("t"), CertificateID: []byte("c"), SourceIP: []byte("192.0.2.1"),
		RoleSession: []byte("s"), Message: []byte(`{"a":"'\\x"}`),
		Outcome: schemas.OutcomeFailure, CertificateStatus: schemas.CertRevoked, HasExpiry: true, DaysToExpiry: -3,
	}
	insert := func(id schemas.EventID, at int64, days string) {
		t.Helper()
		err := conn.Exec(ctx, fmt.Sprintf(`INSERT INTO past.events (time, ingest_time, id, source, event_type, account, region, device, client_id,
			thing_name, certificate_id, source_ip, role_session, outcome, certificate_status, certificate_days_to_expiry, late, message, kafka_partition, kafka_offset)
			VALUES (fromUnixTimestamp64Milli(%d), fromUnixTimestamp64Milli(%d), toUUID('%x-%x-%x-%x-%x'), 'iot', 'Connect', '1', 'eu-west-1', 'a', 'a', 't', 'c', '192.0.2.1', 's',
			'failure', 'REVOKED', %s, false, '{"a":"\'\\\\x"}', 0, 0)`,
			at, want.IngestTime, id[:4], id[4:6], id[6:8], id[8:10], id[10:], days))
		if err != nil {
			t.Fatal(err)
		}
	}
	second := want
	second.ID, second.Time = schemas.NewEventID([]byte("2")), first.UnixMilli()+1
	second.HasExpiry, second.DaysToExpiry = false, 0
	insert(want.ID, want.Time, "-3")
	insert(want.ID, want.Time, "-3") // delivered twice
	insert(second.ID, second.Time, "NULL")
	insert(schemas.NewEventID([]byte("before")), first.UnixMilli()-1, "NULL")
	insert(schemas.NewEventID([]byte("after")), first.UnixMilli()+2, "NULL")

	var got []schemas.Event
	h := &History{Conn: conn, Database: "past", From: first, To: first.Add(2 * time.Millisecond)}
	if _, err := h.Events(ctx, func(ev *schemas.Event) error {
		got = append(got, *ev.Clone())
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]schemas.Event{want, second}, got); diff != "" {
		t.Error(diff)
	}
	h.Database = "nowhere"
	if _, err := h.Events(ctx, func(*schemas.Event) error { return nil }); err == nil {
		t.Error("a database that is not there is read")
	}
}
