package lifecycle

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

func TestStopsInReverseOrderAndJoinsErrors(t *testing.T) {
	s := New(zap.NewNop())
	var order []string
	for _, name := range []string{"engine", "client", "stage", "source"} {
		s.PushClose(name, func() error {
			order = append(order, name)
			if name == "client" || name == "source" {
				return errors.New(name + " is stuck")
			}
			return nil
		})
	}
	err := s.Stop(time.Second)
	if want := []string{"source", "stage", "client", "engine"}; !slices.Equal(order, want) {
		t.Errorf("order %q", order)
	}
	if err == nil || err.Error() != "stop source: source is stuck\nstop client: client is stuck" {
		t.Errorf("got %v", err)
	}
	if err := s.Stop(time.Second); err != nil || len(order) != 4 {
		t.Errorf("the second stop did something: %v %q", err, order)
	}
}

func TestGoDrainsBeforeWhatItNeedsStops(t *testing.T) {
	s := New(zap.NewNop())
	var mu sync.Mutex
	var order []string
	add := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, what)
	}
	s.PushClose("client", func() error { add("client closed"); return nil })
	s.Go("stage", true, func(ctx context.Context) error {
		<-ctx.Done()
		add("stage flushed")
		return ctx.Err() // a context's end is no failure
	})
	if err := s.Stop(time.Second); err != nil {
		t.Fatal(err)
	}
	if want := []string{"stage flushed", "client closed"}; !slices.Equal(order, want) {
		t.Errorf("order %q", order)
	}
}

func TestOneDeadlineForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(zap.NewNop())
		release := make(chan struct{})
		closed := false
		s.PushClose("first", func() error { closed = true; return nil })
		for range 2 {
			s.Go("deaf", true, func(context.Context) error { <-release; return nil })
		}
		s.Push("slow", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		began := time.Now()
		err := s.Stop(10 * time.Second)
		if took := time.Since(began); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("took %s", took)
		}
		if !closed {
			t.Error("what is below a deaf part must still be told to stop")
		}
		if n := strings.Count(err.Error(), "did not stop in time"); n != 2 {
			t.Errorf("got %v", err)
		}
		close(release)
	})
}

func TestWait(t *testing.T) {
	fails := func(must bool, run func(context.Context) error, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			s := New(zap.NewNop())
			s.Go("part", must, run)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			got := ""
			if err := s.Wait(ctx); err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if err := s.Stop(time.Second); err != nil {
				t.Errorf("a failure is reported once, got %v from Stop", err)
			}
		})
	}
	fails(true, func(context.Context) error { return errors.New("boom") }, "part: boom")
	fails(true, func(context.Context) error { return nil }, "part: ended by itself")
	fails(false, func(context.Context) error { return nil }, "")
	fails(true, func(ctx context.Context) error { <-ctx.Done(); return nil }, "")
}

func TestFailureWhileStopping(t *testing.T) {
	s := New(zap.NewNop())
	s.Go("stage", true, func(ctx context.Context) error { <-ctx.Done(); return errors.New("last flush failed") })
	if err := s.Stop(time.Second); err == nil || err.Error() != "stop stage: last flush failed" {
		t.Errorf("got %v", err)
	}
}

func TestPushAfterStop(t *testing.T) {
	s := New(zap.NewNop())
	if err := s.Stop(time.Second); err != nil {
		t.Fatal(err)
	}
	stopped := false
	s.PushClose("late", func() error { stopped = true; return nil })
	if !stopped {
		t.Error("left behind")
	}
}
