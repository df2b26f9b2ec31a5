package correlate

import (
	"bytes"
	"cmp"
	"slices"
)

// heldMatches holds matches back until they can be put into the order of time.
// Their texts are in a few large blocks, so that millions of them are no work
// for the garbage collector.
type heldMatches struct {
	matches []Match
	block   []byte
	// evidence is that of the match before: matches of one event share it.
	evidence []byte
}

const heldBlock = 1 << 20

func (h *heldMatches) len() int { return len(h.matches) }

// add copies m.
func (h *heldMatches) add(m *Match) {
	k := *m
	k.Group = h.keep(m.Group)
	if m.Value != nil {
		k.Value = h.keep(m.Value)
	}
	if !bytes.Equal(h.evidence, m.Evidence) {
		h.evidence = h.keep(m.Evidence)
	}
	k.Evidence = h.evidence
	h.matches = append(h.matches, k)
}

func (h *heldMatches) keep(b []byte) []byte {
	if len(h.block)+len(b) > cap(h.block) {
		h.block = make([]byte, 0, max(heldBlock, len(b)))
	}
	at := len(h.block)
	h.block = append(h.block, b...)
	return h.block[at:len(h.block):len(h.block)]
}

// release takes the n earliest matches out, in the order of time; ties are in an
// order that does not depend on that of arrival.
func (h *heldMatches) release(n int, fn func(*Match)) {
	slices.SortFunc(h.matches, func(a, b Match) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), bytes.Compare(a.ID[:], b.ID[:]),
			cmp.Compare(a.Correlation, b.Correlation), cmp.Compare(a.Step, b.Step), bytes.Compare(a.Group, b.Group))
	})
	for i := range h.matches[:n] {
		fn(&h.matches[i])
	}
	rest := copy(h.matches, h.matches[n:])
	clear(h.matches[rest:])
	h.matches = h.matches[:rest]
}
