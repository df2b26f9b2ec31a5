package clickhouse

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/schemas"
)

func TestSplitStatements(t *testing.T) {
	for name, tc := range map[string]struct {
		sql  string
		want []string
	}{
		"two":              {"SELECT 1;\nSELECT 2;\n", []string{"SELECT 1", "SELECT 2"}},
		"no last mark":     {"SELECT 1; SELECT 2", []string{"SELECT 1", "SELECT 2"}},
		"in quotes":        {`SELECT ';', ";", ` + "`;`" + `;`, []string{`SELECT ';', ";", ` + "`;`"}},
		"escaped quote":    {`SELECT '\';'; SELECT 'it''s; fine'`, []string{`SELECT '\';'`, `SELECT 'it''s; fine'`}},
		"in comments":      {"-- a; b\nSELECT 1 /* ; */;", []string{"-- a; b\nSELECT 1 /* ; */"}},
		"only comments":    {"-- nothing; here\n;/* nor here */;", nil},
		"quote in comment": {"-- it's\nSELECT 1; SELECT 2", []string{"-- it's\nSELECT 1", "SELECT 2"}},
		"unended quote":    {"SELECT 'a; b", []string{"SELECT 'a; b"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, splitStatements(tc.sql)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func FuzzSplitStatements(f *testing.F) {
	f.Add("SELECT 1; -- x\nSELECT ';'")
	f.Add("/*")
	f.Add("'\\")
	f.Fuzz(func(t *testing.T, sql string) {
		for _, s := range splitStatements(sql) {
			if !strings.Contains(sql, s) || strings.TrimSpace(s) == "" {
				t.Fatalf("%q of %q", s, sql)
			}
		}
	})
}

func TestMigrateTwiceAndStatus(t *testing.T) {
	conn, db := connect(t, engine.URL()), freshDatabase(t)
	m := &Migrator{Conn: conn, Database: db, Retention: Retention{EventsDays: 90, DetectionsDays: 400}}
	if err := m.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "run tocsin migrate") {
		t.Fatalf("check of an empty server: %v", err)
	}
	applied, err := m.Up(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, err := schemas.Migrations()
	if err != nil {
		t.Fatal(err)
	}
	if len(applied) != len(all) {
		t.Fatalf("applied %d of %d", len(applied), len(all))
	}
	if applied, err = m.Up(t.Context()); err != nil || len(applied) != 0 {
		t.Fatalf("second run: applied %v, %v", applied, err)
	}
	if err := m.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	status, err := m.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range status {
		if s.Applied.IsZero() || s.Changed || s.Unknown || time.Since(s.Applied) > time.Hour {
			t.Errorf("%+v", s)
		}
	}
	// A person who looks around finds every name explained.
	if n := scalar[uint64](t, conn, "SELECT count() FROM system.columns WHERE database = ? AND comment = '' AND table IN (SELECT name FROM system.tables WHERE database = ? AND engine LIKE '%MergeTree') AND table != 'schema_migrations'", db, db); n != 0 {
		t.Errorf("%d columns without a comment", n)
	}
	if n := scalar[uint64](t, conn, "SELECT count() FROM system.tables WHERE database = ? AND comment = ''", db); n != 0 {
		t.Errorf("%d tables or views without a comment", n)
	}
}

func TestMigrateCompletesARunThatWasCutShort(t *testing.T) {
	conn, db := migrated(t)
	// As if the last migration had stopped after some of its statements.
	for _, s := range []string{
		"DROP VIEW " + db + ".noisy_devices",
		"DELETE FROM " + db + ".schema_migrations WHERE version = 5",
	} {
		if err := conn.Exec(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	m := &Migrator{Conn: conn, Database: db}
	applied, err := m.Up(t.Context())
	if err != nil || len(applied) != 1 {
		t.Fatalf("applied %v, %v", applied, err)
	}
	scalar[uint64](t, conn, "SELECT count() FROM "+db+".noisy_devices")
}

func TestMigrateRefusesWhatItDoesNotKnow(t *testing.T) {
	conn, db := migrated(t)
	all, err := schemas.Migrations()
	if err != nil {
		t.Fatal(err)
	}
	changed := append([]schemas.Migration(nil), all...)
	changed[1].Checksum = "different"
	for name, tc := range map[string]struct {
		migrations []schemas.Migration
		want       error
	}{
		"changed": {changed, ErrChanged},
		"newer":   {all[:2], ErrNewer},
	} {
		t.Run(name, func(t *testing.T) {
			m := &Migrator{Conn: conn, Database: db, Migrations: tc.migrations}
			if _, err := m.Up(t.Context()); !errors.Is(err, tc.want) {
				t.Errorf("Up: %v", err)
			}
			if err := m.Check(t.Context()); !errors.Is(err, tc.want) {
				t.Errorf("Check: %v", err)
			}
		})
	}
	for _, name := range []string{"", "a b", "a`b", "a;DROP", strings.Repeat("a", 65)} {
		if _, err := (&Migrator{Conn: conn, Database: name}).Up(t.Context()); err == nil {
			t.Errorf("database %q accepted", name)
		}
	}
}

func TestMigrateLock(t *testing.T) {
	conn, db := connect(t, engine.URL()), freshDatabase(t)
	if err := conn.Exec(t.Context(), "CREATE DATABASE "+db); err != nil {
		t.Fatal(err)
	}
	m := &Migrator{Conn: conn, Database: db, LockWait: time.Millisecond}
	unlock, err := m.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Up(t.Context()); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "DROP TABLE") {
		t.Fatalf("Up while locked: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	// Several at once: one applies, the others wait and find it done.
	var wg sync.WaitGroup
	var applied atomic.Int64
	for range 4 {
		wg.Go(func() {
			done, err := (&Migrator{Conn: conn, Database: db}).Up(t.Context())
			if err != nil {
				t.Error(err)
			}
			applied.Add(int64(len(done)))
		})
	}
	wg.Wait()
	if all, err := schemas.Migrations(); err != nil || applied.Load() != int64(len(all)) {
		t.Errorf("%d migrations applied, want %d (%v)", applied.Load(), len(all), err)
	}
	if n := scalar[uint64](t, conn, "SELECT count() FROM system.tables WHERE database = ? AND name = ?", db, migrationLock); n != 0 {
		t.Error("the lock was left behind")
	}
}

// A lock whose holder was killed does not hold up the next one.
func TestMigrateLockLeftBehind(t *testing.T) {
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		holder string
		age    time.Duration
		gone   bool
	}{
		{fmt.Sprintf(heldBy, dead.Process.Pid, hostName()), 0, true},
		{fmt.Sprintf(heldBy, os.Getpid(), hostName()), time.Second, false},
		{fmt.Sprintf(heldBy, os.Getpid(), hostName()), time.Hour, true}, // this test is younger
		{fmt.Sprintf(heldBy, os.Getppid(), hostName()), time.Hour, false},
		{fmt.Sprintf(heldBy, dead.Process.Pid, "elsewhere"), time.Hour, false},
		{fmt.Sprintf(heldBy, -1, hostName()), time.Hour, false},
		{"", time.Hour, false},
		{"somebody's table", time.Hour, false},
	} {
		if got := holderIsGone(c.holder, c.age); got != c.gone {
			t.Errorf("%q, %s old: gone is %v", c.holder, c.age, got)
		}
	}

	conn, db := connect(t, engine.URL()), freshDatabase(t)
	for _, statement := range []string{
		"CREATE DATABASE " + db,
		fmt.Sprintf("CREATE TABLE %s.%s (nothing UInt8) ENGINE = Null COMMENT '"+heldBy+"'", db, migrationLock, dead.Process.Pid, hostName()),
	} {
		if err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := (&Migrator{Conn: conn, Database: db, LockWait: time.Millisecond}).Up(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRetentionFollowsTheConfiguration(t *testing.T) {
	conn, db := migrated(t)
	ttl := func() string {
		engine := scalar[string](t, conn, "SELECT engine_full FROM system.tables WHERE database = ? AND name = 'events'", db)
		_, after, ok := strings.Cut(engine, " TTL ")
		if !ok {
			return ""
		}
		after, _, _ = strings.Cut(after, " SETTINGS")
		return after
	}
	if got := ttl(); got != "toDateTime(ingest_time) + toIntervalDay(90)" {
		t.Fatalf("TTL %q", got)
	}
	for _, tc := range []struct {
		days int
		want string
	}{
		{30, "toDateTime(ingest_time) + toIntervalDay(30)"},
		{0, ""},
		{0, ""},
		{7, "toDateTime(ingest_time) + toIntervalDay(7)"},
	} {
		m := &Migrator{Conn: conn, Database: db, Retention: Retention{EventsDays: tc.days}}
		if _, err := m.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := ttl(); got != tc.want {
			t.Errorf("%d days: TTL %q, want %q", tc.days, got, tc.want)
		}
	}
	for _, days := range []int{-1, 100_000} {
		m := &Migrator{Conn: conn, Database: db, Retention: Retention{EventsDays: days}}
		if _, err := m.Up(t.Context()); err == nil {
			t.Errorf("%d days accepted", days)
		}
	}
}

func TestReplicatedStatements(t *testing.T) {
	// No Keeper here, so only the text can be looked at.
	m := &Migrator{Database: "d", Cluster: "c"}
	if m.onCluster() != " ON CLUSTER `c`" || m.replicated() != "Replicated" {
		t.Fatalf("%q %q", m.onCluster(), m.replicated())
	}
	all, err := schemas.Migrations()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		for _, s := range splitStatements(f.SQL) {
			if !strings.Contains(s, "{on_cluster}") {
				t.Errorf("%s: statement without {on_cluster}:\n%s", f.Name, s)
			}
			if strings.Contains(s, "ENGINE = ") && !strings.Contains(s, "ENGINE = {replicated}") {
				t.Errorf("%s: engine without {replicated}:\n%s", f.Name, s)
			}
		}
	}
}
