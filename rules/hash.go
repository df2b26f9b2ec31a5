package rules

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// hashNode is a hash over the tests of n and how they are combined. Shared
// nodes are hashed once.
func hashNode(n *node, seen map[*node]uint64) uint64 {
	if h, ok := seen[n]; ok {
		return h
	}
	b := []byte{byte(n.op)}
	if n.op == opPred {
		b = append(b, n.pred.key()...)
	}
	for _, a := range n.args {
		b = binary.LittleEndian.AppendUint64(b, hashNode(a, seen))
	}
	h := xxhash.Sum64(b)
	seen[n] = h
	return h
}

func hashRule(r *parsedRule) uint64 {
	b := appendText([]byte{'r'}, r.rule.LogSource.Product)
	b = appendText(b, r.rule.LogSource.Category)
	b = appendText(b, r.rule.LogSource.Service)
	return xxhash.Sum64(binary.LittleEndian.AppendUint64(b, hashNode(r.expr, map[*node]uint64{})))
}

// hashCorrelation needs the hashes of what c refers to. The ID is part of it:
// windows are kept by the hash, and two rules that differ in nothing but their
// titles or tocsin.suppress must not share theirs.
func hashCorrelation(c *Correlation, s *Set) uint64 {
	b := appendText([]byte{'c', byte(c.Type)}, c.ID)
	b = binary.LittleEndian.AppendUint64(b, uint64(c.Timespan))
	for _, bound := range c.Condition.Bounds {
		b = append(b, 'b', byte(bound.Op))
		b = appendFloat(b, bound.Value)
	}
	b = appendFloat(b, c.Condition.Percentile)
	for _, name := range c.GroupBy {
		b = appendText(append(b, 'g'), name)
	}
	for i := range c.Steps {
		step := &c.Steps[i]
		b = append(b, 's')
		if step.Rule >= 0 {
			b = binary.LittleEndian.AppendUint64(b, s.Rules[step.Rule].Hash)
		} else {
			b = binary.LittleEndian.AppendUint64(b, s.Correlations[step.Correlation].Hash)
		}
		for _, f := range step.Group {
			b = appendText(append(b, 'g'), s.fields[f])
		}
		for _, f := range step.Values {
			b = appendText(append(b, 'v'), s.fields[f])
		}
		for _, at := range append(step.GroupFrom, step.ValuesFrom...) {
			b = binary.AppendVarint(append(b, 'f'), int64(at))
		}
	}
	return xxhash.Sum64(appendExpr(b, c.Expr))
}

func appendExpr(b []byte, e *TemporalExpr) []byte {
	if e == nil {
		return b
	}
	b = binary.AppendVarint(append(b, '(', byte(e.Op)), int64(e.Step))
	for _, a := range e.Args {
		b = appendExpr(b, a)
	}
	return append(b, ')')
}
