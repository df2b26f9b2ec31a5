package ingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/ingest/decode"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testPartitions = 4

// broker is an in-memory broker with the topics, and a client and a producer.
type broker struct {
	client   *kafka.Client
	producer *kafka.Producer
}

func newBroker(t *testing.T, opts kafka.ProducerOptions) *broker {
	t.Helper()
	cluster := testkit.KafkaFake(t)
	client, err := kafka.Dial(kafka.Config{Brokers: cluster.ListenAddrs()}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	specs := []kafka.TopicSpec{{Name: schemas.TopicEvents, Partitions: testPartitions}, {Name: schemas.TopicDeadLetter, Partitions: 1}}
	if err := client.EnsureTopics(t.Context(), specs); err != nil {
		t.Fatal(err)
	}
	opts.Linger = -1
	producer, err := kafka.NewProducer(client, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(producer.Close(ctx), client.Close()); err != nil {
			t.Error(err)
		}
	})
	return &broker{client, producer}
}

// published is one event of tocsin.events.
type published struct {
	partition int
	lane      string
	device    string
	number    int // of the line that it was
}

func (b *broker) events(t *testing.T) []published {
	t.Helper()
	var all []published
	for part := range testPartitions {
		err := b.client.ReadAll(t.Context(), schemas.TopicEvents, part, func(rec *kafka.FetchedRecord) error {
			var r schemas.BatchReader
			var ev schemas.Event
			r.Reset(rec.Value)
			for r.Next(&ev) {
				if schemas.Partition(ev.Device, testPartitions) != part {
					t.Errorf("device %s is in partition %d", ev.Device, part)
				}
				var line struct{ N int }
				if err := json.Unmarshal(ev.Message, &line); err != nil {
					t.Error(err)
				}
				all = append(all, published{part, string(r.Lane(ev.Lane)), string(ev.Device), line.N})
			}
			return r.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func (b *broker) deadLetters(t *testing.T) []schemas.DeadLetter {
	t.Helper()
	var all []schemas.DeadLetter
	err := b.client.ReadAll(t.Context(), schemas.TopicDeadLetter, 0, func(rec *kafka.FetchedRecord) error {
		var letter schemas.DeadLetter
		if err := json.Unmarshal(rec.Value, &letter); err != nil {
			return err
		}
		if string(rec.Key) != letter.Source {
			t.Errorf("dead letter of %s has key %s", letter.Source, rec.Key)
		}
		all = append(all, letter)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// line is an IoT Core log line that carries a number.
func line(number int) string {
	return fmt.Sprintf(`{"timestamp":"2026-11-23 18:00:00.%03d","logLevel":"INFO","traceId":"t-%d","accountId":"111122223333","status":"Success",`+
		`"eventType":"Connect","protocol":"MQTT","clientId":"device-%d","principalId":"p","sourceIp":"192.0.2.1","sourcePort":1,"n":%d}`,
		number%1000, number, number%50, number)
}

func lines(from, n int) []byte {
	var b bytes.Buffer
	for i := range n {
		b.WriteString(line(from + i))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// script is a source with a list of payloads. It repeats what is given back,
// and ends when everything is acknowledged.
type script struct {
	name     string
	ordered  bool
	payloads [][]byte

	mu   sync.Mutex
	acks []int // by payload: how often Ack was called for the delivery in hand
	bad  []string
}

func (s *script) Run(ctx context.Context, hand func(context.Context, *Delivery) error) error {
	again := make(chan int, len(s.payloads))
	left := atomic.Int64{}
	left.Store(int64(len(s.payloads)))
	s.acks = make([]int, len(s.payloads))
	done := make(chan struct{})
	deliver := func(i int) error {
		s.mu.Lock()
		s.acks[i] = 0
		s.mu.Unlock()
		return hand(ctx, &Delivery{
			Data: s.payloads[i], Source: "file", Lane: s.name, Origin: s.name + "/" + strconv.Itoa(i), Received: time.Now(),
			Ordered: s.ordered,
			Ack: func(err error) {
				s.mu.Lock()
				if s.acks[i]++; s.acks[i] > 1 {
					s.bad = append(s.bad, fmt.Sprintf("%s/%d acknowledged again: %v", s.name, i, err))
				}
				s.mu.Unlock()
				if err != nil {
					again <- i
				} else if left.Add(-1) == 0 {
					close(done)
				}
			},
		})
	}
	for i := range s.payloads {
		if err := deliver(i); err != nil {
			return err
		}
	}
	for {
		select {
		case i := <-again:
			if err := deliver(i); err != nil {
				return err
			}
		case <-done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func newTestPipeline(t *testing.T, opts Options) *Pipeline {
	t.Helper()
	opts.Partitions = testPartitions
	opts.NewDecoder = func() *decode.Decoder { return decode.New(decode.Options{}) }
	p, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// numbers are the sorted line numbers without repetitions, and how many there
// were with them.
func numbers(events []published) ([]int, int) {
	var all []int
	for _, e := range events {
		all = append(all, e.number)
	}
	slices.Sort(all)
	n := len(all)
	return slices.Compact(all), n
}

func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

func TestPipeline(t *testing.T) {
	b := newBroker(t, kafka.ProducerOptions{})
	reg := prometheus.NewPedanticRegistry()
	p := newTestPipeline(t, Options{Producer: b.producer, Decoders: 3, BatchBytes: 8 << 10, Registerer: reg})
	var sources []Source
	const perSource, perPayload = 40, 25
	for s := range 3 {
		src := &script{name: "lane-" + strconv.Itoa(s)}
		for i := range perSource {
			src.payloads = append(src.payloads, lines((s*perSource+i)*perPayload, perPayload))
		}
		sources = append(sources, src)
	}
	if err := p.Run(t.Context(), sources...); err != nil {
		t.Fatal(err)
	}
	events := b.events(t)
	got, n := numbers(events)
	if diff := cmp.Diff(upTo(3*perSource*perPayload), got); diff != "" || n != len(got) {
		t.Errorf("%d events, (-want +got)\n%s", n, diff)
	}
	// The events of one payload in one partition are in the payload's order.
	last := map[[2]int]int{}
	for _, e := range events {
		key := [2]int{e.partition, e.number / perPayload}
		if before, ok := last[key]; ok && before > e.number {
			t.Errorf("partition %d: %d comes after %d", e.partition, e.number, before)
		}
		last[key] = e.number
		if want := "lane-" + strconv.Itoa(e.number/perPayload/perSource); e.lane != want {
			t.Errorf("event %d is of lane %q, want %q", e.number, e.lane, want)
		}
	}
	for _, s := range sources {
		if bad := s.(*script).bad; bad != nil {
			t.Error(bad)
		}
	}
	metrics := gather(t, reg)
	for name, want := range map[string]float64{
		"tocsin_ingest_deliveries_total":   3 * perSource,
		"tocsin_ingest_events_total":       3 * perSource * perPayload,
		"tocsin_ingest_ack_failures_total": 0,
		"tocsin_ingest_in_flight_bytes":    0,
	} {
		if metrics[name] != want {
			t.Errorf("%s is %v, want %v", name, metrics[name], want)
		}
	}
}

// The events of an ordered lane are in order across its deliveries, whatever
// goes on beside it.
func TestOrdered(t *testing.T) {
	b := newBroker(t, kafka.ProducerOptions{})
	p := newTestPipeline(t, Options{Producer: b.producer, Decoders: 4, BatchBytes: 4 << 10, BatchLinger: time.Millisecond})
	var sources []Source
	total := 0
	for s := range 5 {
		src := &script{name: "lane-" + strconv.Itoa(s), ordered: s < 3}
		for range 100 {
			src.payloads = append(src.payloads, lines(total, 5))
			total += 5
		}
		sources = append(sources, src)
	}
	if err := p.Run(t.Context(), sources...); err != nil {
		t.Fatal(err)
	}
	events := b.events(t)
	if len(events) != total {
		t.Errorf("%d events, want %d", len(events), total)
	}
	type queue struct {
		partition int
		lane      string
	}
	last := map[queue]int{}
	for _, e := range events {
		if e.lane > "lane-2" {
			continue
		}
		at := queue{e.partition, e.lane}
		if before, ok := last[at]; ok && before > e.number {
			t.Errorf("%+v: %d comes after %d", at, e.number, before)
		}
		last[at] = e.number
	}
}

// gather sums every counter and gauge over its labels.
func gather(t *testing.T, reg prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			sums[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sums
}

func TestDeadLetters(t *testing.T) {
	b := newBroker(t, kafka.ProducerOptions{})
	p := newTestPipeline(t, Options{Producer: b.producer, Decoders: 1})
	var cut bytes.Buffer
	zip := gzip.NewWriter(&cut)
	_, _ = zip.Write(lines(5, 5))
	_ = zip.Close()
	src := &script{name: "lane", payloads: [][]byte{
		[]byte(line(0) + "\n{\"broken\":\n" + line(1) + "\n"),
		{},
		cut.Bytes()[:20],
	}}
	long := bytes.Repeat([]byte("x"), schemas.MaxDeadLetterRaw+1)
	acked := make(chan error, 1)
	refused := sourceFunc(func(ctx context.Context, hand func(context.Context, *Delivery) error) error {
		return hand(ctx, &Delivery{
			Data: long, Source: "firehose", Lane: "l", Origin: "here", Received: time.Now(), Ack: func(err error) { acked <- err },
			Reject: &Rejection{Reason: "request_too_large", Err: errors.New("no end of it"), Size: 5 << 20},
		})
	})
	if err := p.Run(t.Context(), src, refused); err != nil {
		t.Fatal(err)
	}
	if err := <-acked; err != nil {
		t.Error(err)
	}
	if got, n := numbers(b.events(t)); n != 2 || !slices.Equal(got, upTo(2)) {
		t.Errorf("events %v", got)
	}
	type summary struct {
		Source, Origin, Reason string
		Raw, RawSize           int
		Truncated              bool
	}
	var got []summary
	for _, l := range b.deadLetters(t) {
		got = append(got, summary{l.Source, l.Origin, l.Reason, len(l.Raw), l.RawSize, l.Truncated})
		if l.Error == "" || time.Since(l.Time) > time.Minute {
			t.Errorf("%+v", l)
		}
	}
	slices.SortFunc(got, func(a, b summary) int { return strings.Compare(a.Origin, b.Origin) })
	want := []summary{
		{"firehose", "here", "request_too_large", schemas.MaxDeadLetterRaw, 5 << 20, true},
		{"file", fmt.Sprintf("lane/0, byte %d", len(line(0))+1), "not_json", 11, 11, false},
		{"file", "lane/2", "gzip", 20, 20, false},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// sourceFunc is a source that is only a function.
type sourceFunc func(context.Context, func(context.Context, *Delivery) error) error

func (f sourceFunc) Run(ctx context.Context, hand func(context.Context, *Delivery) error) error {
	return f(ctx, hand)
}

// chaos fails and delays records at random, before and after they were really
// produced.
type chaos struct {
	Producer
	mu  sync.Mutex
	rng *rand.Rand
}

func (c *chaos) ProduceAsync(ctx context.Context, topic string, part int, rec kafka.Record, done func(int64, error)) {
	c.mu.Lock()
	what, wait := c.rng.IntN(25), time.Duration(c.rng.IntN(5))*time.Millisecond
	c.mu.Unlock()
	switch what {
	case 0: // at once, from the caller's goroutine
		done(-1, errors.New("not even tried"))
	case 1: // later
		time.AfterFunc(wait, func() { done(-1, errors.New("lost")) })
	case 2: // published, and nobody will believe it
		c.Producer.ProduceAsync(ctx, topic, part, rec, func(int64, error) { done(-1, errors.New("acknowledgement lost")) })
	case 3:
		c.Producer.ProduceAsync(ctx, topic, part, rec, func(o int64, err error) { time.AfterFunc(wait, func() { done(o, err) }) })
	case 4:
		done(-1, fmt.Errorf("chaos: %w", kafka.ErrTooLarge))
	default:
		c.Producer.ProduceAsync(ctx, topic, part, rec, done)
	}
}

// Whatever the producer does, every delivery is acknowledged exactly once, and
// what was acknowledged without an error is in Kafka: as an event or, when the
// producer said that it is too large, as a dead letter.
func TestChaos(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("TOCSIN_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("TOCSIN_TEST_SEED=%d", seed)
	b := newBroker(t, kafka.ProducerOptions{})
	rng := rand.New(rand.NewPCG(seed, 0))
	p := newTestPipeline(t, Options{
		Producer: &chaos{Producer: b.producer, rng: rand.New(rand.NewPCG(seed, 1))},
		Decoders: 3, BatchBytes: 2 << 10, BatchLinger: time.Millisecond, MaxInFlightBytes: 64 << 10,
	})
	var sources []Source
	total := 0
	for s := range 3 {
		src := &script{name: "lane-" + strconv.Itoa(s)}
		for range 60 {
			n := rng.IntN(20)
			src.payloads = append(src.payloads, append([]byte("{\"broken\":\n"), lines(total, n)...))
			total += n
		}
		sources = append(sources, src)
	}
	if err := p.Run(t.Context(), sources...); err != nil {
		t.Fatal(err)
	}
	for _, s := range sources {
		src := s.(*script)
		if src.bad != nil {
			t.Error(src.bad)
		}
		for i, n := range src.acks {
			if n != 1 {
				t.Errorf("%s/%d acknowledged %d times", src.name, i, n)
			}
		}
	}
	seen := map[int]bool{}
	for _, e := range b.events(t) {
		seen[e.number] = true
	}
	broken := map[string]bool{}
	for _, l := range b.deadLetters(t) {
		switch l.Reason {
		case "not_json":
			broken[strings.SplitN(l.Origin, ",", 2)[0]] = true
		case reasonKafkaTooLarge:
			var line struct{ N int }
			if err := json.Unmarshal(l.Raw, &line); err != nil {
				t.Error(err)
			}
			seen[line.N] = true
		default:
			t.Errorf("%+v", l)
		}
	}
	if len(seen) != total {
		t.Errorf("%d of %d events arrived", len(seen), total)
	}
	if len(broken) != 180 {
		t.Errorf("%d of 180 broken lines arrived", len(broken))
	}
}

// Batches that the topic does not accept are split; an event that is too large
// by itself becomes a dead letter.
func TestTooLarge(t *testing.T) {
	b := newBroker(t, kafka.ProducerOptions{MaxMessageBytes: 4000})
	p := newTestPipeline(t, Options{Producer: b.producer, Decoders: 1})
	huge := strings.Replace(line(200), `"n":`, `"pad":"`+strings.Repeat("x", 10_000)+`","n":`, 1)
	src := &script{name: "lane", payloads: [][]byte{lines(0, 100), []byte(huge), lines(100, 100)}}
	if err := p.Run(t.Context(), src); err != nil {
		t.Fatal(err)
	}
	if got, n := numbers(b.events(t)); n != 200 || !slices.Equal(got, upTo(200)) {
		t.Errorf("%d events: %v", n, got)
	}
	letters := b.deadLetters(t)
	if len(letters) != 1 || letters[0].Reason != reasonKafkaTooLarge || letters[0].RawSize != len(huge) || !letters[0].Truncated ||
		!strings.HasPrefix(huge, string(letters[0].Raw)) || len(letters[0].Raw) < 500 {
		t.Errorf("%+v", letters)
	}
}

// stuck never acknowledges, and blocks when it has taken limit records.
type stuck struct {
	limit int
	mu    sync.Mutex
	done  []func(int64, error)
}

func (s *stuck) ProduceAsync(ctx context.Context, _ string, _ int, _ kafka.Record, done func(int64, error)) {
	s.mu.Lock()
	if len(s.done) < s.limit {
		s.done = append(s.done, done)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	<-ctx.Done()
	done(-1, ctx.Err())
}

// With Kafka away, hand blocks once the bound is reached, and stopping gives
// everything back exactly once, even if acknowledgements arrive after all.
func TestStuck(t *testing.T) {
	for _, limit := range []int{0, 3, 1 << 30} {
		producer := &stuck{limit: limit}
		reg := prometheus.NewPedanticRegistry()
		p := newTestPipeline(t, Options{
			Producer: producer, Decoders: 2, BatchBytes: 2000, BatchLinger: time.Millisecond,
			MaxInFlightBytes: 20_000, StopTimeout: 50 * time.Millisecond, Registerer: reg,
		})
		var taken, given atomic.Int64
		blocked := make(chan struct{})
		src := sourceFunc(func(ctx context.Context, hand func(context.Context, *Delivery) error) error {
			time.AfterFunc(100*time.Millisecond, func() { close(blocked) })
			for i := 0; ; i++ {
				var once atomic.Bool
				err := hand(ctx, &Delivery{
					Data: lines(i, 3), Source: "file", Lane: "l", Received: time.Now(),
					Ack: func(err error) {
						if err == nil || once.Swap(true) {
							t.Errorf("limit %d: acknowledged with %v", limit, err)
						}
						given.Add(1)
					},
				})
				if err != nil {
					return err
				}
				taken.Add(1)
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-blocked; cancel() }()
		if err := p.Run(ctx, src); err != nil {
			t.Errorf("limit %d: %v", limit, err)
		}
		if n := taken.Load(); n == 0 || n > 20_000/(3*200) {
			t.Errorf("limit %d: took %d deliveries in spite of the bound", limit, n)
		}
		if taken.Load() != given.Load() {
			t.Errorf("limit %d: took %d deliveries, gave back %d", limit, taken.Load(), given.Load())
		}
		for _, done := range producer.done {
			done(0, nil)
		}
		if n := gather(t, reg)["tocsin_ingest_in_flight_bytes"]; n != 0 {
			t.Errorf("limit %d: %v bytes in flight after everything was acknowledged", limit, n)
		}
		if err := p.hand(t.Context(), &Delivery{Data: []byte("x"), Source: "file"}); !errors.Is(err, ErrStopped) {
			t.Errorf("limit %d: hand after the end: %v", limit, err)
		}
	}
}

// A source that fails ends the pipeline, which publishes what it has.
func TestSourceFails(t *testing.T) {
	b := newBroker(t, kafka.ProducerOptions{})
	p := newTestPipeline(t, Options{Producer: b.producer})
	broken := errors.New("the disk is gone")
	acked := make(chan error, 1)
	failing := sourceFunc(func(ctx context.Context, hand func(context.Context, *Delivery) error) error {
		if err := hand(ctx, &Delivery{Data: lines(0, 10), Source: "file", Lane: "l", Ack: func(err error) { acked <- err }}); err != nil {
			return err
		}
		return broken
	})
	waiting := sourceFunc(func(ctx context.Context, _ func(context.Context, *Delivery) error) error {
		<-ctx.Done()
		return ctx.Err()
	})
	if err := p.Run(t.Context(), failing, waiting); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if err := <-acked; err != nil {
		t.Error(err)
	}
	if got, _ := numbers(b.events(t)); !slices.Equal(got, upTo(10)) {
		t.Errorf("events %v", got)
	}
}

// A delivery waits no longer than the linger time, whatever else is quiet.
func TestLinger(t *testing.T) {
	b := newBroker(t, kafka.ProducerOptions{})
	p := newTestPipeline(t, Options{Producer: b.producer, BatchLinger: time.Millisecond})
	src := sourceFunc(func(ctx context.Context, hand func(context.Context, *Delivery) error) error {
		for i := range 20 {
			acked := make(chan error, 1)
			if err := hand(ctx, &Delivery{Data: lines(i, 1), Source: "file", Lane: "l", Ack: func(err error) { acked <- err }}); err != nil {
				return err
			}
			select {
			case err := <-acked:
				if err != nil {
					return err
				}
			case <-time.After(10 * time.Second):
				return errors.New("not acknowledged while nothing else came in")
			}
		}
		return nil
	})
	if err := p.Run(t.Context(), src); err != nil {
		t.Error(err)
	}
}

// acker acknowledges at once.
type acker struct{}

func (acker) ProduceAsync(_ context.Context, _ string, _ int, _ kafka.Record, done func(int64, error)) {
	done(0, nil)
}

func TestAllocations(t *testing.T) {
	p := newTestPipeline(t, Options{Producer: acker{}})
	w := newWorker(p, nil)
	const n = 1000
	d := &Delivery{Data: lines(0, n), Source: "file", Lane: "l", Received: time.Now(), Ack: func(error) {}}
	// The pools are empty now and then, most of all under the race detector.
	perDelivery := testing.AllocsPerRun(50, func() {
		if err := p.budget.Acquire(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		w.decode(p.open.add(p, d, 1))
		w.flush()
	})
	if perDelivery > n/10 {
		t.Errorf("%v allocations for %d events", perDelivery, n)
	}
}
