package rules

// textIndex finds the texts of predicates in the values of a view's fields.
type textIndex struct {
	fields []fieldIndex // by slot
	stamps int          // automaton outputs of all fields
}

// fieldIndex finds the texts that are looked for in one field.
type fieldIndex struct {
	equal     *equalTable
	grams     *gramIndex
	automaton *automaton // what does not fit into grams
	stamps    int        // first of the automaton's in Matcher.seen
}

// fieldTexts are the texts of a field before it is indexed.
type fieldTexts struct {
	equal     []literal
	equalHits []hitID
	parts     []acText
}

// textsOf collects the texts of the predicates that are wanted, by slot.
func (p *program) textsOf(v *view, wanted func(predID) bool) []fieldTexts {
	texts := make([]fieldTexts, len(v.fields))
	for hit, id := range v.hits {
		if !wanted(id) {
			continue
		}
		pred := p.preds[id]
		t := &texts[v.slotOf[pred.fieldID]]
		for _, l := range pred.literals {
			if l.op == litEqual {
				t.equal = append(t.equal, l)
				t.equalHits = append(t.equalHits, hitID(hit))
			} else {
				t.parts = append(t.parts, acText{l.text, l.op, hitID(hit)})
			}
		}
	}
	return texts
}

func newTextIndex(p *program, v *view, wanted func(predID) bool) *textIndex {
	x := &textIndex{fields: make([]fieldIndex, len(v.fields))}
	for i, t := range p.textsOf(v, wanted) {
		f := &x.fields[i]
		if len(t.equal) > 0 {
			f.equal = newEqualTable(t.equal, t.equalHits)
		}
		var rest []acText
		f.grams, rest = newGramIndex(t.parts)
		if len(rest) > 0 {
			f.automaton = newAutomaton(rest)
			f.stamps = x.stamps
			x.stamps += len(f.automaton.outputs)
		}
	}
	return x
}

// scanFields looks for the texts of x in the fields of the event.
func (m *Matcher) scanFields(x *textIndex) {
	if len(m.seen) < x.stamps {
		m.seen = make([]uint32, x.stamps)
	}
	for _, slot := range m.touched {
		if f := &x.fields[slot]; f.equal != nil || f.grams != nil || f.automaton != nil {
			m.scan(f, slot)
		}
	}
}
