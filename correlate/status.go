package correlate

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// PartitionStatus is what a worker shows of itself.
type PartitionStatus struct {
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	Next      int64  `json:"next"`      // offset of the next record
	Lag       int64  `json:"lag"`       // records waiting
	Watermark int64  `json:"watermark"` // Unix milliseconds
	Groups    int    `json:"groups"`    // live groups of all correlations
	Events    int    `json:"events"`    // events held in their windows
	Bytes     int64  `json:"bytes"`     // memory of the windows, about
	Evicted   int64  `json:"evicted"`   // groups given up because a bound was reached
	Late      int64  `json:"late"`      // matches that came too late
}

// workerStatus passes a PartitionStatus from the worker to whoever asks.
type workerStatus struct {
	latest atomic.Pointer[PartitionStatus]
}

// report publishes the worker's state and counts what is new since the last time.
func (w *worker) report() {
	stats := w.windows.stats()
	now := &PartitionStatus{
		Topic: w.key.topic, Partition: w.key.partition,
		Next: w.next, Lag: w.a.Lag(), Watermark: w.windows.mark(0),
		Groups: stats.Groups, Events: stats.Events, Bytes: stats.Bytes,
		Evicted: stats.EvictedGroups, Late: stats.Late,
	}
	w.status.latest.Store(now)
	m, before := w.c.metrics, w.counted
	// New windows, after a change of the rules, may have counted less.
	m.evicted.Add(float64(max(0, stats.EvictedGroups-before.EvictedGroups)))
	m.late.Add(float64(max(0, stats.Late-before.Late)))
	m.ignored.WithLabelValues(ignoredRepeated).Add(float64(max(0, stats.Repeated-before.Repeated)))
	m.ignored.WithLabelValues(ignoredNoNumber).Add(float64(max(0, stats.Unusable-before.Unusable)))
	w.counted = stats
}

// workerList holds the workers that run at the moment.
type workerList struct {
	mu      sync.Mutex
	workers []*worker
}

// add lists w and returns the function that takes it off again.
func (l *workerList) add(w *worker) (remove func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.workers = append(l.workers, w)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.workers = slices.DeleteFunc(l.workers, func(x *worker) bool { return x == w })
	}
}

// Status returns the state of every partition that this process works on, as
// of its last fetch.
func (c *Correlator) Status() []PartitionStatus {
	c.workers.mu.Lock()
	defer c.workers.mu.Unlock()
	var out []PartitionStatus
	for _, w := range c.workers.workers {
		if s := w.status.latest.Load(); s != nil {
			out = append(out, *s)
		}
	}
	slices.SortFunc(out, func(a, b PartitionStatus) int {
		if a.Topic != b.Topic {
			return strings.Compare(a.Topic, b.Topic)
		}
		return a.Partition - b.Partition
	})
	return out
}

// Joined reports whether this process has ever been assigned a partition. With
// more processes than partitions some have none; they stand by.
func (c *Correlator) Joined() bool { return c.joined.Load() }
