package correlate

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/tocsin-io/tocsin/schemas"
)

// firstUndecided returns the index of the first entry whose window had not
// ended when windows were last decided.
func (g *group) firstUndecided() int {
	if g.more == nil || g.more.decided == math.MinInt64 {
		return 0
	}
	return g.first(g.more.decided - g.rule.span)
}

// decide looks at the windows that have ended since the last time: those that
// begin with an entry whose end the watermark has passed.
func (g *group) decide(w *Windows) {
	from := g.firstUndecided()
	g.extra().decided = w.mark
	g.eachWindow(from, w.mark-g.rule.span, func(i, j int, holds bool) {
		if holds {
			e := g.at(i)
			e.begins = true
			opener := *e
			g.cover(w, i, j-1, &opener)
		}
	})
}

// eachWindow calls fn for the windows that begin at entry from or later and
// before the time until; i is the first entry of the window and j the one after
// its last. Entries of the same time begin one and the same window.
func (g *group) eachWindow(from int, until int64, fn func(i, j int, holds bool)) {
	m := g.rule.scratch
	m.reset()
	j, n := from, g.len()
	for i := from; i < n; {
		t := g.at(i).time
		if t >= until {
			break
		}
		next := i
		begins := false
		for ; next < n && g.at(next).time == t; next++ {
			begins = begins || g.rule.begins == nil || g.rule.begins[g.at(next).step]
		}
		for ; j < n && g.at(j).time <= t+g.rule.span; j++ {
			m.add(g.at(j))
		}
		fn(i, j, begins && m.holds())
		for ; i < next; i++ {
			m.remove(g.at(i))
		}
	}
}

// decideAround is called for a new entry. If windows that contain it have been
// decided, they are decided again: not at once, because late events come in
// crowds, but before anybody hears of the group or time goes on.
func (g *group) decideAround(w *Windows, at int) {
	if w.mark == math.MinInt64 {
		return
	}
	earliest := g.first(g.at(at).time - g.rule.span)
	if g.at(earliest).time+g.rule.span >= w.mark || g.extra().undecided {
		return
	}
	g.more.undecided = true
	w.undecided = append(w.undecided, g)
}

// redecide decides again what late events have changed.
func (w *Windows) redecide() {
	for i, g := range w.undecided {
		w.undecided[i] = nil
		if g.more != nil && g.more.undecided { // it may have been dropped
			g.more.undecided = false
			g.redecide(w)
			w.schedule(g)
		}
	}
	w.undecided = w.undecided[:0]
}

// run is a run of contributing entries that redecide found.
type run struct {
	from, to  int // indexes of the first and the last entry
	entries   []int
	opener    int
	satisfied int64
	episode   *episode
}

// redecide decides all windows of the group again, after a late event, and
// makes its episodes what they would be had the event come in time.
func (g *group) redecide(w *Windows) {
	r := g.rule
	g.more.decided = w.mark
	for i := range g.len() {
		g.at(i).begins = false
	}
	satisfied := make(map[int]int64) // last event of a satisfied window by its first entry
	g.eachWindow(0, w.mark-r.span, func(i, j int, holds bool) {
		if holds {
			g.at(i).begins = true
			satisfied[i] = g.at(j - 1).time
		}
	})
	runs := g.runs(satisfied)
	g.claim(w, runs)

	claimed := make(map[*episode]*run, len(runs))
	for i := range runs {
		if runs[i].episode != nil {
			claimed[runs[i].episode] = &runs[i]
		}
	}
	g.unclaimed(w, runs, claimed)
	before := make(map[uint16]uint64)
	for i := range g.len() {
		e := g.at(i)
		before[e.ep] ^= e.mark()
		g.assign(i, 0)
	}
	for i := range runs {
		g.apply(w, &runs[i], before)
	}
	g.sortEpisodes()
	g.resuppress(w)
}

// runs returns the runs of contributing entries, in the order of time.
func (g *group) runs(satisfied map[int]int64) []run {
	var runs []run
	coverEnd := int64(math.MinInt64)
	for i := range g.len() {
		e := g.at(i)
		covered := g.covered(e)
		apart := e.time > coverEnd && !covered
		if end, ok := satisfied[i]; ok {
			coverEnd = max(coverEnd, end)
		}
		if !covered && e.time > coverEnd {
			continue
		}
		n := len(runs)
		if n == 0 || apart && e.time-g.at(runs[n-1].to).time > g.rule.slack {
			runs = append(runs, run{from: i, opener: -1})
			n++
		}
		last := &runs[n-1]
		if last.opener < 0 && e.begins {
			last.opener, last.satisfied = i, satisfied[i]
		}
		last.to = i
		last.entries = append(last.entries, i)
	}
	return runs
}

// claim gives each run the earliest episode that it shares an event with and
// that no run before it has.
func (g *group) claim(w *Windows, runs []run) {
	taken := make(map[*episode]bool)
	for i := range runs {
		run := &runs[i]
		for _, ep := range g.episodes() {
			if !ep.active() || taken[ep] {
				continue
			}
			if g.shares(run, ep) {
				run.episode = ep
				taken[ep] = true
				break
			}
		}
	}
}

// shares reports whether run is what ep has become. Where ep has events that are
// gone it is the run that goes on from them; otherwise any that has one of its
// events.
func (g *group) shares(run *run, ep *episode) bool {
	if ep.gone > 0 {
		first := g.at(run.from)
		if g.rule.slack == 0 {
			return g.covered(first) && first.ep == ep.serial
		}
		return first.time-ep.goneLast <= g.rule.slack
	}
	for _, k := range run.entries {
		if g.at(k).ep == ep.serial {
			return true
		}
	}
	return false
}

// unclaimed ends the episodes that no run has: merged where their events now
// belong to another, taken back where they do not contribute any more. What an
// episode has of events long gone stays as it is.
func (g *group) unclaimed(w *Windows, runs []run, claimed map[*episode]*run) {
	for _, ep := range slices.Clone(g.episodes()) {
		if !ep.active() || claimed[ep] != nil {
			continue
		}
		var into *episode
		for i := range runs {
			for _, k := range runs[i].entries {
				if g.at(k).ep == ep.serial {
					into = runs[i].episode
				}
			}
		}
		switch {
		case ep.gone > 0:
			if ep.count != ep.gone || ep.last != ep.goneLast {
				ep.count, ep.last = ep.gone, ep.goneLast
				ep.shrink(w, g)
			}
		case into != nil:
			ep.state, ep.mergedInto = episodeMerged, into.id
			if ep.reported {
				w.report(g, ep, EpisodeMerged)
			}
		default:
			if ep.reported {
				w.report(g, ep, EpisodeRetracted)
			}
			ep.state = episodeRetracted
		}
	}
}

// mark is a number that hardly another entry has; the marks of a set, combined by
// exclusive or, tell whether the set is the same.
func (e *entry) mark() uint64 {
	return binary.LittleEndian.Uint64(e.id[:]) ^ uint64(e.step)<<56
}

// apply makes a run's episode what the run says. before has the marks of the
// entries that episodes had.
func (g *group) apply(w *Windows, run *run, before map[uint16]uint64) {
	first, last := g.at(run.from).time, g.at(run.to).time
	ep := run.episode
	if ep == nil {
		opener := run.from
		if run.opener >= 0 {
			opener = run.opener
		}
		by := *g.at(opener)
		ep = g.open(w, first, last, &by)
		if run.opener >= 0 {
			ep.satisfied = run.satisfied
		}
	}
	count, marks := ep.gone, uint64(0)
	var id schemas.EventID
	for n, k := range run.entries {
		e := g.at(k)
		marks ^= e.mark()
		if n == 0 || e.id != id {
			count++
		}
		id = e.id
		g.assign(k, ep.serial)
	}
	if ep.gone > 0 {
		first = min(first, ep.first)
	}
	if ep.count == count && ep.first == first && ep.last == last && marks == before[ep.serial] {
		return
	}
	shrunk := first > ep.first || last < ep.last
	ep.count, ep.first, ep.last = count, first, last
	if shrunk {
		ep.shrink(w, g)
		return
	}
	ep.touchQuietly(w, g)
}

// shrink reports an episode that lost events. What was reported is wrong now,
// which is not a matter for the next update.
func (ep *episode) shrink(w *Windows, g *group) {
	ep.touchQuietly(w, g)
	if ep.state == episodeOpen {
		w.report(g, ep, EpisodeUpdated)
	}
}

// touchQuietly is touch without the look at suppression, which redecide does
// once for all.
func (ep *episode) touchQuietly(w *Windows, g *group) {
	ep.changed = true
	if ep.state != episodeClosed {
		return
	}
	if w.mark > ep.last+g.rule.span {
		w.report(g, ep, EpisodeClosed)
		return
	}
	ep.state = episodeOpen
	w.report(g, ep, EpisodeUpdated)
}
