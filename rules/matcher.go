package rules

import (
	"slices"

	"github.com/tocsin-io/tocsin/internal/jsonscan"
	"github.com/tocsin-io/tocsin/schemas"
)

// Product is the log source product of the events that the pipeline carries;
// the service is the event's source (schemas.SourceIoT, ...).
const Product = "aws"

// Matcher matches events against a Set. It keeps memory from one event to the
// next and is for one goroutine.
type Matcher struct {
	set      *Set
	services map[string]*view // of product aws
	sources  map[LogSource]*view
	view     *view // of the event that was matched last

	epoch uint32   // of the current event; what has another stamp is of an older one
	holds []uint32 // by predID: the predicate is known to hold
	known []uint32 // by predID: the predicate was evaluated

	slots   []slot
	values  []value
	touched []int32 // slots with values
	arena   []byte  // unescaped and folded texts
	seen    []uint32

	candidates []int32
	candidate  []uint32 // by rule
	matched    []int32

	message   []byte
	scanner   jsonscan.Scanner
	truncated uint64
	full      bool
}

// NewMatcher returns a matcher with memory of its own.
func (s *Set) NewMatcher() *Matcher {
	return &Matcher{
		set:       s,
		services:  map[string]*view{},
		sources:   map[LogSource]*view{},
		holds:     make([]uint32, len(s.program.preds)),
		known:     make([]uint32, len(s.program.preds)),
		candidate: make([]uint32, len(s.Rules)),
	}
}

// FieldName returns the name that f stands for, as rules write it.
func (s *Set) FieldName(f FieldID) string { return s.fields[f] }

// maxSources bounds the views that a matcher remembers by name: the names come
// from the wire.
const maxSources = 1 << 10

// Match returns the rules that match ev as indexes into Set.Rules, ascending.
// The event's log source is product aws, service ev.Source. The slice is valid
// until the next call.
//
// A message that is not JSON, or only up to some point, is no error: rules see
// the fields before that point, keywords the whole text.
func (m *Matcher) Match(ev *schemas.Event) []int32 {
	v := m.services[string(ev.Source)]
	if v == nil {
		v = m.set.program.view(m.set, LogSource{Product: Product, Service: string(ev.Source)})
		if len(m.services) < maxSources {
			m.services[string(ev.Source)] = v
		}
	}
	return m.match(v, ev)
}

// MatchAs is Match for an event of another log source, such as a message of
// another product. AnyLogSource selects every rule.
func (m *Matcher) MatchAs(ls LogSource, ev *schemas.Event) []int32 {
	v := m.sources[ls]
	if v == nil {
		v = m.set.program.view(m.set, ls)
		if len(m.sources) < maxSources {
			m.sources[ls] = v
		}
	}
	return m.match(v, ev)
}

// Truncated returns the number of events of which not everything was looked at
// because a bound was reached (values of the fields that rules read, pairs of
// values to be compared).
func (m *Matcher) Truncated() uint64 { return m.truncated }

func (m *Matcher) match(v *view, ev *schemas.Event) []int32 {
	m.begin(v)
	if v.rules == 0 {
		return nil
	}
	m.extract(v, ev)
	for _, slot := range m.touched {
		if f := &v.fields[slot]; f.equal != nil || f.grams != nil || f.automaton != nil {
			m.scan(v, f, slot)
		}
	}
	m.matched = m.matched[:0]
	for _, rule := range v.always {
		m.run(rule)
	}
	for _, rule := range m.candidates {
		m.run(rule)
	}
	slices.Sort(m.matched)
	if m.full {
		m.truncated++
	}
	return m.matched
}

// Memory above these sizes is not kept for the next event: one event with huge
// arrays must not cost memory for ever.
const (
	keepValues = 1 << 12
	keepArena  = 1 << 20
)

func (m *Matcher) begin(v *view) {
	m.view = v
	if m.epoch++; m.epoch == 0 {
		// After four billion events the stamps of old ones would be taken for new.
		clear(m.holds)
		clear(m.known)
		clear(m.slots)
		clear(m.seen)
		clear(m.candidate)
		m.epoch = 1
	}
	if cap(m.values) > keepValues {
		m.values = nil
	}
	if cap(m.arena) > keepArena {
		m.arena = nil
	}
	m.values, m.arena, m.touched = m.values[:0], m.arena[:0], m.touched[:0]
	m.candidates = m.candidates[:0]
	m.full = false
	if len(m.slots) < len(v.fields) {
		m.slots = make([]slot, len(v.fields))
	}
	if len(m.seen) < v.stamps {
		m.seen = make([]uint32, v.stamps)
	}
}

// scan looks for all texts of a field in its values.
func (m *Matcher) scan(v *view, f *viewField, slot int32) {
	for i := m.slots[slot].first; i >= 0; i = m.values[i].next {
		if !m.values[i].kind.isText() {
			continue
		}
		text := m.fold(&m.values[i])
		if t := f.equal; t != nil {
			if e := t.find(text); e != nil {
				m.hit(v, e.hits)
			}
			if m.values[i].kind == valNumber && oddNumber(text) {
				m.scanNumber(v, t, text)
			}
		}
		if f.grams != nil {
			f.grams.scan(text, m, v)
		}
		if a := f.automaton; a != nil {
			a.scan(text, m.seen[f.stamps:f.stamps+len(a.outputs)], m.epoch, m, v)
		}
	}
}

// scanNumber compares the canonical form of a number, 1 of 1.0, with the texts
// that are numbers.
func (m *Matcher) scanNumber(v *view, t *equalTable, text []byte) {
	at := len(m.arena)
	m.arena = canonicalNumber(m.arena, text)
	if e := t.find(m.arena[at:]); e != nil {
		m.hit(v, e.numbers)
	}
}

// hit notes that predicates hold, and which rules may match because of it.
func (m *Matcher) hit(v *view, ids []hitID) {
	for _, id := range ids {
		h := &v.hits[id]
		if m.holds[h.pred] == m.epoch {
			continue
		}
		m.holds[h.pred] = m.epoch
		for _, rule := range h.rules {
			if m.candidate[rule] != m.epoch {
				m.candidate[rule] = m.epoch
				m.candidates = append(m.candidates, rule)
			}
		}
	}
}

// run evaluates a rule.
func (m *Matcher) run(rule int32) {
	code := m.set.program.codes[rule]
	at := int32(len(code) - 1)
	for at >= 0 {
		in := &code[at]
		if m.holds[in.pred] == m.epoch || m.known[in.pred] != m.epoch && m.test(in.pred) {
			at = in.onTrue
		} else {
			at = in.onFalse
		}
	}
	if at == codeMatch {
		m.matched = append(m.matched, rule)
	}
}

// AppendValues appends the values of f in the event that was matched last:
// scalars as strings (numbers and booleans as their JSON text), the elements of
// arrays one by one, nothing for objects, null or an absent field. The values
// alias the event or the matcher and are valid until the next Match.
//
// The fields that are looked up are those of the rules of the event's log
// source, their correlations' group-by and condition included; another f gives
// nothing.
func (m *Matcher) AppendValues(dst [][]byte, f FieldID) [][]byte {
	if m.view == nil || f < 0 || int(f) >= len(m.view.slotOf) {
		return dst
	}
	slot := m.view.slotOf[f]
	if slot < 0 || m.slots[slot].epoch != m.epoch {
		return dst
	}
	for i := m.slots[slot].first; i >= 0; i = m.values[i].next {
		if v := &m.values[i]; v.kind <= valBool {
			dst = append(dst, v.text)
		}
	}
	return dst
}
