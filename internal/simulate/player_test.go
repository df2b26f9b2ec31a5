package simulate

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeEndpoint is what Firehose and EventBridge see; it decodes all it gets.
type fakeEndpoint struct {
	t   *testing.T
	key string

	mu       sync.Mutex
	fail     int // answers the next requests with 503
	requests map[string]int
	ids      map[string]int // CloudWatch event IDs
	lines    map[string]int
	life     int
	events   int
	streams  map[string]bool
}

func newEndpoint(t *testing.T) (*fakeEndpoint, Target) {
	e := &fakeEndpoint{t: t, key: "0123456789abcdef", requests: map[string]int{}, ids: map[string]int{}, lines: map[string]int{}, streams: map[string]bool{}}
	srv := httptest.NewServer(e)
	t.Cleanup(srv.Close)
	return e, Target{FirehoseURL: srv.URL + "/firehose", EventsURL: srv.URL + "/v1/events", AccessKey: e.key}
}

func (e *fakeEndpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		body = e.inflate(body)
	}
	key := r.Header.Get("X-Amz-Firehose-Access-Key") + r.Header.Get("X-Tocsin-Key")
	if err != nil || key != e.key {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	if e.fail > 0 {
		e.fail--
		http.Error(w, "later", http.StatusServiceUnavailable)
		return
	}
	if r.URL.Path == "/v1/events" {
		if !json.Valid(body) {
			e.t.Errorf("not JSON: %s", body)
		}
		e.events++
		return
	}
	id := r.Header.Get("X-Amz-Firehose-Request-Id")
	var req struct {
		RequestID string
		Records   []struct{ Data []byte }
	}
	if err := json.Unmarshal(body, &req); err != nil || req.RequestID != id || r.Header.Get("X-Amz-Firehose-Protocol-Version") != "1.0" {
		e.t.Errorf("request %q: %v, %d records", id, err, len(req.Records))
	}
	e.requests[id]++
	if e.requests[id] == 1 {
		for _, rec := range req.Records {
			e.record(r.Header.Get("X-Amz-Firehose-Source-Arn"), rec.Data)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	answer, _ := json.Marshal(map[string]any{"requestId": id, "timestamp": time.Now().UnixMilli()})
	_, _ = w.Write(answer)
}

func (e *fakeEndpoint) inflate(b []byte) []byte {
	gz, err := gzip.NewReader(bytes.NewReader(b))
	if err == nil {
		b, err = io.ReadAll(gz)
	}
	if err != nil {
		e.t.Error(err)
	}
	return b
}

func (e *fakeEndpoint) record(arn string, data []byte) {
	stream := arn[strings.LastIndex(arn, "/")+1:]
	e.streams[stream] = true
	if stream == "iot-lifecycle" {
		e.life += bytes.Count(data, []byte("\n"))
		return
	}
	var p struct {
		MessageType, Owner, LogGroup string
		LogEvents                    []struct {
			ID        string
			Timestamp int64
			Message   string
		}
	}
	if err := json.Unmarshal(e.inflate(data), &p); err != nil || p.MessageType != "DATA_MESSAGE" || p.Owner != Account || len(p.LogEvents) == 0 {
		e.t.Errorf("%v in %+v", err, p)
	}
	for _, ev := range p.LogEvents {
		if len(ev.ID) != 56 || !json.Valid([]byte(ev.Message)) {
			e.t.Errorf("event %q: %s", ev.ID, ev.Message)
		}
		e.ids[ev.ID]++
		e.lines[ev.Message]++
	}
}

func TestPlayDeliversEverything(t *testing.T) {
	opts := Options{Seed: 5, Devices: 120, Start: testStart, Duration: MinAttackDuration, Attacks: true}
	_, records := play(t, opts)
	want := map[string]int{}
	logs, life, events := 0, 0, 0
	for _, r := range records {
		switch r.Channel {
		case ChannelLogs:
			want[string(r.Data)]++
			logs++
		case ChannelLifecycle:
			life++
		case ChannelEvents:
			events++
		}
	}
	for _, outer := range []bool{false, true} {
		e, target := newEndpoint(t)
		target.OuterGzip = outer
		e.fail = 1 // one retry, with the same request ID
		s, err := New(opts)
		if err != nil {
			t.Fatal(err)
		}
		var ledger Ledger
		err = Play(t.Context(), s, PlayOptions{
			Target: target, Repeat: 0.2, RequestBytes: 32 << 10, Logs: LogOptions{Duplicates: 0.01},
		}, &ledger)
		if err != nil {
			t.Fatal(err)
		}
		got := ledger.Totals()
		if int(got.Logs) != logs || int(got.Distinct) != logs+life+events || got.Lost != 0 || got.Retries != 1 {
			t.Errorf("ledger %+v; want %d lines, %d in all", got, logs, logs+life+events)
		}
		if len(e.ids) != logs || e.life != life || e.events != events {
			t.Errorf("arrived: %d lines, %d lifecycle events, %d others; want %d, %d, %d", len(e.ids), e.life, e.events, logs, life, events)
		}
		twice, repeats := 0, 0
		for _, n := range e.ids {
			if n > 1 {
				twice++
			}
		}
		for _, n := range e.requests {
			if n > 1 {
				repeats++
			}
		}
		if twice == 0 || repeats == 0 || got.Events <= got.Distinct {
			t.Errorf("%d lines twice, %d requests repeated, %d events", twice, repeats, got.Events)
		}
		for line, n := range want {
			if e.lines[line] < n {
				t.Fatalf("lost: %s", line)
			}
		}
		if _, ok := ledger.SentAt(s.End().Add(-time.Minute)); !ok {
			t.Error("the ledger does not know when the last events were sent")
		}
		if _, ok := ledger.SentAt(s.End().Add(time.Hour)); ok {
			t.Error("the ledger knows the future")
		}
	}
}

func TestPlayPaces(t *testing.T) {
	_, target := newEndpoint(t)
	s, err := New(Options{Seed: 1, Devices: 200, Start: testStart, Duration: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var ledger Ledger
	if err := Play(t.Context(), s, PlayOptions{Target: target, Speed: 60}, &ledger); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("a minute at 60 times the speed took %s", took)
	}
}

func TestPreparedPlaysTheSame(t *testing.T) {
	opts := Options{Seed: 2, Devices: 200, Start: testStart, Duration: 2 * time.Minute}
	deliver := func(play func(Target, *Ledger) error) map[string]int {
		e, target := newEndpoint(t)
		var ledger Ledger
		if err := play(target, &ledger); err != nil {
			t.Fatal(err)
		}
		if got := int(ledger.Totals().Logs); got != len(e.ids) {
			t.Errorf("the ledger has %d lines, the endpoint %d", got, len(e.ids))
		}
		return e.ids
	}
	fresh := func() *Simulator {
		s, err := New(opts)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	direct := deliver(func(target Target, l *Ledger) error {
		return Play(t.Context(), fresh(), PlayOptions{Target: target}, l)
	})
	prepared := deliver(func(target Target, l *Ledger) error {
		p, err := Prepare(fresh(), LogOptions{})
		if err != nil {
			return err
		}
		began := time.Now()
		err = p.Play(t.Context(), PlayOptions{Target: target, Rate: 5000}, l)
		if took, least := time.Since(began), time.Duration(p.Events()/5000)*time.Second; took < least/2 {
			t.Errorf("%d events at 5000/s took %s", p.Events(), took)
		}
		return err
	})
	if !maps.Equal(direct, prepared) {
		t.Errorf("%d lines directly, %d prepared", len(direct), len(prepared))
	}
}

func TestPlayStopsWhenRefused(t *testing.T) {
	_, target := newEndpoint(t)
	target.AccessKey = "wrong"
	s, err := New(Options{Seed: 1, Devices: 200, Start: testStart, Duration: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	var ledger Ledger
	if err := Play(t.Context(), s, PlayOptions{Target: target}, &ledger); !errors.Is(err, errRefused) {
		t.Errorf("got %v", err)
	}
}

func TestPlayStopsWithItsContext(t *testing.T) {
	_, target := newEndpoint(t)
	s, err := New(Options{Seed: 1, Devices: 200, Start: testStart, Duration: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var ledger Ledger
	if err := Play(ctx, s, PlayOptions{Target: target, Speed: 1}, &ledger); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestResponseIsCheckedAsFirehoseDoes(t *testing.T) {
	r := &request{id: "r1", stream: "iot-logs"}
	good := `{"requestId":"r1","timestamp":1}`
	check := func(status int, header http.Header, body string, ok bool) {
		t.Helper()
		res := &http.Response{StatusCode: status, Header: header, ContentLength: int64(len(body))}
		if err := checkResponse(r, res, []byte(body)); (err == nil) != ok {
			t.Errorf("%d %v %s: got %v", status, header, body, err)
		}
	}
	j := http.Header{"Content-Type": {"application/json"}}
	check(200, j, good, true)
	check(202, j, good, false)
	check(200, http.Header{"Content-Type": {"application/json; charset=utf-8"}}, good, false)
	check(200, http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}, good, false)
	check(200, j, `{"requestId":"r2","timestamp":1}`, false)
	check(200, j, `{"requestId":"r1"}`, false)
	check(200, j, `ok`, false)
}

func TestDisorderIsMild(t *testing.T) {
	s, err := New(Options{Seed: 1, Devices: 1000, Start: testStart, Duration: 10 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	var newest, worst int64
	outOfOrder := 0
	sub, err := NewSubscription(1, LogOptions{}, func(p Payload) error {
		if p.Channel == ChannelLogs {
			if p.FirstTime < newest {
				outOfOrder++
				worst = max(worst, newest-p.FirstTime)
			}
			newest = max(newest, p.LastTime)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for records := s.Step(); records != nil; records = s.Step() {
		for i := range records {
			if err := sub.Add(&records[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := sub.Flush(); err != nil {
		t.Fatal(err)
	}
	if outOfOrder == 0 || worst > 15_000 {
		t.Errorf("%d payloads out of order, by at most %d ms", outOfOrder, worst)
	}
}
