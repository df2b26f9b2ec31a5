package rules

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v4"
)

// ruleIndex finds rules and correlations by ID or name.
type ruleIndex struct {
	byName map[string]any // *parsedRule or *parsedCorrelation
	names  []string
}

// newRuleIndex reports what has an ID or name that another one has; the first
// one keeps it.
func newRuleIndex(p *parser) *ruleIndex {
	x := &ruleIndex{byName: map[string]any{}}
	for _, r := range p.rules {
		r.ok = x.add(r.reporter, r.node, &r.rule.Meta, r) && r.ok
	}
	for _, c := range p.correlations {
		c.ok = x.add(c.reporter, c.node, &c.correlation.Meta, c) && c.ok
	}
	return x
}

func (x *ruleIndex) add(r *reporter, n *yaml.Node, m *Meta, v any) bool {
	ok := true
	for i, name := range []string{m.ID, m.Name} {
		if name == "" || i == 1 && name == m.ID {
			continue
		}
		if other, taken := x.byName[name]; taken {
			kind := [...]string{"id", "name"}[i]
			r.report(SeverityError, n, 0, "give each rule its own", "%s %q is taken by the rule at %s", kind, name, placeOf(other))
			ok = false
			continue
		}
		x.byName[name] = v
		x.names = append(x.names, name)
	}
	return ok
}

func placeOf(v any) string {
	var m *Meta
	switch v := v.(type) {
	case *parsedRule:
		m = &v.rule.Meta
	case *parsedCorrelation:
		m = &v.correlation.Meta
	}
	return fmt.Sprintf("%s:%d", m.File, m.Line)
}

func (x *ruleIndex) lookup(name string) any { return x.byName[name] }

// maxNearest bounds the search for the name that was meant.
const maxNearest = 10_000

func (x *ruleIndex) hint(name string) string {
	if len(x.names) > maxNearest {
		return "rules are referred to by id or name"
	}
	best, least := "", 3
	for _, k := range x.names {
		if d := editDistance(name, k); d < least {
			best, least = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "rules are referred to by id or name"
}

// resolved is what a reference of a correlation leads to: one of both.
type resolved struct {
	rule        *parsedRule
	correlation *parsedCorrelation
}

type visitState uint8

const (
	unvisited visitState = iota
	visiting
	visited
)

// resolver orders correlations after those that they refer to.
type resolver struct {
	index   *ruleIndex
	ordered []*parsedCorrelation
}

// visit resolves the references of c and what they lead to. Afterwards c.ok
// tells whether it can be used.
func (r *resolver) visit(c *parsedCorrelation) {
	c.state = visiting
	for _, ref := range c.refs {
		var step resolved
		switch target := r.index.lookup(ref.Value).(type) {
		case *parsedRule:
			step.rule = target
			if !target.ok {
				c.leaveOut(ref)
			}
		case *parsedCorrelation:
			step.correlation = target
			switch target.state {
			case visiting:
				c.error(ref, "a correlation cannot depend on its own result", "%q refers back to this correlation", ref.Value)
				c.ok = false
			case unvisited:
				r.visit(target)
			}
			if !target.ok && target.state == visited {
				c.leaveOut(ref)
			}
		default:
			c.error(ref, r.index.hint(ref.Value), "there is no rule %q", ref.Value)
			c.ok = false
		}
		for _, other := range c.steps {
			if other == step && step != (resolved{}) {
				c.error(ref, "refer to each rule once", "%q refers to a rule that is already in the list", ref.Value)
				c.ok = false
				break
			}
		}
		c.steps = append(c.steps, step)
	}
	c.checkAliases()
	if c.ok {
		before := c.errors
		c.correlation.Expr = c.temporalExpr()
		c.ok = c.errors == before
	}
	c.state = visited
	if c.ok {
		r.ordered = append(r.ordered, c)
	}
}

func (c *parsedCorrelation) leaveOut(ref *yaml.Node) {
	c.error(ref, "correct that one first", "rule %q was left out", ref.Value)
	c.ok = false
}

// names returns what the rule of a step may be called in an alias.
func (c *parsedCorrelation) stepNames(i int) []string {
	names := []string{c.refs[i].Value}
	switch step := c.steps[i]; {
	case step.rule != nil:
		names = append(names, step.rule.rule.ID, step.rule.rule.Name)
	case step.correlation != nil:
		names = append(names, step.correlation.correlation.ID, step.correlation.correlation.Name)
	}
	return names
}

// fieldIn returns what the field or alias name is called in step i.
func (c *parsedCorrelation) fieldIn(i int, name string) string {
	a := c.aliases[name]
	if a == nil {
		return name
	}
	for _, rule := range c.stepNames(i) {
		if field := a.fields[rule]; field != nil {
			return field.Value
		}
	}
	return name
}

// checkAliases reports aliases that leave out a rule, name one that is not
// there, or are of no use.
func (c *parsedCorrelation) checkAliases() {
	for _, name := range c.aliasNames {
		a := c.aliases[name]
		known := map[string]bool{}
		for i, step := range c.steps {
			given := false
			for _, rule := range c.stepNames(i) {
				known[rule] = true
				given = given || a.fields[rule] != nil
			}
			if !given && step.rule != nil {
				c.error(a.node, fmt.Sprintf("add %s: with the field's name in its events", c.refs[i].Value), "alias %q has no field for rule %q", name, c.refs[i].Value)
				c.ok = false
			}
		}
		for rule, field := range a.fields {
			if !known[rule] {
				c.error(field, "name it as the list of rules does", "alias %q names %q, which is not among the rules", name, rule)
				c.ok = false
			}
		}
		used := slices.Contains(c.correlation.GroupBy, name) ||
			slices.ContainsFunc(c.fields, func(n *yaml.Node) bool { return n.Value == name })
		if !used {
			c.warn(a.node, "use it in group-by or as the condition's field, or remove it", "alias %q is not used", name)
		}
	}
}
