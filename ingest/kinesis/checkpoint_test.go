package kinesis

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
)

// testStore is what every store must do. open opens what an earlier process
// wrote.
func testStore(t *testing.T, open func() CheckpointStore) {
	t.Helper()
	ctx := t.Context()
	check := func(stream string, want map[string]Checkpoint) {
		t.Helper()
		got, err := open().Load(ctx, stream)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got)\n%s", stream, err, diff)
		}
	}
	save := func(s CheckpointStore, stream string, changed map[string]Checkpoint) {
		t.Helper()
		if err := s.Save(ctx, stream, changed); err != nil {
			t.Error(err)
		}
	}
	const arn = "arn:aws:kinesis:eu-west-1:111122223333:stream/s"
	check("s", map[string]Checkpoint{})
	s := open()
	since := time.Date(2026, 11, 23, 18, 0, 0, 0, time.UTC)
	save(s, "s", map[string]Checkpoint{"a": {Sequence: "1"}, "b": {Since: since}})
	save(s, arn, map[string]Checkpoint{"a": {Sequence: "7"}})
	check("s", map[string]Checkpoint{"a": {Sequence: "1"}, "b": {Since: since}})
	save(s, "s", map[string]Checkpoint{"a": {Sequence: "2", Done: true}, "b": {}, "c": {Sequence: "3"}})
	want := map[string]Checkpoint{"a": {Sequence: "2", Done: true}, "c": {Sequence: "3"}}
	check("s", want)
	// A process that saves without having loaded does not lose the rest.
	save(open(), "s", map[string]Checkpoint{"d": {Sequence: "4"}})
	want["d"] = Checkpoint{Sequence: "4"}
	check("s", want)
	check(arn, map[string]Checkpoint{"a": {Sequence: "7"}})
}

func TestFileStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "er")
	testStore(t, func() CheckpointStore {
		s, err := NewFileStore(dir)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v: %v", err, entries)
	}
	if err := os.WriteFile(filepath.Join(dir, "kinesis-bad.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := NewFileStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(t.Context(), "bad"); err == nil || !strings.Contains(err.Error(), "kinesis-bad.json is damaged") {
		t.Errorf("error %v", err)
	}
	// A damaged file is left for a person to look at.
	if err := s.Save(t.Context(), "bad", map[string]Checkpoint{"a": {Sequence: "1"}}); err == nil {
		t.Error("a damaged file was overwritten")
	}
}

func TestKafkaStore(t *testing.T) {
	cluster := testkit.KafkaFake(t)
	client, err := kafka.Dial(kafka.Config{Brokers: cluster.ListenAddrs()}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	const topic, partitions = "state", 3
	if err := client.EnsureTopics(t.Context(), []kafka.TopicSpec{{Name: topic, Partitions: partitions, Compacted: true}}); err != nil {
		t.Fatal(err)
	}
	producer, err := kafka.NewProducer(client, kafka.ProducerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := producer.Close(context.Background()); err != nil {
			t.Error(err)
		}
		client.Close()
	}()
	testStore(t, func() CheckpointStore {
		s, err := NewKafkaStore(client, producer, topic, partitions)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
	if _, err := NewKafkaStore(nil, nil, "", 0); err == nil {
		t.Error("no error without a client")
	}
}
