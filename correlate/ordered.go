package correlate

import (
	"math"
	"math/bits"
	"slices"
)

// chainFinder finds the entries that are part of a chain e1 <= e2 <= ... <= ek
// of temporal_ordered. Its memory is reused.
//
// Going forward, start[e] is the latest time at which a chain that ends with e
// can begin; going backward, end[e] is the earliest time at which one that
// begins with e can end. Both take one pass. e is part of a chain within the
// timespan exactly if end[e] - start[e] is no more than that.
type chainFinder struct {
	start, end []int64 // by entry, from the first of the region
	best       []int64 // by step: the latest start of a chain that ends with it
	tie        []int   // entries of one time, by step
	// For times at which one event stands for several steps: best before that
	// time, so that the steps can be dealt out among the events.
	shared map[int64][]int64
	marked []int
	// The entries that chains through a new one are looked for among, and where
	// they are in the group.
	through []entry
	index   []int
}

const (
	noStart = int64(math.MinInt64)
	noEnd   = int64(math.MaxInt64)
)

// coverChains looks for chains through the new entry, and reports whether there
// is one.
func (g *group) coverChains(w *Windows, at int) bool {
	steps, n := len(g.rule.c.Steps), g.len()
	if n < steps {
		return false
	}
	// What comes behind all others can only end a chain.
	if at == n-1 && at > 0 && int(g.at(at).step) < steps-1 && g.at(at-1).time < g.newest {
		return false
	}
	if g.many == nil {
		if _, _, seen := g.around(at); bits.OnesCount64(seen) < min(steps, 64) {
			return false
		}
	}
	// A chain has one entry of each step. With all other entries of its step left
	// out, what remains is chains through the new entry.
	f := &g.rule.chains
	e := *g.at(at)
	f.through, f.index = f.through[:0], f.index[:0]
	seen := uint64(0)
	for i := g.first(e.time - g.rule.span); i < n; i++ {
		o := g.at(i)
		if o.time > e.time+g.rule.span {
			break
		}
		if i == at || o.step != e.step {
			f.through = append(f.through, *o)
			f.index = append(f.index, i)
			seen |= 1 << min(o.step, 63)
		}
	}
	// Of its own step there is only the new one.
	if bits.OnesCount64(seen) < min(steps, 64) {
		return false
	}
	marked := f.find(f.through, steps, g.rule.span)
	if len(marked) == 0 {
		return false
	}
	from, to := g.at(f.index[marked[0]]).time, g.at(f.index[marked[len(marked)-1]]).time
	ep := g.join(w, from, to, &e)
	for _, i := range marked {
		if i := f.index[i]; g.at(i).ep == 0 {
			ep.count += g.counts(i)
			g.assign(i, ep.serial)
		}
	}
	ep.grow(w, g, from, to)
	return true
}

// find returns the indexes of the entries that are part of a chain, ascending.
// entries are in the order of time.
func (f *chainFinder) find(entries []entry, steps int, span int64) []int {
	f.start, f.end = f.start[:0], f.end[:0]
	for range entries {
		f.start = append(f.start, noStart)
		f.end = append(f.end, noEnd)
	}
	f.best = slices.Grow(f.best[:0], steps)[:steps]
	f.marked = f.marked[:0]
	clear(f.shared)

	for s := range f.best {
		f.best[s] = noStart
	}
	eachTime(entries, false, func(i, j int) { f.forward(entries, i, j) })
	for s := range f.best {
		f.best[s] = noEnd
	}
	eachTime(entries, true, func(i, j int) { f.backward(entries, i, j, span) })
	slices.Sort(f.marked)
	return f.marked
}

// eachTime calls fn with the bounds of every run of entries of the same time.
func eachTime(entries []entry, backward bool, fn func(i, j int)) {
	if !backward {
		for i := 0; i < len(entries); {
			j := i + 1
			for j < len(entries) && entries[j].time == entries[i].time {
				j++
			}
			fn(i, j)
			i = j
		}
		return
	}
	for j := len(entries); j > 0; {
		i := j - 1
		for i > 0 && entries[i-1].time == entries[j-1].time {
			i--
		}
		fn(i, j)
		j = i
	}
}

// byStep returns the entries [i, j) in the order of their steps, and whether
// one event is among them with several steps.
func (f *chainFinder) byStep(entries []entry, i, j int) (tie []int, shared bool) {
	f.tie = f.tie[:0]
	for k := i; k < j; k++ {
		f.tie = append(f.tie, k)
		// The entries of one event are next to each other.
		shared = shared || k > i && entries[k].id == entries[k-1].id
	}
	slices.SortStableFunc(f.tie, func(a, b int) int { return int(entries[a].step) - int(entries[b].step) })
	return f.tie, shared
}

func (f *chainFinder) forward(entries []entry, i, j int) {
	tie, shared := f.byStep(entries, i, j)
	t := entries[i].time
	if !shared {
		for _, k := range tie {
			s := int(entries[k].step)
			start := t
			if s > 0 {
				start = f.best[s-1]
			}
			f.start[k] = start
			f.best[s] = max(f.best[s], start)
		}
		return
	}
	before := slices.Clone(f.best)
	if f.shared == nil {
		f.shared = make(map[int64][]int64)
	}
	f.shared[t] = before
	for _, k := range tie {
		s := int(entries[k].step)
		for from := 0; from <= s; from++ {
			start := t
			if from > 0 {
				start = before[from-1]
			}
			if start > f.best[s] && dealable(entries, tie, from, s, k) {
				f.best[s] = start
			}
		}
	}
}

func (f *chainFinder) backward(entries []entry, i, j int, span int64) {
	tie, shared := f.byStep(entries, i, j)
	t := entries[i].time
	last := len(f.best) - 1
	if !shared {
		for n := len(tie) - 1; n >= 0; n-- {
			k := tie[n]
			s := int(entries[k].step)
			end := t
			if s < last {
				end = f.best[s+1]
			}
			f.best[s] = min(f.best[s], end)
			if f.start[k] != noStart && end != noEnd && end-f.start[k] <= span {
				f.marked = append(f.marked, k)
			}
		}
		return
	}
	before, after := f.shared[t], slices.Clone(f.best)
	for _, k := range tie {
		s := int(entries[k].step)
		found := false
		for from := 0; from <= s; from++ {
			start := t
			if from > 0 {
				start = before[from-1]
			}
			for to := s; to <= last; to++ {
				end := t
				if to < last {
					end = after[to+1]
				}
				if end == noEnd {
					continue
				}
				// from == s: a chain's rest may begin here. Otherwise only whether k is
				// part of a chain is of interest.
				begins := from == s && end < f.best[s]
				part := !found && start != noStart && end-start <= span
				if !begins && !part || !dealable(entries, tie, from, to, k) {
					continue
				}
				if begins {
					f.best[s] = end
				}
				found = found || part
			}
		}
		if found {
			f.marked = append(f.marked, k)
		}
	}
}

// dealable reports whether the steps from..to can be dealt out among the events
// of tie, one each, with entry k taking its own step: a matching of steps to
// events, found by augmenting paths.
func dealable(entries []entry, tie []int, from, to, k int) bool {
	owner := make(map[int]int) // event (by the index of its first entry) -> step
	event := func(i int) int {
		for i > 0 && entries[i-1].id == entries[i].id && entries[i-1].time == entries[i].time {
			i--
		}
		return i
	}
	pinned := int(entries[k].step)
	var seen map[int]bool
	var place func(step int) bool
	place = func(step int) bool {
		for _, i := range tie {
			if int(entries[i].step) != step || step == pinned && i != k || step != pinned && event(i) == event(k) {
				continue
			}
			e := event(i)
			if seen[e] {
				continue
			}
			seen[e] = true
			if held, taken := owner[e]; !taken || place(held) {
				owner[e] = step
				return true
			}
		}
		return false
	}
	for step := from; step <= to; step++ {
		seen = make(map[int]bool)
		if !place(step) {
			return false
		}
	}
	return true
}
