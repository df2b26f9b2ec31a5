// Package lifecycle starts the parts of a process in order and stops them in
// the opposite order within one deadline.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Stack holds what has been started, each with its name. What was pushed last
// is stopped first, so that a part never outlives what it depends on: the
// Kafka client is pushed before the stages, the stages before their sources.
type Stack struct {
	log    *zap.Logger
	failed chan error // the first failure of a Go, or nil from Finish

	mu      sync.Mutex
	entries []entry
	stopped bool
}

type entry struct {
	name string
	stop func(context.Context) error
}

// New returns an empty stack.
func New(log *zap.Logger) *Stack {
	return &Stack{log: log, failed: make(chan error, 1)}
}

// Push adds a part that runs already. stop must return when its work is done
// or soon after its context ends. On a stack that has been stopped, stop is
// called at once: a part that started while the process was going down must
// not be left behind.
func (s *Stack) Push(name string, stop func(context.Context) error) {
	s.mu.Lock()
	if !s.stopped {
		s.entries = append(s.entries, entry{name, stop})
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := stop(ctx); err != nil {
		s.log.Error("stop failed", zap.String("part", name), zap.Error(err))
	}
}

// PushClose adds a part whose end takes no time worth bounding.
func (s *Stack) PushClose(name string, closer func() error) {
	s.Push(name, func(context.Context) error { return closer() })
}

// Go runs a part in a goroutine. run must return soon after its context ends,
// which happens when the part's turn to stop comes; what it still has to write
// out it does before it returns. A run that returns an error, or returns nil
// before its context has ended while must is set, ends the process: Failed
// reports it.
func (s *Stack) Go(name string, must bool, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := run(ctx)
		if ctx.Err() != nil {
			if errors.Is(err, context.Canceled) {
				err = nil
			}
			done <- err
			return
		}
		if err == nil && must {
			err = errors.New("ended by itself")
		}
		if err != nil {
			s.Fail(fmt.Errorf("%s: %w", name, err))
		}
		done <- nil // reported through Failed
	}()
	s.Push(name, func(stopCtx context.Context) error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-stopCtx.Done():
			return errors.New("did not stop in time")
		}
	})
}

// Fail reports that the process cannot go on. Only the first error is kept:
// what follows is mostly its consequence.
func (s *Stack) Fail(err error) {
	select {
	case s.failed <- err:
	default:
		s.log.Error("a further part failed", zap.Error(err))
	}
}

// Finish ends the process because its work is done.
func (s *Stack) Finish() {
	select {
	case s.failed <- nil:
	default: // it ends already
	}
}

// Wait returns nil when ctx ends or the work is done, and the error when a part
// fails.
func (s *Stack) Wait(ctx context.Context) error {
	select {
	case err := <-s.failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// Stop stops every part, the last one first, all within timeout. A part that
// takes longer is left behind and the rest is still told to stop. It returns
// all errors, joined, each with the name of its part. A second call does
// nothing.
func (s *Stack) Stop(timeout time.Duration) error {
	s.mu.Lock()
	entries := s.entries
	s.entries, s.stopped = nil, true
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var problems []error
	for i := len(entries) - 1; i >= 0; i-- {
		e := entries[i]
		began := time.Now()
		err := stopOne(ctx, e)
		if err != nil {
			problems = append(problems, fmt.Errorf("stop %s: %w", e.name, err))
			s.log.Error("stop failed", zap.String("part", e.name), zap.Error(err))
			continue
		}
		s.log.Debug("stopped", zap.String("part", e.name), zap.Duration("took", time.Since(began)))
	}
	return errors.Join(problems...)
}

// stopOne does not trust stop to heed its context. Past the deadline every
// remaining part still gets a moment: most close at once.
func stopOne(ctx context.Context, e entry) error {
	const grace = 100 * time.Millisecond
	done := make(chan error, 1)
	go func() { done <- e.stop(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return errors.New("did not stop in time")
	}
}
