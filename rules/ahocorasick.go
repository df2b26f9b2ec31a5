package rules

import (
	"slices"
	"strings"
)

// automaton finds every one of a set of folded texts in a value, in one pass
// (Aho and Corasick, "Efficient string matching", CACM 1975). States are numbered
// breadth first. The first ones, which are visited most, have a row with all
// transitions; the others have their children and a failure link.
//
// Whether a text must begin or end with the value is decided here, so that
// startswith and endswith cost no more than contains.
type automaton struct {
	class   [256]uint8 // byte to column, upper case as lower; 0 is in no text
	columns int32
	dense   int32   // states below have a row
	rows    []int32 // dense * columns, ^state where the state has an output
	states  []acState
	edges   []acEdge

	outputs []acOutput
	hits    []hitID // of the outputs
}

type acState struct {
	fail   int32
	edge   int32 // first of edges
	edges  int32 // number of them
	output int32 // index into outputs, 0 for none
}

type acEdge struct {
	column uint8
	next   int32
}

// acOutput is what a state says when it is reached. anywhere and end also hold
// for the states that its fail chain reaches; next leads to the next of these
// with an output.
type acOutput struct {
	anywhere, start, end span
	depth                int32 // of the state that it belongs to
	next                 int32
}

// span is a part of a slice.
type span struct{ from, to int32 }

// hitID is a view's number of a predicate that a text proves.
type hitID int32

// acText is a text to be found.
type acText struct {
	text string
	op   literalOp // litContains, litPrefix, litSuffix
	hit  hitID
}

// maxRows bounds the memory of the rows to what stays in a core's cache.
const maxRows = 1 << 15

func newAutomaton(texts []acText) *automaton {
	texts = slices.Clone(texts)
	slices.SortStableFunc(texts, func(a, b acText) int { return strings.Compare(a.text, b.text) })
	a := &automaton{}
	a.classes(texts)

	// The texts are sorted, so a text shares a prefix with the one before it and
	// new states are appended to the right.
	type trie struct {
		first, last, sibling int32
		column               uint8
		depth                int32
		texts                []int32
	}
	nodes := []trie{{}}
	path := []int32{0}
	previous := ""
	for i, t := range texts {
		common := 0
		for common < len(previous) && common < len(t.text) && previous[common] == t.text[common] {
			common++
		}
		path = path[:common+1]
		for at := common; at < len(t.text); at++ {
			parent := path[at]
			id := int32(len(nodes))
			nodes = append(nodes, trie{column: a.class[t.text[at]], depth: int32(at + 1)})
			if last := nodes[parent].last; last != 0 {
				nodes[last].sibling = id
			} else {
				nodes[parent].first = id
			}
			nodes[parent].last = id
			path = append(path, id)
		}
		at := path[len(t.text)]
		nodes[at].texts = append(nodes[at].texts, int32(i))
		previous = t.text
	}

	// Renumber breadth first.
	order := make([]int32, 1, len(nodes))
	number := make([]int32, len(nodes))
	for head := 0; head < len(order); head++ {
		for c := nodes[order[head]].first; c != 0; c = nodes[c].sibling {
			number[c] = int32(len(order))
			order = append(order, c)
		}
	}
	a.states = make([]acState, len(nodes))
	a.edges = make([]acEdge, 0, len(nodes))
	for id, old := range order {
		s := &a.states[id]
		s.edge = int32(len(a.edges))
		for c := nodes[old].first; c != 0; c = nodes[c].sibling {
			a.edges = append(a.edges, acEdge{nodes[c].column, number[c]})
			s.edges++
		}
	}
	// Failure links of a level need only those of the levels above.
	for id := range a.states {
		s := &a.states[id]
		for _, e := range a.edges[s.edge : s.edge+s.edges] {
			if id > 0 {
				a.states[e.next].fail = a.slowStep(s.fail, e.column)
			}
		}
	}
	a.dense = min(int32(len(a.states)), max(1, maxRows/a.columns))
	a.rows = make([]int32, a.dense*a.columns)
	for id := range a.dense {
		row := a.rows[id*a.columns : (id+1)*a.columns]
		s := &a.states[id]
		if id > 0 {
			copy(row, a.rows[s.fail*a.columns:(s.fail+1)*a.columns])
		}
		for _, e := range a.edges[s.edge : s.edge+s.edges] {
			row[e.column] = e.next
		}
	}
	a.outputs = make([]acOutput, 1)
	for id, old := range order {
		s := &a.states[id]
		inherited := a.states[s.fail].output
		if len(nodes[old].texts) == 0 {
			s.output = inherited
			continue
		}
		hits := func(op literalOp) span {
			from := int32(len(a.hits))
			for _, i := range nodes[old].texts {
				if texts[i].op == op {
					a.hits = append(a.hits, texts[i].hit)
				}
			}
			return span{from, int32(len(a.hits))}
		}
		out := acOutput{
			anywhere: hits(litContains), start: hits(litPrefix), end: hits(litSuffix),
			depth: nodes[old].depth, next: inherited,
		}
		s.output = int32(len(a.outputs))
		a.outputs = append(a.outputs, out)
	}
	// Most steps lead to a state without output; with the mark in the row they
	// need not look at it.
	for i, next := range a.rows {
		if a.states[next].output != 0 {
			a.rows[i] = ^next
		}
	}
	return a
}

func (a *automaton) classes(texts []acText) {
	var used [256]bool
	for _, t := range texts {
		for i := range len(t.text) {
			used[t.text[i]] = true
		}
	}
	n := uint8(1)
	for b := range used {
		// At most 255 columns are in use: folded texts have no upper case.
		if used[b] {
			a.class[b] = n
			n++
		}
	}
	for b := 'A'; b <= 'Z'; b++ {
		a.class[b] = a.class[lower[b]]
	}
	a.columns = int32(n)
}

// slowStep is the transition by links only, for the construction.
func (a *automaton) slowStep(state int32, column uint8) int32 {
	for {
		if next := a.child(state, column); next != 0 {
			return next
		}
		if state == 0 {
			return 0
		}
		state = a.states[state].fail
	}
}

func (a *automaton) child(state int32, column uint8) int32 {
	s := &a.states[state]
	edges := a.edges[s.edge : s.edge+s.edges]
	for i := range edges {
		if edges[i].column == column {
			return edges[i].next
		}
	}
	return 0
}

// scan calls found for what text contains. seen has a stamp for each output: an
// output that was reported at this stamp is not reported again, so the work is
// bounded by the text and the number of texts, however they overlap.
func (a *automaton) scan(text []byte, seen []uint32, stamp uint32, m *Matcher) {
	state := int32(0)
	for i, b := range text {
		column := a.class[b]
		if column == 0 {
			state = 0
			continue
		}
		for state >= a.dense {
			if next := a.child(state, column); next != 0 {
				state = next
				goto reached
			}
			state = a.states[state].fail
		}
		state = a.rows[state*a.columns+int32(column)]
		if state >= 0 {
			continue
		}
		state = ^state
	reached:
		o := a.states[state].output
		if out := &a.outputs[o]; out.depth == int32(i+1) {
			// The state's text is the whole value so far.
			m.hit(a.hits[out.start.from:out.start.to])
		}
		for o != 0 && seen[o] != stamp {
			seen[o] = stamp
			out := &a.outputs[o]
			m.hit(a.hits[out.anywhere.from:out.anywhere.to])
			o = out.next
		}
	}
	for o := a.states[state].output; o != 0; {
		out := &a.outputs[o]
		m.hit(a.hits[out.end.from:out.end.to])
		o = out.next
	}
}
