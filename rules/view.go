package rules

import "slices"

// AnyLogSource given to MatchAs evaluates every rule, whatever its log source.
var AnyLogSource = LogSource{Product: "*", Category: "*", Service: "*"}

// view is the part of a program that concerns the events of one log source.
type view struct {
	rules    int
	fields   []FieldID  // by slot
	slotOf   []int32    // by FieldID, -1 for fields that the view does not read
	trie     *fieldTrie // nil if no field of the message is read
	envelope []envelopeSlot
	keywords int32          // slot of the message's text, or -1
	absent   *keywordFilter // nil if every message is to be scanned for keywords

	always    []int32          // rules that are evaluated for every event
	triggered []int32          // the others
	hits      []predID         // by hitID
	hitOf     map[predID]hitID // of predLiterals
	index     *textIndex       // of all texts
}

type envelopeSlot struct {
	field envelopeField
	slot  int32
}

// view returns the view of a log source; it is built when it is asked for
// first. Names that no rule has are all the same, so the number of views is
// bounded by the rules.
func (p *program) view(s *Set, ls LogSource) *view {
	known := func(name string, names map[string]bool) string {
		if name == "*" || names[name] {
			return name
		}
		return ""
	}
	ls = LogSource{known(ls.Product, p.products), known(ls.Category, p.categories), known(ls.Service, p.services)}
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.views[ls]
	if v == nil {
		v = p.newView(s, ls)
		p.views[ls] = v
	}
	return v
}

// selects reports whether rules with log source ls see events of log source
// event: what the rule names must be the event's. "*" in the event is anything.
func (ls LogSource) selects(event LogSource) bool {
	one := func(rule, event string) bool { return rule == "" || event == "*" || rule == event }
	return one(ls.Product, event.Product) && one(ls.Category, event.Category) && one(ls.Service, event.Service)
}

func (p *program) newView(s *Set, ls LogSource) *view {
	v := &view{slotOf: make([]int32, len(s.fields)), keywords: -1, hitOf: map[predID]hitID{}}
	for i := range v.slotOf {
		v.slotOf[i] = -1
	}
	b := viewBuilder{view: v, set: s}
	for i, r := range s.Rules {
		if !r.LogSource.selects(ls) {
			continue
		}
		v.rules++
		for pred := range p.predicatesOf(i) {
			b.predicate(pred)
		}
		for _, f := range p.fields[i] {
			b.slot(f)
		}
		if p.triggers[i] == nil {
			v.always = append(v.always, int32(i))
		} else {
			v.triggered = append(v.triggered, int32(i))
		}
	}
	b.finish(p)
	return v
}

// viewBuilder collects the fields and texts of a view's rules.
type viewBuilder struct {
	view *view
	set  *Set
	// wholeText: a test of keywords has no text that it requires.
	wholeText bool
}

func (b *viewBuilder) slot(f FieldID) {
	v := b.view
	if v.slotOf[f] < 0 {
		v.slotOf[f] = int32(len(v.fields))
		v.fields = append(v.fields, f)
	}
}

func (b *viewBuilder) predicate(p *predicate) {
	b.slot(p.fieldID)
	if p.kind == predFieldRef {
		b.slot(p.refID)
	}
	if p.kind != predLiterals {
		b.wholeText = b.wholeText || p.field == keywordField && !p.behindText()
		return
	}
	if _, ok := b.view.hitOf[p.id]; !ok {
		b.view.hitOf[p.id] = hitID(len(b.view.hits))
		b.view.hits = append(b.view.hits, p.id)
	}
}

func (b *viewBuilder) finish(p *program) {
	v := b.view
	all := func(predID) bool { return true }
	v.index = newTextIndex(p, v, all)
	var names []string
	var slots []int32
	for i, f := range v.fields {
		switch name := b.set.fields[f]; {
		case name == keywordField:
			v.keywords = int32(i)
			if t := p.textsOf(v, all)[i]; !b.wholeText && len(t.equal) == 0 {
				v.absent = newKeywordFilter(t.parts)
			}
		case isEnvelopeField(name):
			field := envelopeField(slices.Index(envelopeFields, name))
			v.envelope = append(v.envelope, envelopeSlot{field, int32(i)})
		default:
			names = append(names, name)
			slots = append(slots, int32(i))
		}
	}
	if len(names) > 0 {
		v.trie = newFieldTrie(names, slots)
	}
}
