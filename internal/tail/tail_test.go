package tail_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/tail"
	"github.com/tocsin-io/tocsin/internal/testkit"
)

const (
	topic      = "test.journal"
	partitions = 3
)

// Everything is read once, in the order of its partition, by Load or by Follow;
// also what is appended while Load reads.
func TestLoadAndFollow(t *testing.T) {
	cluster := testkit.KafkaFake(t, kfake.SeedTopics(partitions, topic))
	client, err := kafka.Dial(kafka.Config{Brokers: cluster.ListenAddrs()}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	producer, err := kafka.NewProducer(client, kafka.ProducerOptions{Linger: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { producer.Close(context.Background()) }) // everything is acknowledged by then

	var mu sync.Mutex
	got := map[string][]string{}
	total := 0
	take := func(rec *kafka.FetchedRecord) {
		mu.Lock()
		defer mu.Unlock()
		got[string(rec.Key)] = append(got[string(rec.Key)], string(rec.Value))
		total++
	}
	want := map[string][]string{}
	n := 0
	// Not in the last partition, which stays empty until Follow.
	add := func(partition int) {
		key, value := fmt.Sprint("p", partition), fmt.Sprint(n)
		n++
		want[key] = append(want[key], value)
		if err := producer.Produce(t.Context(), topic, partition, kafka.Record{Key: []byte(key), Value: []byte(value)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 200 {
		add(i % 2)
	}
	reader, err := tail.Open(t.Context(), client, topic, zap.NewNop())
	if err != nil || reader.Partitions() != partitions {
		t.Fatalf("%v, %v", reader, err)
	}
	var once sync.Once
	err = reader.Load(t.Context(), func(rec *kafka.FetchedRecord) error {
		once.Do(func() { add(0); add(1) })
		take(rec)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if total < 200 {
		t.Fatalf("%d records were loaded", total)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { reader.Follow(ctx, take); close(ended) }()
	for i := range 30 {
		add(i % partitions)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		mu.Lock()
		done := total >= n
		mu.Unlock()
		if done {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d records", total, n)
		}
	}
	cancel()
	<-ended
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoadEndsWithTheError(t *testing.T) {
	cluster := testkit.KafkaFake(t, kfake.SeedTopics(1, topic))
	client, err := kafka.Dial(kafka.Config{Brokers: cluster.ListenAddrs()}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	producer, err := kafka.NewProducer(client, kafka.ProducerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { producer.Close(context.Background()) })
	if err := producer.Produce(t.Context(), topic, 0, kafka.Record{Value: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	reader, err := tail.Open(t.Context(), client, topic, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	if err := reader.Load(t.Context(), func(*kafka.FetchedRecord) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	if _, err := tail.Open(t.Context(), client, "test.none", zap.NewNop()); err == nil {
		t.Error("a topic that is not there is read")
	}
}
