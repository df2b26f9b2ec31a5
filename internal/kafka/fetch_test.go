package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
)

func TestTransactions(t *testing.T) { eachBroker(t, testTransactions) }

// testTransactions reads what another client library wrote in transactions, some aborted.
func testTransactions(t *testing.T, brokers []string) {
	c := dial(t, brokers...)
	topic := "transactions" + run
	ensureTopics(t, c, kafka.TopicSpec{Name: topic, Partitions: 1})
	producer, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.TransactionalID(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var want []string
	for i := range 6 {
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		commit := kgo.TransactionEndTry(i%2 == 0)
		for j := range 3 {
			v := fmt.Sprintf("%d/%d", i, j)
			if err := producer.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(v)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			if commit {
				want = append(want, v)
			}
		}
		if err := producer.EndTransaction(ctx, commit); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, readValues(t, c, topic, 0)); diff != "" {
		t.Error(diff)
	}
	// Only a marker is left to read: the position must still reach the end.
	last, err := c.LastOffset(ctx, topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	var buf kafka.FetchBuffer
	batch, err := c.FetchFrom(ctx, topic, 0, last-1, &buf)
	if err != nil || len(batch.Records) != 0 || batch.Next != last || !batch.CaughtUp {
		t.Errorf("fetch of the last marker: %+v, %v", batch, err)
	}
	// An open transaction holds readers back but does not hide that they have read all there is.
	if err := producer.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := producer.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("open")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	batch, err = c.FetchFrom(ctx, topic, 0, last, &buf)
	if err != nil || len(batch.Records) != 0 || batch.Next != last || !batch.CaughtUp {
		t.Errorf("fetch behind an open transaction: %+v, %v", batch, err)
	}
	if diff := cmp.Diff(want, readValues(t, c, topic, 0)); diff != "" {
		t.Error(diff)
	}
	if err := producer.EndTransaction(ctx, kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
}

func TestOtherClientReadsOurs(t *testing.T) { eachBroker(t, testOtherClientReadsOurs) }

func testOtherClientReadsOurs(t *testing.T, brokers []string) {
	c := dial(t, brokers...)
	topic := "ours" + run
	ensureTopics(t, c, kafka.TopicSpec{Name: topic, Partitions: 1})
	p := newProducer(t, c, kafka.ProducerOptions{MaxBatchBytes: 5000})
	want := numbered(1000)
	mustProduce(t, p, topic, 0, want)
	consumer, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var got []string
	for len(got) < len(want) && ctx.Err() == nil {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		for r := range fetches.RecordsAll() {
			got = append(got, string(r.Value))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestOffsets(t *testing.T) { eachBroker(t, testOffsets) }

func testOffsets(t *testing.T, brokers []string) {
	c := dial(t, brokers...)
	topic := "offsets" + run
	ensureTopics(t, c, kafka.TopicSpec{Name: topic, Partitions: 1})
	p := newProducer(t, c, kafka.ProducerOptions{})
	for range 10 {
		if err := p.Produce(t.Context(), topic, 0, kafka.Record{Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, want int64) func(got int64, err error) {
		return func(got int64, err error) {
			t.Helper()
			if err != nil || got != want {
				t.Errorf("%s: %d, want %d: %v", what, got, want, err)
			}
		}
	}
	ctx := t.Context()
	check("first", 0)(c.FirstOffset(ctx, topic, 0))
	check("last", 10)(c.LastOffset(ctx, topic, 0))
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := c.LastOffset(short, "no-such-topic", 0); kafka.Reason(err) != kafka.ReasonUnknownTopic {
		t.Errorf("offset of an unknown topic: %v", err)
	}
	var buf kafka.FetchBuffer
	if _, err := c.FetchFrom(ctx, topic, 0, 99, &buf); !errors.Is(err, kafka.ErrOffsetOutOfRange) {
		t.Errorf("fetch beyond the end: %v", err)
	}
	batch, err := c.FetchFrom(ctx, topic, 0, 10, &buf)
	if err != nil || !batch.CaughtUp || batch.Next != 10 || batch.HighWatermark != 10 {
		t.Errorf("fetch at the end: %+v, %v", batch, err)
	}
}

func TestCompactedTopic(t *testing.T) {
	broker := testkit.KafkaFake(t)
	c := dial(t, broker.ListenAddrs()...)
	ensureTopics(t, c, kafka.TopicSpec{Name: "state", Partitions: 1, Compacted: true, Extra: map[string]string{"segment.bytes": "200", "min.cleanable.dirty.ratio": "0"}})
	p := newProducer(t, c, kafka.ProducerOptions{Linger: -1})
	var want []string
	for i := range 50 {
		v := fmt.Sprintf("value %d", i)
		if err := p.Produce(t.Context(), "state", 0, kafka.Record{Key: []byte{byte(i % 5)}, Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
		if i >= 45 {
			want = append(want, v)
		}
	}
	before := len(readValues(t, c, "state", 0))
	broker.Compact()
	got := readValues(t, c, "state", 0)
	if len(got) >= before {
		t.Fatalf("%d records before compaction, %d after: nothing was compacted", before, len(got))
	}
	if diff := cmp.Diff(want, got[len(got)-len(want):]); diff != "" {
		t.Error(diff)
	}
}

// runHandler runs a handler on the only partition of a topic until it has returned once.
func runHandler(t *testing.T, c *kafka.Client, opts kafka.GroupOptions, handler kafka.Handler) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	returned := false
	err := kafka.RunGroup(ctx, c, opts, func(ctx context.Context, a *kafka.Assignment) error {
		err := handler(ctx, a)
		returned = true
		cancel()
		return err
	})
	if err != nil || !returned {
		t.Fatalf("handler returned: %v, group: %v", returned, err)
	}
}

func TestOffsetsDeletedByRetention(t *testing.T) {
	broker := testkit.KafkaFake(t)
	c := dial(t, broker.ListenAddrs()...)
	ensureTopics(t, c, kafka.TopicSpec{Name: "in", Partitions: 1})
	p := newProducer(t, c, kafka.ProducerOptions{})
	mustProduce(t, p, "in", 0, numbered(100))
	if err := broker.DeleteRecords("in", 0, 40); err != nil {
		t.Fatal(err)
	}
	runHandler(t, c, kafka.GroupOptions{GroupID: "g", Topics: []string{"in"}}, func(ctx context.Context, a *kafka.Assignment) error {
		var buf kafka.FetchBuffer
		fetch := func() kafka.FetchBatch {
			batch, err := a.Fetch(ctx, &buf)
			if err != nil {
				t.Error(err)
			}
			return batch
		}
		a.SeekTo(10)
		if diff := cmp.Diff(&kafka.Gap{From: 10, To: 40, Reason: kafka.ReasonOffsetRange}, fetch().Gap); diff != "" {
			t.Error(diff)
		}
		if b := fetch(); len(b.Records) != 60 || b.Records[0].Offset != 40 || b.Gap != nil {
			t.Errorf("after the gap: %d records, gap %v", len(b.Records), b.Gap)
		}
		if a.Position() != 100 || a.Lag() != 0 {
			t.Errorf("position %d, lag %d", a.Position(), a.Lag())
		}
		// Beyond the end: the topic was made anew.
		a.SeekTo(5000)
		if diff := cmp.Diff(&kafka.Gap{From: 5000, To: 40, Reason: kafka.ReasonOffsetRange}, fetch().Gap); diff != "" {
			t.Error(diff)
		}
		a.SeekTo(kafka.OffsetLast)
		if b := fetch(); len(b.Records) != 0 || !b.CaughtUp || b.Next != 100 {
			t.Errorf("at the end: %+v", b)
		}
		a.SeekTo(kafka.OffsetFirst)
		if b := fetch(); len(b.Records) != 60 || !b.CaughtUp {
			t.Errorf("from the first: %d records", len(b.Records))
		}
		return nil
	})
}

func TestUnreachableBrokerIsNotSilence(t *testing.T) {
	broker := testkit.KafkaFake(t)
	c := dial(t, broker.ListenAddrs()...)
	ensureTopics(t, c, kafka.TopicSpec{Name: "in", Partitions: 1})
	p := newProducer(t, c, kafka.ProducerOptions{})
	mustProduce(t, p, "in", 0, numbered(3))
	runHandler(t, c, kafka.GroupOptions{GroupID: "g", Topics: []string{"in"}, MaxWait: 50 * time.Millisecond}, func(ctx context.Context, a *kafka.Assignment) error {
		var buf kafka.FetchBuffer
		if b, err := a.Fetch(ctx, &buf); err != nil || len(b.Records) != 3 {
			t.Errorf("%+v %v", b, err)
		}
		fault := broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "in", Err: kerr.NotLeaderForPartition, Count: -1})
		for range 3 {
			if b, err := a.Fetch(ctx, &buf); err != nil || len(b.Records) != 0 || b.CaughtUp || b.Next != 3 {
				t.Errorf("while the broker refuses: %+v %v", b, err)
			}
		}
		fault.Remove()
		if b, err := a.Fetch(ctx, &buf); err != nil || len(b.Records) != 0 || !b.CaughtUp {
			t.Errorf("afterwards: %+v %v", b, err)
		}
		broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "in", Err: kerr.TopicAuthorizationFailed})
		if _, err := a.Fetch(ctx, &buf); kafka.Reason(err) != kafka.ReasonAuth {
			t.Errorf("not authorised: %v", err)
		}
		return nil
	})
}

func TestCorruptBatchIsPassedOver(t *testing.T) {
	broker := testkit.KafkaFake(t)
	c := dial(t, broker.ListenAddrs()...)
	ensureTopics(t, c, kafka.TopicSpec{Name: "in", Partitions: 1})
	p := newProducer(t, c, kafka.ProducerOptions{})
	for i := range 3 { // three batches of ten
		mustProduce(t, p, "in", 0, numbered(30)[i*10:i*10+10])
	}
	// The second batch arrives damaged, always. Fetch the first to have its bytes, and answer for the broker.
	damaged := fetchRaw(t, broker, 10)
	damaged[len(damaged)-1] ^= 1
	broker.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		f := req.(*kmsg.FetchRequest)
		if f.Topics[0].Partitions[0].FetchOffset != 10 {
			return nil, nil, false
		}
		res := f.ResponseKind().(*kmsg.FetchResponse)
		partition := kmsg.NewFetchResponseTopicPartition()
		partition.HighWatermark, partition.LastStableOffset, partition.RecordBatches = 30, 30, damaged
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic, topic.Partitions = f.Topics[0].Topic, append(topic.Partitions, partition)
		res.Topics = append(res.Topics, topic)
		return res, nil, true
	})
	runHandler(t, c, kafka.GroupOptions{GroupID: "g", Topics: []string{"in"}}, func(ctx context.Context, a *kafka.Assignment) error {
		var buf kafka.FetchBuffer
		a.SeekTo(10)
		for range 2 {
			if b, err := a.Fetch(ctx, &buf); err != nil || b.Gap != nil || b.CaughtUp {
				t.Errorf("before it is believed: %+v %v", b, err)
			}
		}
		b, err := a.Fetch(ctx, &buf)
		if diff := cmp.Diff(&kafka.Gap{From: 10, To: 20, Reason: kafka.ReasonCorrupt}, b.Gap); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
		if b, err = a.Fetch(ctx, &buf); err != nil || len(b.Records) != 10 || b.Records[0].Offset != 20 {
			t.Errorf("after it: %d records, %v", len(b.Records), err)
		}
		return nil
	})
}

// fetchRaw returns the record batch at an offset of topic in, partition 0.
func fetchRaw(t *testing.T, broker *kfake.Cluster, offset int64) []byte {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes, req.Version = 1, 11
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = "in", broker.TopicInfo("in").TopicID
	partition := kmsg.NewFetchRequestTopicPartition()
	partition.FetchOffset, partition.PartitionMaxBytes = offset, 1
	topic.Partitions = append(topic.Partitions, partition)
	req.Topics = append(req.Topics, topic)
	res, err := req.RequestWith(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	return res.Topics[0].Partitions[0].RecordBatches
}
