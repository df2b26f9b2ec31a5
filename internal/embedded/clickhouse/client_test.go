package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func open(t testing.TB, s *Server, change ...func(*ch.Options)) driver.Conn {
	t.Helper()
	opt := &ch.Options{Protocol: ch.HTTP, Addr: []string{s.Addr()}}
	for _, c := range change {
		c(opt)
	}
	conn, err := ch.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func mustExec(t testing.TB, conn driver.Conn, sql string) {
	t.Helper()
	if err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func count(t testing.TB, conn driver.Conn, sql string, args ...any) (n uint64) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

func compression(m ch.CompressionMethod) func(*ch.Options) {
	return func(o *ch.Options) {
		o.Compression = &ch.Compression{Method: m, Level: 3}
		if m == ch.CompressionGZIP || m == ch.CompressionBrotli || m == ch.CompressionDeflate {
			o.Settings = ch.Settings{"enable_http_compression": 1}
		}
	}
}

func TestPingAndVersion(t *testing.T) {
	conn := open(t, shared)
	if err := conn.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	v, err := conn.ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%d.%d", v.Version.Major, v.Version.Minor); got != "26.7" {
		t.Errorf("version %s", v)
	}
}

// row has the column types that Tocsin's tables use, and a few more.
type row struct {
	N     uint64            `ch:"n"`
	TS    time.Time         `ch:"ts"`
	Day   time.Time         `ch:"day"`
	Kind  string            `ch:"kind"`
	Text  string            `ch:"text"`
	Tags  map[string]string `ch:"tags"`
	Ports []uint16          `ch:"ports"`
	Cert  string            `ch:"cert"`
	Note  *string           `ch:"note"`
	ID    uuid.UUID         `ch:"id"`
	Level string            `ch:"level"`
	IP    net.IP            `ch:"ip"`
	Score float64           `ch:"score"`
	Flag  bool              `ch:"flag"`
	Delta int32             `ch:"delta"`
}

const rowColumns = `n UInt64, ts DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)), day Date, kind LowCardinality(String), text String,
	tags Map(LowCardinality(String), String), ports Array(UInt16), cert FixedString(8), note Nullable(String), id UUID,
	level Enum8('low' = 1, 'high' = 2), ip IPv6, score Float64, flag Bool, delta Int32`

func makeRow(i int) row {
	r := row{
		N: uint64(i), TS: time.UnixMicro(1_700_000_000_000_000 + int64(i)*1_000_001).UTC(),
		Day: time.Date(2026, 11, 1+i%28, 0, 0, 0, 0, time.UTC), Kind: fmt.Sprint("kind", i%7),
		Text: fmt.Sprintf(`{"eventType":"Connect","n":%d}`, i),
		Tags: map[string]string{"a": fmt.Sprint(i), "b": ""}, Ports: []uint16{uint16(i), 8883}[:i%3%2+1],
		Cert: fmt.Sprintf("%08x", i), ID: uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i)),
		Level: []string{"low", "high"}[i%2], IP: net.ParseIP("2001:db8::1").To16(),
		Score: float64(i) / 3, Flag: i%5 == 0, Delta: int32(-i),
	}
	if i%4 == 0 {
		note := fmt.Sprint("note ", i)
		r.Note = &note
	}
	return r
}

func TestInsertAndSelectManyTypes(t *testing.T) {
	const rows = 50_000
	for name, m := range map[string]ch.CompressionMethod{
		"none": ch.CompressionNone, "lz4": ch.CompressionLZ4, "zstd": ch.CompressionZSTD,
		"gzip": ch.CompressionGZIP, "brotli": ch.CompressionBrotli,
	} {
		t.Run(name, func(t *testing.T) {
			conn := open(t, shared, compression(m))
			table := "many_" + name
			mustExec(t, conn, "CREATE TABLE "+table+" ("+rowColumns+") ENGINE = MergeTree ORDER BY n")
			defer mustExec(t, conn, "DROP TABLE "+table)
			batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO "+table)
			if err != nil {
				t.Fatal(err)
			}
			for i := range rows {
				r := makeRow(i)
				if err := batch.AppendStruct(&r); err != nil {
					t.Fatal(err)
				}
			}
			if err := batch.Send(); err != nil {
				t.Fatal(err)
			}
			if n := count(t, conn, "SELECT count() FROM "+table); n != rows {
				t.Fatalf("%d rows in the table, want %d", n, rows)
			}
			got, err := conn.Query(t.Context(), "SELECT * FROM "+table+" WHERE n % 97 = 0 ORDER BY n")
			if err != nil {
				t.Fatal(err)
			}
			defer got.Close()
			i := 0
			for ; got.Next(); i += 97 {
				var r row
				if err := got.ScanStruct(&r); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(makeRow(i), r); diff != "" {
					t.Fatalf("row %d (-want +got):\n%s", i, diff)
				}
			}
			if err := got.Err(); err != nil || i < rows {
				t.Fatalf("read to row %d of %d: %v", i, rows, err)
			}
		})
	}
}

func TestParameters(t *testing.T) {
	conn := open(t, shared)
	// The interface takes values escaped as in TabSeparated.
	ctx := ch.Context(t.Context(), ch.WithParameters(ch.Parameters{"x": `it's\ta \\ "test"`, "n": "7"}))
	var x string
	var n uint8
	if err := conn.QueryRow(ctx, "SELECT {x:String}, {n:UInt8}").Scan(&x, &n); err != nil {
		t.Fatal(err)
	}
	if x != "it's\ta \\ \"test\"" || n != 7 {
		t.Errorf("got %q, %d", x, n)
	}
	if got := count(t, conn, "SELECT toUInt64(?) + toUInt64(?)", 3, 4); got != 7 {
		t.Errorf("positional: %d", got)
	}
	if got := count(t, conn, "SELECT toUInt64(@a) + length(@s)", ch.Named("a", 3), ch.Named("s", "four")); got != 7 {
		t.Errorf("named: %d", got)
	}
}

func TestErrorsCarryTheCode(t *testing.T) {
	for name, c := range map[string]struct {
		sql    string
		code   int32
		status int
	}{
		"table":    {"SELECT * FROM there_is_no_such_table", 60, 404},
		"syntax":   {"SELEC 1", 62, 400},
		"function": {"SELECT throwIf(1)", 395, 500},
		"database": {"CREATE TABLE no_such_db.t (a Int8) ENGINE = Memory", 81, 404},
		"setting":  {"SELECT 1 SETTINGS no_such_setting = 1", 115, 404},
		"outfile":  {"SELECT 1 INTO OUTFILE 'x'", 48, 501},
		"multi":    {"SELECT 1; SELECT 2", 62, 400},
	} {
		t.Run(name, func(t *testing.T) {
			for _, m := range []ch.CompressionMethod{ch.CompressionNone, ch.CompressionLZ4} {
				conn := open(t, shared, compression(m))
				rows, err := conn.Query(t.Context(), c.sql)
				if err == nil {
					rows.Close()
				}
				var e *ch.Exception
				if !errors.As(err, &e) || e.Code != c.code {
					t.Fatalf("got %v, want an exception with code %d", err, c.code)
				}
				var h *ch.HTTPError
				if !errors.As(err, &h) || h.StatusCode != c.status {
					t.Errorf("got %v, want status %d", err, c.status)
				}
			}
		})
	}
}

func TestErrorInTheMiddleOfAResult(t *testing.T) {
	for _, m := range []ch.CompressionMethod{ch.CompressionNone, ch.CompressionLZ4, ch.CompressionGZIP} {
		conn := open(t, shared, compression(m))
		rows, err := conn.Query(t.Context(), "SELECT number, throwIf(number = 300000) FROM numbers(400000) SETTINGS max_threads = 1")
		n := 0
		if err == nil {
			for rows.Next() {
				n++
			}
			err = rows.Err()
			rows.Close()
		}
		var e *ch.Exception
		if !errors.As(err, &e) || e.Code != 395 {
			t.Errorf("%v: after %d rows: %v, want an exception with code 395", m, n, err)
		}
		if n == 0 {
			t.Errorf("%v: no row came before the error: the result was not streamed", m)
		}
	}
}

func TestDeduplicationToken(t *testing.T) {
	conn := open(t, shared)
	mustExec(t, conn, "CREATE TABLE dedup (n UInt64) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 1000")
	defer mustExec(t, conn, "DROP TABLE dedup")
	for _, token := range []string{"a:0:1-2", "a:0:1-2", "it's:0:3-4"} {
		ctx := ch.Context(t.Context(), ch.WithSettings(ch.Settings{"insert_deduplication_token": token}))
		batch, err := conn.PrepareBatch(ctx, "INSERT INTO dedup (n)")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			if err := batch.Append(uint64(i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := batch.Send(); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, conn, "SELECT count() FROM dedup"); n != 20 {
		t.Errorf("%d rows, want 20: one of the three inserts repeats a token", n)
	}
}

// Settings and the current database belong to a request, although requests
// share the engine's sessions.
func TestRequestsLeaveNoTrace(t *testing.T) {
	conn := open(t, shared)
	mustExec(t, conn, "CREATE DATABASE IF NOT EXISTS other")
	other := open(t, shared, func(o *ch.Options) {
		o.Auth.Database = "other"
		o.Settings = ch.Settings{"max_threads": 1}
	})
	mustExec(t, conn, "SET max_block_size = 17")
	mustExec(t, conn, "USE other")
	const sql = "SELECT currentDatabase() || ',' || toString(getSetting('max_threads') = 1) || ',' || toString(getSetting('max_block_size') = 17)"
	for range 20 {
		var a, b string
		if err := other.QueryRow(t.Context(), sql).Scan(&b); err != nil {
			t.Fatal(err)
		}
		if err := conn.QueryRow(t.Context(), sql).Scan(&a); err != nil {
			t.Fatal(err)
		}
		if a != "default,0,0" || b != "other,1,0" {
			t.Fatalf("got %s and %s", a, b)
		}
	}
}

func TestConcurrentClients(t *testing.T) {
	conn := open(t, shared)
	mustExec(t, conn, "CREATE TABLE concurrent (client UInt8, n UInt64) ENGINE = MergeTree ORDER BY (client, n)")
	defer mustExec(t, conn, "DROP TABLE concurrent")
	const clients, batches, rows = 16, 5, 2000
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			conn := open(t, shared, compression(ch.CompressionLZ4))
			for b := range batches {
				batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO concurrent")
				if err != nil {
					t.Error(err)
					return
				}
				for i := range rows {
					if err := batch.Append(uint8(c), uint64(b*rows+i)); err != nil {
						t.Error(err)
					}
				}
				if err := batch.Send(); err != nil {
					t.Error(err)
					return
				}
				var n uint64
				if err := conn.QueryRow(t.Context(), "SELECT count() FROM concurrent WHERE client = ?", c).Scan(&n); err != nil {
					t.Error(err)
				}
				if n != uint64((b+1)*rows) {
					t.Errorf("client %d reads %d of its %d rows", c, n, (b+1)*rows)
				}
			}
		})
	}
	wg.Wait()
	if n := count(t, conn, "SELECT uniqExact(client, n) FROM concurrent"); n != clients*batches*rows {
		t.Errorf("%d rows, want %d", n, clients*batches*rows)
	}
}

func TestCancelledQueryStops(t *testing.T) {
	conn := open(t, shared)
	for name, sql := range map[string]string{
		"before the first row": "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 7",
		"between rows":         "SELECT number FROM numbers(1000000000000)",
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			rows, err := conn.Query(ctx, sql)
			if err == nil {
				for rows.Next() {
				}
				err = rows.Err()
				rows.Close()
			}
			if err == nil {
				t.Fatal("the query came to an end")
			}
			deadline := time.Now().Add(10 * time.Second)
			for count(t, conn, "SELECT count() FROM system.processes WHERE query LIKE ? AND query NOT LIKE '%system.processes%'", sql+"%") > 0 {
				if time.Now().After(deadline) {
					t.Fatal("the engine still runs the query of a client that has gone")
				}
			}
		})
	}
}
