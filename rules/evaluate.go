package rules

import (
	"bytes"
	"net/netip"
)

// test evaluates a predicate that was not found to hold, once per event.
func (m *Matcher) test(id predID) bool {
	p := m.set.program.preds[id]
	var yes bool
	if p.kind == predLiterals {
		// Without the first, the scan would have found it.
		yes = m.plan.lazy != nil && m.plan.lazy[id] && m.askLazy(p)
	} else {
		yes = m.evaluate(p)
	}
	if !yes {
		m.states[id] = m.epoch
		return false
	}
	m.states[id] = m.epoch | holds
	return true
}

func (m *Matcher) evaluate(p *predicate) bool {
	s := &m.slots[m.view.slotOf[p.fieldID]]
	present := s.epoch == m.epoch
	switch p.kind {
	case predExists:
		return present
	case predNull:
		if !present {
			return true
		}
	case predFieldRef:
		return present && m.evaluateRef(p, s)
	}
	if !present {
		return false
	}
	for i := s.first; i >= 0; i = m.values[i].next {
		if m.testValue(p, &m.values[i]) {
			return true
		}
	}
	return false
}

func (m *Matcher) testValue(p *predicate, v *value) bool {
	if p.kind == predNull {
		return v.kind == valNull
	}
	if !v.kind.isText() {
		return false
	}
	switch p.kind {
	case predAny:
		return true
	case predCased:
		for i := range p.literals {
			if p.literals[i].matches(v.text) {
				return true
			}
		}
		return false
	case predWildcard:
		if p.cased {
			return p.pattern.match(v.text, false)
		}
		return p.pattern.match(m.fold(v), true)
	case predRegex:
		return p.regex.match(v.text)
	case predCIDR:
		if v.kind != valString || len(v.text) > maxAddress {
			return false
		}
		addr, err := netip.ParseAddr(viewString(v.text))
		return err == nil && p.cidr.Contains(addr.WithZone("").Unmap())
	case predCompare:
		return testCompare(p, v)
	}
	return false
}

// maxAddress is the length of the longest text of an IPv6 address, with room for
// a zone.
const maxAddress = 64

func testCompare(p *predicate, v *value) bool {
	if v.kind != valNumber && v.kind != valString {
		return false
	}
	b := Bound{p.op, p.number}
	if p.part != 0 {
		n, ok := p.part.of(v.text)
		return ok && b.Holds(float64(n))
	}
	f, ok := parseNumber(v.text)
	return ok && b.Holds(f)
}

// maxPairs bounds the comparisons of two fields that both are arrays.
const maxPairs = 1 << 16

func (m *Matcher) evaluateRef(p *predicate, s *slot) bool {
	ref := &m.slots[m.view.slotOf[p.refID]]
	if ref.epoch != m.epoch {
		return false
	}
	pairs := 0
	for i := s.first; i >= 0; i = m.values[i].next {
		for j := ref.first; j >= 0; j = m.values[j].next {
			if pairs++; pairs > maxPairs {
				m.full = true
				return false
			}
			a, b := &m.values[i], &m.values[j]
			if a.kind.isText() && b.kind.isText() && m.testRef(p, a, b) {
				return true
			}
		}
	}
	return false
}

func (m *Matcher) testRef(p *predicate, a, b *value) bool {
	x, y := a.text, b.text
	if !p.cased {
		x, y = m.fold(a), m.fold(b)
	}
	equal := func(x, y []byte) bool {
		if p.cased {
			return bytes.Equal(x, y)
		}
		return equalFolded(x, y)
	}
	if len(x) < len(y) {
		return false
	}
	switch p.refOp {
	case litPrefix:
		return equal(x[:len(y)], y)
	case litSuffix:
		return equal(x[len(x)-len(y):], y)
	case litContains:
		if p.cased {
			return bytes.Contains(x, y)
		}
		return containsFolded(x, y)
	}
	return equal(x, y)
}

// equalFolded compares texts that are ASCII in any case or folded.
func equalFolded(x, y []byte) bool {
	if len(x) != len(y) {
		return false
	}
	for i := range x {
		if lower[x[i]] != lower[y[i]] {
			return false
		}
	}
	return true
}

func containsFolded(x, y []byte) bool {
	for i := 0; i+len(y) <= len(x); i++ {
		if equalFolded(x[i:i+len(y)], y) {
			return true
		}
	}
	return false
}
