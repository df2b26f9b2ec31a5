package correlate

import (
	"bytes"
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// oracleEvent is one event of a group, with all the steps that it matched.
type oracleEvent struct {
	id      schemas.EventID
	time    int64
	steps   uint64 // bit set
	value   string
	number  float64
	counted bool // in some satisfied window
}

// oracleDetection is what a detection must end as.
type oracleDetection struct {
	Group       string
	First, Last int64
	Events      []schemas.EventID // contributing, by time and then ID
}

// interval is a satisfied window, or the chains that begin with one event.
type interval struct{ from, to int64 }

// oracle evaluates a correlation by brute force over a whole set of matches,
// in any order and with repetitions. Windows that end at decided or later are
// not looked at.
func oracle(c *rules.Correlation, matches []Match, decided int64) []oracleDetection {
	groups, out := make(map[string]map[schemas.EventID]*oracleEvent), []oracleDetection(nil)
	for _, m := range matches {
		if !takesPart(c, &m) {
			continue
		}
		if groups[string(m.Group)] == nil {
			groups[string(m.Group)] = make(map[schemas.EventID]*oracleEvent)
		}
		g := groups[string(m.Group)]
		if g[m.ID] == nil {
			g[m.ID] = &oracleEvent{id: m.ID, time: m.Time, value: string(m.Value), number: m.Number}
		}
		g[m.ID].steps |= 1 << m.Step
	}
	for name, g := range groups {
		events := slices.SortedFunc(maps.Values(g), func(a, b *oracleEvent) int {
			return cmp.Or(cmp.Compare(a.time, b.time), bytes.Compare(a.id[:], b.id[:]))
		})
		for _, d := range oracleGroup(c, events, decided) {
			d.Group = name
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b oracleDetection) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	return out
}

// takesPart says whether a match counts at all: it has what the type looks at.
func takesPart(c *rules.Correlation, m *Match) bool {
	switch {
	case c.Type == rules.ValueCount:
		return m.Value != nil
	case c.Type > rules.ValueCount && c.Type < rules.Temporal:
		return m.HasNumber && (c.Type != rules.ValueSum || m.Number >= 0)
	}
	return true
}

func oracleGroup(c *rules.Correlation, events []*oracleEvent, decided int64) (out []oracleDetection) {
	span := c.Timespan.Milliseconds()
	var satisfied []interval
	for _, e := range events {
		if e.time+span >= decided || !beginsWindow(c, e) {
			continue
		}
		var w []*oracleEvent
		for _, o := range events {
			if o.time >= e.time && o.time-e.time <= span {
				w = append(w, o)
			}
		}
		if c.Type == rules.TemporalOrdered {
			if last, ok := chains(w, slices.Index(w, e), 0, len(c.Steps), 0); ok {
				satisfied = append(satisfied, interval{e.time, last})
			}
		} else if windowHolds(c, w) {
			satisfied = append(satisfied, interval{e.time, e.time + span})
		}
	}
	// The runs of events that are reported apart, whatever the gaps in them.
	runs, gap := []interval{{math.MinInt64, math.MaxInt64}}, span
	if c.Realert == rules.RealertEach {
		runs, gap = nil, math.MaxInt64
		for _, w := range satisfied {
			if n := len(runs); n > 0 && w.from <= runs[n-1].to {
				runs[n-1].to = max(runs[n-1].to, w.to)
			} else {
				runs = append(runs, w)
			}
		}
	}
	for _, run := range runs {
		var d *oracleDetection
		for _, e := range events {
			if !e.counted || e.time < run.from || e.time > run.to {
				continue
			}
			if d == nil || e.time-d.Last > gap {
				out = append(out, oracleDetection{First: e.time})
				d = &out[len(out)-1]
			}
			d.Last, d.Events = e.time, append(d.Events, e.id)
		}
	}
	var reported []oracleDetection
	for _, d := range out {
		if n := len(reported); c.Suppress == 0 || n == 0 || d.First-reported[n-1].Last > span+c.Suppress.Milliseconds() {
			reported = append(reported, d)
		}
	}
	return reported
}

// beginsWindow: with not, only an event of a rule that appears outside of not.
func beginsWindow(c *rules.Correlation, e *oracleEvent) bool {
	return c.Type != rules.Temporal || !hasNot(c.Expr) || e.steps&positiveSteps(c.Expr) != 0
}

func hasNot(x *rules.TemporalExpr) bool {
	return x != nil && (x.Op == rules.ExprNot || slices.ContainsFunc(x.Args, hasNot))
}

func positiveSteps(x *rules.TemporalExpr) (steps uint64) {
	if x.Op == rules.ExprStep {
		return 1 << x.Step
	}
	for _, a := range x.Args {
		if x.Op != rules.ExprNot {
			steps |= positiveSteps(a)
		}
	}
	return steps
}

// windowHolds evaluates the condition and marks the contributing events.
func windowHolds(c *rules.Correlation, w []*oracleEvent) (holds bool) {
	sum, n, numbers := 0.0, float64(len(w)), []float64(nil)
	values, seen := make(map[string]bool), uint64(0)
	for _, e := range w {
		values[e.value] = true
		seen |= e.steps
		numbers = append(numbers, e.number)
		sum += e.number
	}
	slices.Sort(numbers)
	rank := func(p float64) float64 { return numbers[max(int(math.Ceil(p*n/100)), 1)-1] }
	if c.Type == rules.Temporal {
		holds = seen == 1<<len(c.Steps)-1
		if c.Expr != nil {
			holds = rules.ExprEval(c.Expr, func(step int) bool { return seen&(1<<step) != 0 })
		}
	} else {
		holds = c.Condition.Holds(map[rules.CorrelationType]float64{
			rules.EventCount: n, rules.ValueCount: float64(len(values)), rules.ValueSum: sum, rules.ValueAvg: sum / n,
			rules.ValueMedian: rank(50), rules.ValuePercentile: rank(c.Condition.Percentile),
		}[c.Type])
	}
	for _, e := range w {
		e.counted = e.counted || holds
	}
	return holds
}

// chains tries w[i] for the step, and every way on from it. It marks the events
// of complete chains and returns the latest time that one ends at.
func chains(w []*oracleEvent, i, step, steps int, used uint64) (last int64, ok bool) {
	e := w[i]
	if e.steps&(1<<step) == 0 || used&(1<<i) != 0 {
		return 0, false
	}
	last, ok = e.time, step == steps-1
	for j := range w {
		if step < steps-1 && w[j].time >= e.time {
			if end, found := chains(w, j, step+1, steps, used|1<<i); found {
				last, ok = max(last, end), true
			}
		}
	}
	e.counted = e.counted || ok
	return last, ok
}
