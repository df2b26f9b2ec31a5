package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"
)

func start(t *testing.T, opt Options) *Broker {
	t.Helper()
	opt.Logger = zaptest.NewLogger(t)
	b, err := Start(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// client closes its connections at the end of the test, so that goleak sees
// the broker's goroutines only.
func client(t *testing.T, b *Broker) *kafka.Client {
	tr := &kafka.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &kafka.Client{Addr: kafka.TCP(b.Addrs()...), Transport: tr, Timeout: 10 * time.Second}
}

func createTopic(t *testing.T, b *Broker, topic string, partitions int) error {
	t.Helper()
	r, err := client(t, b).CreateTopics(t.Context(), &kafka.CreateTopicsRequest{
		Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r.Errors[topic]
}

func produce(t *testing.T, b *Broker, topic string, partition int, values ...string) error {
	t.Helper()
	var records []kafka.Record
	for _, v := range values {
		records = append(records, kafka.Record{Key: kafka.NewBytes([]byte("key")), Value: kafka.NewBytes([]byte(v))})
	}
	r, err := client(t, b).Produce(t.Context(), &kafka.ProduceRequest{
		Topic: topic, Partition: partition, RequiredAcks: kafka.RequireAll, Compression: kafka.Lz4,
		Records: kafka.NewRecordReader(records...),
	})
	if err != nil {
		return err
	}
	return r.Error
}

func read(t *testing.T, b *Broker, topic string, partition int, from int64) (values []string) {
	t.Helper()
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: b.Addrs(), Topic: topic, Partition: partition, MaxWait: 100 * time.Millisecond})
	defer r.Close()
	if err := r.SetOffset(from); err != nil {
		t.Fatal(err)
	}
	lag, err := r.ReadLag(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range lag {
		m, err := r.ReadMessage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, string(m.Value))
	}
	return values
}

func numbers(from, to int) (values []string) {
	for i := from; i < to; i++ {
		values = append(values, fmt.Sprint("value ", i))
	}
	return values
}

func TestProduceAndRead(t *testing.T) {
	for name, dir := range map[string]string{"memory": "", "disk": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			b := start(t, Options{Dir: dir})
			if err := createTopic(t, b, "events", 2); err != nil {
				t.Fatal(err)
			}
			if err := produce(t, b, "events", 1, numbers(0, 1000)...); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(numbers(10, 1000), read(t, b, "events", 1, 10)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnknownTopicIsNotCreated(t *testing.T) {
	b := start(t, Options{})
	if err := produce(t, b, "misspelt", 0, "x"); err == nil {
		t.Error("records were taken for a topic that does not exist")
	}
	m, err := client(t, b).Metadata(t.Context(), &kafka.MetadataRequest{})
	if err != nil || len(m.Topics) != 0 {
		t.Errorf("topics: %+v, %v", m, err)
	}
}

func TestRestartKeepsTopicsRecordsOffsetsAndPort(t *testing.T) {
	dir := t.TempDir()
	b := start(t, Options{Dir: dir})
	if err := createTopic(t, b, "events", 3); err != nil {
		t.Fatal(err)
	}
	var want []string
	for generation := range 3 {
		more := numbers(generation*100, generation*100+100)
		want = append(want, more...)
		if err := produce(t, b, "events", 2, more...); err != nil {
			t.Fatal(err)
		}
		commit(t, b, "readers", "events", 2, int64(len(want)))
		addrs := b.Addrs()
		b.Close()

		b = start(t, Options{Dir: dir})
		if diff := cmp.Diff(addrs, b.Addrs()); diff != "" {
			t.Errorf("address changed (-before +after):\n%s", diff)
		}
		if diff := cmp.Diff(want, read(t, b, "events", 2, 0)); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		if got := committed(t, b, "readers", "events", 2); got != int64(len(want)) {
			t.Errorf("committed offset %d, want %d", got, len(want))
		}
		m, err := client(t, b).Metadata(t.Context(), &kafka.MetadataRequest{Topics: []string{"events"}})
		if err != nil || len(m.Topics[0].Partitions) != 3 {
			t.Errorf("topic after restart: %+v, %v", m, err)
		}
	}
}

// A broker whose port was taken in the meantime starts on another.
func TestPortInUse(t *testing.T) {
	dir := t.TempDir()
	b := start(t, Options{Dir: dir})
	before := b.Addrs()[0]
	b.Close()
	l, err := net.Listen("tcp", before)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b = start(t, Options{Dir: dir})
	if b.Addrs()[0] == before {
		t.Errorf("two listeners on %s", before)
	}
	if err := createTopic(t, b, "events", 1); err != nil {
		t.Error(err)
	}
}

func TestDirIsUsedOnce(t *testing.T) {
	dir := t.TempDir()
	b := start(t, Options{Dir: dir})
	if second, err := Start(Options{Dir: dir}); err == nil {
		second.Close()
		t.Error("two brokers write one log")
	}
	b.Close()
	start(t, Options{Dir: dir})
}

func TestFullDiskRefusesAndRecovers(t *testing.T) {
	b := start(t, Options{Dir: t.TempDir(), MinFree: 1})
	if err := createTopic(t, b, "events", 1); err != nil {
		t.Fatal(err)
	}
	if err := produce(t, b, "events", 0, "before"); err != nil {
		t.Fatal(err)
	}
	// The file system is full as far as the guard can tell.
	b.guard.close()
	b.guard.minFree = 1 << 62
	b.guard.check()
	for range 3 {
		if err := produce(t, b, "events", 0, "refused"); !errors.Is(err, kafka.KafkaStorageError) {
			t.Fatalf("produce: got %v, want %v", err, kafka.KafkaStorageError)
		}
	}
	if err := createTopic(t, b, "more", 1); !errors.Is(err, kafka.KafkaStorageError) {
		t.Errorf("create: got %v, want %v", err, kafka.KafkaStorageError)
	}
	if diff := cmp.Diff([]string{"before"}, read(t, b, "events", 0, 0)); diff != "" {
		t.Errorf("reading goes on (-want +got):\n%s", diff)
	}
	if n := b.StorageRefusals(); n != 4 {
		t.Errorf("%d refusals counted, want 4", n)
	}
	b.guard.minFree = 1
	b.guard.check()
	b.guard.quit, b.guard.done = make(chan struct{}), make(chan struct{})
	go b.guard.run()
	if err := produce(t, b, "events", 0, "after"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"before", "after"}, read(t, b, "events", 0, 0)); diff != "" {
		t.Errorf("after (-want +got):\n%s", diff)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("run", func(t *testing.T) {
		b := start(t, Options{Dir: t.TempDir()})
		if err := createTopic(t, b, "events", 1); err != nil {
			t.Fatal(err)
		}
		if err := produce(t, b, "events", 0, "x"); err != nil {
			t.Fatal(err)
		}
		read(t, b, "events", 0, 0)
	})
	goleak.VerifyNone(t, before)
}

func commit(t *testing.T, b *Broker, group, topic string, partition int, offset int64) {
	t.Helper()
	r, err := client(t, b).OffsetCommit(t.Context(), &kafka.OffsetCommitRequest{
		GroupID: group, GenerationID: -1,
		Topics: map[string][]kafka.OffsetCommit{topic: {{Partition: partition, Offset: offset}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Topics[topic][0].Error; err != nil {
		t.Fatal(err)
	}
}

func committed(t *testing.T, b *Broker, group, topic string, partition int) int64 {
	t.Helper()
	var offset int64
	err := retry(t.Context(), func() error {
		r, err := client(t, b).OffsetFetch(t.Context(), &kafka.OffsetFetchRequest{
			GroupID: group, Topics: map[string][]int{topic: {partition}},
		})
		if err != nil {
			return err
		}
		offset = r.Topics[topic][0].CommittedOffset
		return errors.Join(r.Error, r.Topics[topic][0].Error)
	})
	if err != nil {
		t.Fatal(err)
	}
	return offset
}

// retry is for the moment in which a new broker looks for its groups.
func retry(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		err := f()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}
