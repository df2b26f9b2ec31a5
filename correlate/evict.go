package correlate

import (
	"cmp"
	"slices"
)

// idleGroups are groups in the order of their last use at some moment. They are
// put in order only when a bound is reached, so that events need not: one that was
// used since then is not idle, and one that came since is not among them.
type idleGroups struct {
	groups []idleGroup
	next   int
}

type idleGroup struct {
	used  uint64
	index uint32
}

// bound gives up the groups idle longest while there is too much.
func (w *Windows) bound() {
	for w.stats.Groups > w.opts.MaxGroups || w.stats.Events > w.opts.MaxEvents {
		g := w.idlest()
		if g == nil {
			return
		}
		w.stats.EvictedGroups++
		for _, ep := range g.episodes() {
			if ep.state == episodeOpen {
				ep.state = episodeClosed
				w.report(g, ep, EpisodeClosed)
			}
		}
		w.drop(g)
	}
}

// idlest returns the group whose last use is longest ago.
func (w *Windows) idlest() *group {
	for {
		for w.idle.next < len(w.idle.groups) {
			was := w.idle.groups[w.idle.next]
			w.idle.next++
			if g := w.groups.at(was.index); g != nil && g.rule != nil && g.used == was.used {
				return g
			}
		}
		w.idle = idleGroups{groups: w.idle.groups[:0]}
		if w.stats.Groups == 0 {
			w.idle.groups = nil
			return nil
		}
		// Every group that was passed over has been used or dropped since, so this
		// happens at most once for as many events as there are groups.
		w.groups.each(func(g *group) { w.idle.groups = append(w.idle.groups, idleGroup{g.used, g.index}) })
		slices.SortFunc(w.idle.groups, func(a, b idleGroup) int { return cmp.Compare(a.used, b.used) })
	}
}
