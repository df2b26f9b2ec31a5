package correlate

import (
	"hash/maphash"
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
	// entryMemory is how many entries there is memory for.
	entryMemory int
	groups      groupSlab
	byKey       hashTable
	seed        maphash.Seed
	tick        uint64 // of the last use of a group
	idle        idleGroups
	wake        wakeQueue
	undecided   []*group // that late events have changed
	// changed are the episodes to be reported by the next Drain.
	changed []change
	drained Episode    // what it is handed
	spare   []*episode // to be used again
	scratch []byte
	// lastEvidence is that of the last event.
	lastEvidence uint32
	hooks        testHooks
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
	least   int   // a window with fewer entries satisfies nothing
	slack   int64 // satisfied windows no further apart are one episode
	scratch *measure
	chains  chainFinder
}

// NewWindows returns empty windows for those correlations of set that here
// accepts.
func NewWindows(set *rules.Set, here func(*rules.Correlation) bool, opts WindowOptions) *Windows {
	w := &Windows{
		set: set, opts: opts.withDefaults(), mark: watermark.None,
		rules: make([]*windowRule, len(set.Correlations)), blobs: newBlobs(), seed: maphash.MakeSeed(),
	}
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
	}
	if c.Realert != rules.RealertEach {
		r.slack = r.span
	}
	r.retain = r.span + w.opts.Lateness.Milliseconds()
	if r.evidence <= 0 {
		r.evidence = 20
	}
	switch c.Type {
	case rules.EventCount, rules.ValueCount, rules.ValueSum:
		r.deferred = !growing(c.Condition)
	case rules.ValueAvg, rules.ValuePercentile, rules.ValueMedian:
		r.deferred = true
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
	e := entry{id: m.ID, time: m.Time, step: uint8(m.Step)}
	switch r.c.Type {
	case rules.ValueCount:
		if len(m.Value) == 0 {
			w.stats.Unusable++
			return
		}
	case rules.ValueSum, rules.ValueAvg, rules.ValuePercentile, rules.ValueMedian:
		if !m.HasNumber || math.IsNaN(m.Number) || math.IsInf(m.Number, 0) || r.c.Type == rules.ValueSum && m.Number < 0 {
			w.stats.Unusable++
			return
		}
		e.value = math.Float64bits(m.Number)
	}
	g := w.group(r, m.Group)
	w.tick++
	g.used = w.tick
	g.expire(w, m.Time)
	at, known := g.position(&e)
	if known && !w.hooks.skipDedup {
		w.stats.Repeated++
		return
	}
	if r.c.Type == rules.ValueCount {
		e.value = uint64(w.blobs.intern(m.Value, noBlob))
	}
	e.blob = w.blobs.intern(m.Evidence, w.lastEvidence)
	w.lastEvidence = e.blob
	alone := g.len() == 0 || g.newest < e.time-r.span
	g.insert(w, at, &e)

	due := g.wakeAt == neverWake
	switch {
	case r.deferred:
		g.decideAround(w, at)
		due = true
	case alone && r.least > 1 && (g.more == nil || g.more.index == nil):
		// The only window with the event has no other.
	case r.c.Type == rules.TemporalOrdered:
		due = g.coverChains(w, at) || due
	default:
		due = g.coverWindows(w, at) || due
	}
	// An event that contributes to nothing only puts off when the group has nothing
	// left.
	if due {
		w.schedule(g)
	}
	w.bound()
}

// group returns the group of a rule with this key, a new one if there is none.
func (w *Windows) group(r *windowRule, key []byte) *group {
	hash := uint32(maphash.Bytes(w.seed, key)) ^ uint32(r.index)*0x9e3779b1
	index, ok := w.byKey.find(hash, func(index uint32) bool {
		g := w.groups.at(index)
		return g.rule == r && g.hasKey(key)
	})
	if ok {
		return w.groups.at(index)
	}
	g := w.groups.take()
	g.rule, g.hash, g.wakeAt = r, hash, neverWake
	g.setKey(key)
	w.byKey.add(hash, g.index)
	w.stats.Groups++
	return g
}

// Advance moves the watermark. Windows that have ended are decided, episodes
// closed, and what can no longer matter is dropped.
func (w *Windows) Advance(mark int64) {
	// The same watermark again is not nothing: events may have come that are in
	// time and that it has passed already, and no other may ever come.
	if mark == watermark.None || mark < w.mark {
		return
	}
	w.redecide()
	w.mark = mark
	for g := w.nextWaking(); g != nil && g.wakeAt < mark; g = w.nextWaking() {
		w.wake.pop()
		g.wakeAt = neverWake
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
	s.Bytes = w.blobs.bytes + int64(s.Groups)*groupOverhead + int64(w.entryMemory)*entrySize
	return s
}

// drop forgets a group. What Drain has yet to say of it stays until then.
func (w *Windows) drop(g *group) {
	for _, ep := range g.episodes() {
		w.forgetEpisode(g, ep)
	}
	for i := range g.len() {
		g.release(w, g.at(i))
	}
	w.stats.Events -= g.len()
	w.entryMemory -= g.capacity()
	w.byKey.remove(g.hash, g.index)
	w.groups.release(g)
	w.stats.Groups--
}
