package rules

import "slices"

// plan is what a matcher has for a view: which texts it looks for in every
// event, and which rules it looks at when one was found.
//
// A rule often has several texts without which it cannot match. In a sample of
// the events all texts are looked for, and the rarest become the rules' triggers.
// Until the next sample only triggers (and tests with very many texts) are looked
// for; the other tests wait until a rule asks. So what is in most events, such as
// c:\windows\ in paths, costs nothing, and most rules nothing for most events.
// Only the cost depends on what was learned, never the result.
type plan struct {
	view  *view
	index *textIndex
	lazy  []bool    // by predID: the index does not have its texts; nil if it has all
	hits  []planHit // by hitID
	rules []int32   // of the hits, one after the other

	// learned and learnedLazy are index and lazy outside of samples.
	learned     *textIndex
	learnedLazy []bool
	sampling    bool
	left        uint32 // events until the sample, or what is between two, ends
	between     uint32 // events until the next sample
}

// planHit is a predicate that texts prove, and the rules that it makes
// candidates.
type planHit struct {
	pred     predID
	count    uint32 // events for which it held, in the last sample
	from, to int32  // in plan.rules
}

// Samples follow each other more and more seldom: choosing triggers takes
// milliseconds where there are thousands of rules.
const (
	sampleEvents = 1 << 9
	firstBetween = 1 << 14
	lastBetween  = 1 << 18
)

// newPlan returns a plan with the triggers that look best before any event.
func (p *program) newPlan(v *view) *plan {
	pl := &plan{
		view: v, index: v.index, hits: make([]planHit, len(v.hits)),
		sampling: true, left: sampleEvents, between: firstBetween,
	}
	for i, pred := range v.hits {
		pl.hits[i].pred = pred
	}
	pl.assign(p, func(rule int32) []predID { return p.triggers[rule] })
	return pl
}

// turn begins or ends a sample.
func (pl *plan) turn(p *program) {
	if pl.sampling = !pl.sampling; pl.sampling {
		pl.index, pl.lazy, pl.left = pl.view.index, nil, sampleEvents
		for i := range pl.hits {
			pl.hits[i].count = 0
		}
		return
	}
	pl.learn(p)
	pl.index, pl.lazy, pl.left = pl.learned, pl.learnedLazy, pl.between
	pl.between = min(4*pl.between, lastBetween)
}

// learn chooses triggers by how often they held in the sample.
func (pl *plan) learn(p *program) {
	costs := slices.Clone(p.costs)
	now := 0
	for i := range pl.hits {
		h := &pl.hits[i]
		// Of those that hold equally rarely, the ones that look rarer.
		costs[h.pred] = float64(h.count) + costs[h.pred]/1024
		now += int(h.count) * int(h.to-h.from)
	}
	triggers := make(map[int32][]predID, len(pl.view.triggered))
	best := 0.0
	for _, rule := range pl.view.triggered {
		if t := required(p.exprs[rule], costs, map[*node]*triggerSet{}); t != nil {
			triggers[rule] = t.preds
		} else {
			triggers[rule] = p.triggers[rule]
		}
		for _, t := range triggers[rule] {
			best += costs[t]
		}
	}
	// An index takes longer to build than slightly better triggers save.
	if pl.learned != nil && float64(now) < 1.5*best+sampleEvents/8 {
		return
	}
	pl.assign(p, func(rule int32) []predID { return triggers[rule] })
	if len(pl.hits) < minLazyHits {
		pl.learned = pl.view.index
		return
	}
	needed := make([]bool, len(p.preds))
	for i := range pl.hits {
		h := &pl.hits[i]
		needed[h.pred] = h.from < h.to || lazyCost(p.preds[h.pred]) > maxLazyCost
	}
	for _, rule := range pl.view.always {
		for pred := range p.predicatesOf(int(rule)) {
			needed[pred.id] = true
		}
	}
	pl.learnedLazy = make([]bool, len(p.preds))
	for _, pred := range pl.view.hits {
		pl.learnedLazy[pred] = !needed[pred]
	}
	pl.learned = newTextIndex(p, pl.view, func(pred predID) bool { return needed[pred] })
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

// minLazyHits: with fewer tests to look for, none waits.
const minLazyHits = 256

// maxLazyCost bounds the tests that wait until a rule asks. The texts of others
// are better looked for together with all.
const maxLazyCost = 64

func lazyCost(p *predicate) int {
	cost := len(p.literals)
	for _, l := range p.literals {
		if l.op == litContains {
			cost += 3
		}
	}
	return cost
}

// maxLazyBytes bounds the bytes that the tests of one event which waited look at.
// An event that was made to need more of them has all its texts looked for, whose
// cost hardly depends on the number of texts.
const maxLazyBytes = 1 << 16

// askLazy evaluates a predicate whose texts the index does not have.
func (m *Matcher) askLazy(p *predicate) bool {
	if m.complete {
		return false // it would have been found
	}
	s := &m.slots[m.view.slotOf[p.fieldID]]
	if s.epoch != m.epoch {
		return false
	}
	for i := s.first; i >= 0; i = m.values[i].next {
		v := &m.values[i]
		if !v.kind.isText() {
			continue
		}
		text := m.fold(v)
		if m.lazyBytes += len(text) * len(p.literals); m.lazyBytes > maxLazyBytes {
			m.complete = true
			m.scanFields(m.view.index)
			return m.states[p.id] == m.epoch|holds
		}
		for j := range p.literals {
			if l := &p.literals[j]; l.matchesFolded(text) || l.number && v.kind == valNumber && oddNumber(text) && m.equalsNumber(l, text) {
				return true
			}
		}
	}
	return false
}

// matchesFolded tests a folded literal on text that is ASCII or folded.
func (l *literal) matchesFolded(text []byte) bool {
	n := len(l.text)
	if len(text) < n {
		return false
	}
	switch l.op {
	case litEqual:
		return equalFold(text, l.text)
	case litPrefix:
		return equalFold(text[:n], l.text)
	case litSuffix:
		return equalFold(text[len(text)-n:], l.text)
	}
	if n == 0 {
		return true
	}
	for i, first := 0, l.text[0]; i+n <= len(text); i++ {
		if lower[text[i]] == first && equalFold(text[i:i+n], l.text) {
			return true
		}
	}
	return false
}

// equalsNumber compares the canonical form of a number with a literal.
func (m *Matcher) equalsNumber(l *literal, text []byte) bool {
	at := len(m.arena)
	m.arena = canonicalNumber(m.arena, text)
	return string(m.arena[at:]) == l.text
}
