package correlate

import "github.com/tocsin-io/tocsin/rules"

// coverWindows looks at the windows that contain the new entry, for conditions
// that more events can only make truer: windows that held before still do, so
// only these can be new.
func (g *group) coverWindows(w *Windows, at int) {
	if at == len(g.entries)-1 {
		g.coverTail(w, at)
		return
	}
	r := g.rule
	t := g.entries[at].time
	if g.live != nil && at >= g.tail {
		g.live.add(&g.entries[at], g.value(at))
	}
	i, end := g.first(t-r.span), g.first(t+r.span+1)
	if end-i < r.least {
		return
	}
	var from, to int
	if r.c.Type == rules.EventCount {
		from, to = g.countWindows(i, at)
	} else {
		from, to = g.measureWindows(i, at)
	}
	if from >= 0 {
		// They all contain the new entry, so they are one piece.
		g.cover(w, from, to, g.entries[at])
	}
}

// countWindows looks at the windows that begin with the entries from i to at,
// all of which contain entry at, and returns the first and the last entry of
// those that hold; from is negative when none does.
func (g *group) countWindows(i, at int) (from, to int) {
	from = -1
	for j := at; i <= at; i++ {
		end := g.entries[i].time + g.rule.span
		for j < len(g.entries) && g.entries[j].time <= end {
			j++
		}
		if g.rule.c.Condition.Holds(float64(j - i)) {
			if from < 0 {
				from = i
			}
			to = j - 1
		}
	}
	return from, to
}

// measureWindows is countWindows for conditions that depend on which events are
// in a window. A second pointer adds entries as the windows move.
func (g *group) measureWindows(i, at int) (from, to int) {
	from = -1
	m := g.rule.scratch
	m.reset()
	for j := i; i <= at; i++ {
		end := g.entries[i].time + g.rule.span
		for j < len(g.entries) && g.entries[j].time <= end {
			m.add(&g.entries[j], g.value(j))
			j++
		}
		if m.holds(g, i, j) {
			if from < 0 {
				from = i
			}
			to = j - 1
		}
		m.remove(&g.entries[i], g.value(i))
	}
	return from, to
}

// coverTail is coverWindows for an entry that is the last one: of the windows
// that contain it, the longest begins a timespan before it.
func (g *group) coverTail(w *Windows, at int) {
	r := g.rule
	if r.c.Type == rules.EventCount {
		for g.entries[g.tail].time < g.entries[at].time-r.span {
			g.tail++
		}
		if r.c.Condition.Holds(float64(at - g.tail + 1)) {
			g.cover(w, g.tail, at, g.entries[at])
		}
		return
	}
	if g.live == nil {
		g.live = r.newMeasure()
		g.tail = at
	}
	g.live.add(&g.entries[at], g.value(at))
	for g.entries[g.tail].time < g.entries[at].time-r.span {
		g.live.remove(&g.entries[g.tail], g.value(g.tail))
		g.tail++
	}
	if !g.live.holds(g, g.tail, at+1) {
		return
	}
	g.cover(w, g.tail, at, g.entries[at])
}

// cover makes entries [from, to], which satisfied windows contain, part of one
// episode. opener is the entry whose arrival made them so.
func (g *group) cover(w *Windows, from, to int, opener entry) {
	ep := g.join(w, g.entries[from].time, g.entries[to].time, opener)
	grown := false
	for i := to; i >= from; i-- {
		e := &g.entries[i]
		if e.ep == ep.serial {
			if i < to && g.inOrder(opener, to) {
				break // all before it were covered with the last event
			}
			continue
		}
		if e.ep == 0 {
			ep.count += g.counts(i)
			grown = true
		}
		e.ep = ep.serial
	}
	if grown {
		ep.grow(w, g, g.entries[from].time, g.entries[to].time)
	}
}

// inOrder reports whether the entry at index to is the opener: then everything
// below the first covered entry was covered before.
func (g *group) inOrder(opener entry, to int) bool {
	return to == len(g.entries)-1 && g.entries[to].id == opener.id && g.entries[to].time == opener.time
}

// counts returns 1 if entry i is the first of its event, 0 if another step of
// the same event is counted already.
func (g *group) counts(i int) int64 {
	same := func(k int) bool { return g.entries[k].time == g.entries[i].time && g.entries[k].id == g.entries[i].id }
	for k := i - 1; k >= g.head && same(k); k-- {
		if g.entries[k].ep != 0 {
			return 0
		}
	}
	for k := i + 1; k < len(g.entries) && same(k); k++ {
		if g.entries[k].ep != 0 {
			return 0
		}
	}
	return 1
}
