package inventory

import (
	"context"
	"maps"
	"sync"
)

// The priorities of a queue.
const (
	urgent  = iota // the logs show it, and the registry knows little of it
	changed        // its state is not what the registry has
	rest           // not described yet
	priorities
)

const (
	maxQueued = 100_000 // certificates of a priority
	// maxSkipped bounds the certificates remembered as not worth describing again.
	maxSkipped = 100_000
	refillSize = 1000
	// fairTurn is how often the lowest priority goes first: whoever can make the
	// logs show IDs that nobody has must not keep the rest waiting for ever.
	fairTurn = 10
)

// queue is the certificates to describe, each at most once at a time.
type queue struct {
	mu      sync.Mutex
	ids     [priorities][]string
	busy    map[string]struct{} // queued or being described
	skip    map[string]outcome  // not again with the rest
	drained bool                // the registry had nothing for the rest
	turn    int
	wake    chan struct{}
}

func newQueue() *queue {
	q := &queue{}
	q.reset()
	return q
}

// reset empties the queue, but for what was asked for urgently.
func (q *queue) reset() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ids = [priorities][]string{urgent: q.ids[urgent]}
	q.busy = make(map[string]struct{})
	for _, id := range q.ids[urgent] {
		q.busy[id] = struct{}{}
	}
	q.skip = make(map[string]outcome)
	q.drained = false
	q.wake = make(chan struct{})
}

// add reports whether there was room. An ID that is queued already keeps its
// place, unless this one is urgent: then it is described once more.
func (q *queue) add(priority int, id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.busy[id]; ok && priority != urgent {
		return true
	}
	if len(q.ids[priority]) >= maxQueued {
		return false
	}
	q.ids[priority] = append(q.ids[priority], id)
	q.busy[id] = struct{}{}
	q.signal()
	return true
}

// refill makes the queue look again for the rest.
func (q *queue) refill() {
	q.mu.Lock()
	q.drained = false
	q.signal()
	q.mu.Unlock()
}

// signal wakes all that wait; they look again. mu is held.
func (q *queue) signal() {
	close(q.wake)
	q.wake = make(chan struct{})
}

// next returns the ID to describe now; done must be called with it. It waits for
// one, until ctx ends. find looks for up to n of the rest that are not busy; it is
// called by one goroutine at a time, since all others would find the same.
func (q *queue) next(ctx context.Context, find func(n int, busy func(string) bool) []string) (string, bool) {
	for ctx.Err() == nil {
		q.mu.Lock()
		if id, ok := q.pop(); ok {
			q.mu.Unlock()
			return id, true
		}
		if !q.drained {
			q.drained = true // others wait meanwhile
			q.mu.Unlock()
			found := find(refillSize, func(id string) bool {
				q.mu.Lock()
				defer q.mu.Unlock()
				_, busy := q.busy[id]
				_, skip := q.skip[id]
				return busy || skip
			})
			for _, id := range found {
				q.add(rest, id)
			}
			if len(found) == refillSize {
				q.refill()
			}
			continue
		}
		wake := q.wake
		q.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
		}
	}
	return "", false
}

// pop takes the next of those that are queued. mu is held.
func (q *queue) pop() (string, bool) {
	q.turn++
	for i := range q.ids {
		if q.turn%fairTurn == 0 {
			i = len(q.ids) - 1 - i
		}
		if ids := q.ids[i]; len(ids) > 0 {
			q.ids[i] = ids[1:]
			return ids[0], true
		}
	}
	return "", false
}

// outcome is what became of describing a certificate.
type outcome uint8

const (
	described  outcome = iota
	unreadable         // AWS's answer does not parse, and will not later
	failed             // worth trying again in the next cycle
)

// done says what became of an ID that next returned.
func (q *queue) done(id string, o outcome) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.busy, id)
	if o != described && len(q.skip) < maxSkipped {
		q.skip[id] = o
	}
}

// retry makes those that failed eligible again.
func (q *queue) retry() {
	q.mu.Lock()
	defer q.mu.Unlock()
	maps.DeleteFunc(q.skip, func(_ string, o outcome) bool { return o == failed })
}
