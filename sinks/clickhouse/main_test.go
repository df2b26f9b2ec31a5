package clickhouse

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	embedded "github.com/tocsin-io/tocsin/internal/embedded/clickhouse"
)

// engine is the ClickHouse engine that the tests share: its start is the
// expensive part. Every test has a database of its own. A server that is there
// already takes its place.
var engine *embedded.Server

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == embedded.Command {
		os.Exit(embedded.ServeMain())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tocsin-sink-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	engine, err = embedded.Start(ctx, embedded.Options{DataDir: dir})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer engine.Close()
	return m.Run()
}

var databases atomic.Int64

// freshDatabase returns the name of a database that no other test uses.
func freshDatabase(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("test_%d", databases.Add(1))
}

func connect(t testing.TB, url string) *Conn {
	t.Helper()
	conn, err := Open(Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// migrated returns a database with all tables.
func migrated(t testing.TB) (*Conn, string) {
	t.Helper()
	conn, db := connect(t, engine.URL()), freshDatabase(t)
	m := &Migrator{Conn: conn, Database: db, Retention: Retention{EventsDays: 90}, Logger: zap.NewNop()}
	if _, err := m.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	return conn, db
}

// scalar returns the single value of a query.
func scalar[T any](t testing.TB, conn *Conn, query string, args ...any) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}
