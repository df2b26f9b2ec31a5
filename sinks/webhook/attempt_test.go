package webhook

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/schemas"
)

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
