package ingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
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

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
