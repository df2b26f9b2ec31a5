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
	services map[string]*plan // of product aws
	sources  map[LogSource]*plan
	plans    map[*view]*plan
	view     *view // of the event that was matched last
	plan     *plan // of the view

	epoch  uint32   // of the current event, even; what has another stamp is of an older one
	states []uint32 // by predID: epoch if the predicate does not hold, epoch|holds if it does

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
	complete  bool // all texts of the event were looked for
	lazyBytes int  // that tests which waited looked at
}

// NewMatcher returns a matcher with memory of its own.
func (s *Set) NewMatcher() *Matcher {
	return &Matcher{
		set:       s,
		services:  map[string]*plan{},
		sources:   map[LogSource]*plan{},
		plans:     map[*view]*plan{},
		states:    make([]uint32, len(s.program.preds)),
		candidate: make([]uint32, len(s.Rules)),
	}
}

// holds is the bit of Matcher.states that tells true from false.
const holds = 1

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
	p := m.services[string(ev.Source)]
	if p == nil {
		p = m.planFor(LogSource{Product: Product, Service: string(ev.Source)})
		if len(m.services) < maxSources {
			m.services[string(ev.Source)] = p
		}
	}
	return m.match(p, ev)
}

// MatchAs is Match for an event of another log source, such as a message of
// another product. AnyLogSource selects every rule.
func (m *Matcher) MatchAs(ls LogSource, ev *schemas.Event) []int32 {
	p := m.sources[ls]
	if p == nil {
		p = m.planFor(ls)
		if len(m.sources) < maxSources {
			m.sources[ls] = p
		}
	}
	return m.match(p, ev)
}

func (m *Matcher) planFor(ls LogSource) *plan {
	v := m.set.program.view(m.set, ls)
	p := m.plans[v]
	if p == nil {
		p = m.set.program.newPlan(v)
		m.plans[v] = p
	}
	return p
}

// Truncated returns the number of events of which not everything was looked at
// because a bound was reached (values of the fields that rules read, pairs of
// values to be compared).
func (m *Matcher) Truncated() uint64 { return m.truncated }

func (m *Matcher) match(p *plan, ev *schemas.Event) []int32 {
	v := p.view
	m.begin(p)
	if v.rules == 0 {
		return nil
	}
	if p.left--; p.left == 0 {
		p.turn(m.set.program)
	}
	m.extract(v, ev)
	m.scanFields(p.index)
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

func (m *Matcher) begin(p *plan) {
	v := p.view
	m.view, m.plan = v, p
	if m.epoch += 2; m.epoch == 0 {
		// After two billion events the stamps of old ones would be taken for new.
		clear(m.states)
		clear(m.slots)
		clear(m.seen)
		clear(m.candidate)
		m.epoch = 2
	}
	if cap(m.values) > keepValues {
		m.values = nil
	}
	if cap(m.arena) > keepArena {
		m.arena = nil
	}
	m.values, m.arena, m.touched = m.values[:0], m.arena[:0], m.touched[:0]
	m.candidates = m.candidates[:0]
	m.full, m.complete, m.lazyBytes = false, false, 0
	if len(m.slots) < len(v.fields) {
		m.slots = make([]slot, len(v.fields))
	}
}

// scan looks for the texts of f in the values of its field.
func (m *Matcher) scan(f *fieldIndex, slot int32) {
	for i := m.slots[slot].first; i >= 0; i = m.values[i].next {
		if !m.values[i].kind.isText() {
			continue
		}
		text := m.fold(&m.values[i])
		if t := f.equal; t != nil {
			if e := t.find(text); e != nil {
				m.hit(e.hits)
			}
			if m.values[i].kind == valNumber && oddNumber(text) {
				m.scanNumber(t, text)
			}
		}
		if f.grams != nil {
			f.grams.scan(text, m)
		}
		if a := f.automaton; a != nil {
			a.scan(text, m.seen[f.stamps:f.stamps+len(a.outputs)], m.epoch, m)
		}
	}
}

// scanNumber compares the canonical form of a number, 1 of 1.0, with the texts
// that are numbers.
func (m *Matcher) scanNumber(t *equalTable, text []byte) {
	at := len(m.arena)
	m.arena = canonicalNumber(m.arena, text)
	if e := t.find(m.arena[at:]); e != nil {
		m.hit(e.numbers)
	}
}

// hit notes that predicates hold, and which rules may match because of it.
func (m *Matcher) hit(ids []hitID) {
	p, yes := m.plan, m.epoch|holds
	for _, id := range ids {
		h := &p.hits[id]
		if m.states[h.pred] == yes {
			continue
		}
		m.states[h.pred] = yes
		h.count++
		for _, rule := range p.rules[h.from:h.to] {
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
	no, yes := m.epoch, m.epoch|holds
	for at >= 0 {
		in := &code[at]
		if s := m.states[in.pred]; s == yes || s != no && m.test(in.pred) {
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
