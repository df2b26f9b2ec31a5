package rules

import "slices"

// plan is what a matcher has for a view: the rules to look at when a text was
// found. A rule often has several texts without which it cannot match; which of
// them is the rarest is learned from the events, so that most rules are not
// looked at for most events. Only the cost depends on it, never the result.
type plan struct {
	view   *view
	hits   []planHit // by hitID
	rules  []int32   // of the hits, one after the other
	events uint32    // since the triggers were chosen
	period uint32    // events until they are chosen again
}

// planHit is a predicate that texts prove, and the rules that it makes
// candidates.
type planHit struct {
	pred     predID
	count    uint32 // events for which it held, older ones count less
	from, to int32  // in plan.rules
}

// Triggers are chosen anew after 256 events and then less and less often: it
// takes milliseconds where there are thousands of rules.
const (
	firstPeriod = 1 << 8
	lastPeriod  = 1 << 18
)

// newPlan returns a plan with the triggers that look best before any event.
func (p *program) newPlan(v *view) *plan {
	pl := &plan{view: v, hits: make([]planHit, len(v.hits)), period: firstPeriod}
	for i, pred := range v.hits {
		pl.hits[i].pred = pred
	}
	pl.assign(p, func(rule int32) []predID { return p.triggers[rule] })
	return pl
}

// learn chooses triggers by how often they held.
func (pl *plan) learn(p *program) {
	costs := slices.Clone(p.costs)
	for i := range pl.hits {
		h := &pl.hits[i]
		// Of those that hold equally rarely, the ones that look rarer.
		costs[h.pred] = float64(h.count) + costs[h.pred]/1024
		h.count /= 2
	}
	pl.assign(p, func(rule int32) []predID {
		if t := required(p.exprs[rule], costs, map[*node]*triggerSet{}); t != nil {
			return t.preds
		}
		return p.triggers[rule]
	})
	pl.events, pl.period = 0, min(4*pl.period, lastPeriod)
}

func (pl *plan) assign(p *program, triggers func(rule int32) []predID) {
	rules := make([][]int32, len(pl.hits))
	n := 0
	for _, rule := range pl.view.triggered {
		for _, t := range triggers(rule) {
			hit := pl.view.hitOf[t]
			rules[hit] = append(rules[hit], rule)
			n++
		}
	}
	pl.rules = make([]int32, 0, n)
	for i := range rules {
		pl.hits[i].from = int32(len(pl.rules))
		pl.rules = append(pl.rules, rules[i]...)
		pl.hits[i].to = int32(len(pl.rules))
	}
}
