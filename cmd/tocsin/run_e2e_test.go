package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/internal/simulate"
)

// embeddedRun is `tocsin run --embedded DIR`, which is stopped and started.
type embeddedRun struct {
	whole  testing.TB // the test of all steps, at whose end the program is killed
	dir    string
	config string
	key    string
	hook   *hook
	target simulate.Target
	p      *program
}

const (
	shutdownTimeout = 10 * time.Second
	maxBody         = 6 << 20
	maxInflated     = 4 << 20
)

func newEmbeddedRun(t *testing.T) *embeddedRun {
	t.Helper()
	r := &embeddedRun{whole: t, dir: filepath.Join(t.TempDir(), "data"), key: "an access key for the e2e tests", hook: newHook(t)}
	listen := freeAddress(t)
	r.target = simulate.Target{FirehoseURL: "http://" + listen + "/firehose", EventsURL: "http://" + listen + "/v1/events", AccessKey: r.key}
	r.config = write(t, "tocsin.yaml", fmt.Sprintf(`
kafka: {topics: {partitions: 4}}
ingest:
  firehose: {listen: %q, access_keys: [%q], max_body: %d, body_timeout: 1s}
  max_inflated: %d
correlate: {lateness: 1h, idle: 1s, snapshot_interval: 1s}
sinks:
  webhooks:
    - {name: soc, url: %q, secrets: [%q], min_level: informational, allow_private: true}
admin: {listen: "127.0.0.1:0"}
shutdown_timeout: %s
`, listen, r.key, maxBody, maxInflated, r.hook.server.URL, r.hook.secret(), shutdownTimeout))
	return r
}

func (r *embeddedRun) start(t testing.TB) {
	t.Helper()
	r.p = start(r.whole, nil, "run", "--config", r.config, "--embedded", r.dir)
	r.p.t = t
	r.p.ready()
}

func (r *embeddedRun) store(t testing.TB) store {
	t.Helper()
	return store{t, r.p.says("embedded ClickHouse", "url")}
}

// post sends a request to one of the front doors and returns the answer.
func (r *embeddedRun) post(t testing.TB, url, key string, body io.Reader, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	name := "X-Tocsin-Key"
	if url == r.target.FirehoseURL {
		name = "X-Amz-Firehose-Access-Key"
		req.Header.Set("X-Amz-Firehose-Source-Arn", "arn:aws:firehose:eu-west-1:"+simulate.Account+":deliverystream/e2e")
	}
	if key != "" {
		req.Header.Set(name, key)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

// push posts an event that must be taken.
func (r *embeddedRun) push(t testing.TB, event []byte) {
	t.Helper()
	if code, answer := r.post(t, r.target.EventsURL, r.key, bytes.NewReader(event)); code != http.StatusOK {
		t.Fatalf("%d %s for %.200s", code, answer, event)
	}
}

// loggingOff is the EventBridge event of somebody who switches the logging off.
func loggingOff(marker string) []byte {
	now := time.Now().UTC().Format(time.RFC3339)
	return fmt.Appendf(nil, `{"version":"0","id":%[1]q,"detail-type":"AWS API Call via CloudTrail","source":"aws.iot","account":"111122223333",
"time":%[2]q,"region":"eu-west-1","resources":[],"detail":{"eventVersion":"1.11","userIdentity":{"type":"IAMUser","userName":"mallory",
"arn":"arn:aws:iam::111122223333:user/mallory","accountId":"111122223333"},"eventTime":%[2]q,"eventSource":"iot.amazonaws.com",
"eventName":"SetV2LoggingOptions","awsRegion":"eu-west-1","sourceIPAddress":"203.0.113.9","requestParameters":{"disableAllLogs":true},
"requestID":%[1]q,"eventID":%[1]q,"recipientAccountId":"111122223333"}}`, marker, now)
}

const loggingOffTitle = "AWS IoT logging switched off"

// A life of one embedded installation.
func TestRun(t *testing.T) {
	t.Parallel()
	r := newEmbeddedRun(t)
	r.start(t)
	for _, step := range []struct {
		name string
		run  func(*embeddedRun, *testing.T)
	}{
		{"killed under load", (*embeddedRun).killedUnderLoad},
		{"from an event to a webhook", (*embeddedRun).fromEventToWebhook},
		{"bad input", (*embeddedRun).badInput},
		{"stopped and started", (*embeddedRun).stoppedAndStarted},
	} {
		ok := t.Run(step.name, func(t *testing.T) {
			r.p.t = t
			step.run(r, t)
		})
		if !ok {
			t.Fatal("the next steps build on this one")
		}
	}
}

// Nothing that was acknowledged is lost or doubled by kill -9, and what is found
// is what an undisturbed run finds.
func (r *embeddedRun) killedUnderLoad(t *testing.T) {
	f, err := theFleet()
	if err != nil {
		t.Fatal(err)
	}
	p := f.start(t.Context(), t, r.target, 5*time.Second)
	for _, share := range []float64{0.3, 0.7} {
		p.reaches(t, share)
		r.p.kill()
		r.start(t)
	}
	p.finish(t)
	letTimePass(t, r.target, "after-the-fleet")
	s := r.store(t)
	f.check(t, s)

	// Every detection was told, under one ID each, however often it was sent.
	told := func() error {
		created := r.hook.created()
		for _, row := range s.rows("SELECT detection_id, title FROM detections_current WHERE merged_into = ''") {
			if created[row[0]] == 0 {
				return fmt.Errorf("nobody was told of %v", row)
			}
		}
		return nil
	}
	eventually(t, "webhook", told)
	// And of nothing else. What behaviour finds still comes in, and the hook may hear
	// of it before the store does.
	eventually(t, "store", func() error {
		told := r.hook.created()
		for _, row := range s.rows("SELECT detection_id FROM detections_current") {
			delete(told, row[0])
		}
		for id := range told {
			return fmt.Errorf("the webhook was told of %s, the store was not", id)
		}
		return nil
	})
}

func (r *embeddedRun) fromEventToWebhook(t *testing.T) {
	before := len(r.hook.titled(loggingOffTitle))
	at := time.Now()
	r.push(t, loggingOff("e2e-first"))
	line := logLine(t, at, "Connect", "e2e-device", nil)
	code, answer := r.post(t, r.target.FirehoseURL, r.key, bytes.NewReader(firehoseRecords(t, "e2e-request", subscription(t, "9", at, line))))
	if code != http.StatusOK || !strings.Contains(answer, `"requestId":"e2e-request"`) {
		t.Fatalf("%d %s", code, answer)
	}
	s := r.store(t)
	s.becomes("SELECT source, event_type, account, source_ip FROM events_distinct WHERE position(message, 'e2e-first') > 0",
		"cloudtrail", "SetV2LoggingOptions", "111122223333", "203.0.113.9")
	s.becomes("SELECT source, event_type, device, outcome, message FROM events_distinct WHERE device = 'e2e-device'",
		"iot", "Connect", "e2e-device", "success", string(line))
	eventually(t, "webhook", func() error {
		if n := len(r.hook.titled(loggingOffTitle)); n != before+1 {
			return fmt.Errorf("%d webhooks, want %d", n, before+1)
		}
		return nil
	})
	s.becomes("SELECT count() FROM detections_current WHERE title = '"+loggingOffTitle+"' AND created_time >= fromUnixTimestamp64Milli("+fmt.Sprint(at.Add(-2*time.Second).UnixMilli())+")", "1")

	brokers := r.p.says("embedded broker", "addresses")
	events, detections := 0, 0
	for _, l := range tapLines(t, brokers, "events") {
		event, _ := l["event"].(map[string]any)
		if event["device"] == "e2e-device" {
			events++
			if event["source"] != "iot" || event["lane"] != "firehose/e2e" {
				t.Errorf("got %v", event)
			}
		}
	}
	for _, l := range tapLines(t, brokers, "detections") {
		d, _ := l["detection"].(map[string]any)
		info, _ := d["finding_info"].(map[string]any)
		if created, _ := info["created_time"].(float64); info["title"] == loggingOffTitle && int64(created) >= at.Add(-2*time.Second).UnixMilli() {
			detections++
		}
	}
	if events != 1 || detections != 1 {
		t.Errorf("tap: %d events, %d detections", events, detections)
	}

	if code, body := r.p.get("/livez"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("/livez: %d %s", code, body)
	}
	code, body := r.p.get("/readyz?verbose")
	for _, check := range []string{"kafka", "correlator", "sink clickhouse", "sink clickhouse-detections", "sink clickhouse-certificates", "sink clickhouse-actions", "sink clickhouse-deadletters", "sink webhook-soc"} {
		if code != http.StatusOK || !strings.Contains(body, "[+]"+check+" ok\n") {
			t.Errorf("/readyz: %d, no %s in\n%s", code, check, body)
		}
	}
	metrics := r.p.metrics()
	for _, name := range []string{
		`tocsin_ingest_events_total{source="push"}`, `tocsin_ingest_events_total{source="firehose"}`, "tocsin_correlate_events_total",
		`tocsin_sink_rows_total{sink="clickhouse"}`, `tocsin_notifications_total{integration="webhook-soc"}`,
	} {
		if metrics[name] < 1 {
			t.Errorf("%s is %g", name, metrics[name])
		}
	}
}

const everything = "SELECT count(), uniqExact(id), (SELECT count() FROM detections_current), (SELECT count() FROM dead_letters FINAL) FROM events_distinct WHERE " + sentIn

// A stop in order repeats nothing.
func (r *embeddedRun) stoppedAndStarted(t *testing.T) {
	s := r.store(t)
	before := r.caughtUp(t)[0]
	told := r.hook.created()
	began := time.Now()
	if code := r.p.terminate(shutdownTimeout + time.Second); code != exitOK {
		t.Fatalf("exit %d:\n%s", code, r.p.stderr(30))
	}
	t.Logf("stopped after %s", time.Since(began).Round(time.Millisecond))
	if _, err := s.ask("SELECT 1"); err == nil {
		t.Error("ClickHouse is left behind")
	}
	if conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(r.target.FirehoseURL, "http://"), "/firehose")); err == nil {
		conn.Close()
		t.Error("the endpoint is left behind")
	}

	r.start(t)
	s = r.store(t)
	s.becomes(everything, before...)
	first := len(r.hook.titled(loggingOffTitle))
	r.push(t, loggingOff("e2e-second"))
	eventually(t, "webhook", func() error {
		if n := len(r.hook.titled(loggingOffTitle)); n != first+1 {
			return fmt.Errorf("%d webhooks, want %d", n, first+1)
		}
		return nil
	})
	events, err := strconv.Atoi(before[0])
	if err != nil {
		t.Fatal(err)
	}
	s.becomes("SELECT count() FROM events_distinct WHERE "+sentIn, fmt.Sprint(events+1))
	r.caughtUp(t)
	for id, times := range r.hook.created() {
		if was, ok := told[id]; ok && was != times {
			t.Errorf("detection %s was told again", id)
		}
	}
	if n := len(r.hook.created()); n != len(told)+1 {
		t.Errorf("%d detections told, want one more than %d", n, len(told))
	}
	// It went on where it had stopped: one event is new.
	if rows := r.p.metrics()[`tocsin_sink_rows_total{sink="clickhouse"}`]; rows != 1 {
		t.Errorf("%g rows were stored after the restart, want 1", rows)
	}
}

// caughtUp waits until no consumer is behind and returns what is in the store.
func (r *embeddedRun) caughtUp(t *testing.T) [][]string {
	t.Helper()
	s := r.store(t)
	var rows [][]string
	eventually(t, "consumers lag", func() error {
		for name, value := range r.p.metrics() {
			if strings.HasPrefix(name, "tocsin_kafka_consumer_lag_records{") && value > 0 {
				return fmt.Errorf("%s %g", name, value)
			}
			if strings.HasPrefix(name, "tocsin_sink_buffered_bytes{") && value > 0 {
				return fmt.Errorf("%s %g", name, value)
			}
		}
		last := rows
		var err error
		rows, err = s.ask(everything)
		if err == nil && fmt.Sprint(last) != fmt.Sprint(rows) {
			err = errors.New("the store still changes")
		}
		return err
	})
	return rows
}

// A folder serves one program at a time, and the second one says so.
func TestRunRefusesAFolderInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := write(t, "tocsin.yaml", `
kafka: {topics: {partitions: 1}}
ingest: {firehose: {listen: "127.0.0.1:0"}}
admin: {listen: "127.0.0.1:0"}
`)
	start(t, nil, "run", "--config", file, "--embedded", dir).says("embedded broker", "")
	code, _, stderr := execute(t, nil, "run", "--config", file, "--embedded", dir)
	if code != exitFailed || !strings.Contains(stderr, dir) || !strings.Contains(stderr, "in use by another process") {
		t.Errorf("exit %d:\n%s", code, stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "kafka")); err != nil {
		t.Error(err)
	}
}
