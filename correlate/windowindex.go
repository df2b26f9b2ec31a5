package correlate

import (
	"math"

	"github.com/tocsin-io/tocsin/rules"
)

// windowIndex is what a group with many events has for conditions that hold at
// once: the values of all its windows, so that no event makes us look at all
// others of a window again.
//
//   - value_sum: an event adds its number to all windows that contain it.
//   - value_count: it adds one to those that do not contain its value yet. With p
//     the time of the last event before it that has its value, and q that of the
//     first after it, these are the windows that begin behind p and end before q.
//   - temporal: the same, with steps for values. With a boolean condition the
//     value of a window is 1 if it satisfies that, and the event may make it so
//     for these windows only: they are looked at one by one. All events of a step
//     share the windows among them, so each step costs one look at a window, or
//     with events in random order the logarithm of their number.
type windowIndex struct {
	rule    *windowRule
	profile profile
	byValue map[uint64]*timeList // by value or step
	lost    map[uint64]struct{}  // scratch memory
}

// newWindowIndex makes the index of a group as it is.
func newWindowIndex(g *group) *windowIndex {
	x := &windowIndex{rule: g.rule}
	if g.rule.c.Type != rules.ValueSum {
		x.byValue = make(map[uint64]*timeList)
		x.lost = make(map[uint64]struct{})
	}
	for i := range g.len() {
		x.add(g, g.at(i))
	}
	return x
}

// what returns what the values of windows count the different ones of.
func (x *windowIndex) what(e *entry) uint64 {
	if x.rule.c.Type == rules.Temporal {
		return uint64(e.step)
	}
	return e.value
}

// add takes a new entry of the group into account.
func (x *windowIndex) add(g *group, e *entry) {
	t, span := e.time, x.rule.span
	if x.rule.c.Type == rules.ValueSum {
		x.profile.start(t, func(next int64, value float64) float64 {
			for i := g.first(t + span + 1); i < g.len() && g.at(i).time <= next+span; i++ {
				value -= math.Float64frombits(g.at(i).value)
			}
			return value
		})
		x.profile.add(t-span, t, math.Float64frombits(e.value))
		return
	}
	times := x.byValue[x.what(e)]
	if times == nil {
		times = &timeList{}
		x.byValue[x.what(e)] = times
	}
	before, after := times.upTo(t), times.from(t+1)
	boolean := x.rule.c.Expr != nil
	x.profile.start(t, func(next int64, value float64) float64 {
		if boolean {
			return x.satisfied(t)
		}
		return value - x.distinct(g, t, next)
	})
	times.insert(t)
	lo, hi := t-span, t
	if before >= lo {
		lo = before + 1
	}
	if after <= hi+span {
		hi = after - span - 1
	}
	if lo > hi {
		return
	}
	if !boolean {
		x.profile.add(lo, hi, 1)
		return
	}
	x.profile.each(lo, hi, func(begin int64, value float64) float64 {
		if value == 0 {
			value = x.satisfied(begin)
		}
		return value
	})
}

// distinct returns how many values the window that begins at next has that the
// one from t on, before it, has not.
func (x *windowIndex) distinct(g *group, t, next int64) float64 {
	end := t + x.rule.span
	clear(x.lost)
	for i := g.first(end + 1); i < g.len(); i++ {
		e := g.at(i)
		if e.time > next+x.rule.span {
			break
		}
		if v := x.what(e); x.byValue[v].upTo(end) < next {
			x.lost[v] = struct{}{}
		}
	}
	return float64(len(x.lost))
}

// satisfied returns 1 if the boolean condition is true of the window that begins
// at t.
func (x *windowIndex) satisfied(t int64) float64 {
	present := func(step int) bool {
		times := x.byValue[uint64(step)]
		return times != nil && times.from(t) <= t+x.rule.span
	}
	if rules.ExprEval(x.rule.c.Expr, present) {
		return 1
	}
	return 0
}

// holding returns the first and the last of the windows that contain an event at
// t and satisfy the condition, by their beginnings.
func (x *windowIndex) holding(t int64) (first, last int64, ok bool) {
	holds := x.rule.c.Condition.Holds
	if x.rule.c.Type == rules.Temporal {
		least := float64(len(x.rule.c.Steps))
		if x.rule.c.Expr != nil {
			least = 1
		}
		holds = func(v float64) bool { return v >= least }
	}
	return x.profile.holding(t-x.rule.span, t, holds)
}

// expire forgets the earliest entry of the group.
func (x *windowIndex) expire(e *entry) {
	if x.byValue == nil {
		return
	}
	v := x.what(e)
	times := x.byValue[v]
	if times.removeFirst(); times.empty() {
		delete(x.byValue, v)
	}
}
