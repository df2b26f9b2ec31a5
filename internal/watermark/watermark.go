// Package watermark tells how far event time has come in one partition.
//
// Events of a partition arrive by lanes (a source and its input shard). Within
// a lane event time runs forward but for a bounded disorder; between lanes
// there is no order at all. The watermark is therefore the minimum over the
// active lanes of the largest event time seen, less the disorder.
//
// Lanes of derived events (schemas.DerivedLane) take no part: such an event comes
// when time has passed it already, and between two of them lie minutes, for which
// its lane would hold back all others.
package watermark

import (
	"math"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// None is the watermark before any event.
const None = math.MinInt64

// Options of a Tracker; a zero value takes the default.
type Options struct {
	// Disorder is how far event times may run backwards within a lane. Default 30 s.
	Disorder time.Duration
	// Idle is how long a lane must have had nothing to read, while it was being
	// read, before it stops holding the watermark back. Default 10 s.
	Idle time.Duration
	// Future is how far an event's time may lie after its ingest time. Beyond it
	// the event's clock is wrong, and to follow it would make everything else
	// late. Default 10 min.
	Future time.Duration
	// MaxLanes bounds the lanes remembered; further ones share one. Default 4096.
	MaxLanes int
}

func (o Options) withDefaults() Options {
	if o.Disorder == 0 {
		o.Disorder = 30 * time.Second
	}
	if o.Idle == 0 {
		o.Idle = 10 * time.Second
	}
	if o.Future == 0 {
		o.Future = 10 * time.Minute
	}
	if o.MaxLanes == 0 {
		o.MaxLanes = 4096
	}
	return o
}

// Tracker follows the lanes of one partition. It is not safe for concurrent use.
type Tracker struct {
	opts     Options
	lanes    map[string]*Lane
	order    []*Lane
	overflow *Lane
	derived  *Lane // one for all
	mark     int64
	lastTick time.Time
}

// Lane is one lane of a Tracker. It stays valid as long as the Tracker.
type Lane struct {
	name    string
	max     int64 // largest event time seen
	idleFor time.Duration
	future  int64 // of the Tracker's options, milliseconds
}

// New returns a tracker that has seen nothing.
func New(opts Options) *Tracker {
	return &Tracker{opts: opts.withDefaults(), lanes: make(map[string]*Lane), mark: None}
}

// Lane returns the lane of this name, making it if need be. name is copied.
func (t *Tracker) Lane(name []byte) *Lane {
	if l, ok := t.lanes[string(name)]; ok {
		return l
	}
	if strings.HasPrefix(string(name), schemas.DerivedLane) {
		if t.derived == nil {
			t.derived = &Lane{name: schemas.DerivedLane, max: None, future: t.opts.Future.Milliseconds()}
		}
		return t.derived
	}
	if len(t.lanes) >= t.opts.MaxLanes {
		// One lane for the rest: right as long as their disorder stays within
		// bounds, and better than memory without a limit.
		if t.overflow == nil {
			t.overflow = t.add("overflow")
		}
		return t.overflow
	}
	l := t.add(string(name))
	t.lanes[l.name] = l
	return l
}

func (t *Tracker) add(name string) *Lane {
	l := &Lane{name: name, max: None, future: t.opts.Future.Milliseconds()}
	t.order = append(t.order, l)
	return l
}

// Observe notes an event of the lane, both times in Unix milliseconds. It
// reports false for an event whose time is too far after its ingest time, or
// before 1970: that one does not move the watermark and must take no part in
// windows.
func (l *Lane) Observe(eventTime, ingestTime int64) bool {
	l.idleFor = 0
	if eventTime < 0 || ingestTime != 0 && eventTime > ingestTime+l.future {
		return false
	}
	if eventTime > l.max {
		l.max = eventTime
	}
	return true
}

// Tick lets idleness pass. caughtUp says that there was nothing left to read
// at now; only the time between two such ticks counts, so that a worker that
// was blocked, rebalancing or catching up does not take a busy lane for idle.
func (t *Tracker) Tick(now time.Time, caughtUp bool) {
	if !caughtUp {
		t.lastTick = time.Time{}
		return
	}
	if !t.lastTick.IsZero() {
		passed := now.Sub(t.lastTick)
		for _, l := range t.order {
			l.idleFor += passed
		}
	}
	t.lastTick = now
}

// Watermark returns the event time, in Unix milliseconds, before which no more
// events are expected. It never runs backwards. When every lane is idle it is
// as far as the furthest of them.
func (t *Tracker) Watermark() int64 {
	low, high := int64(math.MaxInt64), int64(None)
	for _, l := range t.order {
		if l.max == None {
			continue
		}
		high = max(high, l.max)
		if l.idleFor < t.opts.Idle {
			low = min(low, l.max)
		}
	}
	if high == None {
		return t.mark
	}
	if low == math.MaxInt64 {
		low = high
	}
	t.mark = max(t.mark, low-t.opts.Disorder.Milliseconds())
	return t.mark
}

// Idle reports whether no lane is active.
func (t *Tracker) Idle() bool {
	for _, l := range t.order {
		if l.idleFor < t.opts.Idle {
			return false
		}
	}
	return true
}

// State is what a snapshot keeps of a Tracker.
type State struct {
	Mark  int64
	Lanes map[string]int64 // largest event time by name
}

// State returns a copy of the tracker's state.
func (t *Tracker) State() State {
	s := State{Mark: t.mark, Lanes: make(map[string]int64, len(t.lanes))}
	for name, l := range t.lanes {
		s.Lanes[name] = l.max
	}
	return s
}

// Restore puts back what State returned. Every lane starts as active: after a
// restart nobody has read it for a while.
func (t *Tracker) Restore(s State) {
	t.mark = s.Mark
	for name, last := range s.Lanes {
		t.Lane([]byte(name)).max = last
	}
}
