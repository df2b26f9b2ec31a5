package rules

import (
	"cmp"
	"math"
	"slices"
	"sync"
)

// program is what the rules of a set were compiled to.
type program struct {
	preds []*predicate // by id
	exprs []*node      // by rule
	codes [][]instr    // by rule
	// triggers are, by rule, predicates one of which holds whenever the rule
	// matches; nil where there are none, so that the rule is evaluated always.
	triggers [][]predID
	costs    []float64 // by predicate, how common it looks
	// fields are, by rule, what correlations read in the rule's events.
	fields [][]FieldID

	products, categories, services map[string]bool

	mu    sync.Mutex
	views map[LogSource]*view
}

// instr tests a predicate and goes on at one of two instructions, which come
// before it. The entry is the last one.
type instr struct {
	pred            predID
	onTrue, onFalse int32
}

const (
	codeMatch   = -1
	codeNoMatch = -2
)

// compileCode turns an expression into a sequence of tests that stops as soon
// as the result is known. Cheap tests come first.
func compileCode(n *node) []instr {
	var code []instr
	costs := map[*node]int{}
	var emit func(n *node, onTrue, onFalse int32) int32
	emit = func(n *node, onTrue, onFalse int32) int32 {
		switch n.op {
		case opNot:
			return emit(n.args[0], onFalse, onTrue)
		case opPred:
			code = append(code, instr{n.pred.id, onTrue, onFalse})
			return int32(len(code) - 1)
		}
		args := slices.Clone(n.args)
		slices.SortStableFunc(args, func(a, b *node) int { return cmp.Compare(testCost(b, costs), testCost(a, costs)) })
		for _, a := range args {
			if n.op == opAnd {
				onTrue = emit(a, onTrue, onFalse)
			} else {
				onFalse = emit(a, onTrue, onFalse)
			}
		}
		if n.op == opAnd {
			return onTrue
		}
		return onFalse
	}
	emit(n, codeMatch, codeNoMatch)
	return code
}

var predCosts = [...]int{
	predLiterals: 1, predExists: 2, predNull: 2, predAny: 2, predCompare: 4, predCased: 4,
	predFieldRef: 6, predCIDR: 8, predWildcard: 10, predRegex: 100,
}

// testCost is a guess at what n costs when its cheap tests do not decide.
func testCost(n *node, seen map[*node]int) int {
	if n.op == opPred {
		return predCosts[n.pred.kind]
	}
	if c, ok := seen[n]; ok {
		return c
	}
	sum := 0
	for _, a := range n.args {
		sum = min(sum+testCost(a, seen), math.MaxInt32)
	}
	seen[n] = sum
	return sum
}

// literalKey is a text of a field, for counting the rules that look for it.
type literalKey struct {
	field FieldID
	op    literalOp
	text  string
}

// finish derives what matching needs once all rules are linked.
func (p *program) finish(s *Set) {
	p.products, p.categories, p.services = map[string]bool{}, map[string]bool{}, map[string]bool{}
	uses := map[literalKey]int32{}
	for i, r := range s.Rules {
		p.products[r.LogSource.Product] = true
		p.categories[r.LogSource.Category] = true
		p.services[r.LogSource.Service] = true
		p.codes = append(p.codes, compileCode(p.exprs[i]))
		for pred := range p.predicatesOf(i) {
			for _, l := range pred.literals {
				uses[literalKey{pred.fieldID, l.op, l.text}]++
			}
		}
		p.fields = append(p.fields, correlationFields(s, r))
	}
	p.costs = make([]float64, len(p.preds))
	for i, pred := range p.preds {
		for _, l := range pred.literals {
			// What many rules look for is common in events; short texts are too.
			n := float64(uses[literalKey{pred.fieldID, l.op, l.text}])
			p.costs[i] += n * (1 + 16/float64(1+len(l.text)))
		}
	}
	for i := range s.Rules {
		t := required(p.exprs[i], p.costs, map[*node]*triggerSet{})
		if t == nil {
			p.triggers = append(p.triggers, nil)
			continue
		}
		p.triggers = append(p.triggers, t.preds)
	}
}

// predicatesOf yields the distinct predicates of a rule.
func (p *program) predicatesOf(rule int) func(func(*predicate) bool) {
	return func(yield func(*predicate) bool) {
		seen := map[predID]bool{}
		for _, in := range p.codes[rule] {
			if !seen[in.pred] {
				seen[in.pred] = true
				if !yield(p.preds[in.pred]) {
					return
				}
			}
		}
	}
}

func correlationFields(s *Set, r *Rule) []FieldID {
	var out []FieldID
	for _, use := range r.Uses {
		step := &s.Correlations[use.Correlation].Steps[use.Step]
		out = append(append(out, step.Group...), step.Values...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// triggerSet is a set of predicates one of which holds whenever an expression
// does.
type triggerSet struct {
	preds []predID
	cost  float64
}

// maxTriggers bounds the triggers of one rule; with more it is evaluated always.
const maxTriggers = 1 << 12

// required returns the cheapest trigger set that it finds, nil if there is none.
func required(n *node, costs []float64, seen map[*node]*triggerSet) *triggerSet {
	if t, ok := seen[n]; ok {
		return t
	}
	var best *triggerSet
	switch n.op {
	case opPred:
		if n.pred.kind == predLiterals {
			best = &triggerSet{[]predID{n.pred.id}, costs[n.pred.id]}
		}
	case opAnd:
		for _, a := range n.args {
			if t := required(a, costs, seen); t != nil && (best == nil || t.cost < best.cost) {
				best = t
			}
		}
	case opOr:
		best = &triggerSet{}
		for _, a := range n.args {
			t := required(a, costs, seen)
			if t == nil || len(best.preds)+len(t.preds) > maxTriggers {
				best = nil
				break
			}
			best.preds = append(best.preds, t.preds...)
			best.cost += t.cost
		}
		if best != nil {
			slices.Sort(best.preds)
			best.preds = slices.Compact(best.preds)
		}
	}
	seen[n] = best
	return best
}
