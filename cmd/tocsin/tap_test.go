package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// topics starts a broker with two partitions of each topic and returns a
// function that writes a record.
func topics(t *testing.T) func(topic string, partition int, key, value []byte) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2,
		schemas.TopicEvents, schemas.TopicMatches, schemas.TopicDetections, schemas.TopicDeadLetter, schemas.TopicIdentities))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	t.Setenv("TOCSIN_CONFIG", "")
	t.Setenv("TOCSIN_KAFKA_BROKERS", strings.Join(cluster.ListenAddrs(), ","))
	client, err := kafka.Dial(kafka.Config{Brokers: cluster.ListenAddrs()}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	producer, err := kafka.NewProducer(client, kafka.ProducerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { producer.Close(t.Context()) })
	return func(topic string, partition int, key, value []byte) {
		t.Helper()
		if err := producer.Produce(t.Context(), topic, partition, kafka.Record{Key: key, Value: value}); err != nil {
			t.Fatal(err)
		}
	}
}

// tapped returns the lines of a topic without the records' times.
func tapped(t *testing.T, args ...string) []map[string]any {
	t.Helper()
	code, out, stderr := tocsin(append([]string{"tap"}, args...)...)
	if code != exitOK {
		t.Fatalf("tap %s: exit %d: %s", strings.Join(args, " "), code, stderr)
	}
	var lines []map[string]any
	for line := range strings.Lines(out) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		delete(v, "time")
		lines = append(lines, v)
	}
	return lines
}

func TestTapEvents(t *testing.T) {
	write := topics(t)
	var b schemas.BatchEncoder
	b.Append(&schemas.Event{
		ID: schemas.NewEventID([]byte("a")), Time: 1_795_330_118_648, IngestTime: 1_795_330_119_000,
		Source: []byte("iot"), Type: []byte("Connect"), Device: []byte("pump-1"), Outcome: schemas.OutcomeFailure,
		CertificateStatus: schemas.CertRevoked, HasExpiry: true, DaysToExpiry: -3, Message: []byte(`{"clientId":"pump-1"}`),
	}, "firehose/a")
	b.Append(&schemas.Event{Source: []byte("generic"), Device: []byte("ip:192.0.2.1"), Message: []byte("no <json>")}, "push")
	write(schemas.TopicEvents, 0, []byte("pump-1"), b.Bytes())
	write(schemas.TopicEvents, 1, nil, []byte("\x0a\xff"))
	write(schemas.TopicEvents, 1, nil, b.Bytes())

	got := tapped(t, "events", "--partition", "0")
	want := []map[string]any{
		{"topic": "tocsin.events", "partition": 0.0, "offset": 0.0, "event": map[string]any{
			"id": schemas.NewEventID([]byte("a")).String(), "time": "2026-11-22T06:48:38.648Z", "ingest_time": "2026-11-22T06:48:39.000Z",
			"source": "iot", "type": "Connect", "device": "pump-1", "outcome": "failure", "certificate_status": "REVOKED",
			"days_to_expiry": -3.0, "lane": "firehose/a", "message": map[string]any{"clientId": "pump-1"},
		}},
		{"topic": "tocsin.events", "partition": 0.0, "offset": 0.0, "event": map[string]any{
			"id": strings.Repeat("0", 32), "time": "1970-01-01T00:00:00.000Z", "ingest_time": "1970-01-01T00:00:00.000Z",
			"source": "generic", "device": "ip:192.0.2.1", "lane": "push", "message": "no <json>",
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	// What does not decode is shown, and what follows it.
	got = tapped(t, "events", "--partition", "1")
	if len(got) != 3 || got[0]["error"] == nil || got[1]["event"] == nil {
		t.Errorf("got %v", got)
	}
	if got := tapped(t, "events"); len(got) != 5 {
		t.Errorf("%d lines of all partitions", len(got))
	}
	if got := tapped(t, "events", "--limit", "2"); len(got) != 2 {
		t.Errorf("%d lines with a limit of 2", len(got))
	}
	if got := tapped(t, "events", "--partition", "1", "--from", "1"); len(got) != 2 || got[0]["offset"] != 1.0 {
		t.Errorf("from offset 1: %v", got)
	}
	if got := tapped(t, "events", "--from", "latest"); len(got) != 0 {
		t.Errorf("from latest: %v", got)
	}
	if got := tapped(t, "events", "--follow", "--limit", "5"); len(got) != 5 {
		t.Errorf("following: %d lines", len(got))
	}
	expect(t, []string{"tap", "events", "--partition", "7"}, exitUsage, "", "has no partition 7; there are 2")
	expect(t, []string{"tap", "nothing"}, exitFailed, "", "tocsin run to create them")
}

func TestTapMatches(t *testing.T) {
	write := topics(t)
	var b schemas.MatchBatchEncoder
	b.Append(&schemas.Match{Offset: 7, Correlation: 0xabc, Step: 1, Time: 1000, Group: []byte("g\x00h"), HasNumber: true, Number: 2.5})
	write(schemas.TopicMatches, 0, nil, b.AppendTo(nil, 3, 5000, false))
	b.Reset()
	write(schemas.TopicMatches, 0, nil, b.AppendTo(nil, 3, 6000, true))
	want := []map[string]any{
		{"topic": "tocsin.matches", "partition": 0.0, "offset": 0.0, "match": map[string]any{
			"event_id": strings.Repeat("0", 32), "time": "1970-01-01T00:00:01.000Z", "source_partition": 3.0, "source_offset": 7.0,
			"correlation": "0000000000000abc", "step": 1.0, "group": `"g\x00h"`, "number": 2.5,
		}},
		{"topic": "tocsin.matches", "partition": 0.0, "offset": 1.0, "watermark": map[string]any{
			"source_partition": 3.0, "time": "1970-01-01T00:00:06.000Z", "idle": true,
		}},
	}
	if diff := cmp.Diff(want, tapped(t, "matches", "--partition", "0")); diff != "" {
		t.Error(diff)
	}
}

func TestTapOtherTopics(t *testing.T) {
	write := topics(t)
	finding, err := json.Marshal(schemas.Finding{Message: "a < b", Count: 3})
	if err != nil {
		t.Fatal(err)
	}
	write(schemas.TopicDetections, 0, nil, finding)
	write(schemas.TopicDetections, 0, nil, []byte("not json"))
	letter, err := json.Marshal(schemas.DeadLetter{Source: "firehose", Reason: "not_json", Raw: []byte("hello"), RawSize: 5})
	if err != nil {
		t.Fatal(err)
	}
	write(schemas.TopicDeadLetter, 0, nil, letter)
	write(schemas.TopicIdentities, 0, []byte("cert:1"), []byte{0xff, 0xfe})

	got := tapped(t, "detections", "--partition", "0")
	if d, ok := got[0]["detection"].(map[string]any); !ok || d["message"] != "a < b" || got[1]["error"] != "not JSON" {
		t.Errorf("got %v", got)
	}
	got = tapped(t, "deadletter", "--partition", "0")
	if d, ok := got[0]["dead_letter"].(map[string]any); !ok || d["text"] != "hello" || d["reason"] != "not_json" {
		t.Errorf("got %v", got)
	}
	got = tapped(t, "tocsin.identities", "--partition", "0")
	if r, ok := got[0]["record"].(map[string]any); !ok || r["key"] != "cert:1" || r["size"] != 2.0 || r["value"] != "//4=" {
		t.Errorf("got %v", got)
	}
}
