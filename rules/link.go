package rules

// linker numbers rules, fields and predicates, and puts the set together.
type linker struct {
	set       *Set
	fieldIDs  map[string]FieldID
	preds     map[string]*predicate // by key
	rules     map[*parsedRule]int
	program   *program
	localSlot map[*parsedCorrelation][]bool
}

func link(p *parser, correlations []*parsedCorrelation) *Set {
	l := &linker{
		set:       &Set{},
		fieldIDs:  map[string]FieldID{},
		preds:     map[string]*predicate{},
		rules:     map[*parsedRule]int{},
		program:   &program{views: map[LogSource]*view{}},
		localSlot: map[*parsedCorrelation][]bool{},
	}
	for _, r := range p.rules {
		if !r.ok {
			continue
		}
		l.rules[r] = len(l.set.Rules)
		rule := r.rule
		rule.Alerts = true
		rule.Hash = hashRule(r)
		l.set.Rules = append(l.set.Rules, &rule)
		l.intern(r.expr, map[*node]bool{})
		l.program.exprs = append(l.program.exprs, r.expr)
	}
	for i, c := range correlations {
		c.index = i
		l.correlation(c)
	}
	l.alerts(p, correlations)
	l.program.finish(l.set)
	l.set.program = l.program
	return l.set
}

func (l *linker) field(name string) FieldID {
	id, ok := l.fieldIDs[name]
	if !ok {
		id = FieldID(len(l.set.fields))
		l.fieldIDs[name] = id
		l.set.fields = append(l.set.fields, name)
	}
	return id
}

// intern replaces equal predicates by one.
func (l *linker) intern(n *node, seen map[*node]bool) {
	if seen[n] {
		return
	}
	seen[n] = true
	if n.op == opPred {
		key := n.pred.key()
		p := l.preds[key]
		if p == nil {
			p = n.pred
			p.id = predID(len(l.program.preds))
			p.fieldID = l.field(p.field)
			if p.kind == predFieldRef {
				p.refID = l.field(p.ref)
			}
			l.preds[key] = p
			l.program.preds = append(l.program.preds, p)
		}
		n.pred = p
	}
	for _, a := range n.args {
		l.intern(a, seen)
	}
}

func (l *linker) correlation(c *parsedCorrelation) {
	out := c.correlation
	local := make([]bool, len(out.GroupBy))
	for i := range local {
		local[i] = true
	}
	for i, target := range c.steps {
		step := Step{Name: c.refs[i].Value, Rule: -1, Correlation: -1}
		use := Use{Correlation: c.index, Step: i}
		if r := target.rule; r != nil {
			step.Rule = l.rules[r]
			l.set.Rules[step.Rule].Uses = append(l.set.Rules[step.Rule].Uses, use)
			for g, name := range out.GroupBy {
				field := c.fieldIn(i, name)
				local[g] = local[g] && field == DeviceField
				step.Group = append(step.Group, l.field(field))
			}
			for _, n := range c.fields {
				step.Values = append(step.Values, l.field(c.fieldIn(i, n.Value)))
			}
		} else {
			inner := target.correlation
			step.Correlation = inner.index
			in := l.set.Correlations[inner.index]
			in.Uses = append(in.Uses, use)
			for g, name := range out.GroupBy {
				from := groupIndex(in, c.fieldIn(i, name))
				if from < 0 {
					c.warn(c.groupBy[g], "add it to the group-by of the inner correlation, or give an alias", "results of %q have no %q: the correlation cannot hold", step.Name, name)
				}
				local[g] = local[g] && from >= 0 && l.localSlot[inner][from]
				step.GroupFrom = append(step.GroupFrom, from)
			}
			for _, n := range c.fields {
				from := groupIndex(in, c.fieldIn(i, n.Value))
				if from < 0 {
					c.warn(n, "add it to the group-by of the inner correlation, or give an alias", "results of %q have no %q: they do not count", step.Name, n.Value)
				}
				step.ValuesFrom = append(step.ValuesFrom, from)
			}
		}
		out.Steps = append(out.Steps, step)
	}
	l.localSlot[c] = local
	for _, v := range local {
		out.Local = out.Local || v
	}
	out.Alerts = true
	out.Hash = hashCorrelation(&out, l.set)
	l.set.Correlations = append(l.set.Correlations, &out)
}

func groupIndex(c *Correlation, name string) int {
	for i, g := range c.GroupBy {
		if g == name {
			return i
		}
	}
	return -1
}

// alerts decides which rules are detections by themselves. A correlation that
// was left out still counts as referring to its rules: without it they would
// report every event that it was to aggregate.
func (l *linker) alerts(p *parser, correlations []*parsedCorrelation) {
	for _, c := range p.correlations {
		for _, target := range c.steps {
			if r := target.rule; r != nil && r.ok {
				l.set.Rules[l.rules[r]].Alerts = false
			}
			if inner := target.correlation; inner != nil && inner.ok {
				l.set.Correlations[inner.index].Alerts = false
			}
		}
	}
	for _, c := range correlations {
		if !c.generate {
			continue
		}
		for _, step := range l.set.Correlations[c.index].Steps {
			if step.Rule >= 0 {
				l.set.Rules[step.Rule].Alerts = true
			} else {
				l.set.Correlations[step.Correlation].Alerts = true
			}
		}
	}
}
