package correlate

import (
	"bytes"
	"math"
	"slices"
	"sort"
	"unsafe"

	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// entry is one event of a group, or of one step of it in temporal correlations.
type entry struct {
	id   schemas.EventID
	time int64
	blob uint32 // evidence
	ep   uint16 // number of the episode that it contributes to; 0 for none
	step uint8
	// Only for deferred correlations: begins says that the window that begins
	// here satisfies the condition, covered that one which began with an event
	// that is gone by now did.
	begins  bool
	covered bool
}

const (
	entrySize     = int64(unsafe.Sizeof(entry{}))
	groupOverhead = int64(unsafe.Sizeof(group{})) + 64
)

// group is the live events of one group, in the order of time, and its episodes.
type group struct {
	rule    *windowRule
	key     string
	entries []entry // from head on
	values  []uint64
	head    int
	// tail is the index of the first entry that is within the timespan of the
	// last one, and live the measure from there to the end: all that an event in
	// order needs.
	tail int
	live *measure
	// episodes in the order of their first events.
	episodes []*episode
	serial   uint16 // last episode number given out
	// decided is the watermark up to which deferred windows have been decided.
	decided int64
	// quietUntil: episodes that begin until then are suppressed, by a reported one
	// that is forgotten by now.
	quietUntil int64

	wakeAt     int64
	heapIndex  int
	prev, next *group
}

func (g *group) len() int { return len(g.entries) - g.head }

func (g *group) release(w *Windows, i int) {
	w.blobs.release(g.entries[i].blob)
	if g.rule.c.Type == rules.ValueCount {
		w.blobs.release(uint32(g.values[i]))
	}
}

// compare orders entries by time; ties are by ID and step, so that the order is
// that of the set and not of arrival.
func (e *entry) compare(o *entry) int {
	if e.time != o.time {
		if e.time < o.time {
			return -1
		}
		return 1
	}
	if c := bytes.Compare(e.id[:], o.id[:]); c != 0 {
		return c
	}
	return int(e.step) - int(o.step)
}

// position returns where e belongs, and whether the group has it already. For
// anything but temporal correlations an event is one entry, whatever step it
// came by.
func (g *group) position(e *entry) (at int, known bool) {
	n := len(g.entries)
	if n == g.head || g.entries[n-1].time < e.time {
		return n, false
	}
	live := g.entries[g.head:]
	at = g.head + sort.Search(len(live), func(i int) bool { return live[i].compare(e) >= 0 })
	same := func(i int) bool {
		return i >= g.head && i < n && g.entries[i].time == e.time && g.entries[i].id == e.id
	}
	if g.rule.c.Type == rules.Temporal || g.rule.c.Type == rules.TemporalOrdered {
		return at, same(at) && g.entries[at].step == e.step
	}
	return at, same(at) || same(at-1)
}

func (g *group) insert(at int, e entry, value uint64) {
	g.entries = slices.Insert(g.entries, at, e)
	if g.rule.valued {
		g.values = slices.Insert(g.values, at, value)
	}
	if at < g.tail {
		g.tail++
	}
}

// value returns the value of entry i, 0 where entries have none.
func (g *group) value(i int) uint64 {
	if !g.rule.valued {
		return 0
	}
	return g.values[i]
}

// first returns the index of the first entry at t or later.
func (g *group) first(t int64) int {
	live := g.entries[g.head:]
	return g.head + sort.Search(len(live), func(i int) bool { return live[i].time >= t })
}

// expire drops the entries that no window can need any more. now is the time of
// the event at hand.
func (g *group) expire(w *Windows, now int64) {
	limit := w.mark - g.rule.retain
	if w.mark == math.MinInt64 {
		limit = math.MinInt64
	}
	if w.hooks.evictByArrival {
		limit = now - g.rule.span
	}
	for g.head < len(g.entries) && g.entries[g.head].time < limit {
		g.expireOne(w)
	}
	if g.head > 32 && g.head > len(g.entries)/2 {
		n := copy(g.entries, g.entries[g.head:])
		g.entries = g.entries[:n]
		if g.rule.valued {
			copy(g.values, g.values[g.head:])
			g.values = g.values[:n]
		}
		g.tail -= g.head
		g.head = 0
	}
}

func (g *group) expireOne(w *Windows) {
	e := &g.entries[g.head]
	if g.rule.deferred && e.begins {
		end := e.time + g.rule.span
		for i := g.head + 1; i < len(g.entries) && g.entries[i].time <= end; i++ {
			g.entries[i].covered = true
		}
	}
	if e.ep != 0 {
		if ep := g.episode(e.ep); ep != nil {
			ep.keep(w, g.rule.evidence, e)
		}
	}
	if g.live != nil && g.head >= g.tail {
		g.live.remove(e, g.value(g.head))
	}
	g.release(w, g.head)
	g.head++
	g.tail = max(g.tail, g.head)
	w.stats.Events--
}

// episode returns the episode with this number.
func (g *group) episode(serial uint16) *episode {
	for _, ep := range g.episodes {
		if ep.serial == serial {
			return ep
		}
	}
	return nil
}

// nextWake returns the watermark beyond which there is something to do.
func (g *group) nextWake(w *Windows) int64 {
	at := int64(math.MaxInt64)
	if g.len() > 0 {
		// Not the first entry: a busy group expires its entries as it goes.
		at = g.entries[len(g.entries)-1].time + g.rule.retain
		if g.rule.deferred {
			if i := g.firstUndecided(); i < len(g.entries) {
				at = min(at, g.entries[i].time+g.rule.span)
			}
		}
	}
	for _, ep := range g.episodes {
		at = min(at, ep.nextWake(w, g.rule))
	}
	if g.quietUntil != math.MinInt64 && g.len() == 0 && len(g.episodes) == 0 {
		at = min(at, g.quietForgetAt(w))
	}
	return at
}

// settle does what the watermark has made due.
func (g *group) settle(w *Windows) {
	if g.rule.deferred {
		g.decide(w)
	}
	for _, ep := range g.episodes {
		ep.settle(w, g)
	}
	g.expire(w, w.mark)
	g.forget(w)
}

// dead reports whether nothing of the group can matter any more.
func (g *group) dead() bool {
	return g.len() == 0 && len(g.episodes) == 0 && g.quietUntil == math.MinInt64
}

// groupList is the groups in the order of use.
type groupList struct{ root group }

func (l *groupList) init() { l.root.next, l.root.prev = &l.root, &l.root }

func (l *groupList) add(g *group) {
	g.prev, g.next = l.root.prev, &l.root
	g.prev.next, g.next.prev = g, g
}

func (l *groupList) remove(g *group) {
	g.prev.next, g.next.prev = g.next, g.prev
	g.prev, g.next = nil, nil
}

func (l *groupList) touch(g *group) {
	if l.root.prev != g {
		l.remove(g)
		l.add(g)
	}
}

func (l *groupList) oldest() *group {
	if l.root.next == &l.root {
		return nil
	}
	return l.root.next
}
