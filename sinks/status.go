package sinks

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/backoff"
)

// Status is what is known of a sink's receiver. A sink reports its attempts
// here; readiness and metrics read it. It is safe for concurrent use.
type Status struct {
	name    string
	log     *zap.Logger
	metrics *Metrics

	mu       sync.Mutex
	since    time.Time // of the first failure in a row; zero while it works
	attempts int
	last     error
	disabled string
}

// NewStatus returns the status of a sink that has not failed yet.
func NewStatus(name string, metrics *Metrics, log *zap.Logger) *Status {
	metrics.up.WithLabelValues(name).Set(1)
	return &Status{name: name, log: log, metrics: metrics}
}

// OK notes a success.
func (s *Status) OK() {
	s.mu.Lock()
	since, attempts := s.since, s.attempts
	s.since, s.attempts, s.last = time.Time{}, 0, nil
	s.mu.Unlock()
	if since.IsZero() {
		return
	}
	s.metrics.up.WithLabelValues(s.name).Set(1)
	s.log.Info("sink works again", zap.String("sink", s.name),
		zap.Duration("after", time.Since(since)), zap.Int("attempts", attempts))
}

// Failed notes a failed attempt. reason is a metric label of a small fixed set.
func (s *Status) Failed(reason string, err error) {
	s.metrics.retries.WithLabelValues(s.name, reason).Inc()
	s.mu.Lock()
	first := s.since.IsZero()
	if first {
		s.since = time.Now()
	}
	s.attempts++
	s.last = err
	s.mu.Unlock()
	if first {
		s.metrics.up.WithLabelValues(s.name).Set(0)
		s.log.Warn("sink fails, will be tried again; its records wait in Kafka",
			zap.String("sink", s.name), zap.String("reason", reason), zap.Error(err))
	}
}

// Disable notes that the sink has stopped until the next start.
func (s *Status) Disable(why string) {
	s.mu.Lock()
	again := s.disabled != ""
	s.disabled = why
	s.mu.Unlock()
	if !again {
		s.metrics.up.WithLabelValues(s.name).Set(0)
		s.log.Error("sink is disabled until the next start; its records wait in Kafka",
			zap.String("sink", s.name), zap.String("why", why))
	}
}

// Err returns why the sink does not work, nil when it does. It is the sink's
// readiness check.
func (s *Status) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.disabled != "":
		return fmt.Errorf("sink %s is disabled until the next start: %s", s.name, s.disabled)
	case !s.since.IsZero():
		return fmt.Errorf("sink %s has failed %d times in %s: %w",
			s.name, s.attempts, time.Since(s.since).Round(time.Second), s.last)
	}
	return nil
}

// Backoff is how long to wait between attempts. The zero value means 100 ms,
// doubling up to 30 s.
type Backoff struct {
	First, Max time.Duration
}

// Delay returns the time before retry number attempt; 0 is the first.
func (b Backoff) Delay(attempt int) time.Duration {
	if b.First <= 0 {
		b.First = 100 * time.Millisecond
	}
	if b.Max <= 0 {
		b.Max = 30 * time.Second
	}
	return backoff.Delay(attempt, b.First, b.Max)
}

// Retry calls attempt until it succeeds or ctx ends, whose error it returns
// then. It reports to s; reason classifies an error.
func (s *Status) Retry(ctx context.Context, b Backoff, reason func(error) string, attempt func() error) error {
	for n := 0; ; n++ {
		err := attempt()
		if err == nil {
			s.OK()
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err() // which says nothing about the receiver
		}
		s.Failed(reason(err), err)
		if err := backoff.Sleep(ctx, b.Delay(n)); err != nil {
			return err
		}
	}
}
