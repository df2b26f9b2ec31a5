package correlate

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	kgo "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/internal/watermark"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// cluster is a Kafka cluster with the pipeline's topics.
type cluster struct {
	t          testing.TB
	brokers    []string
	partitions int
	client     *kafka.Client
	producer   *kafka.Producer
	fake       *kfake.Cluster // nil on Apache Kafka
	found      *foundDetections
	transport  *kgo.Transport // of withAdmin
}

// foundDetections is what was read of tocsin.detections so far, by partition:
// tests that wait for a detection look many times, and nothing is taken back.
type foundDetections struct {
	next     []int64
	findings [][]*schemas.Finding
}

// newCluster makes the topics. They are empty.
func newCluster(t testing.TB, brokers []string, partitions int) *cluster {
	t.Helper()
	const detections = 2
	c := &cluster{t: t, brokers: brokers, partitions: partitions, transport: &kgo.Transport{}}
	c.found = &foundDetections{next: make([]int64, detections), findings: make([][]*schemas.Finding, detections)}
	t.Cleanup(c.transport.CloseIdleConnections)
	c.client, c.producer = connect(t, brokers, zap.NewNop())
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := c.client.EnsureTopics(ctx, []kafka.TopicSpec{
		{Name: schemas.TopicEvents, Partitions: partitions},
		{Name: schemas.TopicMatches, Partitions: partitions},
		{Name: schemas.TopicDetections, Partitions: detections},
		{Name: schemas.TopicDeadLetter, Partitions: 1},
		StateTopic(partitions, -1),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// fakeCluster is one of kfake's.
func fakeCluster(t testing.TB, partitions int) *cluster {
	t.Helper()
	fake := testkit.KafkaFake(t, kfake.GroupMinSessionTimeout(crashSession))
	c := newCluster(t, fake.ListenAddrs(), partitions)
	c.fake = fake
	return c
}

// open sends a first event to every partition. One that is empty is idle, and
// holds nobody back when its first events are long behind those of others: with
// half an hour's events sent at once, these would be late.
func (c *cluster) open() { c.markers("open", fleetStart) }

func connect(t testing.TB, brokers []string, log *zap.Logger) (*kafka.Client, *kafka.Producer) {
	t.Helper()
	client, err := kafka.Dial(kafka.Config{Brokers: brokers}, log)
	if err != nil {
		t.Fatal(err)
	}
	producer, err := kafka.NewProducer(client, kafka.ProducerOptions{Linger: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		producer.Close(ctx)
		client.Close()
	})
	return client, producer
}

// quickOptions makes everything that takes its time in production quick. No lane
// ever is idle: what the watermark does is a function of the log.
func quickOptions(client *kafka.Client, producer *kafka.Producer, set *rules.Set, log *zap.Logger) Options {
	return Options{
		Client: client, Producer: producer, Rules: set, Logger: log, Version: "test",
		Watermark:         watermark.Options{Idle: time.Hour},
		SnapshotInterval:  100 * time.Millisecond,
		HeartbeatInterval: 20 * time.Millisecond,
		Group: kafka.GroupOptions{
			SessionTimeout: 6 * time.Second, RebalanceTimeout: 3 * time.Second, HeartbeatInterval: 100 * time.Millisecond,
			MaxWait: 20 * time.Millisecond, JoinBackoff: 50 * time.Millisecond,
		},
	}
}

// runningCorrelator is a Correlator with connections of its own.
type runningCorrelator struct {
	*Correlator
	registry *prometheus.Registry
	client   *kafka.Client
	producer *kafka.Producer
	cancel   context.CancelFunc
	ended    chan error
	stopped  bool
}

// start runs a correlator that ends with the test.
func (c *cluster) start(set *rules.Set, change ...func(*Options)) *runningCorrelator {
	c.t.Helper()
	log := zaptest.NewLogger(c.t, zaptest.Level(zapcore.WarnLevel))
	r := &runningCorrelator{registry: prometheus.NewRegistry(), ended: make(chan error, 1)}
	r.client, r.producer = connect(c.t, c.brokers, log)
	opts := quickOptions(r.client, r.producer, set, log)
	opts.Registerer = r.registry
	for _, f := range change {
		f(&opts)
	}
	r.Correlator = New(opts)
	r.patience = 2 * time.Minute // beside other tests brokers may take their time
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.ended <- r.Run(ctx) }()
	c.t.Cleanup(func() { r.stop(c.t) })
	return r
}

// stop ends the correlator in order.
func (r *runningCorrelator) stop(t testing.TB) {
	t.Helper()
	if r.stopped {
		return
	}
	r.stopped = true
	r.cancel()
	select {
	case err := <-r.ended:
		if err != nil {
			t.Errorf("correlator: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the correlator does not end")
	}
}

// metric returns the sum of a counter over its labels; with a value, of those
// that have it as one.
func (r *runningCorrelator) metric(t testing.TB, name string, value ...string) float64 {
	t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if len(value) == 0 || hasLabel(m, value[0]) {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// send produces events in batches of random size, in order.
func (c *cluster) send(seed uint64, events []*schemas.Event) {
	c.t.Helper()
	rng := rand.New(rand.NewPCG(seed, 3))
	encoders := make([]schemas.BatchEncoder, c.partitions)
	var wg sync.WaitGroup
	flush := func(p int) {
		if encoders[p].Len() == 0 {
			return
		}
		wg.Add(1)
		value := slices.Clone(encoders[p].Bytes())
		encoders[p].Reset()
		c.producer.ProduceAsync(c.t.Context(), schemas.TopicEvents, p, kafka.Record{Value: value}, func(_ int64, err error) {
			if err != nil {
				c.t.Error(err)
			}
			wg.Done()
		})
	}
	for _, ev := range events {
		p := schemas.Partition(ev.Device, c.partitions)
		encoders[p].Append(ev, "lane/"+string(ev.Source))
		if rng.IntN(8) == 0 {
			flush(p)
		}
	}
	for p := range encoders {
		flush(p)
	}
	wg.Wait()
}

// close sends events long after all others: every window is decided and every
// episode closed.
func (c *cluster) close(after int64) { c.markers("close", after+time.Hour.Milliseconds()) }

// markers sends an event that matches nothing to each lane of each partition.
func (c *cluster) markers(name string, at int64) {
	c.t.Helper()
	for p := range c.partitions {
		var enc schemas.BatchEncoder
		for _, source := range []string{schemas.SourceIoT, schemas.SourceGuardDuty, schemas.SourceCloudTrail} {
			enc.Append(&schemas.Event{
				ID: schemas.NewEventID(fmt.Appendf(nil, "%s-%d-%s", name, p, source)), Time: at, IngestTime: at,
				Source: []byte(source), Device: []byte(name), Message: []byte("{}"),
			}, "lane/"+source)
		}
		c.produce(schemas.TopicEvents, p, enc.Bytes())
	}
}

func (c *cluster) produce(topic string, partition int, values ...[]byte) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	for _, v := range values {
		if err := c.producer.Produce(ctx, topic, partition, kafka.Record{Value: slices.Clone(v)}); err != nil {
			c.t.Fatal(err)
		}
	}
}

// read calls fn for every record of a topic.
func (c *cluster) read(topic string, fn func(partition int, r *kafka.FetchedRecord)) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	n, err := c.client.Partitions(ctx, topic)
	if err != nil {
		c.t.Fatal(err)
	}
	for p := range n {
		err := c.client.ReadAll(ctx, topic, p, func(r *kafka.FetchedRecord) error {
			fn(p, r)
			return nil
		})
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

// detections returns all records of tocsin.detections in the order of the log.
func (c *cluster) detections() []*schemas.Finding {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var buf kafka.FetchBuffer
	for p := range c.found.next {
		next := &c.found.next[p]
		end, err := c.client.LastOffset(ctx, schemas.TopicDetections, p)
		if err != nil {
			c.t.Fatal(err)
		}
		for *next < end {
			batch, err := c.client.FetchFrom(ctx, schemas.TopicDetections, p, *next, &buf)
			if err != nil {
				c.t.Fatal(err)
			}
			for i := range batch.Records {
				r := &batch.Records[i]
				f := new(schemas.Finding)
				if err := json.Unmarshal(r.Value, f); err != nil {
					c.t.Fatalf("detections/%d@%d: %v", p, r.Offset, err)
				}
				requireOCSF(c.t, r.Value)
				c.found.findings[p] = append(c.found.findings[p], f)
			}
			*next = batch.Next
		}
	}
	return slices.Concat(c.found.findings...)
}

func (c *cluster) deadLetters() []schemas.DeadLetter {
	c.t.Helper()
	var out []schemas.DeadLetter
	c.read(schemas.TopicDeadLetter, func(p int, r *kafka.FetchedRecord) {
		var d schemas.DeadLetter
		if err := json.Unmarshal(r.Value, &d); err != nil {
			c.t.Fatalf("deadletter/%d@%d: %v", p, r.Offset, err)
		}
		out = append(out, d)
	})
	return out
}

// withAdmin calls fn with a client of kafka-go's own, for what the pipeline never
// does.
func (c *cluster) withAdmin(fn func(ctx context.Context, admin *kgo.Client) error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := fn(ctx, &kgo.Client{Addr: kgo.TCP(c.brokers...), Transport: c.transport}); err != nil {
		c.t.Fatal(err)
	}
}

// committed returns the group's offset of a partition, -1 without one.
func (c *cluster) committed(topic string) []int64 {
	c.t.Helper()
	out := slices.Repeat([]int64{-1}, c.partitions)
	parts := make([]int, c.partitions)
	for p := range parts {
		parts[p] = p
	}
	c.withAdmin(func(ctx context.Context, admin *kgo.Client) error {
		res, err := admin.OffsetFetch(ctx, &kgo.OffsetFetchRequest{GroupID: "tocsin-correlate", Topics: map[string][]int{topic: parts}})
		if err != nil {
			return err
		}
		for _, p := range res.Topics[topic] {
			if p.Error == nil {
				out[p.Partition] = p.CommittedOffset
			}
		}
		return nil
	})
	return out
}

// ends returns the end offsets of a topic.
func (c *cluster) ends(topic string) []int64 {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out := make([]int64, c.partitions)
	for p := range out {
		var err error
		if out[p], err = c.client.LastOffset(ctx, topic, p); err != nil {
			c.t.Fatal(err)
		}
	}
	return out
}

// await polls until done, which says what it waits for otherwise.
func await(t testing.TB, patience time.Duration, done func() string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		waiting := done()
		if waiting == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %s", patience, waiting)
		}
	}
}

// quiet waits until every input is read, its outputs are written and committed,
// and that stays so for a while.
func (c *cluster) quiet() {
	c.t.Helper()
	var since time.Time
	var before [2][]int64
	// Under the race detector, beside other packages' tests, a minute is not enough.
	await(c.t, 4*time.Minute, func() string {
		for i, topic := range []string{schemas.TopicEvents, schemas.TopicMatches} {
			ends, committed := c.ends(topic), c.committed(topic)
			if !slices.Equal(ends, before[i]) {
				since = time.Now()
			}
			before[i] = ends
			for p := range ends {
				if ends[p] > 0 && committed[p] != ends[p] {
					since = time.Now()
					return fmt.Sprintf("%s: committed %v of %v", topic, committed, ends)
				}
			}
		}
		if time.Since(since) < 300*time.Millisecond {
			return fmt.Sprintf("not quiet: %v", before)
		}
		return ""
	})
}

// check compares what stands in tocsin.detections with what must.
func (c *cluster) check(want []outcome) map[string]*schemas.Finding {
	c.t.Helper()
	findings := c.detections()
	states := newest(findings)
	if diff := difference(want, outcomes(states)); diff != "" {
		c.t.Errorf("newest revisions:\n%s", diff)
	}
	if diff := difference(want, outcomes(last(findings))); diff != "" {
		c.t.Errorf("last records of the log:\n%s", diff)
	}
	for id, f := range states {
		if into := f.Unmapped.MergedInto; into != "" && states[into] == nil {
			c.t.Errorf("detection %s is merged into %s, which there is not", id, into)
		}
	}
	return states
}

// difference lists what is in only one of two sets of outcomes, "" if nothing.
func difference(want, got []outcome) string {
	count := make(map[outcome]int)
	for _, o := range want {
		count[o]--
	}
	for _, o := range got {
		count[o]++
	}
	var lines []string
	for o, n := range count {
		switch {
		case n < 0:
			lines = append(lines, fmt.Sprintf("%+v: missing", o))
		case n > 0:
			lines = append(lines, fmt.Sprintf("%+v: %d too many", o, n))
		}
	}
	slices.Sort(lines)
	if n := len(lines); n > 30 {
		lines = append(lines[:30], fmt.Sprintf("and %d more", n-30))
	}
	return strings.Join(lines, "\n")
}

func hasLabel(m *dto.Metric, value string) bool {
	return slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetValue() == value })
}
