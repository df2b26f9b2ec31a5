package correlate

import (
	"cmp"
	"slices"

	"github.com/tocsin-io/tocsin/rules"
)

// GroupState is what the windows hold of one group, for people to read. Times
// are Unix milliseconds.
type GroupState struct {
	Group       []string // the values of group-by
	Events      int
	First, Last int64 // times of the events
	// Closest is the window that satisfies the condition or, if none does, comes
	// closest to it.
	Closest WindowState
	// Episodes are the detections, oldest first.
	Episodes []EpisodeState
}

// WindowState is one window.
type WindowState struct {
	First, Last int64 // times of its first and last event
	End         int64 // the window's: First and the timespan
	Events      int
	// Value is what the condition compares; 0 for temporal correlations.
	Value float64
	// Steps are, for temporal correlations, the events of each rule.
	Steps []int
	// Holds: the condition is true of the window.
	Holds bool
	// Decided is false while a condition that more events could still make false
	// waits for the watermark to pass the end of the window.
	Decided bool
}

// EpisodeState is one episode of a group.
type EpisodeState struct {
	ID          DetectionID
	Count       int64
	First, Last int64
	State       string // open, closed, merged or retracted
	Suppressed  bool
}

var episodeStateNames = [...]string{episodeOpen: "open", episodeClosed: "closed", episodeMerged: "merged", episodeRetracted: "retracted"}

// groupStates describes the groups of a correlation, those with the most events
// first.
func (w *Windows) groupStates(correlation int) []GroupState {
	r := w.rules[correlation]
	if r == nil {
		return nil
	}
	var out []GroupState
	w.groups.each(func(g *group) {
		if g.rule == r {
			out = append(out, g.state(w))
		}
	})
	slices.SortFunc(out, func(a, b GroupState) int {
		return cmp.Or(-cmp.Compare(a.Events, b.Events), slices.Compare(a.Group, b.Group))
	})
	return out
}

func (g *group) state(w *Windows) GroupState {
	s := GroupState{Group: g.values(), Events: g.len()}
	for _, ep := range g.episodes() {
		s.Episodes = append(s.Episodes, EpisodeState{
			ID: ep.id, Count: ep.count, First: ep.first, Last: ep.last,
			State: episodeStateNames[ep.state], Suppressed: ep.suppressed,
		})
	}
	if g.len() == 0 {
		return s
	}
	s.First, s.Last = g.at(0).time, g.at(g.len()-1).time
	chains := g.chainMembers()
	found := false
	g.eachWindow(0, s.Last+1, func(i, j int, holds bool) {
		m := g.rule.scratch
		win := WindowState{
			First: g.at(i).time, Last: g.at(j - 1).time, End: g.at(i).time + g.rule.span,
			Events: m.n, Value: m.value(), Holds: holds,
		}
		win.Decided = !g.rule.deferred || w.mark > win.End
		for _, n := range m.steps {
			win.Steps = append(win.Steps, int(n))
		}
		if g.rule.c.Type == rules.TemporalOrdered {
			// That all steps are there is not enough: they must be in order.
			win.Holds = false
			for k := i; holds && k < j && !win.Holds; k++ {
				win.Holds = chains[g.at(k).ep]
			}
		}
		if !found || g.closer(&win, &s.Closest) {
			s.Closest, found = win, true
		}
	})
	return s
}

// chainMembers tells the episodes that stand, for temporal_ordered: an entry that
// is part of a chain carries one.
func (g *group) chainMembers() map[uint16]bool {
	out := map[uint16]bool{}
	for _, ep := range g.episodes() {
		if ep.active() {
			out[ep.serial] = true
		}
	}
	return out
}

// closer reports whether window a is nearer to what the condition asks for than
// b; later windows are not nearer than equal ones before them.
func (g *group) closer(a, b *WindowState) bool {
	if a.Holds != b.Holds {
		return a.Holds
	}
	count := func(win *WindowState) (n int) {
		for _, s := range win.Steps {
			if s > 0 {
				n++
			}
		}
		return n
	}
	if x, y := count(a), count(b); x != y {
		return x > y
	}
	for _, bound := range g.rule.c.Condition.Bounds {
		if bound.Op == rules.LT || bound.Op == rules.LTE {
			return a.Value < b.Value
		}
	}
	return a.Value > b.Value
}
