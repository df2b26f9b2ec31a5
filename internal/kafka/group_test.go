package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
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

func TestHandlerErrorStartsItAgain(t *testing.T) {
	c := dial(t, testkit.KafkaFake(t).ListenAddrs()...)
	ensureTopics(t, c, kafka.TopicSpec{Name: "in", Partitions: 2})
	p := newProducer(t, c, kafka.ProducerOptions{})
	mustProduce(t, p, "in", 0, numbered(10))
	mustProduce(t, p, "in", 1, numbered(10))
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	type start struct {
		Partition  int
		Committed  int64
		Generation int32
	}
	var mu sync.Mutex
	var starts []start
	registry := prometheus.NewPedanticRegistry()
	opts := kafka.GroupOptions{GroupID: "g", Topics: []string{"in"}, Registerer: registry}
	err := kafka.RunGroup(ctx, c, opts, func(ctx context.Context, a *kafka.Assignment) error {
		mu.Lock()
		starts = append(starts, start{a.Partition, a.Committed, a.Generation})
		n := len(starts)
		mu.Unlock()
		if a.Partition == 1 {
			<-ctx.Done()
			return nil
		}
		if a.Committed >= 0 {
			if n != 3 {
				t.Errorf("start %d is the second of partition 0", n)
			}
			cancel()
			return nil
		}
		if err := a.Commit(ctx, 4); err != nil {
			t.Error(err)
		}
		if err := a.Commit(ctx, 3); err != nil { // never back
			t.Error(err)
		}
		return errors.New("boom")
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(starts, func(a, b start) int { return (a.Partition-b.Partition)*100 + int(a.Committed-b.Committed) })
	want := []start{{0, -1, 1}, {0, 4, 1}, {1, -1, 1}}
	if diff := cmp.Diff(want, starts); diff != "" {
		t.Error(diff)
	}
	if n := metricValue(t, registry, "tocsin_kafka_handler_errors_total"); n != 1 {
		t.Errorf("%v handler errors counted", n)
	}
}

func TestCommitOfAnOldGenerationIsFenced(t *testing.T) {
	broker := testkit.KafkaFake(t)
	c := dial(t, broker.ListenAddrs()...)
	ensureTopics(t, c, kafka.TopicSpec{Name: "in", Partitions: 1})
	p := newProducer(t, c, kafka.ProducerOptions{})
	mustProduce(t, p, "in", 0, numbered(10))
	runHandler(t, c, kafka.GroupOptions{GroupID: "g", Topics: []string{"in"}}, func(ctx context.Context, a *kafka.Assignment) error {
		broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.IllegalGeneration})
		if err := a.Commit(ctx, 5); !errors.Is(err, kafka.ErrFenced) || kafka.Reason(err) != kafka.ReasonFenced {
			t.Errorf("commit: %v", err)
		}
		// The refused commit was not taken for done.
		if err := a.Commit(ctx, 5); err != nil {
			t.Errorf("second commit: %v", err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if err := a.Commit(ended, 6); !errors.Is(err, context.Canceled) {
			t.Errorf("commit with an ended context: %v", err)
		}
		drain, done := a.Drain(ended)
		defer done()
		if err := a.Commit(drain, 7); err != nil {
			t.Errorf("commit while draining: %v", err)
		}
		return nil
	})
	runHandler(t, c, kafka.GroupOptions{GroupID: "g", Topics: []string{"in"}}, func(_ context.Context, a *kafka.Assignment) error {
		if a.Committed != 7 {
			t.Errorf("committed %d", a.Committed)
		}
		return nil
	})
}

// TestLeavingWhileJoining: the broker lets nobody in while another member takes its time to give its partitions up. Who does
// not want in any more must not have to wait for that.
func TestLeavingWhileJoining(t *testing.T) {
	t.Parallel()
	eachBroker(t, func(t *testing.T, brokers []string) {
		topic := "leaving" + run
		opts := kafka.GroupOptions{GroupID: topic, Topics: []string{topic}, SessionTimeout: 60 * time.Second, RebalanceTimeout: 60 * time.Second, HeartbeatInterval: 100 * time.Millisecond}
		c := dial(t, brokers...)
		ensureTopics(t, c, kafka.TopicSpec{Name: topic, Partitions: 1})
		member := func(h kafka.Handler) (leave func() error) {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- kafka.RunGroup(ctx, c, opts, h) }()
			return func() error {
				cancel()
				return <-ended
			}
		}
		holds, revoked, release := make(chan struct{}), make(chan struct{}), make(chan struct{})
		leaveFirst := member(func(ctx context.Context, _ *kafka.Assignment) error {
			close(holds)
			<-ctx.Done()
			close(revoked)
			<-release
			return nil
		})
		<-holds
		leaveSecond := member(func(context.Context, *kafka.Assignment) error {
			t.Error("the partition is still the other's")
			return nil
		})
		<-revoked // because the second member is joining
		start := time.Now()
		if err := leaveSecond(); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("leaving took %v", took)
		}
		go func() { time.Sleep(10 * time.Millisecond); close(release) }()
		if err := leaveFirst(); err != nil {
			t.Error(err)
		}
	})
}

func TestGroupWaitsForItsTopics(t *testing.T) {
	c := dial(t, testkit.KafkaFake(t).ListenAddrs()...)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	assigned := make(chan int, 10)
	go func() {
		ended <- kafka.RunGroup(ctx, c, kafka.GroupOptions{GroupID: "g", Topics: []string{"later"}, StartOffset: kafka.OffsetLast}, func(ctx context.Context, a *kafka.Assignment) error {
			assigned <- a.Partition
			<-ctx.Done()
			return nil
		})
	}()
	ensureTopics(t, c, kafka.TopicSpec{Name: "other", Partitions: 1})
	ensureTopics(t, c, kafka.TopicSpec{Name: "later", Partitions: 2})
	got := []int{<-assigned, <-assigned}
	slices.Sort(got)
	if diff := cmp.Diff([]int{0, 1}, got); diff != "" {
		t.Error(diff)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRebalance(t *testing.T) {
	t.Parallel()
	eachBroker(t, testRebalance)
}

// testRebalance has members come and go while records flow. Every record must be handled, in order within a generation, and
// the commits of a member that lost its partitions must be refused.
func testRebalance(t *testing.T, brokers []string) {
	const partitions, perPartition = 6, 400
	topics := []string{"rebalance-a" + run, "rebalance-b" + run}
	admin := dial(t, brokers...)
	ensureTopics(t, admin, kafka.TopicSpec{Name: topics[0], Partitions: partitions}, kafka.TopicSpec{Name: topics[1], Partitions: partitions})
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	var (
		mu       sync.Mutex
		handled  = make(map[string]int) // "topic/partition/offset"
		owner    = make(map[string]string)
		total    int
		complete = make(chan struct{})
	)
	handler := func(member string) kafka.Handler {
		return func(ctx context.Context, a *kafka.Assignment) error {
			key := fmt.Sprintf("%s/%d", a.Topic, a.Partition)
			mu.Lock()
			if other, taken := owner[key]; taken {
				t.Errorf("%s is worked on by %s and %s", key, other, member)
			}
			owner[key] = member
			mu.Unlock()
			defer func() {
				mu.Lock()
				delete(owner, key)
				mu.Unlock()
			}()
			var buf kafka.FetchBuffer
			next := a.Committed
			for {
				batch, err := a.Fetch(ctx, &buf)
				if err != nil {
					drain, done := a.Drain(ctx)
					defer done()
					if err := a.Commit(drain, next); err != nil {
						t.Logf("last commit of %s at %d: %v", key, next, err)
					}
					return err
				}
				mu.Lock()
				for _, r := range batch.Records {
					if id := fmt.Sprintf("%s/%d", key, r.Offset); handled[id] == 0 {
						total++
					}
					handled[fmt.Sprintf("%s/%d", key, r.Offset)]++
				}
				if total == len(topics)*partitions*perPartition {
					select {
					case <-complete:
					default:
						close(complete)
					}
				}
				mu.Unlock()
				next = batch.Next
			}
		}
	}
	type member struct {
		stop  context.CancelFunc
		ended chan error
		parts *prometheus.Registry
	}
	join := func(name string) member {
		mctx, stop := context.WithCancel(ctx)
		m := member{stop, make(chan error, 1), prometheus.NewPedanticRegistry()}
		c := dial(t, brokers...)
		opts := kafka.GroupOptions{
			GroupID: "rebalance" + run, Topics: topics, SessionTimeout: 6 * time.Second, HeartbeatInterval: 200 * time.Millisecond,
			MaxWait: 100 * time.Millisecond, FetchMaxBytes: 2000, Registerer: m.parts,
		}
		go func() { m.ended <- kafka.RunGroup(mctx, c, opts, handler(name)) }()
		return m
	}
	awaitPartitions := func(m member, want float64) {
		t.Helper()
		for deadline := time.Now().Add(40 * time.Second); metricValue(t, m.parts, "tocsin_kafka_group_partitions") != want; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("member has %v partitions, want %v", metricValue(t, m.parts, "tocsin_kafka_group_partitions"), want)
			}
		}
	}
	p := newProducer(t, admin, kafka.ProducerOptions{})
	produced := make(chan struct{})
	go func() {
		defer close(produced)
		for i := range perPartition {
			for _, topic := range topics {
				for partition := range partitions {
					p.ProduceAsync(ctx, topic, partition, kafka.Record{Value: fmt.Appendf(nil, "%d", i)}, func(_ int64, err error) {
						if err != nil {
							t.Error(err)
						}
					})
				}
			}
			time.Sleep(10 * time.Millisecond) // records flow during all of the test
		}
	}()
	first := join("first")
	awaitPartitions(first, 12)
	second := join("second")
	awaitPartitions(second, 6)
	awaitPartitions(first, 6)
	// Workers start a moment after the partitions are counted.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		apart := 0
		mu.Lock()
		for partition := range partitions {
			a, b := owner[fmt.Sprintf("%s/%d", topics[0], partition)], owner[fmt.Sprintf("%s/%d", topics[1], partition)]
			if a != b || a == "" {
				apart++
			}
		}
		mu.Unlock()
		if apart == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("%d of %d partition numbers are not with one member for both topics", apart, partitions)
			break
		}
	}
	first.stop()
	if err := <-first.ended; err != nil {
		t.Error(err)
	}
	awaitPartitions(second, 12)
	<-produced
	select {
	case <-complete:
	case <-ctx.Done():
		t.Errorf("%d of %d records handled", total, len(topics)*partitions*perPartition)
	}
	second.stop()
	if err := <-second.ended; err != nil {
		t.Error(err)
	}
	twice := 0
	for _, n := range handled {
		if n > 1 {
			twice++
		}
	}
	if twice > 0 {
		t.Errorf("%d records were handled twice although every member committed before it left", twice)
	}
}
