package webhook

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

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

func TestDelivery(t *testing.T) {
	r := newReceiver(t, nil)
	h := start(t, r.URL, func(o *Options) { o.Headers = map[string]string{"Authorization": "Bearer x"} })
	p := h.open(t, 0)
	write(t, p, record(t, 0, finding("d1", schemas.ActivityCreate, "high")))
	waitIdle(t, p)
	if len(r.got) != 1 {
		t.Fatalf("%d requests", len(r.got))
	}
	got := r.got[0]
	seconds, err := strconv.ParseInt(got.timestamp, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > time.Minute {
		t.Errorf("timestamp %q: %v", got.timestamp, err)
	}
	if want := h.sink.signer.sign("d1_created", time.Unix(seconds, 0), got.body); got.signature != want || got.id != "d1_created" {
		t.Errorf("id %s, signature %s, want %s", got.id, got.signature, want)
	}
	if got.header.Get("Content-Type") != "application/json" || got.header.Get("Authorization") != "Bearer x" {
		t.Errorf("headers %v", got.header)
	}
	if n := metric(t, h.registry, "tocsin_notifications_total", "integration", "test"); n != 1 {
		t.Errorf("tocsin_notifications_total is %v", n)
	}
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

func TestFilters(t *testing.T) {
	r := newReceiver(t, nil)
	h := start(t, r.URL, func(o *Options) {
		o.MinLevel, o.Activities, o.Concurrency = "high", []string{ActivityCreated, ActivityClosed}, 1
	})
	p := h.open(t, 0)
	for i, f := range []*schemas.Finding{
		finding("low", schemas.ActivityCreate, "low"),
		finding("medium", schemas.ActivityCreate, "medium"),
		finding("high", schemas.ActivityCreate, "high"),
		finding("high", schemas.ActivityUpdate, "high"),
		finding("high", schemas.ActivityClose, "high"),
		finding("critical", schemas.ActivityCreate, "critical"),
		finding("odd", schemas.ActivityCreate, "apocalyptic"),
	} {
		write(t, p, record(t, int64(i), f))
	}
	waitIdle(t, p)
	if diff := cmp.Diff([]string{"high_created", "high_closed", "critical_created", "odd_created"}, r.ids()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestMalformedIsRejected(t *testing.T) {
	h := start(t, newReceiver(t, nil).URL, nil)
	p := h.open(t, 0)
	for _, value := range []string{"", "null", "[]", "{", `{"class_uid":2004}`, `{"class_uid":2004,"finding_info":{"uid":"a"}}`, `{"class_uid":1,"activity_id":1,"finding_info":{"uid":"a"}}`} {
		err := p.Write(t.Context(), &sinks.Record{Value: []byte(value)})
		var why *sinks.Rejected
		if !errors.As(err, &why) || why.Reason != sinks.ReasonMalformed {
			t.Errorf("%s: %v", value, err)
		}
	}
}

func TestRetries(t *testing.T) {
	fail := func(status, times int) func(int, *received, http.ResponseWriter) {
		return func(n int, _ *received, w http.ResponseWriter) {
			if n < times {
				w.WriteHeader(status)
			}
		}
	}
	for name, tc := range map[string]struct {
		answer  func(int, *received, http.ResponseWriter)
		change  func(*Options)
		want    int // requests
		reason  string
		letters []string
	}{
		"500 twice":        {answer: fail(500, 2), want: 3, reason: reasonServer},
		"502 twice":        {answer: fail(502, 2), want: 3, reason: reasonThrottle},
		"429 once":         {answer: fail(429, 1), want: 2, reason: reasonThrottle},
		"408 many times":   {answer: fail(408, 5), want: 6, reason: reasonTimeout},
		"400 for ever":     {answer: fail(400, 1000), want: 3, reason: reasonClient, letters: []string{"refused@5"}},
		"302 for ever":     {answer: fail(302, 1000), want: 3, reason: reasonRedirect, letters: []string{"refused@5"}},
		"404 then healed":  {answer: fail(404, 2), want: 3, reason: reasonClient},
		"connection reset": {answer: abort(2), want: 3, reason: reasonNetwork},
		"slow": {
			answer: func(n int, _ *received, w http.ResponseWriter) {
				if n == 0 {
					time.Sleep(200 * time.Millisecond)
				}
			},
			change: func(o *Options) { o.Timeout = 50 * time.Millisecond }, want: 2, reason: reasonTimeout,
		},
		"given up": {
			answer: fail(500, 1000),
			change: func(o *Options) { o.GiveUpAfter = time.Nanosecond }, want: 1, reason: reasonServer, letters: []string{"expired@5"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t, tc.answer)
			h := start(t, r.URL, tc.change)
			p := h.open(t, 0)
			write(t, p, record(t, 5, finding("d1", schemas.ActivityCreate, "high")))
			waitIdle(t, p)
			if n := len(r.ids()); n != tc.want {
				t.Errorf("%d requests, want %d", n, tc.want)
			}
			for i, g := range r.got {
				if g.id != r.got[0].id || string(g.body) != string(r.got[0].body) {
					t.Errorf("attempt %d differs from the first", i)
				}
			}
			if got := h.letters.list(); !cmp.Equal(got, append([]string{}, tc.letters...)) {
				t.Errorf("dead letters %q, want %q", got, tc.letters)
			}
			failed := tc.want
			if tc.letters == nil {
				failed--
			}
			if n := metric(t, h.registry, "tocsin_notifications_failed_total", "integration", "test", "reason", tc.reason); n != float64(failed) {
				t.Errorf("%v failed attempts counted, want %d", n, failed)
			}
		})
	}
}

func abort(times int) func(int, *received, http.ResponseWriter) {
	return func(n int, _ *received, _ http.ResponseWriter) {
		if n < times {
			panic(http.ErrAbortHandler)
		}
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	r := newReceiver(t, func(n int, _ *received, w http.ResponseWriter) {
		if n == 0 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	h := start(t, r.URL, func(o *Options) { o.Concurrency = 4 })
	p := h.open(t, 0)
	write(t, p, record(t, 0, finding("d0", schemas.ActivityCreate, "high")))
	eventually(t, "first request", func() bool { return len(r.ids()) == 1 })
	eventually(t, "pause", func() bool { h.sink.mu.Lock(); defer h.sink.mu.Unlock(); return !h.sink.pause.IsZero() })
	for i := range int64(10) { // those of other workers wait too
		write(t, p, record(t, i+1, finding(fmt.Sprintf("d%d", i+1), schemas.ActivityCreate, "high")))
	}
	waitIdle(t, p)
	if len(r.got) != 12 {
		t.Fatalf("%d requests, want 12", len(r.got))
	}
	for i, g := range r.got[1:] {
		if pause := g.at.Sub(r.got[0].at); pause < 900*time.Millisecond {
			t.Errorf("request %d came %s after the 429", i+1, pause)
		}
	}
}

func TestRetryAfterValues(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "-5": 0, "120": 2 * time.Minute, "x": 0,
		"99999999999999": maxRetryAfter, "999999999999999999999": 0,
		"Mon, 23 Nov 2026 12:00:30 GMT": 30 * time.Second,
		"Mon, 23 Nov 2026 11:00:00 GMT": 0,
		"Mon, 23 Nov 2099 11:00:00 GMT": maxRetryAfter,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}

func TestGoneDisablesUntilTheNextStart(t *testing.T) {
	r := newReceiver(t, func(n int, _ *received, w http.ResponseWriter) {
		if n == 1 {
			w.WriteHeader(http.StatusGone)
		}
	})
	h := start(t, r.URL, func(o *Options) { o.Concurrency = 1 })
	p := h.open(t, 0)
	for i := range int64(4) {
		write(t, p, record(t, i, finding(fmt.Sprintf("d%d", i), schemas.ActivityCreate, "high")))
	}
	eventually(t, "disabled", func() bool { return h.opts.Status.Err() != nil })
	if err := h.opts.Status.Err(); !strings.Contains(err.Error(), "disabled") || !strings.Contains(err.Error(), "410") {
		t.Errorf("readiness: %v", err)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if next, idle := p.Stored(); next != 1 || idle {
		t.Errorf("stored up to %d, idle %v; want 1, false", next, idle)
	}
	if n := len(r.ids()); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
	if got := h.letters.list(); len(got) != 0 {
		t.Errorf("dead letters %q", got)
	}
	// The next start takes up where it was.
	again := start(t, r.URL, nil)
	p = again.open(t, 1)
	for i := int64(1); i < 4; i++ {
		write(t, p, record(t, i, finding(fmt.Sprintf("d%d", i), schemas.ActivityCreate, "high")))
	}
	waitIdle(t, p)
	if n := len(r.ids()); n != 5 {
		t.Errorf("%d requests in the end, want 5", n)
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	var followed atomic.Bool
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Store(true) }))
	defer target.Close()
	r := newReceiver(t, func(_ int, _ *received, w http.ResponseWriter) {
		w.Header().Set("Location", target.URL)
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	h := start(t, r.URL, nil)
	p := h.open(t, 0)
	write(t, p, record(t, 0, finding("d", schemas.ActivityCreate, "high")))
	waitIdle(t, p)
	if followed.Load() {
		t.Error("the redirect was followed")
	}
	if got := h.letters.list(); !cmp.Equal(got, []string{"refused@0"}) {
		t.Errorf("dead letters %q", got)
	}
}

func TestTwoAnswersAreOne(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var requests atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 64<<10)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					requests.Add(1)
					const answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
					io.WriteString(c, answer+"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
				}
			}()
		}
	}()
	h := start(t, "http://"+l.Addr().String(), func(o *Options) { o.Concurrency = 1 })
	p := h.open(t, 0)
	for i := range int64(5) {
		write(t, p, record(t, i, finding(fmt.Sprintf("d%d", i), schemas.ActivityCreate, "high")))
	}
	waitIdle(t, p)
	if n := requests.Load(); n != 5 {
		t.Errorf("%d requests for 5 messages", n)
	}
	if got := h.letters.list(); len(got) != 0 {
		t.Errorf("dead letters %q", got)
	}
}

func TestReplayIsNotSentAgain(t *testing.T) {
	r := newReceiver(t, nil)
	h := start(t, r.URL, func(o *Options) { o.Activities = []string{ActivityCreated, ActivityUpdated} })
	p := h.open(t, 0)
	history := records{}
	for i := range int64(3) {
		rec := record(t, i, finding(fmt.Sprintf("d%d", i), schemas.ActivityCreate, "high"))
		history = append(history, rec)
		write(t, p, rec)
	}
	// The correlator replays while the sink runs.
	write(t, p, record(t, 3, finding("d0", schemas.ActivityCreate, "high")))
	waitIdle(t, p)
	// And after the sink was started anew.
	again := start(t, r.URL, func(o *Options) {
		o.Activities = []string{ActivityCreated, ActivityUpdated}
		o.History = history
	})
	p = again.open(t, 4)
	for i := range int64(3) {
		write(t, p, record(t, i+4, finding(fmt.Sprintf("d%d", i), schemas.ActivityCreate, "high")))
	}
	write(t, p, record(t, 7, finding("d0", schemas.ActivityUpdate, "high")))
	waitIdle(t, p)
	ids := r.ids()
	if len(ids) != 4 || ids[3] != "d0_updated_1" {
		t.Errorf("requests %q", ids)
	}
}

func TestOrderPerDetection(t *testing.T) {
	var inFlight, most atomic.Int32
	r := newReceiver(t, func(n int, g *received, w http.ResponseWriter) {
		most.Store(max(most.Load(), inFlight.Add(1)))
		defer inFlight.Add(-1)
		time.Sleep(time.Millisecond)
		if n%3 == 0 {
			w.WriteHeader(500)
		}
	})
	h := start(t, r.URL, func(o *Options) {
		o.Activities = []string{ActivityUpdated}
		o.Concurrency = 3
	})
	p := h.open(t, 0)
	offset := int64(0)
	for revision := range int64(10) {
		for d := range 6 {
			f := finding(fmt.Sprintf("d%d", d), schemas.ActivityUpdate, "high")
			f.Unmapped.Revision = revision
			write(t, p, record(t, offset, f))
			offset++
		}
	}
	waitIdle(t, p)
	last := map[string]int{}
	for _, id := range r.ids() {
		detection, revision, _ := strings.Cut(id, "_updated_")
		n, err := strconv.Atoi(revision)
		if err != nil || n < last[detection] {
			t.Fatalf("%s came after revision %d", id, last[detection])
		}
		last[detection] = n
	}
	if len(last) != 6 {
		t.Errorf("%d detections", len(last))
	}
	if m := most.Load(); m > 3 {
		t.Errorf("%d requests at a time, want at most 3", m)
	}
}

func TestStoredWaitsForTheSlowest(t *testing.T) {
	release := make(chan struct{})
	r := newReceiver(t, func(_ int, g *received, _ http.ResponseWriter) {
		if g.id == "slow_created" {
			<-release
		}
	})
	h := start(t, r.URL, func(o *Options) { o.Concurrency = 8 })
	p := h.open(t, 10)
	write(t, p, record(t, 10, finding("slow", schemas.ActivityCreate, "high")))
	sent := 1
	for i := int64(11); sent < 6; i++ {
		f := finding(fmt.Sprintf("d%d", i), schemas.ActivityCreate, "high")
		if h.sink.queue(f.FindingInfo.UID) == h.sink.queue("slow") {
			continue
		}
		write(t, p, record(t, i, f))
		sent++
	}
	eventually(t, "the others", func() bool { return len(r.ids()) == 6 })
	if next, idle := p.Stored(); next != 10 || idle {
		t.Errorf("stored up to %d, idle %v, before the first is done", next, idle)
	}
	close(release)
	waitIdle(t, p)
}

func TestPrivateAddressesAreRefused(t *testing.T) {
	r := newReceiver(t, nil) // on loopback
	private := func(o *Options) { o.AllowPrivate = false }
	for _, url := range []string{r.URL, "http://[::1]:80/", "http://169.254.169.254/latest", "https://10.0.0.1/"} {
		if _, err := New(Options{Name: "x", URL: url, Secrets: []string{testSecret('k')}}); err == nil || !errors.Is(err, errRefusedAddress) {
			t.Errorf("%s: %v", url, err)
		}
	}
	// A name says nothing about where it leads.
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(r.URL, "http://"))
	h := start(t, "http://localhost:"+port, func(o *Options) { private(o); o.GiveUpAfter = time.Nanosecond })
	p := h.open(t, 0)
	write(t, p, record(t, 0, finding("d", schemas.ActivityCreate, "high")))
	waitIdle(t, p)
	if len(r.ids()) != 0 {
		t.Error("the receiver on loopback was reached")
	}
	if err := h.opts.Status.Err(); !errors.Is(err, errRefusedAddress) {
		t.Errorf("readiness: %v", err)
	}
}

func TestDNSRebindingGainsNothing(t *testing.T) {
	r := newReceiver(t, nil)
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(r.URL, "http://"))
	dns := newNameServer(t, [4]byte{127, 0, 0, 1})
	for name, tc := range map[string]struct {
		allow   bool
		reached int
	}{
		"refused": {false, 0},
		// The same with private addresses allowed: the test's name server works.
		"allowed": {true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			h := startWith(t, dns.resolver(), "http://hooks.example.com:"+port, func(o *Options) {
				o.AllowPrivate, o.GiveUpAfter = tc.allow, time.Nanosecond
			})
			asked := dns.asked.Load()
			p := h.open(t, 0)
			write(t, p, record(t, 0, finding("d"+name, schemas.ActivityCreate, "high")))
			waitIdle(t, p)
			if dns.asked.Load() == asked {
				t.Error("the name server was not asked: the test tests nothing")
			}
			if n := len(r.ids()); n != tc.reached {
				t.Errorf("the receiver was reached %d times, want %d", n, tc.reached)
			}
			r.mu.Lock()
			r.got = nil
			r.mu.Unlock()
		})
	}
}

// nameServer answers every question for an IPv4 address with one of its own.
type nameServer struct {
	conn  net.PacketConn
	addr  [4]byte
	asked atomic.Int32
}

func newNameServer(t testing.TB, addr [4]byte) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{conn: conn, addr: addr}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			conn.WriteTo(s.answer(buf[:n]), from)
		}
	}()
	return s
}

// answer is RFC 1035, section 4, for one question.
func (s *nameServer) answer(q []byte) []byte {
	s.asked.Add(1)
	end := 12
	for q[end] != 0 {
		end += int(q[end]) + 1
	}
	end += 5 // the root label, type and class
	isA := binary.BigEndian.Uint16(q[end-4:]) == 1
	a := append([]byte{}, q[:end]...)
	a[2], a[3] = 0x84, 0 // response, authoritative, no error
	clear(a[4:12])
	a[5] = 1 // one question
	if isA {
		a[7] = 1 // one answer
		a = append(a, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		a = append(a, s.addr[:]...)
	}
	return a
}

func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

func TestNothingSecretIsLogged(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	log := zap.New(core)
	r := newReceiver(t, func(n int, _ *received, w http.ResponseWriter) { w.WriteHeader(400) })
	h := start(t, r.URL+"/hooks/T0PSECRETPATH", func(o *Options) {
		o.Logger = log
		o.Headers = map[string]string{"X-Key": "T0PSECRETHEADER"}
		o.Status = sinks.NewStatus("test", o.Metrics, log)
	})
	p := h.open(t, 0)
	write(t, p, record(t, 0, finding("d", schemas.ActivityCreate, "high")))
	waitIdle(t, p)
	r.CloseClientConnections()
	r.Close()
	write(t, p, record(t, 1, finding("d2", schemas.ActivityCreate, "high")))
	eventually(t, "failure", func() bool { return h.opts.Status.Err() != nil })
	text := h.opts.Status.Err().Error()
	for _, e := range logs.All() {
		text += fmt.Sprintln(e.Message, e.ContextMap())
	}
	for _, secret := range []string{"T0PSECRET", testSecret('k'), strings.TrimPrefix(testSecret('k'), "whsec_")} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in: %s", secret, text)
		}
	}
	if len(logs.All()) == 0 {
		t.Error("nothing was logged")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no host":        func(o *Options) { o.URL = "https://" },
		"scheme":         func(o *Options) { o.URL = "ftp://example.com" },
		"user in url":    func(o *Options) { o.URL = "https://user:secret@example.com" },
		"level":          func(o *Options) { o.MinLevel = "urgent" },
		"activity":       func(o *Options) { o.Activities = []string{"opened"} },
		"header":         func(o *Options) { o.Headers = map[string]string{"webhook-signature": "x"} },
		"proxy":          func(o *Options) { o.ProxyURL = "nothing" },
		"CA file":        func(o *Options) { o.CAFile = "/nonexistent" },
		"secret":         func(o *Options) { o.Secrets = []string{"whsec_"} },
		"metadata":       func(o *Options) { o.URL = "http://169.254.169.254/" },
		"mapped address": func(o *Options) { o.URL = "http://[::ffff:10.0.0.1]/" },
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{Name: "x", URL: "https://example.com", Secrets: []string{testSecret('k')}}
			if _, err := New(o); err != nil {
				t.Fatal(err)
			}
			change(&o)
			if _, err := New(o); err == nil {
				t.Error("accepted")
			} else if strings.Contains(err.Error(), "secret@") {
				t.Errorf("error shows the password: %v", err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	b, _ := json.Marshal(finding("d", schemas.ActivityCreate, "high"))
	f.Add(b)
	f.Add([]byte(`{"class_uid":2004,"activity_id":1,"finding_info":{"uid":"\ud800"},"evidences":[{}]}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		found, err := parse(value)
		if err != nil {
			return
		}
		if id := messageID(found); strings.Contains(id, ".") {
			t.Fatalf("ID %q", id)
		}
		if b, err := body(found); err == nil && (len(b) > maxBody || !json.Valid(b)) {
			t.Fatalf("%d bytes: %.100s", len(b), b)
		}
	})
}
