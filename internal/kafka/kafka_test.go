package kafka_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
)

var realKafka testkit.SharedKafka

// run makes names of topics and groups differ between runs: TOCSIN_KAFKA_BROKERS may name a broker that remembers the last.
var run = fmt.Sprintf("-%08x", rand.Uint32())

func TestMain(m *testing.M) {
	code := m.Run()
	realKafka.Stop()
	breakableKafka.Stop()
	// Clients, producers and groups that were closed leave nothing running.
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// eachBroker runs a test against the in-memory broker and against Apache Kafka. Topic and group names must differ from those
// of other tests.
func eachBroker(t *testing.T, test func(t *testing.T, brokers []string)) {
	t.Run("kfake", func(t *testing.T) { test(t, testkit.KafkaFake(t).ListenAddrs()) })
	t.Run("kafka", func(t *testing.T) { test(t, realKafka.Brokers(t)) })
}

func dial(t testing.TB, brokers ...string) *kafka.Client {
	t.Helper()
	c, err := kafka.Dial(kafka.Config{Brokers: brokers}, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func newProducer(t testing.TB, c *kafka.Client, opts kafka.ProducerOptions) *kafka.Producer {
	t.Helper()
	p, err := kafka.NewProducer(c, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		p.Close(ctx)
	})
	return p
}

func ensureTopics(t testing.TB, c *kafka.Client, specs ...kafka.TopicSpec) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := c.EnsureTopics(ctx, specs); err != nil {
		t.Fatal(err)
	}
}

// readValues returns the values of a whole partition.
func readValues(t testing.TB, c *kafka.Client, topic string, partition int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var values []string
	if err := c.ReadAll(ctx, topic, partition, func(r *kafka.FetchedRecord) error {
		values = append(values, string(r.Value))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return values
}

func numbered(n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprintf("value-%06d", i)
	}
	return s
}

func TestRoundTrip(t *testing.T) { eachBroker(t, testRoundTrip) }

func testRoundTrip(t *testing.T, brokers []string) {
	c := dial(t, brokers...)
	for _, compression := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		t.Run(compression, func(t *testing.T) {
			topic := "round-" + compression + run
			ensureTopics(t, c, kafka.TopicSpec{Name: topic, Partitions: 2})
			p := newProducer(t, c, kafka.ProducerOptions{Compression: compression})
			ctx := t.Context()
			at := time.UnixMilli(1700000000123)
			want := []kafka.Record{
				{Key: []byte("k"), Value: []byte("v"), Time: at, Headers: []kafka.Header{{Key: "h", Value: []byte("x")}, {Key: "nil"}}},
				{Value: []byte{}, Time: at.Add(-time.Hour)},
				{Key: []byte{}, Time: at.Add(time.Hour)},
				{Value: bytes.Repeat([]byte("0123456789"), 50_000), Time: at},
			}
			if err := p.Produce(ctx, topic, 1, want...); err != nil {
				t.Fatal(err)
			}
			var got []kafka.Record
			err := c.ReadAll(ctx, topic, 1, func(r *kafka.FetchedRecord) error {
				if r.Offset != int64(len(got)) {
					t.Errorf("offset %d, want %d", r.Offset, len(got))
				}
				clone := func(b []byte) []byte {
					if b == nil {
						return nil
					}
					return append([]byte{}, b...)
				}
				rec := kafka.Record{Key: clone(r.Key), Value: clone(r.Value), Time: r.Time}
				for _, h := range r.Headers {
					rec.Headers = append(rec.Headers, kafka.Header{Key: h.Key, Value: clone(h.Value)})
				}
				got = append(got, rec)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmp.Comparer(bytes.Equal)); diff != "" {
				t.Error(diff)
			}
			if rest := readValues(t, c, topic, 0); len(rest) != 0 {
				t.Errorf("the other partition has %d records", len(rest))
			}
		})
	}
}

func TestGroupResumesAtCommit(t *testing.T) { eachBroker(t, testGroupResumesAtCommit) }

func testGroupResumesAtCommit(t *testing.T, brokers []string) {
	c := dial(t, brokers...)
	topic := "resume" + run
	ensureTopics(t, c, kafka.TopicSpec{Name: topic, Partitions: 3})
	p := newProducer(t, c, kafka.ProducerOptions{})
	want := numbered(300)
	for i, v := range want {
		if err := p.Produce(t.Context(), topic, i%3, kafka.Record{Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
	}
	consume := func(stopAt int) map[string]int {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var mu sync.Mutex
		seen := make(map[string]int)
		err := kafka.RunGroup(ctx, c, kafka.GroupOptions{GroupID: topic, Topics: []string{topic}, MaxWait: 50 * time.Millisecond}, func(ctx context.Context, a *kafka.Assignment) error {
			var buf kafka.FetchBuffer
			for {
				batch, err := a.Fetch(ctx, &buf)
				if err != nil {
					drain, done := a.Drain(ctx)
					defer done()
					return a.Commit(drain, batch.Next)
				}
				mu.Lock()
				for _, r := range batch.Records {
					seen[string(r.Value)]++
				}
				if len(seen) >= stopAt && batch.CaughtUp {
					cancel()
				}
				mu.Unlock()
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return seen
	}
	first := consume(len(want))
	for _, v := range want {
		if first[v] != 1 {
			t.Errorf("%s seen %d times", v, first[v])
		}
	}
	if again := consume(0); len(again) != 0 {
		t.Errorf("%d records came again after the commit", len(again))
	}
}
