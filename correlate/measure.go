package correlate

import (
	"math"
	"slices"

	"github.com/tocsin-io/tocsin/rules"
)

// measure is the value of one window: what its condition compares. Entries are
// added at one end and removed at the other as the window moves.
type measure struct {
	rule     *windowRule
	n        int
	sum      float64
	low      float64          // what rounding lost of sum (Neumaier)
	distinct map[uint64]int32 // value_count: entries by value
	steps    []int32          // temporal: entries by step
	numbers  []float64        // percentiles: in their order
}

func (r *windowRule) newMeasure() *measure {
	m := &measure{rule: r}
	switch r.c.Type {
	case rules.ValueCount:
		m.distinct = make(map[uint64]int32)
	case rules.Temporal, rules.TemporalOrdered:
		m.steps = make([]int32, len(r.c.Steps))
	}
	return m
}

func (m *measure) reset() {
	m.n, m.sum, m.low, m.numbers = 0, 0, 0, m.numbers[:0]
	clear(m.distinct)
	clear(m.steps)
}

func (m *measure) add(e *entry) {
	m.n++
	switch m.rule.c.Type {
	case rules.ValueCount:
		m.distinct[e.value]++
	case rules.ValueSum, rules.ValueAvg:
		m.accumulate(math.Float64frombits(e.value))
	case rules.ValuePercentile, rules.ValueMedian:
		x := math.Float64frombits(e.value)
		i, _ := slices.BinarySearch(m.numbers, x)
		m.numbers = slices.Insert(m.numbers, i, x)
	case rules.Temporal, rules.TemporalOrdered:
		m.steps[e.step]++
	}
}

func (m *measure) remove(e *entry) {
	m.n--
	switch m.rule.c.Type {
	case rules.ValueCount:
		if m.distinct[e.value]--; m.distinct[e.value] == 0 {
			delete(m.distinct, e.value)
		}
	case rules.ValueSum, rules.ValueAvg:
		m.accumulate(-math.Float64frombits(e.value))
		if m.n == 0 {
			m.sum, m.low = 0, 0
		}
	case rules.ValuePercentile, rules.ValueMedian:
		i, _ := slices.BinarySearch(m.numbers, math.Float64frombits(e.value))
		m.numbers = slices.Delete(m.numbers, i, i+1)
	case rules.Temporal, rules.TemporalOrdered:
		m.steps[e.step]--
	}
}

// accumulate is Neumaier's compensated summation: numbers come and go, and
// without it their rounding errors would stay.
func (m *measure) accumulate(x float64) {
	t := m.sum + x
	if math.Abs(m.sum) >= math.Abs(x) {
		m.low += (m.sum - t) + x
	} else {
		m.low += (x - t) + m.sum
	}
	m.sum = t
}

func (m *measure) present(step int) bool { return m.steps[step] > 0 }

// holds reports whether the condition is true of the window. For temporal_ordered
// it is only necessary that it is.
func (m *measure) holds() bool {
	c := m.rule.c
	switch c.Type {
	case rules.Temporal:
		if c.Expr != nil {
			return rules.ExprEval(c.Expr, m.present)
		}
		return m.allSteps()
	case rules.TemporalOrdered:
		return m.allSteps()
	}
	return c.Condition.Holds(m.value())
}

// value returns what the condition compares. Temporal correlations compare
// nothing.
func (m *measure) value() float64 {
	switch m.rule.c.Type {
	case rules.EventCount:
		return float64(m.n)
	case rules.ValueCount:
		return float64(len(m.distinct))
	case rules.ValueSum:
		return m.sum + m.low
	case rules.ValueAvg:
		return (m.sum + m.low) / float64(m.n)
	case rules.ValuePercentile, rules.ValueMedian:
		return m.percentile()
	}
	return 0
}

func (m *measure) allSteps() bool {
	for _, n := range m.steps {
		if n == 0 {
			return false
		}
	}
	return true
}

// percentile returns the nearest-rank percentile.
func (m *measure) percentile() float64 {
	p := m.rule.c.Condition.Percentile
	if m.rule.c.Type == rules.ValueMedian || p == 0 {
		p = 50
	}
	rank := int(math.Ceil(p / 100 * float64(len(m.numbers))))
	return m.numbers[min(max(rank, 1), len(m.numbers))-1]
}
