package correlate

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// PartitionStatus is what a worker shows of itself. Times are Unix milliseconds,
// 0 when there is none.
type PartitionStatus struct {
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	Next      int64  `json:"next"`      // offset of the next record
	Lag       int64  `json:"lag"`       // records waiting
	Watermark int64  `json:"watermark"` // event time; 0 before the first event
	Groups    int    `json:"groups"`    // live groups of all correlations
	Events    int    `json:"events"`    // events held in their windows
	Bytes     int64  `json:"bytes"`     // memory of the windows, about
	Evicted   int64  `json:"evicted"`   // groups given up because a bound was reached
	Late      int64  `json:"late"`      // matches that came too late
	// SnapshotTime is when the last snapshot was written or restored, by the clock
	// of the machine, and SnapshotNext the offset that it goes on from, -1 if
	// there is none.
	SnapshotTime int64 `json:"snapshot_time"`
	SnapshotNext int64 `json:"snapshot_next"`
	// Rules are the correlations that hold groups, the one with the most first.
	// Only Inspect fills them.
	Rules []RuleStatus `json:"rules,omitempty"`
}

// RuleStatus is what a partition holds of one correlation.
type RuleStatus struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Groups int    `json:"groups"`
	Events int    `json:"events"`
	// Oldest is the time of the oldest event, Unix milliseconds.
	Oldest int64 `json:"oldest"`
	// Largest is the group with the most events, by its group-by values.
	Largest       []string `json:"largest"`
	LargestEvents int      `json:"largest_events"`
}

// workerStatus passes a PartitionStatus from the worker to whoever asks.
type workerStatus struct {
	latest atomic.Pointer[PartitionStatus]
	// asked is set by Inspect, and taken back by the worker after it has stored a
	// report with rules in inspected. In latest the next report, which has none,
	// could take its place before Inspect looks.
	asked     atomic.Bool
	inspected atomic.Pointer[PartitionStatus]
}

// report publishes the worker's state and counts what is new since the last time.
func (w *worker) report() {
	stats := w.windows.stats()
	now := &PartitionStatus{
		Topic: w.key.topic, Partition: w.key.partition,
		Next: w.next, Lag: w.a.Lag(), Watermark: max(0, w.windows.mark(0)),
		Groups: stats.Groups, Events: stats.Events, Bytes: stats.Bytes,
		Evicted: stats.EvictedGroups, Late: stats.Late,
		SnapshotNext: w.saved,
	}
	if w.saved >= 0 {
		now.SnapshotTime = w.savedAt.UnixMilli()
	}
	w.status.latest.Store(now)
	if w.status.asked.Load() {
		with := *now
		with.Rules = w.windows.ruleStatus()
		w.status.inspected.Store(&with)
		w.status.asked.Store(false)
	}
	m, before := w.c.metrics, w.counted
	// New windows, after a change of the rules, may have counted less.
	m.evicted.Add(float64(max(0, stats.EvictedGroups-before.EvictedGroups)))
	m.late.Add(float64(max(0, stats.Late-before.Late)))
	m.duplicates.WithLabelValues(duplicateMatch).Add(float64(max(0, stats.Repeated-before.Repeated)))
	m.ignored.WithLabelValues(ignoredNoNumber).Add(float64(max(0, stats.Unusable-before.Unusable)))
	w.counted = stats
}

// workerList holds the workers that run at the moment.
type workerList struct {
	mu      sync.Mutex
	workers []*worker
}

func (l *workerList) list() []*worker {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.workers)
}

func (l *workerList) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.workers)
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
	return statusOf(c.workers.list(), func(w *worker) *PartitionStatus { return w.status.latest.Load() })
}

// Inspect is Status with what each correlation holds. The workers go through all
// of their groups for it, at their next fetch: it is for people who ask, not for
// probes. A worker that has not got to it when ctx ends is shown without rules.
func (c *Correlator) Inspect(ctx context.Context) []PartitionStatus {
	workers := c.workers.list()
	for _, w := range workers {
		w.status.asked.Store(true)
	}
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	return statusOf(workers, func(w *worker) *PartitionStatus {
		for w.status.asked.Load() {
			select {
			case <-ctx.Done():
				return w.status.latest.Load()
			case <-poll.C:
			}
		}
		return w.status.inspected.Load()
	})
}

// statusOf returns what of gives of the workers, those that have nothing to show
// yet left out.
func statusOf(workers []*worker, of func(*worker) *PartitionStatus) []PartitionStatus {
	var out []PartitionStatus
	for _, w := range workers {
		if s := of(w); s != nil {
			out = append(out, *s)
		}
	}
	slices.SortFunc(out, func(a, b PartitionStatus) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), a.Partition-b.Partition)
	})
	return out
}

// Joined reports whether this process has ever been assigned a partition. With
// more processes than partitions some have none; they stand by.
func (c *Correlator) Joined() bool { return c.joined.Load() }

// ruleStatus describes the correlations that hold groups.
func (l *levels) ruleStatus() []RuleStatus {
	out := []RuleStatus{}
	for _, w := range l.windows {
		out = append(out, w.ruleStatus()...)
	}
	slices.SortStableFunc(out, func(a, b RuleStatus) int { return b.Groups - a.Groups })
	return out
}

// ruleStatus describes the correlations that hold groups here, in the order of
// their indexes.
func (w *Windows) ruleStatus() []RuleStatus {
	all := make([]RuleStatus, len(w.rules))
	largest := make([]*group, len(w.rules))
	w.groups.each(func(g *group) {
		s, n := &all[g.rule.index], g.len()
		s.Groups++
		s.Events += n
		if n > 0 && (s.Oldest == 0 || g.oldest < s.Oldest) {
			s.Oldest = g.oldest
		}
		// Of equal ones the first by key.
		most := largest[g.rule.index]
		if most == nil || n > most.len() || n == most.len() && bytes.Compare(g.appendKey(nil), most.appendKey(nil)) < 0 {
			largest[g.rule.index] = g
		}
	})
	out := all[:0]
	for i, s := range all {
		g := largest[i]
		if g == nil {
			continue
		}
		s.ID, s.Name, s.LargestEvents = g.rule.c.ID, g.rule.c.Name, g.len()
		if s.Name == "" {
			s.Name = g.rule.c.Title
		}
		s.Largest = g.values()
		out = append(out, s)
	}
	return out
}
