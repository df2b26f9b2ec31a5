package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
)

// produceAll sends the values in order with ProduceAsync and waits for the acknowledgements, whose errors it returns.
func produceAll(t testing.TB, p *kafka.Producer, topic string, partition int, values []string) []error {
	t.Helper()
	errs := make([]error, len(values))
	var wg sync.WaitGroup
	wg.Add(len(values))
	for i, v := range values {
		p.ProduceAsync(t.Context(), topic, partition, kafka.Record{Value: []byte(v)}, func(_ int64, err error) {
			errs[i] = err
			wg.Done()
		})
	}
	wg.Wait()
	return errs
}

func mustProduce(t testing.TB, p *kafka.Producer, topic string, partition int, values []string) {
	t.Helper()
	if err := errors.Join(produceAll(t, p, topic, partition, values)...); err != nil {
		t.Fatal(err)
	}
}

func TestLostAcknowledgementDoesNotAppendTwice(t *testing.T) {
	network := newFlakyNet()
	c := dial(t, testkit.KafkaFake(t, network.opt()).ListenAddrs()...)
	ensureTopics(t, c, kafka.TopicSpec{Name: "in", Partitions: 1})
	p := newProducer(t, c, kafka.ProducerOptions{MaxBatchBytes: 2000, Linger: -1})
	want := numbered(400)
	mustProduce(t, p, "in", 0, want[:100])
	for i := 100; i < 400; i += 100 {
		network.drop(3)
		mustProduce(t, p, "in", 0, want[i:i+100])
	}
	if n := network.drops(); n < 9 {
		t.Fatalf("only %d responses were lost", n)
	}
	if diff := cmp.Diff(want, readValues(t, c, "in", 0)); diff != "" {
		t.Error(diff)
	}
}

func TestProduceErrors(t *testing.T) {
	const all = 100
	for _, test := range []struct {
		name  string
		err   *kerr.Error
		count int
		// wantLost is set for errors that fail the records they meet.
		wantReason string
		wantRetry  string
	}{
		{name: "appended but timed out", err: kerr.RequestTimedOut, count: 3, wantRetry: kafka.ReasonTimeout},
		{name: "appended without enough replicas", err: kerr.NotEnoughReplicasAfterAppend, count: 3, wantRetry: kafka.ReasonNotEnoughISR},
		{name: "not enough replicas", err: kerr.NotEnoughReplicas, count: 3, wantRetry: kafka.ReasonNotEnoughISR},
		{name: "not the leader", err: kerr.NotLeaderForPartition, count: 3, wantRetry: kafka.ReasonNoLeader},
		{name: "sequence forgotten", err: kerr.OutOfOrderSequenceNumber, count: 1, wantRetry: kafka.ReasonProducerState},
		{name: "producer ID forgotten", err: kerr.UnknownProducerID, count: 1, wantRetry: kafka.ReasonProducerState},
		{name: "fenced", err: kerr.InvalidProducerEpoch, count: 1, wantRetry: kafka.ReasonProducerState},
		{name: "storage", err: kerr.KafkaStorageError, count: 2, wantRetry: kafka.ReasonStorage},
		{name: "unheard-of", err: kerr.UnknownServerError, count: 2, wantRetry: kafka.ReasonOther},
		{name: "not authorised", err: kerr.TopicAuthorizationFailed, count: 1, wantReason: kafka.ReasonAuth},
		{name: "invalid", err: kerr.InvalidRecord, count: 1, wantReason: kafka.ReasonCorrupt},
	} {
		t.Run(test.name, func(t *testing.T) {
			broker := testkit.KafkaFake(t)
			c := dial(t, broker.ListenAddrs()...)
			ensureTopics(t, c, kafka.TopicSpec{Name: "in", Partitions: 1})
			registry := prometheus.NewPedanticRegistry()
			p := newProducer(t, c, kafka.ProducerOptions{MaxBatchBytes: 1000, Linger: -1, RetryBackoff: time.Millisecond, Registerer: registry})
			values := numbered(all)
			mustProduce(t, p, "in", 0, values[:all/2])
			broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "in", Err: test.err, Count: test.count})
			errs := produceAll(t, p, "in", 0, values[all/2:])
			want := append([]string{}, values[:all/2]...)
			failed := 0
			for i, err := range errs {
				switch {
				case err == nil:
					want = append(want, values[all/2+i])
				case kafka.Reason(err) != test.wantReason:
					t.Fatalf("%v: reason %q, want %q", err, kafka.Reason(err), test.wantReason)
				default:
					failed++
				}
			}
			if (failed > 0) != (test.wantReason != "") {
				t.Errorf("%d records failed", failed)
			}
			if diff := cmp.Diff(want, readValues(t, c, "in", 0)); diff != "" {
				t.Error(diff)
			}
			for name, labels := range map[string]string{"tocsin_kafka_produce_retries_total": test.wantRetry, "tocsin_kafka_produce_errors_total": test.wantReason} {
				if got := labelValues(t, registry, name, "reason"); labels == "" && len(got) > 0 || labels != "" && !cmp.Equal(got, []string{labels}) {
					t.Errorf("%s has reasons %v, want %q", name, got, labels)
				}
			}
		})
	}
}

// labelValues returns the values of one label of a metric.
func labelValues(t *testing.T, g prometheus.Gatherer, metric, label string) (values []string) {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != metric {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == label {
					values = append(values, l.GetValue())
				}
			}
		}
	}
	return values
}

func TestLeaderMove(t *testing.T) {
	broker := testkit.KafkaFake(t, kfake.NumBrokers(3))
	c := dial(t, broker.ListenAddrs()...)
	ensureTopics(t, c, kafka.TopicSpec{Name: "in", Partitions: 1})
	p := newProducer(t, c, kafka.ProducerOptions{MaxBatchBytes: 2000, Linger: -1})
	want := numbered(600)
	for i := 0; i < len(want); i += 100 {
		if err := broker.MoveTopicPartition("in", 0, (broker.LeaderFor("in", 0)+1)%3); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		mustProduce(t, p, "in", 0, want[i:i+100])
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("producing after the leader moved took %s: the layout was not refreshed", took)
		}
	}
	if diff := cmp.Diff(want, readValues(t, c, "in", 0)); diff != "" {
		t.Error(diff)
	}
}

func TestBackpressure(t *testing.T) {
	network := newFlakyNet()
	c := dial(t, testkit.KafkaFake(t, network.opt()).ListenAddrs()...)
	ensureTopics(t, c, kafka.TopicSpec{Name: "in", Partitions: 2})
	const limit = 100_000
	registry := prometheus.NewPedanticRegistry()
	p := newProducer(t, c, kafka.ProducerOptions{MaxInFlightBytes: limit, Registerer: registry})
	mustProduce(t, p, "in", 0, []string{"first"})
	network.pause()
	value := make([]byte, 1000)
	var acknowledged, enqueued atomic.Int64
	finished := make(chan struct{})
	const records = 500
	go func() {
		defer close(finished)
		for i := range records {
			p.ProduceAsync(context.Background(), "in", i%2, kafka.Record{Value: value}, func(_ int64, err error) {
				if err != nil {
					t.Error(err)
				}
				acknowledged.Add(1)
			})
			enqueued.Add(1)
		}
	}()
	// Enqueueing stops at the bound, with what is in flight just below it.
	deadline := time.Now().Add(10 * time.Second)
	for before := int64(-1); before != enqueued.Load(); time.Sleep(200 * time.Millisecond) {
		if before = enqueued.Load(); time.Now().After(deadline) {
			t.Fatal("enqueueing does not stop")
		}
	}
	if n := enqueued.Load(); n < 80 || n > limit/1000 {
		t.Errorf("%d records of 1000 bytes enqueued, the bound is %d bytes", n, limit)
	}
	gauge := func() float64 { return metricValue(t, registry, "tocsin_kafka_produce_in_flight_bytes") }
	if g := gauge(); g < 80_000 || g > limit {
		t.Errorf("in-flight gauge is %v, the bound is %d", g, limit)
	}
	// A caller can give up.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Produce(ctx, "in", 0, kafka.Record{Value: value}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("produce at the bound: %v", err)
	}
	network.resume()
	<-finished
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := acknowledged.Load(); n != records {
		t.Errorf("%d of %d records acknowledged", n, records)
	}
	if g := gauge(); g != 0 {
		t.Errorf("in-flight gauge is %v at the end", g)
	}
}

func metricValue(t *testing.T, g prometheus.Gatherer, metric string) (sum float64) {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == metric {
			for _, m := range f.GetMetric() {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func TestTooLarge(t *testing.T) { eachBroker(t, testTooLarge) }

func testTooLarge(t *testing.T, brokers []string) {
	c := dial(t, brokers...)
	topic := "small" + run
	ensureTopics(t, c, kafka.TopicSpec{Name: topic, Partitions: 1, MaxMessageBytes: 20_000})
	p := newProducer(t, c, kafka.ProducerOptions{MaxMessageBytes: 100_000})
	random := rand.New(rand.NewPCG(1, 2))
	value := func(size int) string { // does not compress
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return string(b)
	}
	var values, want []string
	for i := range 100 {
		size := 1000
		if i == 50 {
			size = 50_000 // more than the topic accepts
		}
		if i == 70 {
			size = 100_001 // more than the producer accepts
		}
		values = append(values, value(size))
		if size == 1000 {
			want = append(want, values[i])
		}
	}
	errs := produceAll(t, p, topic, 0, values)
	for i, err := range errs {
		if tooLarge := i == 50 || i == 70; errors.Is(err, kafka.ErrTooLarge) != tooLarge {
			t.Errorf("record %d: %v", i, err)
		}
	}
	if got := readValues(t, c, topic, 0); !cmp.Equal(want, got) {
		t.Errorf("%d records in the topic, want %d in order", len(got), len(want))
	}
	if err := p.Produce(t.Context(), topic, 0, kafka.Record{Value: []byte("fits")}, kafka.Record{Value: make([]byte, 100_001)}); !errors.Is(err, kafka.ErrTooLarge) {
		t.Errorf("produce: %v", err)
	}
	if got := readValues(t, c, topic, 0); len(got) != len(want) {
		t.Errorf("a part of a refused Produce was appended")
	}
}

func TestConcurrentProducersShareRequests(t *testing.T) {
	broker := testkit.KafkaFake(t)
	c := dial(t, broker.ListenAddrs()...)
	ensureTopics(t, c, kafka.TopicSpec{Name: "in", Partitions: 2})
	requests := broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "in", Observe: true, Count: -1})
	p := newProducer(t, c, kafka.ProducerOptions{})
	const callers, perCaller = 100, 20
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for j := range perCaller {
				if err := p.Produce(t.Context(), "in", i%2, kafka.Record{Value: fmt.Appendf(nil, "%d/%d", i, j)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	next := make(map[int]int)
	for partition := range 2 {
		for _, v := range readValues(t, c, "in", partition) {
			var i, j int
			if _, err := fmt.Sscanf(v, "%d/%d", &i, &j); err != nil {
				t.Fatal(err)
			}
			if j != next[i] {
				t.Fatalf("caller %d: record %d where %d was expected", i, j, next[i])
			}
			next[i]++
		}
	}
	for i := range callers {
		if next[i] != perCaller {
			t.Errorf("caller %d: %d records", i, next[i])
		}
	}
	if n := requests.Hits(); n > callers*perCaller/5 {
		t.Errorf("%d requests for %d records", n, callers*perCaller)
	}
}

func TestCloseGivesUpWithTheContext(t *testing.T) {
	network := newFlakyNet()
	c := dial(t, testkit.KafkaFake(t, network.opt()).ListenAddrs()...)
	ensureTopics(t, c, kafka.TopicSpec{Name: "in", Partitions: 1})
	p := newProducer(t, c, kafka.ProducerOptions{})
	mustProduce(t, p, "in", 0, []string{"before"})
	network.pause()
	defer network.resume()
	result := make(chan error, 1)
	p.ProduceAsync(t.Context(), "in", 0, kafka.Record{Value: []byte("stuck")}, func(_ int64, err error) { result <- err })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close: %v", err)
	}
	if err := <-result; !errors.Is(err, kafka.ErrClosed) || kafka.Reason(err) != kafka.ReasonClosed {
		t.Errorf("record left at close: %v", err)
	}
	if err := p.Produce(t.Context(), "in", 0, kafka.Record{Value: []byte("after")}); !errors.Is(err, kafka.ErrClosed) {
		t.Errorf("produce after close: %v", err)
	}
}
