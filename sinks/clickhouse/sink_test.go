package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks"
)

// testEvent returns event n; equal n, equal event.
func testEvent(n int) *schemas.Event {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixMilli()
	outcome := schemas.OutcomeSuccess
	if n%5 == 0 {
		outcome = schemas.OutcomeFailure
	}
	return &schemas.Event{
		ID:         schemas.NewEventID([]byte("event"), fmt.Append(nil, n)),
		Time:       now + int64(n)*10,
		IngestTime: now + int64(n)*10 + 1500,
		Source:     []byte(schemas.SourceIoT), Type: []byte("Connect"), Account: []byte("123456789012"), Region: []byte("eu-west-1"),
		Device: fmt.Appendf(nil, "device-%d", n%100), ClientID: fmt.Appendf(nil, "device-%d", n%100),
		CertificateID: fmt.Appendf(nil, "%064x", n%100), SourceIP: fmt.Appendf(nil, "192.0.2.%d", n%7),
		Message: fmt.Appendf(nil, `{"n":%d}`, n), Outcome: outcome, CertificateStatus: schemas.CertActive,
		HasExpiry: n%2 == 0, DaysToExpiry: int32(n % 400),
	}
}

// eventRecord returns a record of the events from, from+1, ...
func eventRecord(partition int, offset int64, from, count int) *sinks.Record {
	var e schemas.BatchEncoder
	for n := range count {
		e.Append(testEvent(from+n), "lane")
	}
	return &sinks.Record{Topic: schemas.TopicEvents, Partition: partition, Offset: offset, Value: e.Bytes()}
}

// startSink runs a sink until the test ends.
func startSink(t testing.TB, conn *Conn, db string, change func(*SinkOptions), make func(SinkOptions) *Sink) *Sink {
	t.Helper()
	metrics := sinks.NewMetrics(prometheus.NewRegistry())
	o := SinkOptions{
		Conn: conn, Database: db, Name: "test", Metrics: metrics, Interval: 20 * time.Millisecond,
		Status:  sinks.NewStatus("test", metrics, zap.NewNop()),
		Backoff: sinks.Backoff{First: 5 * time.Millisecond, Max: 50 * time.Millisecond},
	}
	if change != nil {
		change(&o)
	}
	s := make(o)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return s
}

func open(t testing.TB, s *Sink, partition int, next int64) sinks.Partition {
	t.Helper()
	p, err := s.Open(t.Context(), schemas.TopicEvents, partition, next)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func write(t testing.TB, p sinks.Partition, rec *sinks.Record) {
	t.Helper()
	if err := p.Write(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
}

func closePartition(t testing.TB, p sinks.Partition) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// expectEvents checks the table, the view and the rollup against each other.
func expectEvents(t testing.TB, conn *Conn, db string, distinct int) {
	t.Helper()
	if got := scalar[uint64](t, conn, "SELECT count() FROM "+db+".events_distinct"); got != uint64(distinct) {
		t.Errorf("events_distinct has %d rows, want %d", got, distinct)
	}
	if got := scalar[uint64](t, conn, "SELECT uniqExact(id) FROM "+db+".events"); got != uint64(distinct) {
		t.Errorf("events has %d IDs, want %d", got, distinct)
	}
	if got := scalar[uint64](t, conn, "SELECT sum(events) FROM "+db+".events_per_minute"); got != uint64(distinct) {
		t.Errorf("events_per_minute counts %d, want %d", got, distinct)
	}
}

func TestEventsArriveWithEveryField(t *testing.T) {
	conn, db := migrated(t)
	s := startSink(t, conn, db, nil, NewEvents)
	p := open(t, s, 3, 40)
	write(t, p, eventRecord(3, 40, 0, 1000))
	write(t, p, eventRecord(3, 41, 1000, 1))
	closePartition(t, p)
	if next, idle := p.Stored(); next != 42 || !idle {
		t.Errorf("stored up to %d, idle %v; want 42, true", next, idle)
	}
	expectEvents(t, conn, db, 1001)
	want := testEvent(4)
	var (
		at, ingested                                            time.Time
		source, eventType, account, region, device, client      string
		thing, cert, ip, session, outcome, status, message, hex string
		expiry                                                  *int32
		late                                                    bool
		partition                                               uint32
		offset                                                  uint64
	)
	err := conn.QueryRow(t.Context(), "SELECT time, ingest_time, source, event_type, account, region, device, client_id, thing_name, certificate_id, source_ip,"+
		" role_session, outcome, certificate_status, message, certificate_days_to_expiry, late, kafka_partition, kafka_offset, lower(replaceAll(toString(id), '-', ''))"+
		" FROM "+db+".events_distinct WHERE id = ?", want.ID.String()).Scan(
		&at, &ingested, &source, &eventType, &account, &region, &device, &client, &thing, &cert, &ip,
		&session, &outcome, &status, &message, &expiry, &late, &partition, &offset, &hex)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(at.UnixMilli(), ingested.UnixMilli(), source, eventType, account, region, device, client, thing, cert, ip, session, outcome, status, message, *expiry, late, partition, offset, hex)
	exp := fmt.Sprintln(want.Time, want.IngestTime, string(want.Source), string(want.Type), string(want.Account), string(want.Region), string(want.Device),
		string(want.ClientID), string(want.ThingName), string(want.CertificateID), string(want.SourceIP), string(want.RoleSession),
		want.Outcome, want.CertificateStatus, string(want.Message), want.DaysToExpiry, false, 3, 40, want.ID)
	if got != exp {
		t.Errorf("got  %s\nwant %s", got, exp)
	}
	if n := scalar[uint64](t, conn, "SELECT countIf(certificate_days_to_expiry IS NULL) FROM "+db+".events"); n != 500 {
		t.Errorf("%d events without a known expiry, want 500", n)
	}
}

func TestLateAndImpossibleTimes(t *testing.T) {
	conn, db := migrated(t)
	s := startSink(t, conn, db, func(o *SinkOptions) { o.AllowedLateness = time.Minute }, NewEvents)
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixMilli()
	var e schemas.BatchEncoder
	times := []int64{now, now - 60_000, now - 60_001, now + 3_600_000, 0, -5, 1 << 62, -1 << 62}
	for i, at := range times {
		ev := testEvent(i)
		ev.Time, ev.IngestTime = at, now
		e.Append(ev, "lane")
	}
	p := open(t, s, 0, 0)
	write(t, p, &sinks.Record{Topic: schemas.TopicEvents, Value: e.Bytes()})
	closePartition(t, p)
	expectEvents(t, conn, db, len(times))
	// 0, -5 and -2^62 are late, as is now - 60,001 ms.
	if n := scalar[uint64](t, conn, "SELECT countIf(late) FROM "+db+".events_distinct"); n != 4 {
		t.Errorf("%d late events, want 4", n)
	}
	if n := scalar[uint64](t, conn, "SELECT count() FROM "+db+".events WHERE time = '1970-01-01 00:00:00'"); n != 3 {
		t.Errorf("%d events at the beginning of time, want 3", n)
	}
	if n := scalar[uint64](t, conn, "SELECT count() FROM "+db+".events WHERE toYear(time) = 2105"); n != 1 {
		t.Errorf("%d events at the end of time, want 1", n)
	}
}

func TestEventsOfManyDaysInOneRecord(t *testing.T) {
	conn, db := migrated(t)
	s := startSink(t, conn, db, nil, NewEvents)
	var e schemas.BatchEncoder
	for n := range 250 {
		ev := testEvent(n)
		ev.Time -= int64(n) * day
		e.Append(ev, "lane")
	}
	p := open(t, s, 0, 0)
	write(t, p, &sinks.Record{Topic: schemas.TopicEvents, Value: e.Bytes()})
	closePartition(t, p)
	expectEvents(t, conn, db, 250)
}

func TestMalformedRecordLeavesNoRows(t *testing.T) {
	conn, db := migrated(t)
	s := startSink(t, conn, db, func(o *SinkOptions) { o.Interval = time.Hour }, NewEvents)
	p := open(t, s, 0, 0)
	good := eventRecord(0, 0, 0, 10)
	write(t, p, good)
	for n, value := range [][]byte{
		[]byte("not protobuf at all"),
		append(eventRecord(0, 0, 10, 10).Value, 0xff), // ten events, then nonsense
	} {
		err := p.Write(t.Context(), &sinks.Record{Topic: schemas.TopicEvents, Offset: int64(n) + 1, Value: value})
		var why *sinks.Rejected
		if !errors.As(err, &why) || why.Reason != sinks.ReasonMalformed {
			t.Fatalf("value %d: %v", n, err)
		}
	}
	write(t, p, &sinks.Record{Topic: schemas.TopicEvents, Offset: 3}) // no events at all
	write(t, p, eventRecord(0, 4, 20, 10))
	closePartition(t, p)
	expectEvents(t, conn, db, 20)
	if next, idle := p.Stored(); next != 5 || !idle {
		t.Errorf("stored up to %d, idle %v", next, idle)
	}
}

// flaky is a proxy in front of the engine that fails as told.
type flaky struct {
	*http.Server
	url    string
	before atomic.Int32 // inserts to fail before the engine sees them
	after  atomic.Int32 // inserts whose answer is lost
	lost   atomic.Int32 // how many were
}

func newFlaky(t testing.TB) *flaky {
	t.Helper()
	target, err := url.Parse(engine.URL())
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{}
	proxy := httputil.NewSingleHostReverseProxy(target)
	// A new connection says hello with a query that has the same settings.
	isInsert := func(r *http.Request) bool { return strings.HasPrefix(r.URL.Query().Get("query"), "INSERT ") }
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isInsert(r) && f.before.Load() > 0 {
			f.before.Add(-1)
			panic(http.ErrAbortHandler)
		}
		if isInsert(r) && f.after.Load() > 0 {
			f.after.Add(-1)
			f.lost.Add(1)
			proxy.ServeHTTP(discard{http.Header{}}, r)
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.Server = &http.Server{Handler: handler}
	f.url = "http://" + l.Addr().String()
	go func() { _ = f.Serve(l) }() // until Close
	t.Cleanup(func() { f.Close() })
	return f
}

// discard takes an answer and tells nobody.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

func TestRetriesCountNothingTwice(t *testing.T) {
	direct, db := migrated(t)
	f := newFlaky(t)
	s := startSink(t, connect(t, f.url), db, nil, NewEvents)
	parts := []sinks.Partition{open(t, s, 0, 0), open(t, s, 1, 0)}
	total := 0
	for offset := range int64(6) {
		for n, p := range parts {
			write(t, p, eventRecord(n, offset, total, 50))
			total += 50
		}
		f.before.Store(1)
		f.after.Store(2)
		closePartition(t, parts[0]) // waits for the block
		closePartition(t, parts[1])
	}
	if f.lost.Load() < 6 {
		t.Fatalf("only %d answers were lost: the test tested nothing", f.lost.Load())
	}
	// Without a single duplicate row: the token did it, not FINAL.
	if n := scalar[uint64](t, direct, "SELECT count() FROM "+db+".events"); n != uint64(total) {
		t.Errorf("events has %d rows, want %d", n, total)
	}
	expectEvents(t, direct, db, total)
}

func TestRestartBetweenInsertAndCommit(t *testing.T) {
	conn, db := migrated(t)
	first := startSink(t, conn, db, nil, NewEvents)
	p := open(t, first, 0, -1)
	for offset := range int64(10) {
		write(t, p, eventRecord(0, offset, int(offset)*20, 20))
	}
	closePartition(t, p)
	// The process dies here. The next one reads from offset 4, which was
	// committed, in other blocks and with new records behind.
	second := startSink(t, conn, db, func(o *SinkOptions) { o.Rows = 70 }, NewEvents)
	p = open(t, second, 0, 4)
	for offset := int64(4); offset < 15; offset++ {
		write(t, p, eventRecord(0, offset, int(offset)*20, 20))
	}
	closePartition(t, p)
	if next, idle := p.Stored(); next != 15 || !idle {
		t.Errorf("stored up to %d, idle %v", next, idle)
	}
	if n := scalar[uint64](t, conn, "SELECT count() FROM "+db+".events"); n != 300 {
		t.Errorf("events has %d rows, want 300", n)
	}
	expectEvents(t, conn, db, 300)
}

func TestRecreatedTopicIsNotTakenForStored(t *testing.T) {
	conn, db := migrated(t)
	s := startSink(t, conn, db, nil, NewEvents)
	p := open(t, s, 0, -1)
	write(t, p, eventRecord(0, 0, 0, 20))
	closePartition(t, p)
	// The same offset, the same number of events, but others.
	p = open(t, s, 0, -1)
	write(t, p, eventRecord(0, 0, 500, 20))
	closePartition(t, p)
	expectEvents(t, conn, db, 40)
}

func TestRedeliveredEventsCollapse(t *testing.T) {
	conn, db := migrated(t)
	s := startSink(t, conn, db, nil, NewEvents)
	p := open(t, s, 0, 0)
	write(t, p, eventRecord(0, 0, 0, 100))
	write(t, p, eventRecord(0, 1, 50, 100)) // half of it again: the source delivered twice
	closePartition(t, p)
	if n := scalar[uint64](t, conn, "SELECT count() FROM "+db+".events_distinct"); n != 150 {
		t.Errorf("events_distinct has %d rows, want 150", n)
	}
	if err := conn.Exec(t.Context(), "OPTIMIZE TABLE "+db+".events FINAL"); err != nil {
		t.Fatal(err)
	}
	if n := scalar[uint64](t, conn, "SELECT count() FROM "+db+".events"); n != 150 {
		t.Errorf("after a merge events has %d rows, want 150", n)
	}
}

func TestFullSinkWaitsAndLosesNothing(t *testing.T) {
	direct, db := migrated(t)
	f := newFlaky(t)
	f.before.Store(1 << 30) // ClickHouse is away
	s := startSink(t, connect(t, f.url), db, func(o *SinkOptions) { o.Rows, o.Interval = 100, time.Hour }, NewEvents)
	p := open(t, s, 0, 0)
	var offset int64
	for ; ; offset++ {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := p.Write(ctx, eventRecord(0, offset, int(offset)*50, 50))
		cancel()
		if err != nil {
			break
		}
		if offset > 10 {
			t.Fatal("the sink takes records without an end")
		}
	}
	// Two blocks of two records each, and not one more.
	if offset != 4 {
		t.Errorf("the sink took %d records of 50 rows, want 4", offset)
	}
	if next, idle := p.Stored(); next != 0 || idle {
		t.Errorf("stored up to %d, idle %v, while ClickHouse is away", next, idle)
	}
	if s.opts.Status.Err() == nil {
		t.Error("readiness does not show that the sink fails")
	}
	f.before.Store(0)
	for ; offset < 20; offset++ {
		write(t, p, eventRecord(0, offset, int(offset)*50, 50))
	}
	closePartition(t, p)
	expectEvents(t, direct, db, 1000)
	if err := s.opts.Status.Err(); err != nil {
		t.Errorf("readiness after the return: %v", err)
	}
}

func TestConcurrentPartitions(t *testing.T) {
	conn, db := migrated(t)
	s := startSink(t, conn, db, func(o *SinkOptions) { o.Rows, o.Interval = 700, 5*time.Millisecond }, NewEvents)
	var wg sync.WaitGroup
	for number := range 8 {
		wg.Go(func() {
			p := open(t, s, number, 0)
			for offset := range int64(50) {
				if err := p.Write(t.Context(), eventRecord(number, offset, (number*50+int(offset))*10, 10)); err != nil {
					t.Error(err)
					return
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := p.Close(ctx); err != nil {
				t.Error(err)
			}
			if next, idle := p.Stored(); next != 50 || !idle {
				t.Errorf("partition %d: stored up to %d, idle %v", number, next, idle)
			}
		})
	}
	wg.Wait()
	expectEvents(t, conn, db, 4000)
}
