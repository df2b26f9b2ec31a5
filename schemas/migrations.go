package schemas

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// Migration is one numbered SQL file of schemas/migrations: statements of
// ClickHouse, each ended by a semicolon, with these placeholders:
//
//	{database}    quoted name of the database
//	{on_cluster}  empty, or ON CLUSTER and the name
//	{replicated}  empty, or Replicated: the prefix of an engine's name
type Migration struct {
	Version  int
	Name     string // "0001_events"
	SQL      string
	Checksum string // SHA-256 of the file in hex; placeholders' values do not change it
}

// Migrations returns the migrations in the order in which they must run. Their
// versions are 1, 2, 3, ...
func Migrations() ([]Migration, error) {
	return readMigrations(migrationFiles)
}

func readMigrations(files fs.FS) ([]Migration, error) {
	names, err := fs.Glob(files, "migrations/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	migrations := make([]Migration, 0, len(names))
	for i, path := range names {
		name := strings.TrimSuffix(strings.TrimPrefix(path, "migrations/"), ".sql")
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.Atoi(number)
		if err != nil || len(number) != 4 {
			return nil, fmt.Errorf("%s: the name must begin with four digits and an underscore", path)
		}
		if version != i+1 {
			return nil, fmt.Errorf("%s: version %d is missing or there twice", path, i+1)
		}
		text, err := fs.ReadFile(files, path)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(text)
		migrations = append(migrations, Migration{Version: version, Name: name, SQL: string(text), Checksum: hex.EncodeToString(sum[:])})
	}
	return migrations, nil
}
