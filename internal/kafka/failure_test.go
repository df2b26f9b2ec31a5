package kafka_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	kafkago "github.com/segmentio/kafka-go"
	"go.uber.org/zap/zaptest"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
)

// breakableKafka is one broker that tests kill and freeze, with a secure listener for those that need one.
// The test that kills it runs after those that are not parallel.
var breakableKafka = testkit.SharedKafka{Options: testkit.KafkaOptions{Secure: true}}

// stream is a flow of numbered records through a topic, with a producer and a consumer group, that something happens to.
type stream struct {
	c          *kafka.Client
	topic      string
	partitions int

	produced    []atomic.Int64 // acknowledged, per partition
	mu          sync.Mutex
	consumed    [][]string // in the order handled, per partition
	stopProduce context.CancelFunc
	stopConsume context.CancelFunc
	done        sync.WaitGroup
}

// startStream starts to produce and to consume, about a thousand records a second in small batches.
func startStream(t *testing.T, c *kafka.Client, topic string, partitions int) *stream {
	s := &stream{c: c, topic: topic, partitions: partitions, produced: make([]atomic.Int64, partitions), consumed: make([][]string, partitions)}
	p := newProducer(t, c, kafka.ProducerOptions{MaxBatchBytes: 4000})
	produce, stopProduce := context.WithCancel(t.Context())
	consume, stopConsume := context.WithCancel(t.Context())
	s.stopProduce, s.stopConsume = stopProduce, stopConsume
	for partition := range partitions {
		s.done.Go(func() {
			for i := 0; produce.Err() == nil; i++ {
				p.ProduceAsync(t.Context(), topic, partition, kafka.Record{Value: []byte(value(i))}, func(_ int64, err error) {
					if err != nil {
						t.Errorf("record %d of partition %d: %v", i, partition, err)
					}
					s.produced[partition].Add(1)
				})
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	s.done.Go(func() {
		opts := kafka.GroupOptions{GroupID: topic, Topics: []string{topic}, SessionTimeout: 6 * time.Second, HeartbeatInterval: 500 * time.Millisecond}
		if err := kafka.RunGroup(consume, c, opts, s.handle); err != nil {
			t.Error(err)
		}
	})
	return s
}

func value(i int) string { return fmt.Sprintf("value-%06d", i) }

// handle consumes a partition as a worker does: handle, then commit now and then.
func (s *stream) handle(ctx context.Context, a *kafka.Assignment) error {
	var buf kafka.FetchBuffer
	// What was handled after the last commit comes again: a worker goes back to its snapshot.
	s.mu.Lock()
	s.consumed[a.Partition] = s.consumed[a.Partition][:max(0, a.Committed)]
	s.mu.Unlock()
	for {
		batch, err := a.Fetch(ctx, &buf)
		if err != nil {
			return err
		}
		s.mu.Lock()
		for _, r := range batch.Records {
			s.consumed[a.Partition] = append(s.consumed[a.Partition], string(r.Value))
		}
		s.mu.Unlock()
		// A commit that fails (the coordinator is away) is made good by a later one.
		_ = a.Commit(ctx, batch.Next)
	}
}

func (s *stream) acknowledged() (n int64) {
	for i := range s.produced {
		n += s.produced[i].Load()
	}
	return n
}

// awaitMore waits until n more records are acknowledged: it flows (again).
func (s *stream) awaitMore(t *testing.T, n int64) {
	t.Helper()
	start, limit := time.Now(), 60*time.Second
	for want := s.acknowledged() + n; s.acknowledged() < want; time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > limit {
			t.Fatalf("%d records acknowledged in %s, want %d", n-(want-s.acknowledged()), limit, n)
		}
	}
	t.Logf("%d records more after %s", n, time.Since(start).Round(time.Millisecond))
}

// finish ends the stream and compares what was produced with what is in the topic and with what was consumed: nothing lost,
// nothing twice, everything in order.
func (s *stream) finish(t *testing.T) {
	t.Helper()
	s.stopProduce()
	deadline := time.Now().Add(60 * time.Second)
	for partition := range s.partitions {
		var want []string
		for {
			got := readValues(t, s.c, s.topic, partition)
			want = want[:0]
			for i := range s.produced[partition].Load() {
				want = append(want, value(int(i)))
			}
			s.mu.Lock()
			consumed := append([]string{}, s.consumed[partition]...)
			s.mu.Unlock()
			if len(want) == len(got) && len(consumed) == len(got) || time.Now().After(deadline) {
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("partition %d, produced and stored: %s", partition, diff)
				}
				if diff := cmp.Diff(want, consumed); diff != "" {
					t.Errorf("partition %d, produced and consumed: %s", partition, diff)
				}
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	t.Logf("%d records", s.acknowledged())
	s.stopConsume()
	s.done.Wait()
}

func TestBrokerKilledAndRestarted(t *testing.T) {
	t.Parallel()
	broker := breakableKafka.Cluster(t)
	c := dial(t, broker.Brokers()...)
	ensureTopics(t, c, kafka.TopicSpec{Name: "killed", Partitions: 3})
	s := startStream(t, c, "killed", 3)
	s.awaitMore(t, 1000)
	broker.KillNode(t, 0)
	time.Sleep(500 * time.Millisecond) // producers run into the dead broker
	broker.RestartNode(t, 0)
	s.awaitMore(t, 2000)
	s.finish(t)
}

func TestBrokerFrozen(t *testing.T) {
	broker := breakableKafka.Cluster(t)
	// Requests are given up before the broker comes to its senses, and are then in its queue twice.
	c, err := kafka.Dial(kafka.Config{Brokers: broker.Brokers(), RequestTimeout: time.Second, DialTimeout: time.Second}, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ensureTopics(t, c, kafka.TopicSpec{Name: "frozen", Partitions: 3})
	s := startStream(t, c, "frozen", 3)
	s.awaitMore(t, 1000)
	broker.PauseNode(t, 0)
	time.Sleep(2500 * time.Millisecond) // below the broker's session timeout: it stays the leader
	broker.ResumeNode(t, 0)
	s.awaitMore(t, 1000)
	s.finish(t)
}

func TestLeaderFailover(t *testing.T) {
	t.Parallel()
	cluster := testkit.StartKafka(t, testkit.KafkaOptions{Nodes: 3})
	c := dial(t, cluster.Brokers()...)
	ensureTopics(t, c, kafka.TopicSpec{Name: "failover", Partitions: 3, ReplicationFactor: 3, Extra: map[string]string{"min.insync.replicas": "2"}})
	s := startStream(t, c, "failover", 3)
	s.awaitMore(t, 1000)
	cluster.KillNode(t, leaderOf(t, cluster, "failover", 0))
	s.awaitMore(t, 2000)
	s.finish(t)
}

func topicMetadata(t *testing.T, cluster *testkit.Kafka, topic string) kafkago.Topic {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	transport := &kafkago.Transport{} // a new one has no cache
	defer transport.CloseIdleConnections()
	client := &kafkago.Client{Addr: kafkago.TCP(cluster.Brokers()...), Transport: transport}
	m, err := client.Metadata(ctx, &kafkago.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		t.Fatal(err)
	}
	return m.Topics[0]
}

// leaderOf returns the index of the node that leads a partition.
func leaderOf(t *testing.T, cluster *testkit.Kafka, topic string, partition int) int {
	t.Helper()
	for _, p := range topicMetadata(t, cluster, topic).Partitions {
		if i := cluster.NodeAt(net.JoinHostPort(p.Leader.Host, strconv.Itoa(p.Leader.Port))); p.ID == partition && i >= 0 {
			return i
		}
	}
	t.Fatalf("%s/%d has no leader", topic, partition)
	return -1
}
