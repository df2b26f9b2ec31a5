package schemas

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestMigrationsAreNumberedAndDocumented(t *testing.T) {
	migrations, err := Migrations()
	if err != nil {
		t.Fatal(err)
	}
	if len(migrations) < 5 {
		t.Fatalf("%d migrations embedded, want at least 5", len(migrations))
	}
	for i, m := range migrations {
		if m.Version != i+1 || len(m.Checksum) != 64 {
			t.Errorf("migration %d: %+v", i, m)
		}
		for _, statement := range strings.Split(m.SQL, ";\n") {
			if strings.Contains(statement, "CREATE ") && !strings.Contains(statement, "\nCOMMENT '") {
				t.Errorf("%s: a statement has no COMMENT clause:\n%s", m.Name, statement)
			}
		}
	}
}

func TestMigrationsRefuseGapsAndBadNames(t *testing.T) {
	for name, files := range map[string][]string{
		"gap":       {"0001_a.sql", "0003_b.sql"},
		"twice":     {"0001_a.sql", "0001_b.sql"},
		"no number": {"first.sql"},
		"short":     {"1_a.sql"},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := fstest.MapFS{}
			for _, f := range files {
				fsys["migrations/"+f] = &fstest.MapFile{Data: []byte("SELECT 1;")}
			}
			if m, err := readMigrations(fsys); err == nil {
				t.Fatalf("accepted: %v", m)
			}
		})
	}
}
