package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/schemas"
)

// Migrator brings a database to the state that the migrations describe.
type Migrator struct {
	// Conn is a connection as whoever may create the database and its tables.
	Conn driver.Conn
	// Database is created if it does not exist.
	Database string
	// Cluster, if set, is the name that every statement runs ON CLUSTER, and the
	// tables are Replicated. The server's default_replica_path must then name
	// tables apart, as its default does.
	Cluster   string
	Retention Retention
	Logger    *zap.Logger
	// LockWait is how long to wait for another runner to end. Default 30 s.
	LockWait time.Duration
	// Migrations default to those of package schemas.
	Migrations []schemas.Migration
}

// MigrationStatus is one migration, and whether the database has it.
type MigrationStatus struct {
	Version int
	Name    string
	Applied time.Time // zero: not yet
	// Changed: the file is not the one that was applied.
	Changed bool
	// Unknown: the database has it, this program does not. It was migrated by a
	// newer one.
	Unknown bool
}

// ErrChanged is in the chain when an applied migration's file was changed.
var ErrChanged = errors.New("migration was changed after it was applied")

// ErrNewer is in the chain when the database was migrated by a newer program.
var ErrNewer = errors.New("database was migrated by a newer version of tocsin")

// ErrLocked is in the chain when another runner is at work.
var ErrLocked = errors.New("another migration is running")

const (
	migrationTable = "schema_migrations"
	migrationLock  = "schema_migrations_lock"
	// lockStale is when a lock is taken to be left behind by a runner that
	// died. All statements of all migrations together take seconds.
	lockStale = 5 * time.Minute
	lockPoll  = 200 * time.Millisecond

	codeTableExists   = 57
	codeUnknownTable  = 60
	codeUnknownSchema = 81
)

// Up applies the migrations that the database lacks, one statement at a time,
// and sets the tables' retention. Every statement may run twice: a run that was
// cut short is completed by the next.
func (m *Migrator) Up(ctx context.Context) (applied []MigrationStatus, err error) {
	migrations, err := m.migrations()
	if err != nil {
		return nil, err
	}
	if err := m.Retention.validate(); err != nil {
		return nil, err
	}
	// The usual start finds everything in place: it takes no lock, and needs no
	// right to create anything.
	if err := m.Check(ctx); err == nil {
		return nil, m.setRetention(ctx)
	}
	db := quote(m.Database)
	if err := m.exec(ctx, "CREATE DATABASE IF NOT EXISTS "+db+m.onCluster()); err != nil {
		return nil, err
	}
	unlock, err := m.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := m.exec(ctx, "CREATE TABLE IF NOT EXISTS "+db+"."+migrationTable+m.onCluster()+` (
		version UInt32 COMMENT 'Number of the file',
		name String,
		checksum String COMMENT 'SHA-256 of the file',
		applied_at DateTime('UTC')
	) ENGINE = `+m.replicated()+`ReplacingMergeTree ORDER BY version COMMENT 'Migrations that were applied'`); err != nil {
		return nil, err
	}
	status, err := m.status(ctx, migrations)
	if err != nil {
		return nil, err
	}
	if err := problems(status); err != nil {
		return nil, err
	}
	for i, s := range status {
		if !s.Applied.IsZero() {
			continue
		}
		if err := m.apply(ctx, &migrations[i]); err != nil {
			return applied, err
		}
		s.Applied = time.Now().UTC()
		applied = append(applied, s)
		m.log().Info("migration applied", zap.String("migration", s.Name), zap.String("database", m.Database))
	}
	return applied, m.setRetention(ctx)
}

// Status lists the migrations of this program and of the database, by version.
func (m *Migrator) Status(ctx context.Context) ([]MigrationStatus, error) {
	migrations, err := m.migrations()
	if err != nil {
		return nil, err
	}
	return m.status(ctx, migrations)
}

// Check returns an error unless the database has exactly the migrations of
// this program.
func (m *Migrator) Check(ctx context.Context) error {
	status, err := m.Status(ctx)
	if err != nil {
		return err
	}
	if err := problems(status); err != nil {
		return err
	}
	for _, s := range status {
		if s.Applied.IsZero() {
			return fmt.Errorf("database %s lacks migration %s: run tocsin migrate", m.Database, s.Name)
		}
	}
	return nil
}

func problems(status []MigrationStatus) error {
	for _, s := range status {
		switch {
		case s.Changed:
			return fmt.Errorf("%w: %s; put the change into a new file", ErrChanged, s.Name)
		case s.Unknown:
			return fmt.Errorf("%w: it has %s", ErrNewer, s.Name)
		}
	}
	return nil
}

func (m *Migrator) migrations() ([]schemas.Migration, error) {
	if !identifier.MatchString(m.Database) {
		return nil, fmt.Errorf("database %q: want letters, digits and underscores", m.Database)
	}
	if m.Cluster != "" && !identifier.MatchString(m.Cluster) {
		return nil, fmt.Errorf("cluster %q: want letters, digits and underscores", m.Cluster)
	}
	if m.Migrations != nil {
		return m.Migrations, nil
	}
	return schemas.Migrations()
}

func (m *Migrator) status(ctx context.Context, migrations []schemas.Migration) ([]MigrationStatus, error) {
	status := make([]MigrationStatus, 0, len(migrations))
	for _, f := range migrations {
		status = append(status, MigrationStatus{Version: f.Version, Name: f.Name})
	}
	rows, err := m.Conn.Query(ctx, "SELECT version, name, checksum, applied_at FROM "+quote(m.Database)+"."+migrationTable+" FINAL ORDER BY version")
	if code := exceptionCode(err); code == codeUnknownTable || code == codeUnknownSchema {
		return status, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s.%s: %w", m.Database, migrationTable, err)
	}
	defer rows.Close()
	for rows.Next() {
		var version uint32
		var name, checksum string
		var at time.Time
		if err := rows.Scan(&version, &name, &checksum, &at); err != nil {
			return nil, fmt.Errorf("read %s.%s: %w", m.Database, migrationTable, err)
		}
		i := int(version) - 1
		if i < 0 || i >= len(migrations) {
			status = append(status, MigrationStatus{Version: int(version), Name: name, Applied: at, Unknown: true})
			continue
		}
		status[i].Applied, status[i].Changed = at, checksum != migrations[i].Checksum
	}
	return status, rows.Err()
}

func (m *Migrator) apply(ctx context.Context, f *schemas.Migration) error {
	text := strings.NewReplacer(
		"{database}", quote(m.Database),
		"{on_cluster}", strings.TrimSpace(m.onCluster()),
		"{replicated}", m.replicated(),
	).Replace(f.SQL)
	for n, statement := range splitStatements(text) {
		if err := m.exec(ctx, statement); err != nil {
			return fmt.Errorf("migration %s, statement %d: %w", f.Name, n+1, err)
		}
	}
	err := m.Conn.Exec(ctx, "INSERT INTO "+quote(m.Database)+"."+migrationTable+
		" SELECT toUInt32(?), ?, ?, now('UTC')", f.Version, f.Name, f.Checksum)
	if err != nil {
		return fmt.Errorf("note that migration %s was applied: %w", f.Name, err)
	}
	return nil
}

// lock keeps two runners apart. ClickHouse has no locks, but of two CREATE
// TABLE of one name exactly one succeeds. On a cluster that holds for runners
// on the same server; statements that two run at once do no harm, as each may
// run twice.
func (m *Migrator) lock(ctx context.Context) (unlock func() error, err error) {
	name := quote(m.Database) + "." + migrationLock
	create := fmt.Sprintf("CREATE TABLE %s (nothing UInt8) ENGINE = Null COMMENT '"+heldBy+"'", name, os.Getpid(), hostName())
	wait := m.LockWait
	if wait <= 0 {
		wait = 30 * time.Second
	}
	for giveUp := time.Now().Add(wait); ; {
		err := m.exec(ctx, create)
		if err == nil {
			break
		}
		if exceptionCode(err) != codeTableExists {
			return nil, fmt.Errorf("lock database %s: %w", m.Database, err)
		}
		holder, age, err := m.lockHolder(ctx)
		if err != nil {
			return nil, err
		}
		if age >= lockStale || holderIsGone(holder, age) {
			m.log().Warn("removing the lock of a migration that did not end", zap.String("holder", holder), zap.Duration("age", age))
			if err := m.exec(ctx, "DROP TABLE IF EXISTS "+name+" SYNC"); err != nil {
				return nil, err
			}
			continue
		}
		if time.Now().After(giveUp) {
			return nil, fmt.Errorf("%w: database %s, %s, for %s; if that process is gone: DROP TABLE %s",
				ErrLocked, m.Database, holder, age.Round(time.Second), name)
		}
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return func() error {
		// The lock must go even if ctx ended meanwhile.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return m.exec(ctx, "DROP TABLE IF EXISTS "+name+" SYNC")
	}, nil
}

// heldBy is the comment of a lock.
const heldBy = "Held by process %d on %s"

// processStart is about when this process began.
var processStart = time.Now()

// holderIsGone tells a lock that a runner on this host left behind when it was
// killed from one that is held: without it, whoever comes next would wait until
// the lock is stale. One that is older than this process and has its process ID
// is of the process before it, as in a container, where the ID is always the
// same. Should the holder live all the same, in another container with this
// host's name, two run at once, which does no harm: see lock.
func holderIsGone(holder string, age time.Duration) bool {
	var pid int
	var host string
	if n, _ := fmt.Sscanf(holder, heldBy, &pid, &host); n != 2 || host != hostName() || pid <= 0 {
		return false
	}
	if pid == os.Getpid() {
		// Seconds, rounded up: both are.
		return age > time.Since(processStart)+2*time.Second
	}
	return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

func hostName() string {
	host, _ := os.Hostname()
	return strings.Map(hostRune, host)
}

func (m *Migrator) lockHolder(ctx context.Context) (holder string, age time.Duration, err error) {
	var seconds int64
	err = m.Conn.QueryRow(ctx, "SELECT any(comment), toInt64(dateDiff('second', min(metadata_modification_time), now())) FROM system.tables WHERE database = ? AND name = ?",
		m.Database, migrationLock).Scan(&holder, &seconds)
	if err != nil {
		return "", 0, fmt.Errorf("look at the lock of database %s: %w", m.Database, err)
	}
	return holder, time.Duration(seconds) * time.Second, nil
}

func hostRune(r rune) rune {
	if r == '\'' || r == '\\' || r <= ' ' {
		return '_'
	}
	return r
}

func (m *Migrator) exec(ctx context.Context, sql string) error {
	if m.Cluster != "" {
		// Wait for every replica, or the next statement may find the last undone.
		ctx = ch.Context(ctx, ch.WithSettings(ch.Settings{"distributed_ddl_task_timeout": 180}))
	}
	return m.Conn.Exec(ctx, sql)
}

func (m *Migrator) onCluster() string {
	if m.Cluster == "" {
		return ""
	}
	return " ON CLUSTER " + quote(m.Cluster)
}

func (m *Migrator) replicated() string {
	if m.Cluster == "" {
		return ""
	}
	return "Replicated"
}

func (m *Migrator) log() *zap.Logger {
	if m.Logger == nil {
		return zap.NewNop()
	}
	return m.Logger
}

func quote(name string) string { return "`" + name + "`" }
