package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks"
)

// received is one request as a receiver saw it.
type received struct {
	id, timestamp, signature string
	header                   http.Header
	body                     []byte
	at                       time.Time
}

// receiver answers as told and remembers what it got.
type receiver struct {
	*httptest.Server
	mu  sync.Mutex
	got []received
}

// newReceiver calls answer with the number of requests before this one.
func newReceiver(t testing.TB, answer func(n int, r *received, w http.ResponseWriter)) *receiver {
	t.Helper()
	rec := &receiver{}
	rec.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got := received{
			id: r.Header.Get("webhook-id"), timestamp: r.Header.Get("webhook-timestamp"), signature: r.Header.Get("webhook-signature"),
			header: r.Header, body: b, at: time.Now(),
		}
		rec.mu.Lock()
		n := len(rec.got)
		rec.got = append(rec.got, got)
		rec.mu.Unlock()
		if answer != nil {
			answer(n, &got, w)
		}
	}))
	t.Cleanup(rec.Close)
	return rec
}

func (r *receiver) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make([]string, len(r.got))
	for i, g := range r.got {
		ids[i] = g.id
	}
	return ids
}

// deadLetters keeps what a sink gives up.
type deadLetters struct {
	mu  sync.Mutex
	got []string // reason and offset
}

func (d *deadLetters) Reject(_ context.Context, _ string, rec *sinks.Record, why *sinks.Rejected) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.got = append(d.got, fmt.Sprintf("%s@%d", why.Reason, rec.Offset))
	return nil
}

func (d *deadLetters) list() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string{}, d.got...)
}

// records is a History over a list.
type records []*sinks.Record

func (h records) Before(_ context.Context, _ string, _ int, offset int64, n int, fn func(*sinks.Record)) error {
	for _, r := range h {
		if r.Offset < offset && r.Offset >= offset-int64(n) {
			fn(r)
		}
	}
	return nil
}

type harness struct {
	sink     *Sink
	letters  *deadLetters
	registry *prometheus.Registry
	opts     Options
}

func start(t testing.TB, url string, change func(*Options)) *harness {
	t.Helper()
	return startWith(t, nil, url, change)
}

func startWith(t testing.TB, resolver *net.Resolver, url string, change func(*Options)) *harness {
	t.Helper()
	h := &harness{letters: &deadLetters{}, registry: prometheus.NewRegistry()}
	metrics := sinks.NewMetrics(h.registry)
	h.opts = Options{
		Name: "test", URL: url, Secrets: []string{testSecret('k')}, AllowPrivate: true, Timeout: 5 * time.Second,
		Backoff: sinks.Backoff{First: time.Millisecond, Max: 10 * time.Millisecond},
		History: records{}, DeadLetters: h.letters, Metrics: metrics,
		Status: sinks.NewStatus("test", metrics, zap.NewNop()),
	}
	if change != nil {
		change(&h.opts)
	}
	s, err := newSink(h.opts, resolver)
	if err != nil {
		t.Fatal(err)
	}
	h.sink = s
	h.run(t)
	return h
}

func (h *harness) run(t testing.TB) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.sink.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

func (h *harness) open(t testing.TB, next int64) sinks.Partition {
	t.Helper()
	p, err := h.sink.Open(t.Context(), schemas.TopicDetections, 0, next)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func record(t testing.TB, offset int64, f *schemas.Finding) *sinks.Record {
	t.Helper()
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return &sinks.Record{Topic: schemas.TopicDetections, Offset: offset, Value: b}
}

func write(t testing.TB, p sinks.Partition, rec *sinks.Record) {
	t.Helper()
	if err := p.Write(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func waitIdle(t testing.TB, p sinks.Partition) {
	t.Helper()
	eventually(t, "all messages dealt with", func() bool { _, idle := p.Stored(); return idle })
}

// metric returns the value of a counter or gauge, 0 if it has none.
func metric(t testing.TB, reg *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	series:
		for _, m := range f.GetMetric() {
			for i, l := range m.GetLabel() {
				if l.GetName() != labels[2*i] || l.GetValue() != labels[2*i+1] {
					continue series
				}
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return 0
}
