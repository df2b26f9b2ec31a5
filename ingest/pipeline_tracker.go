package ingest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// tracker follows one delivery from hand to its acknowledgement. It is held once
// while the delivery is decoded, and once for each batch and dead letter that
// carries a part of it.
type tracker struct {
	p      *Pipeline
	d      *Delivery
	m      *sourceMetrics
	weight int64
	since  time.Time

	holds    atomic.Int32
	answered atomic.Bool           // Ack was called
	err      atomic.Pointer[error] // the first

	prev, next *tracker // in trackers, under its lock
}

func (t *tracker) hold() { t.holds.Add(1) }

// release takes one hold away, with the outcome of what it was for. The last one
// acknowledges the delivery.
func (t *tracker) release(err error) {
	if err != nil {
		t.err.CompareAndSwap(nil, &err)
	}
	if t.holds.Add(-1) > 0 {
		return
	}
	d, m := t.d, t.m
	var outcome error
	if e := t.err.Load(); e != nil {
		outcome = *e
	}
	// giveUp may be at it in this moment: one of the two gets to answer.
	mine := t.answered.CompareAndSwap(false, true)
	since := t.since
	t.forget()
	if !mine {
		return
	}
	if outcome != nil {
		m.failures.Inc()
	} else {
		m.latency.Observe(time.Since(since).Seconds())
	}
	d.Ack(outcome)
}

// forget ends the tracker and gives its share of the budget back.
func (t *tracker) forget() {
	t.p.open.remove(t)
	t.p.metrics.inFlight.Sub(float64(t.weight))
	t.p.budget.Release(t.weight)
	t.p.open.pool.Put(t)
}

// trackers are the deliveries that were handed over and not yet acknowledged.
type trackers struct {
	pool  sync.Pool // *tracker
	mu    sync.Mutex
	first *tracker
	empty chan struct{} // closed when the last one leaves; nil when nobody waits
}

func (l *trackers) add(p *Pipeline, d *Delivery, weight int64) *tracker {
	t, _ := l.pool.Get().(*tracker)
	if t == nil {
		t = new(tracker)
	}
	t.p, t.d, t.m, t.weight, t.since = p, d, p.metrics.source(d.Source), weight, d.Received
	if t.since.IsZero() {
		t.since = time.Now()
	}
	t.holds.Store(1)
	t.answered.Store(false)
	t.err.Store(nil)
	p.metrics.inFlight.Add(float64(weight))
	l.mu.Lock()
	defer l.mu.Unlock()
	t.prev, t.next = nil, l.first
	if l.first != nil {
		l.first.prev = t
	}
	l.first = t
	return t
}

func (l *trackers) remove(t *tracker) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		l.first = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	t.prev, t.next, t.d = nil, nil, nil
	if l.first == nil && l.empty != nil {
		close(l.empty)
		l.empty = nil
	}
}

// wait returns true when no delivery is open any more, false when ctx ends
// first. It must not be called twice at once, nor while deliveries come in.
func (l *trackers) wait(ctx context.Context) bool {
	l.mu.Lock()
	if l.first == nil {
		l.mu.Unlock()
		return true
	}
	empty := make(chan struct{})
	l.empty = empty
	l.mu.Unlock()
	select {
	case <-empty:
		return true
	case <-ctx.Done():
		return false
	}
}

// giveUp answers every open delivery with err and returns how many there were.
// Acknowledgements of Kafka's that come later find them answered.
func (l *trackers) giveUp(err error) int {
	var given []*Delivery
	l.mu.Lock()
	for t := l.first; t != nil; t = t.next {
		// A tracker in the list is not in the pool: release removes it first, and
		// that waits for the lock.
		if t.answered.CompareAndSwap(false, true) {
			t.m.failures.Inc()
			given = append(given, t.d)
		}
	}
	l.mu.Unlock()
	for _, d := range given {
		d.Ack(err)
	}
	return len(given)
}
