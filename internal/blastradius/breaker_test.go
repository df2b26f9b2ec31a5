package blastradius

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// clock is a time that tests set.
type clock struct{ t time.Time }

func (c *clock) now() time.Time             { return c.t }
func (c *clock) advance(d time.Duration)    { c.t = c.t.Add(d) }
func newClock() *clock                      { return &clock{time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)} }
func (c *clock) breaker(o Options) *Breaker { o.Now = c.now; return New(o) }

// take asks for n new targets and returns how many were allowed, and whether one
// of the refusals opened the breaker.
func take(b *Breaker, prefix string, n int) (allowed int, opened bool) {
	for i := range n {
		err := b.Allow(fmt.Sprint(prefix, i))
		var r *Refused
		if errors.As(err, &r) {
			opened = opened || r.Opened
			continue
		}
		allowed++
	}
	return allowed, opened
}

func TestLimit(t *testing.T) {
	for _, test := range []struct {
		name  string
		opts  Options
		fleet int
		want  int
	}{
		{"fleet not known", Options{}, 0, 5},
		{"small fleet", Options{}, 100, 5},
		{"one percent", Options{}, 10_000, 100},
		{"rounded down", Options{Least: -1}, 199, 1},
		{"nothing at all", Options{Least: -1}, 99, 0},
		{"a tenth of a percent", Options{MaxShare: 0.1}, 1_000_000, 1000},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newClock().breaker(test.opts)
			b.SetFleet(test.fleet)
			if got, opened := take(b, "c", test.want+10); got != test.want || !opened {
				t.Errorf("allowed %d, opened %v; want %d", got, opened, test.want)
			}
		})
	}
}

func TestOneAlertPerOpening(t *testing.T) {
	c := newClock()
	b := c.breaker(Options{})
	take(b, "c", 5)
	var r *Refused
	if err := b.Allow("one more"); !errors.As(err, &r) || !r.Opened || r.Used != 5 || r.Limit != 5 {
		t.Fatalf("got %+v", err)
	}
	for range 3 {
		if err := b.Allow("one more"); !errors.As(err, &r) || r.Opened {
			t.Errorf("got %+v", err)
		}
	}
	if err := b.Allow("c0"); err == nil {
		t.Error("an open breaker lets a known target pass")
	}
}

func TestTheSameTargetCountsOnce(t *testing.T) {
	b := newClock().breaker(Options{})
	for range 100 {
		if err := b.Allow("c"); err != nil {
			t.Fatal(err)
		}
	}
	if s := b.Status(); s.Used != 1 || s.State != Closed {
		t.Errorf("got %+v", s)
	}
}

func TestWindowSlides(t *testing.T) {
	c := newClock()
	b := c.breaker(Options{})
	take(b, "a", 3)
	c.advance(40 * time.Minute)
	take(b, "b", 2)
	c.advance(20 * time.Minute) // the first three leave
	if n, opened := take(b, "c", 3); n != 3 || opened {
		t.Errorf("allowed %d, opened %v", n, opened)
	}
	if n, opened := take(b, "d", 1); n != 0 || !opened {
		t.Errorf("allowed %d, opened %v", n, opened)
	}
}

func TestOpenUntilResumed(t *testing.T) {
	c := newClock()
	b := c.breaker(Options{})
	take(b, "a", 6)
	c.advance(1000 * time.Hour)
	if n, _ := take(b, "b", 1); n != 0 {
		t.Error("it closed by itself")
	}
	b.Resume()
	if n, opened := take(b, "b", 5); n != 5 || opened {
		t.Errorf("allowed %d, opened %v", n, opened)
	}
}

func TestTrial(t *testing.T) {
	c := newClock()
	b := c.breaker(Options{Cooldown: 2 * time.Hour, Trial: 2})
	take(b, "a", 6)
	c.advance(2*time.Hour - 1)
	if n, _ := take(b, "b", 1); n != 0 {
		t.Error("allowed before the cool-down was over")
	}
	c.advance(1)
	if n, opened := take(b, "c", 3); n != 2 || !opened || b.Status().State != Open {
		t.Errorf("allowed %d, opened %v: %+v", n, opened, b.Status())
	}
	c.advance(2 * time.Hour)
	if n, _ := take(b, "d", 2); n != 2 || b.Status().State != HalfOpen {
		t.Errorf("allowed %d: %+v", n, b.Status())
	}
	c.advance(2 * time.Hour)
	if s := b.Status(); s.State != Closed {
		t.Errorf("got %+v", s)
	}
	take(b, "e", 6)
	c.advance(4 * time.Hour) // through both steps, without a call in between
	if s := b.Status(); s.State != Closed || s.Used != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestRestore(t *testing.T) {
	c := newClock()
	b := c.breaker(Options{})
	for i := range 5 {
		b.Restore(fmt.Sprint("a", i), c.t.Add(-time.Duration(i)*20*time.Minute)) // three of them within the hour
	}
	if n, opened := take(b, "b", 3); n != 2 || !opened {
		t.Errorf("allowed %d, opened %v", n, opened)
	}
	b = c.breaker(Options{})
	b.RestoreOpen(c.t.Add(-time.Minute))
	if n, opened := take(b, "b", 1); n != 0 || opened {
		t.Errorf("allowed %d, opened %v", n, opened)
	}
}

// Whatever happens in whatever order, no hour sees more targets than are allowed.
func TestNeverMoreThanTheShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClock()
		b := c.breaker(Options{
			Least: rapid.IntRange(1, 8).Draw(t, "least"), Trial: rapid.IntRange(1, 4).Draw(t, "trial"),
			Cooldown: time.Duration(rapid.IntRange(0, 150).Draw(t, "cooldown")) * time.Minute,
		})
		limit := b.Status().Limit
		touched := map[string]time.Time{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			c.advance(time.Duration(rapid.IntRange(0, 30).Draw(t, "minutes")) * time.Minute)
			target := fmt.Sprint(rapid.IntRange(0, 40).Draw(t, "target"))
			if b.Allow(target) == nil {
				touched[target] = c.t
			}
			n := 0
			for _, at := range touched {
				if c.t.Sub(at) < time.Hour {
					n++
				}
			}
			if n > limit {
				t.Fatalf("%d targets within an hour, %d are allowed", n, limit)
			}
		}
	})
}

func TestConcurrent(t *testing.T) {
	b := New(Options{})
	b.SetFleet(10_000)
	var wg sync.WaitGroup
	var mu sync.Mutex
	total, openings := 0, 0
	for g := range 8 {
		wg.Go(func() {
			n, opened := take(b, fmt.Sprint("g", g, "-"), 50)
			mu.Lock()
			defer mu.Unlock()
			total += n
			if opened {
				openings++
			}
		})
	}
	wg.Wait()
	if total != 100 || openings != 1 {
		t.Errorf("%d allowed, %d openings", total, openings)
	}
}
