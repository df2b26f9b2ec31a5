package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	embedded "github.com/tocsin-io/tocsin/internal/embedded/clickhouse"
	"github.com/tocsin-io/tocsin/internal/simulate"
	"github.com/tocsin-io/tocsin/internal/testkit"
)

// clickHouseAt is a ClickHouse that tests start when they like.
type clickHouseAt struct {
	address string
	dir     string
}

func newClickHouseAt(t testing.TB) clickHouseAt {
	return clickHouseAt{freeAddress(t), t.TempDir()}
}

func (c clickHouseAt) url() string { return "http://" + c.address }

func (c clickHouseAt) start(t testing.TB) *embedded.Server {
	t.Helper()
	_, text, err := net.SplitHostPort(c.address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := embedded.Start(ctx, embedded.Options{DataDir: c.dir, Port: port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// stagesConfig is a configuration whose servers come from the environment.
func stagesConfig(t *testing.T, h *hook, partitions int) (file string, target simulate.Target) {
	t.Helper()
	listen := freeAddress(t)
	file = write(t, "tocsin.yaml", fmt.Sprintf(`
kafka: {topics: {partitions: %d}}
ingest: {firehose: {listen: %q}}
correlate: {lateness: 1h, idle: 1s, snapshot_interval: 1s}
sinks:
  webhooks:
    - {name: soc, url: %q, secrets: [%q], min_level: informational, allow_private: true}
admin: {listen: "127.0.0.1:0"}
shutdown_timeout: %s
`, partitions, listen, h.server.URL, h.secret(), shutdownTimeout))
	return file, simulate.Target{FirehoseURL: "http://" + listen + "/firehose", EventsURL: "http://" + listen + "/v1/events"}
}

// The stages as processes of their own, on Apache Kafka, with everything going
// away in the middle: the result is that of an undisturbed run.
func TestStages(t *testing.T) {
	t.Parallel()
	f, err := theFleet()
	if err != nil {
		t.Fatal(err)
	}
	h := newHook(t)
	file, target := stagesConfig(t, h, 6)
	kafka := testkit.StartKafka(t, testkit.KafkaOptions{})
	brokers := strings.Join(kafka.Brokers(), ",")
	clickhouse := newClickHouseAt(t)
	env := []string{"TOCSIN_KAFKA_BROKERS=" + brokers, "TOCSIN_CLICKHOUSE_URL=" + clickhouse.url()}
	stage := func(name string) *program { return start(t, env, name, "--config", file) }

	ingest, first, second, sink := stage("ingest"), stage("correlate"), stage("correlate"), stage("sink")
	for _, p := range []*program{ingest, first, second} {
		p.ready()
	}
	// ClickHouse is away; the sink says so, and nothing else minds.
	if u := sink.says("ClickHouse cannot be reached", "url"); u != clickhouse.url() {
		t.Errorf("url %s", u)
	}
	sink.says("running", "")
	if code, body := sink.get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "ClickHouse cannot be reached") || !strings.Contains(body, "[+]sink webhook-soc ok") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	if code, _ := sink.get("/livez"); code != http.StatusOK {
		t.Errorf("/livez: %d", code)
	}

	p := f.start(t.Context(), t, target, 6*time.Second)
	p.reaches(t, 0.2)
	server := clickhouse.start(t)
	p.reaches(t, 0.35)
	if code := first.terminate(shutdownTimeout + time.Second); code != exitOK {
		t.Errorf("correlate: exit %d", code)
	}
	third := stage("correlate")
	third.ready()
	p.reaches(t, 0.5)
	kafka.StopNode(t, 0)
	kafka.RestartNode(t, 0)
	p.reaches(t, 0.7)
	if err := syscall.Kill(server.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.finish(t)
	letTimePass(t, target, "after-the-fleet")
	s := store{t, clickhouse.url()}
	eventually(t, "ClickHouse", func() error { _, err := s.ask("SELECT count() FROM events"); return err })
	f.check(t, s)
	eventually(t, "webhook", func() error {
		created := h.created()
		for _, row := range s.rows("SELECT detection_id, title FROM detections_current WHERE merged_into = ''") {
			if created[row[0]] == 0 {
				return fmt.Errorf("nobody was told of %v", row)
			}
		}
		return nil
	})

	// What CloudWatch Logs allows one event is as much as Kafka allows a record,
	// where it does not compress.
	large := logLine(t, time.Now(), "Connect", "mebibyte", map[string]any{"details": ""})
	large = logLine(t, time.Now(), "Connect", "mebibyte", map[string]any{"details": letters(1<<20 - len(large))})
	res, err := http.Post(target.EventsURL, "application/json", bytes.NewReader(large))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("a message of 1 MiB: status %d", res.StatusCode)
	}
	s.becomes("SELECT length(message) FROM events_distinct WHERE device = 'mebibyte'", fmt.Sprint(1<<20))
	sink.ready()

	for _, p := range []*program{ingest, second, third, sink} {
		if code := p.terminate(shutdownTimeout + time.Second); code != exitOK {
			t.Errorf("%s: exit %d", p.name, code)
		}
	}
}

// A ClickHouse that is away at the start of `tocsin run` holds up its own sinks
// and nothing else.
func TestRunWithoutClickHouse(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	file, target := stagesConfig(t, h, 2)
	clickhouse := newClickHouseAt(t)
	brokers := testkit.KafkaFake(t).ListenAddrs()
	p := start(t, []string{"TOCSIN_KAFKA_BROKERS=" + strings.Join(brokers, ","), "TOCSIN_CLICKHOUSE_URL=" + clickhouse.url()}, "run", "--config", file)
	p.says("ClickHouse cannot be reached; its sinks wait. Set clickhouse.url or TOCSIN_CLICKHOUSE_URL", "url")
	p.says("running", "")
	res, err := http.Post(target.EventsURL, "application/json", bytes.NewReader(loggingOff("without-clickhouse")))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("status %d", res.StatusCode)
	}
	eventually(t, "webhook", func() error {
		if len(h.titled(loggingOffTitle)) != 1 {
			return errors.New("not told")
		}
		return nil
	})
	if code, body := p.get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "[-]clickhouse tables failed") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	clickhouse.start(t)
	p.ready()
	s := store{t, clickhouse.url()}
	s.becomes("SELECT source, event_type FROM events_distinct", "cloudtrail", "SetV2LoggingOptions")
	s.becomes("SELECT title FROM detections_open", loggingOffTitle)
	if code := p.terminate(shutdownTimeout + time.Second); code != exitOK {
		t.Errorf("exit %d", code)
	}
}
