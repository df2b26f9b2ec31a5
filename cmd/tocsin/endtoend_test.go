package main

import (
	"encoding/json"
	"os"
	"testing"

	embedded "github.com/tocsin-io/tocsin/internal/embedded/clickhouse"
)

func TestMain(m *testing.M) {
	// The embedded engine runs in a child, which is this program once more.
	if len(os.Args) > 1 && os.Args[1] == embedded.Command {
		os.Exit(embedded.ServeMain())
	}
	os.Exit(m.Run())
}

// The whole pipeline with its embedded engines: every attack of the simulated
// fleet is found, nobody else is accused, and every event is stored once.
func TestDemo(t *testing.T) {
	t.Setenv("TOCSIN_KAFKA_BROKERS", "")
	t.Setenv("TOCSIN_CLICKHOUSE_URL", "")
	dir := t.TempDir()
	for _, seed := range []string{"11", "12"} {
		code, stdout, stderr := tocsin("demo", "--json", "--devices", "300", "--duration", "10m", "--within", "5s", "--seed", seed, "--dir", dir+"/"+seed)
		var r jsonReport
		if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != exitOK {
			t.Fatalf("seed %s: exit %d, %v\n%s%s", seed, code, err, stdout, stderr)
		}
		if !r.OK || len(r.Attacks) != 6 || len(r.FalseAlarms) != 0 {
			t.Errorf("seed %s: %+v", seed, r)
		}
		if r.EventsStored != uint64(r.Events) || r.Events < 20_000 {
			t.Errorf("seed %s: %d events accepted, %d stored", seed, r.Events, r.EventsStored)
		}
		for _, q := range r.Queries {
			if len(q.Rows) == 0 {
				t.Errorf("seed %s: no answer to: %s", seed, q.Question)
			}
		}
	}
}
