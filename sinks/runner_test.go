package sinks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	kgo "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
)

const testTopic = "test.records"

// memorySink keeps records in memory, and stores them only when told.
type memorySink struct {
	mu     sync.Mutex
	opened []int64 // next of every Open
	values []string
	parts  []*memoryPartition
	hold   bool // nothing written is stored
	fail   error
}

type memoryPartition struct {
	sink    *memorySink
	first   int64 // of the records that are held, -1 for none
	written int64
}

func (s *memorySink) Run(ctx context.Context) error {
	if s.fail != nil {
		return s.fail
	}
	<-ctx.Done()
	return nil
}

func (s *memorySink) Open(_ context.Context, _ string, _ int, next int64) (Partition, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &memoryPartition{sink: s, first: -1}
	s.opened = append(s.opened, next)
	s.parts = append(s.parts, p)
	return p, nil
}

func (p *memoryPartition) Write(_ context.Context, rec *Record) error {
	p.sink.mu.Lock()
	defer p.sink.mu.Unlock()
	v := string(rec.Value)
	if strings.HasPrefix(v, "bad") {
		return &Rejected{Reason: ReasonMalformed, Err: errors.New("it is bad")}
	}
	p.sink.values = append(p.sink.values, v)
	if p.sink.hold && p.first < 0 {
		p.first = rec.Offset
	}
	p.written = rec.Offset + 1
	return nil
}

func (p *memoryPartition) Stored() (int64, bool) {
	p.sink.mu.Lock()
	defer p.sink.mu.Unlock()
	if p.first >= 0 {
		return p.first, false
	}
	return p.written, true
}

func (p *memoryPartition) Close(context.Context) error { return nil }

func (s *memorySink) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.values...)
}

type env struct {
	client   *kafka.Client
	producer *kafka.Producer
	cluster  *kfake.Cluster
}

func newEnv(t testing.TB) *env {
	t.Helper()
	cluster := testkit.KafkaFake(t, kfake.SeedTopics(1, testTopic, schemas.TopicDeadLetter))
	client, err := kafka.Dial(kafka.Config{Brokers: cluster.ListenAddrs()}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	producer, err := kafka.NewProducer(client, kafka.ProducerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		producer.Close(ctx)
		client.Close()
	})
	return &env{client: client, producer: producer, cluster: cluster}
}

func (e *env) produce(t testing.TB, values ...string) {
	t.Helper()
	for _, v := range values {
		if err := e.producer.Produce(t.Context(), testTopic, 0, kafka.Record{Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
	}
}

// run starts a runner; stop ends it and returns its error.
func (e *env) run(t testing.TB, name string, sink Sink, reg prometheus.Registerer) (stop func() error) {
	t.Helper()
	r := NewRunner(sink, Options{
		Name: name, Topic: testTopic, Client: e.client, DeadLetters: NewDeadLetters(e.producer, 1),
		CommitInterval: time.Millisecond, MaxWait: 20 * time.Millisecond, Registerer: reg,
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() {
			cancel()
			select {
			case err = <-ended:
			case <-time.After(20 * time.Second):
				t.Error("the runner does not end")
			}
		})
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func TestRejectedRecordsGoToTheDeadLetters(t *testing.T) {
	e := newEnv(t)
	e.produce(t, "a", "bad 1", "b", "bad 2")
	sink := &memorySink{}
	stop := e.run(t, "memory", sink, prometheus.NewRegistry())
	var letters []schemas.DeadLetter
	eventually(t, "two dead letters", func() bool {
		letters = nil
		if err := e.client.ReadAll(t.Context(), schemas.TopicDeadLetter, 0, func(r *kafka.FetchedRecord) error {
			var d schemas.DeadLetter
			if err := json.Unmarshal(r.Value, &d); err != nil {
				return err
			}
			letters = append(letters, d)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return len(letters) == 2
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, sink.list()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for i, d := range letters {
		want := schemas.DeadLetter{
			Time: d.Time, Source: "sink:memory", Origin: fmt.Sprintf("test.records/0@%d", 2*i+1), Reason: ReasonMalformed,
			Error: "it is bad", Raw: fmt.Appendf(nil, "bad %d", i+1), RawSize: 5,
		}
		if diff := cmp.Diff(want, d); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
	// The rejected one at the end was committed too.
	again := &memorySink{}
	e.produce(t, "c")
	e.run(t, "memory", again, nil)
	eventually(t, "the new record", func() bool { return len(again.list()) > 0 })
	if diff := cmp.Diff([]string{"c"}, again.list()); diff != "" || again.opened[0] != 4 {
		t.Errorf("started at %v (-want +got)\n%s", again.opened, diff)
	}
}

func TestOnlyWhatIsStoredIsCommitted(t *testing.T) {
	e := newEnv(t)
	sink := &memorySink{}
	stop := e.run(t, "memory", sink, nil)
	e.produce(t, "a", "b")
	eventually(t, "a and b", func() bool { return len(sink.list()) == 2 })
	sink.mu.Lock()
	sink.hold = true
	sink.mu.Unlock()
	e.produce(t, "c", "d")
	eventually(t, "c and d", func() bool { return len(sink.list()) == 4 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	again := &memorySink{}
	e.run(t, "memory", again, nil)
	eventually(t, "what was not stored", func() bool { return len(again.list()) == 2 })
	if diff := cmp.Diff([]string{"c", "d"}, again.list()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// blockedSink never takes a record.
type blockedSink struct{ memorySink }

type blockedPartition struct{ Partition }

func (s *blockedSink) Open(ctx context.Context, topic string, n int, next int64) (Partition, error) {
	p, err := s.memorySink.Open(ctx, topic, n, next)
	return blockedPartition{p}, err
}

func (blockedPartition) Write(ctx context.Context, _ *Record) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestASinkThatIsDownDelaysItselfOnly(t *testing.T) {
	e := newEnv(t)
	down := &blockedSink{}
	stop := e.run(t, "down", down, nil)
	up := &memorySink{}
	e.run(t, "up", up, nil)
	var want []string
	for i := range 50 {
		want = append(want, fmt.Sprint("record ", i))
	}
	e.produce(t, want...)
	eventually(t, "all records in the other sink", func() bool { return len(up.list()) == 50 })
	if diff := cmp.Diff(want, up.list()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := stop(); err != nil {
		t.Errorf("a blocked sink ends with %v", err)
	}
	// Nothing of it was committed.
	again := &memorySink{}
	e.run(t, "down", again, nil)
	eventually(t, "all records", func() bool { return len(again.list()) == 50 })
}

// outOfOrderSink has everything but its first record, for which its writer waits,
// and remembers what it has.
type outOfOrderSink struct {
	memorySink
	recalled chan string
}

type outOfOrderPartition struct {
	Partition
	sink *outOfOrderSink
}

func (s *outOfOrderSink) Open(ctx context.Context, topic string, n int, next int64) (Partition, error) {
	s.hold = true
	p, err := s.memorySink.Open(ctx, topic, n, next)
	return outOfOrderPartition{p, s}, err
}

func (p outOfOrderPartition) Write(ctx context.Context, rec *Record) error {
	if err := p.Partition.Write(ctx, rec); err != nil || rec.Offset < 2 {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func (p outOfOrderPartition) Memory(next int64) string {
	return fmt.Sprintf("%d records from %d on", len(p.sink.list()), next)
}

func (p outOfOrderPartition) Recall(memory string) { p.sink.recalled <- memory }

// What a partition remembers is committed while it waits for its receiver, though
// the offset stays where it is, and handed to the next owner.
func TestMemoryIsCommitted(t *testing.T) {
	e := newEnv(t)
	e.produce(t, "a", "b", "c", "d")
	first := &outOfOrderSink{recalled: make(chan string, 1)}
	stop := e.run(t, "memory", first, nil)
	if got := <-first.recalled; got != "" {
		t.Errorf("recalled %q of nobody", got)
	}
	// While its writer waits.
	admin := &kgo.Client{Addr: kgo.TCP(e.cluster.ListenAddrs()...)}
	const want = "3 records from 0 on"
	eventually(t, "a commit by the clock", func() bool {
		res, err := admin.OffsetFetch(t.Context(), &kgo.OffsetFetchRequest{GroupID: "tocsin-memory", Topics: map[string][]int{testTopic: {0}}})
		if err != nil {
			t.Fatal(err)
		}
		p := res.Topics[testTopic][0]
		return p.CommittedOffset == 0 && p.Metadata == want
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	second := &outOfOrderSink{recalled: make(chan string, 1)}
	e.run(t, "memory", second, nil)
	if got := <-second.recalled; got != want {
		t.Errorf("recalled %q, want %q", got, want)
	}
}

func TestASinkThatGivesUpEndsItsRunner(t *testing.T) {
	e := newEnv(t)
	r := NewRunner(&memorySink{fail: errors.New("no hope")}, Options{Name: "x", Topic: testTopic, Client: e.client, DeadLetters: NewDeadLetters(e.producer, 1)})
	err := r.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "sink x: no hope") {
		t.Errorf("got %v", err)
	}
}

func TestStatus(t *testing.T) {
	m := NewMetrics(prometheus.NewRegistry())
	s := NewStatus("x", m, zap.NewNop())
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	calls := 0
	err := s.Retry(t.Context(), Backoff{First: time.Microsecond, Max: time.Microsecond}, func(error) string { return "r" }, func() error {
		if calls++; calls < 4 {
			return fmt.Errorf("failure %d", calls)
		}
		if e := s.Err(); e == nil || !strings.Contains(e.Error(), "failed 3 times") || !strings.Contains(e.Error(), "failure 3") {
			t.Errorf("status while it fails: %v", e)
		}
		return nil
	})
	if err != nil || calls != 4 || s.Err() != nil {
		t.Errorf("%v after %d calls, status %v", err, calls, s.Err())
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = s.Retry(ctx, Backoff{First: time.Hour}, func(error) string { return "r" }, func() error { cancel(); return errors.New("e") })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
	s.Disable("gone")
	s.OK()
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("a disabled sink: %v", err)
	}
}

// TestDeadLetterFitsItsTopic: one that accepts less than usual gets less.
func TestDeadLetterFitsItsTopic(t *testing.T) {
	const size, accepted = 500_000, 100_000
	var got schemas.DeadLetter
	limited := producerFunc(func(r kafka.Record) error {
		if len(r.Value) > accepted {
			return fmt.Errorf("produce: %w", kafka.ErrTooLarge)
		}
		return json.Unmarshal(r.Value, &got)
	})
	rec := &Record{Topic: "t", Offset: 7, Value: make([]byte, size)}
	why := &Rejected{Reason: ReasonMalformed, Err: errors.New("e")}
	if err := NewDeadLetters(limited, 1).Reject(t.Context(), "x", rec, why); err != nil {
		t.Fatal(err)
	}
	if len(got.Raw) != size/16 || !got.Truncated || got.RawSize != size || got.Origin != "t/0@7" || got.Source != "sink:x" || got.Error != "e" {
		t.Errorf("%d bytes, truncated %v, size %d, origin %q, source %q, error %q",
			len(got.Raw), got.Truncated, got.RawSize, got.Origin, got.Source, got.Error)
	}
	nothing := producerFunc(func(kafka.Record) error { return kafka.ErrTooLarge })
	if err := NewDeadLetters(nothing, 1).Reject(t.Context(), "x", rec, why); !errors.Is(err, kafka.ErrTooLarge) {
		t.Errorf("a topic that accepts nothing: %v", err)
	}
}

type producerFunc func(kafka.Record) error

func (f producerFunc) Produce(_ context.Context, _ string, _ int, recs ...kafka.Record) error {
	return f(recs[0])
}
