package correlate

import (
	"math/bits"

	"github.com/tocsin-io/tocsin/rules"
)

// coverWindows looks at the windows that contain the new entry, for conditions
// that more events can only make truer: windows that held before still do, so
// only these can be new. It reports whether one holds.
func (g *group) coverWindows(w *Windows, at int) bool {
	r := g.rule
	e := *g.at(at)
	if r.c.Type == rules.EventCount {
		return g.coverCount(w, at, &e)
	}
	if g.many != nil {
		more := g.extra()
		if more.index == nil {
			more.index = newWindowIndex(g)
		} else {
			more.index.add(g, &e)
		}
		first, last, ok := more.index.holding(e.time)
		if ok {
			g.cover(w, g.first(first), g.first(last+r.span+1)-1, &e)
		}
		return ok
	}
	i, end, steps := g.around(at)
	if end-i < r.least || r.c.Type == rules.Temporal && r.c.Expr == nil && bits.OnesCount64(steps) < min(r.least, 64) {
		return false
	}
	from, to := g.measureWindows(i, at)
	if from >= 0 {
		// They all contain the new entry, so they are one piece.
		g.cover(w, from, to, &e)
	}
	return from >= 0
}

// around returns the first of the entries that can be in a window with entry at
// and the one behind the last of them, and the steps that they have, of which
// those above the 64th are one. There are few entries.
func (g *group) around(at int) (i, j int, steps uint64) {
	live := g.few[g.skip:]
	t, span := live[at].time, g.rule.span
	for i = at; i > 0 && live[i-1].time >= t-span; i-- {
		steps |= 1 << min(live[i-1].step, 63)
	}
	for j = at; j < len(live) && live[j].time <= t+span; j++ {
		steps |= 1 << min(live[j].step, 63)
	}
	return i, j, steps
}

// coverCount is coverWindows for event_count. The window that begins with entry i
// has enough events if the one so many behind i is in it.
func (g *group) coverCount(w *Windows, at int, e *entry) bool {
	n, least, span := g.len(), g.rule.least, g.rule.span
	holds := func(i int) bool {
		k := i + least - 1
		return k < n && g.at(k).time-g.at(i).time <= span
	}
	if n < least || at == n-1 && !holds(n-least) {
		return false
	}
	// The new entry is in the windows that begin from low on. Where there are more
	// of these than a window needs, the first of them has enough; of the others
	// there are no more than that.
	low := g.first(e.time - span)
	from := low
	for ; from <= at && !holds(from); from++ {
	}
	if from > at {
		return false
	}
	if at == n-1 {
		plain := from
		if at-from >= least {
			plain = at // the window was full without the new entry, and is covered
		}
		g.coverFrom(w, from, plain, at, e)
		return true
	}
	last := at
	for !holds(last) {
		last--
	}
	g.cover(w, from, g.first(g.at(last).time+span+1)-1, e)
	return true
}

// measureWindows looks at the windows that begin with the entries from i to at,
// all of which contain entry at, and returns the first and the last entry of
// those that hold; from is negative when none does. A second pointer adds entries
// as the windows move. There are few entries.
func (g *group) measureWindows(i, at int) (from, to int) {
	from = -1
	m := g.rule.scratch
	m.reset()
	live := g.few[g.skip:]
	n := len(live)
	for j := i; i <= at; i++ {
		end := live[i].time + g.rule.span
		for j < n && live[j].time <= end {
			m.add(&live[j])
			j++
		}
		if m.holds() {
			if from < 0 {
				from = i
			}
			to = j - 1
		}
		if at == n-1 {
			break // of the windows that contain the last entry the first is the longest
		}
		m.remove(&live[i])
	}
	return from, to
}

// cover makes entries [from, to], which satisfied windows contain, part of one
// episode. opener is the entry whose arrival made them so.
func (g *group) cover(w *Windows, from, to int, opener *entry) {
	g.coverFrom(w, from, from, to, opener)
}

// coverFrom is cover where the entries before plain are known to be covered.
func (g *group) coverFrom(w *Windows, from, plain, to int, opener *entry) {
	ep := g.join(w, g.at(from).time, g.at(to).time, opener)
	// Those of episodes near are of this one now.
	grown := false
	for i := g.plainBefore(to, plain); i >= 0; i = g.plainBefore(i-1, plain) {
		ep.count += g.counts(i)
		g.assign(i, ep.serial)
		grown = true
	}
	if grown {
		ep.grow(w, g, g.at(from).time, g.at(to).time)
	}
}

// counts returns 1 if entry i is the first of its event, 0 if another step of
// the same event is counted already.
func (g *group) counts(i int) int64 {
	e := g.at(i)
	t, id := e.time, e.id
	same := func(k int) bool { return g.at(k).time == t && g.at(k).id == id }
	for k := i - 1; k >= 0 && same(k); k-- {
		if g.at(k).ep != 0 {
			return 0
		}
	}
	for k := i + 1; k < g.len() && same(k); k++ {
		if g.at(k).ep != 0 {
			return 0
		}
	}
	return 1
}
