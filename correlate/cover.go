package correlate

import "github.com/tocsin-io/tocsin/rules"

// coverWindows looks at the windows that contain the new entry, for conditions
// that more events can only make truer: windows that held before still do, so
// only these can be new.
func (g *group) coverWindows(w *Windows, at int) {
	r := g.rule
	e := *g.at(at)
	if r.c.Type == rules.EventCount {
		g.coverCount(w, at, &e)
		return
	}
	if g.many != nil {
		more := g.extra()
		if more.index == nil {
			more.index = newWindowIndex(g)
		} else {
			more.index.add(g, &e)
		}
		if first, last, ok := more.index.holding(e.time); ok {
			g.cover(w, g.first(first), g.first(last+r.span+1)-1, &e)
		}
		return
	}
	i, end := g.first(e.time-r.span), g.len()
	if at < end-1 {
		end = g.first(e.time + r.span + 1)
	}
	if end-i < r.least {
		return
	}
	if from, to := g.measureWindows(i, at); from >= 0 {
		// They all contain the new entry, so they are one piece.
		g.cover(w, from, to, &e)
	}
}

// coverCount is coverWindows for event_count. The window that begins with entry i
// has enough events if the one so many behind i is in it.
func (g *group) coverCount(w *Windows, at int, e *entry) {
	n, least, span := g.len(), g.rule.least, g.rule.span
	holds := func(i int) bool {
		k := i + least - 1
		return k < n && g.at(k).time-g.at(i).time <= span
	}
	if n < least || at == n-1 && !holds(n-least) {
		return
	}
	// The new entry is in the windows that begin from low on. Where there are more
	// of these than a window needs, the first of them has enough; of the others
	// there are no more than that.
	low := g.first(e.time - span)
	from := low
	for ; from <= at && !holds(from); from++ {
	}
	if from > at {
		return
	}
	last := at
	for !holds(last) {
		last--
	}
	to := n - 1
	if at < n-1 {
		to = g.first(g.at(last).time+span+1) - 1
	}
	g.cover(w, from, to, e)
}

// measureWindows looks at the windows that begin with the entries from i to at,
// all of which contain entry at, and returns the first and the last entry of
// those that hold; from is negative when none does. A second pointer adds entries
// as the windows move. There are few entries.
func (g *group) measureWindows(i, at int) (from, to int) {
	from = -1
	m := g.rule.scratch
	m.reset()
	n := len(g.few)
	for j := i; i <= at; i++ {
		end := g.few[i].time + g.rule.span
		for j < n && g.few[j].time <= end {
			m.add(&g.few[j])
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
		m.remove(&g.few[i])
	}
	return from, to
}

// cover makes entries [from, to], which satisfied windows contain, part of one
// episode. opener is the entry whose arrival made them so.
func (g *group) cover(w *Windows, from, to int, opener *entry) {
	ep := g.join(w, g.at(from).time, g.at(to).time, opener)
	// Those of episodes near are of this one now.
	grown := false
	for i := g.plainBefore(to, from); i >= 0; i = g.plainBefore(i-1, from) {
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
