package rules

// node is a node of a rule's boolean expression. Selections that a condition
// names twice are shared, so it is a DAG.
type node struct {
	op   nodeOp
	args []*node    // of opAnd and opOr: any number, of opNot: one
	pred *predicate // of opPred
}

type nodeOp uint8

const (
	opPred nodeOp = iota
	opAnd
	opOr
	opNot
)

func leaf(p *predicate) *node { return &node{op: opPred, pred: p} }

func not(n *node) *node {
	if n.op == opNot {
		return n.args[0]
	}
	return &node{op: opNot, args: []*node{n}}
}

func and(args ...*node) *node { return join(opAnd, args) }

func or(args ...*node) *node { return join(opOr, args) }

func join(op nodeOp, args []*node) *node {
	if len(args) == 1 {
		return args[0]
	}
	return &node{op: op, args: args}
}
