package correlate

import (
	"container/heap"
	"math"
	"time"

	"github.com/tocsin-io/tocsin/internal/watermark"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// WindowOptions bound what one partition remembers. A zero value takes the
// default.
type WindowOptions struct {
	// Lateness is how far behind the watermark an event may be and still take
	// part in windows. Default 10 min.
	Lateness time.Duration
	// MaxGroups and MaxEvents bound the groups of all correlations and the events
	// that they hold. Defaults 200,000 and 2,000,000.
	MaxGroups, MaxEvents int
	// UpdateInterval is the least event time between two updates of an episode.
	// Default 1 min.
	UpdateInterval time.Duration
}

func (o WindowOptions) withDefaults() WindowOptions {
	if o.Lateness == 0 {
		o.Lateness = 10 * time.Minute
	}
	if o.MaxGroups == 0 {
		o.MaxGroups = 200_000
	}
	if o.MaxEvents == 0 {
		o.MaxEvents = 2_000_000
	}
	if o.UpdateInterval == 0 {
		o.UpdateInterval = time.Minute
	}
	return o
}

// Match is one event that matched one step of one correlation, for one group.
type Match struct {
	Correlation, Step int32
	Time              int64 // event time, Unix milliseconds
	ID                schemas.EventID
	Group             []byte  // tuple of the group-by values
	Value             []byte  // tuple of the condition's fields, for value_count; empty when one is missing
	Number            float64 // for the other value_ types
	HasNumber         bool
	Evidence          []byte // what a detection says of the event; opaque
}

// Stats is what Windows holds and what it had to give up.
type Stats struct {
	Groups, Events int
	Bytes          int64 // about
	EvictedGroups  int64 // because a bound was reached
	Late           int64 // matches behind the allowed lateness
	Repeated       int64 // matches of an event that the group already has
	Unusable       int64 // matches without the value that their correlation needs
}

// Windows holds the correlation windows of one partition: a set of events for
// each group of each correlation, and the episodes in it. What it finds depends
// only on the calls of Add and Advance. It is not safe for concurrent use.
type Windows struct {
	set   *rules.Set
	opts  WindowOptions
	rules []*windowRule // by correlation; nil where it lives elsewhere
	mark  int64         // watermark
	blobs *blobs
	stats Stats
	idle  groupList // least recently used first
	wake  wakeQueue
	// changed are the episodes to be reported by the next Drain.
	changed []change
	hooks   testHooks
	encoded []byte // scratch memory of AppendSnapshot
}

// testHooks break the engine on purpose, to prove that the tests notice.
type testHooks struct {
	skipDedup      bool
	evictByArrival bool
	closeEarly     bool
}

// windowRule is a correlation and its groups.
type windowRule struct {
	c        *rules.Correlation
	index    int32
	span     int64 // timespan, milliseconds
	retain   int64 // how long an event is kept behind the watermark
	suppress int64
	evidence int
	// deferred: a window is decided when the watermark has passed its end.
	deferred bool
	// begins tells the steps whose events windows begin with; nil for all.
	begins  []bool
	valued  bool  // entries have values
	least   int   // a window with fewer entries satisfies nothing
	slack   int64 // satisfied windows no further apart are one episode
	groups  map[string]*group
	scratch *measure
	chains  chainFinder
}

// NewWindows returns empty windows for those correlations of set that here
// accepts.
func NewWindows(set *rules.Set, here func(*rules.Correlation) bool, opts WindowOptions) *Windows {
	w := &Windows{
		set: set, opts: opts.withDefaults(), mark: watermark.None,
		rules: make([]*windowRule, len(set.Correlations)), blobs: newBlobs(),
	}
	w.idle.init()
	for i, c := range set.Correlations {
		if here(c) {
			w.rules[i] = w.newRule(c, int32(i))
		}
	}
	return w
}

func (w *Windows) newRule(c *rules.Correlation, index int32) *windowRule {
	r := &windowRule{
		c: c, index: index,
		span:     c.Timespan.Milliseconds(),
		suppress: c.Suppress.Milliseconds(),
		evidence: c.Evidence,
		groups:   make(map[string]*group),
	}
	if c.Realert != rules.RealertEach {
		r.slack = r.span
	}
	r.retain = r.span + w.opts.Lateness.Milliseconds()
	if r.evidence <= 0 {
		r.evidence = 20
	}
	switch c.Type {
	case rules.EventCount:
		r.deferred = !growing(c.Condition)
	case rules.ValueCount, rules.ValueSum:
		r.deferred, r.valued = !growing(c.Condition), true
	case rules.ValueAvg, rules.ValuePercentile, rules.ValueMedian:
		r.deferred, r.valued = true, true
	case rules.Temporal:
		if c.Expr != nil {
			begins := make([]bool, len(c.Steps))
			if positive(c.Expr, false, begins) {
				r.deferred, r.begins = true, begins
			}
		}
	}
	r.least = least(c)
	r.scratch = r.newMeasure()
	return r
}

// least returns how many entries a window must have before its condition can be
// true, for conditions that hold at once.
func least(c *rules.Correlation) int {
	switch c.Type {
	case rules.EventCount, rules.ValueCount:
		n := 1.0
		for _, b := range c.Condition.Bounds {
			switch b.Op {
			case rules.GT:
				n = max(n, math.Floor(b.Value)+1)
			case rules.GTE:
				n = max(n, math.Ceil(b.Value))
			}
		}
		return int(min(n, math.MaxInt32))
	case rules.Temporal, rules.TemporalOrdered:
		if c.Expr == nil {
			return len(c.Steps)
		}
	}
	return 1
}

// growing reports whether a condition that is true stays true as the value
// grows: all of its bounds are lower ones.
func growing(c rules.Condition) bool {
	for _, b := range c.Bounds {
		if b.Op != rules.GT && b.Op != rules.GTE {
			return false
		}
	}
	return true
}

// positive marks the steps that stand outside of not, and reports whether the
// expression has a not at all.
func positive(e *rules.TemporalExpr, negated bool, steps []bool) (hasNot bool) {
	switch e.Op {
	case rules.ExprStep:
		if !negated {
			steps[e.Step] = true
		}
	case rules.ExprNot:
		hasNot, negated = true, true
	}
	for _, arg := range e.Args {
		if positive(arg, negated, steps) {
			hasNot = true
		}
	}
	return hasNot
}

// Add puts an event into its group. All that is kept of m is copied.
func (w *Windows) Add(m *Match) {
	r := w.rules[m.Correlation]
	if r == nil {
		return
	}
	if w.mark != watermark.None && m.Time < w.mark-w.opts.Lateness.Milliseconds() {
		w.stats.Late++
		return
	}
	var value uint64
	if r.valued && r.c.Type != rules.ValueCount {
		if !m.HasNumber || math.IsNaN(m.Number) || math.IsInf(m.Number, 0) || r.c.Type == rules.ValueSum && m.Number < 0 {
			w.stats.Unusable++
			return
		}
		value = math.Float64bits(m.Number)
	}
	if r.c.Type == rules.ValueCount && len(m.Value) == 0 {
		w.stats.Unusable++
		return
	}
	g := r.groups[string(m.Group)]
	if g == nil {
		g = w.newGroup(r, m.Group)
	}
	w.idle.touch(g)
	g.expire(w, m.Time)
	e := entry{id: m.ID, time: m.Time, step: uint8(m.Step)}
	at, known := g.position(&e)
	if known && !w.hooks.skipDedup {
		w.stats.Repeated++
		return
	}
	if r.c.Type == rules.ValueCount {
		value = uint64(w.blobs.intern(m.Value))
	}
	e.blob = w.blobs.intern(m.Evidence)
	g.insert(at, e, value)
	w.stats.Events++

	switch {
	case r.deferred:
		g.decideAround(w, at)
	case r.c.Type == rules.TemporalOrdered:
		g.coverChains(w, at)
	default:
		g.coverWindows(w, at)
	}
	w.schedule(g)
	w.bound()
}

// Advance moves the watermark. Windows that have ended are decided, episodes
// closed, and what can no longer matter is dropped.
func (w *Windows) Advance(mark int64) {
	// The same watermark again is not nothing: events may have come that are in
	// time and that it has passed already, and no other may ever come.
	if mark == watermark.None || mark < w.mark {
		return
	}
	w.mark = mark
	for len(w.wake) > 0 && w.wake[0].wakeAt < mark {
		g := w.wake[0]
		g.settle(w)
		if g.dead() {
			w.drop(g)
			continue
		}
		w.schedule(g)
	}
}

// Stats returns what is held at the moment, and the counts since the start.
func (w *Windows) Stats() Stats {
	s := w.stats
	s.Bytes = w.blobs.bytes + int64(s.Groups)*groupOverhead + int64(s.Events)*entrySize
	return s
}

// schedule makes sure that the group is looked at when there is something to
// do. An event that only puts that off leaves the queue alone: the group is
// then woken too early once, and not moved at every event.
func (w *Windows) schedule(g *group) {
	at := g.nextWake(w)
	switch {
	case g.heapIndex < 0:
		g.wakeAt = at
		heap.Push(&w.wake, g)
	case at < g.wakeAt || g.wakeAt < w.mark:
		g.wakeAt = at
		heap.Fix(&w.wake, g.heapIndex)
	}
}

// bound gives up the groups idle longest while there is too much.
func (w *Windows) bound() {
	for w.stats.Groups > w.opts.MaxGroups || w.stats.Events > w.opts.MaxEvents {
		g := w.idle.oldest()
		if g == nil {
			return
		}
		w.stats.EvictedGroups++
		for _, ep := range g.episodes {
			if ep.state == episodeOpen {
				ep.state = episodeClosed
				w.report(g, ep, EpisodeClosed)
			}
		}
		w.drop(g)
	}
}

func (w *Windows) newGroup(r *windowRule, key []byte) *group {
	g := &group{rule: r, key: string(key), heapIndex: -1, quietUntil: watermark.None, decided: watermark.None}
	r.groups[g.key] = g
	w.idle.add(g)
	w.stats.Groups++
	return g
}

// drop forgets a group. What Drain has yet to say of it stays until then.
func (w *Windows) drop(g *group) {
	for i := range w.changed {
		if w.changed[i].group == g {
			w.changed[i].freeze(w)
		}
	}
	for i := g.head; i < len(g.entries); i++ {
		g.release(w, i)
	}
	w.stats.Events -= g.len()
	g.entries, g.values, g.head = nil, nil, 0
	for _, ep := range g.episodes {
		ep.release(w)
	}
	g.episodes = nil
	if g.heapIndex >= 0 {
		heap.Remove(&w.wake, g.heapIndex)
	}
	w.idle.remove(g)
	delete(g.rule.groups, g.key)
	w.stats.Groups--
}

// wakeQueue is a heap of groups by the watermark at which they must be looked at.
type wakeQueue []*group

func (q wakeQueue) Len() int           { return len(q) }
func (q wakeQueue) Less(i, j int) bool { return q[i].wakeAt < q[j].wakeAt }
func (q wakeQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].heapIndex, q[j].heapIndex = i, j
}

// Push is for container/heap.
func (q *wakeQueue) Push(x any) {
	g := x.(*group)
	g.heapIndex = len(*q)
	*q = append(*q, g)
}

// Pop is for container/heap.
func (q *wakeQueue) Pop() any {
	old := *q
	g := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	g.heapIndex = -1
	return g
}
