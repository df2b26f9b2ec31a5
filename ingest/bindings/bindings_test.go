package bindings

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/tocsin-io/tocsin/ingest/identity"
	"github.com/tocsin-io/tocsin/internal/identities"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
)

// start is an ingester's table, tied to the topic until the returned function
// is called.
func start(t *testing.T, brokers []string) (*identity.Bindings, func()) {
	t.Helper()
	log := zaptest.NewLogger(t)
	client, err := kafka.Dial(kafka.Config{Brokers: brokers}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	specs := []kafka.TopicSpec{{Name: schemas.TopicIdentities, Partitions: 3, Compacted: true}}
	if err := client.EnsureTopics(ctx, specs); err != nil {
		t.Fatal(err)
	}
	producer, err := kafka.NewProducer(client, kafka.ProducerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	table := identity.NewBindings(0)
	follower, err := identities.Open(ctx, client, log)
	if err != nil {
		t.Fatal(err)
	}
	topic := New(follower, producer, table, log)
	if err := follower.Load(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		followed := make(chan error, 1)
		go func() { followed <- follower.Run(ctx) }()
		done <- errors.Join(topic.Run(ctx), <-followed)
	}()
	return table, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := producer.Close(context.Background()); err != nil {
			t.Error(err)
		}
		_ = client.Close()
	}
}

func certificate(i int) []byte { return fmt.Appendf(nil, "%064x", i) }

func expect(t *testing.T, table *identity.Bindings, i int, device string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for string(table.DeviceOf(certificate(i))) != device {
		if time.Now().After(deadline) {
			t.Fatalf("certificate %d is bound to %q, want %q", i, table.DeviceOf(certificate(i)), device)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestBindingsOutliveTheProcessAndReachOthers(t *testing.T) {
	brokers := testkit.KafkaFake(t).ListenAddrs()
	first, stopFirst := start(t, brokers)
	second, stopSecond := start(t, brokers)
	for i := range 100 {
		first.Learn(certificate(i), fmt.Appendf(nil, "pump-%d", i), true)
	}
	for i := range 100 {
		expect(t, second, i, fmt.Sprintf("pump-%d", i))
	}
	// The other one sees a certificate move to another client.
	second.Learn(certificate(7), []byte("stranger"), true)
	expect(t, first, 7, "stranger")
	// A use that may not rebind changes nothing anywhere.
	first.Learn(certificate(8), []byte("stranger"), false)
	stopFirst()
	stopSecond()

	again, stop := start(t, brokers)
	defer stop()
	// Known at once, before anything is learned.
	for i, want := range map[int]string{0: "pump-0", 7: "stranger", 8: "pump-8", 99: "pump-99"} {
		if got := string(again.DeviceOf(certificate(i))); got != want {
			t.Errorf("after a restart certificate %d is bound to %q, want %q", i, got, want)
		}
	}
}

func TestBindingsOfTheLastSecondArePublishedAtTheEnd(t *testing.T) {
	brokers := testkit.KafkaFake(t).ListenAddrs()
	first, stop := start(t, brokers)
	first.Learn(certificate(1), []byte("pump-1"), true)
	stop()
	again, stop := start(t, brokers)
	defer stop()
	if got := string(again.DeviceOf(certificate(1))); got != "pump-1" {
		t.Errorf("got %q", got)
	}
}
