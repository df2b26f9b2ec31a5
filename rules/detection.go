package rules

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// detectionParser turns the selections and the condition of a detection (or a
// filter) into an expression.
type detectionParser struct {
	*reporter
	opts    *Options
	regexes map[string]*regex // shared by all rules
	tests   int               // predicates so far
	names   []string
	used    map[string]bool
	nodes   map[string]*node // nil for a selection that is wrong
}

// reserved are the keys of a detection that are not selections.
func isReserved(name string) bool { return name == "condition" || name == "timeframe" }

// parse returns nil after reporting what is wrong. Keys in skip are not
// selections.
func (p *detectionParser) parse(n *yaml.Node, skip ...string) *node {
	if n.Kind != yaml.MappingNode {
		p.error(n, "a detection holds selections and a condition", "detection is %s, not a mapping", kindName(n))
		return nil
	}
	before := p.errors
	p.nodes, p.used = map[string]*node{}, map[string]bool{}
	where := map[string]*yaml.Node{}
	for key, value := range members(n) {
		if isReserved(key.Value) || slices.Contains(skip, key.Value) {
			continue
		}
		p.names = append(p.names, key.Value)
		where[key.Value] = key
		p.nodes[key.Value] = p.selection(key.Value, value)
	}
	if t := member(n, "timeframe"); t != nil {
		p.error(t, "write a correlation rule with a timespan", "timeframe is obsolete")
	}
	cond := member(n, "condition")
	if cond == nil {
		p.error(n, "add condition: with the name of a selection", "the detection has no condition")
		return nil
	}
	if len(p.names) == 0 {
		p.error(n, "add a selection", "the detection has no selection")
		return nil
	}
	root := p.conditions(cond)
	if p.errors > before {
		return nil
	}
	if count := countTests(root, map[*node]int{}); count > p.opts.Limits.RuleTests {
		p.error(cond, "split the rule", "the condition comes to %d tests, the limit is %d", count, p.opts.Limits.RuleTests)
		return nil
	}
	for _, name := range p.names {
		if !p.used[name] && !strings.HasPrefix(name, "_") {
			p.warn(where[name], "name it in the condition or remove it", "selection %q is not used", name)
		}
	}
	return root
}

// countTests counts the predicates of n with the shared parts unrolled, as they
// are when it is compiled. It saturates.
func countTests(n *node, seen map[*node]int) int {
	if n.op == opPred {
		return 1
	}
	if c, ok := seen[n]; ok {
		return c
	}
	sum := 0
	for _, a := range n.args {
		sum = min(sum+countTests(a, seen), math.MaxInt32)
	}
	seen[n] = sum
	return sum
}

// conditions takes one condition or a list of them, which are alternatives.
func (p *detectionParser) conditions(n *yaml.Node) *node {
	list := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		list = n.Content
	}
	if len(list) == 0 {
		p.error(n, "name a selection", "the list of conditions is empty")
		return nil
	}
	var args []*node
	for _, item := range list {
		if item.Kind != yaml.ScalarNode || isNull(item) {
			p.error(item, "write a condition such as selection and not filter", "a condition is %s", kindName(item))
			return nil
		}
		c, err := parseCondition(item.Value, &p.opts.Limits)
		if err != nil {
			p.conditionError(item, err)
			return nil
		}
		arg := p.build(item, c)
		if arg == nil {
			return nil
		}
		args = append(args, arg)
	}
	return or(args...)
}

func (r *reporter) conditionError(n *yaml.Node, err *conditionError) {
	column := err.column
	switch n.Style {
	case yaml.SingleQuotedStyle, yaml.DoubleQuotedStyle:
		column++
	case yaml.LiteralStyle, yaml.FoldedStyle:
		column = 0
	}
	r.report(SeverityError, n, column, err.hint, "condition: %s", err.what)
}

// build returns the expression of c, nil after an error.
func (p *detectionParser) build(at *yaml.Node, c *condition) *node {
	switch c.kind {
	case condName:
		n, ok := p.nodes[c.name]
		if !ok {
			p.conditionError(at, &conditionError{c.column, fmt.Sprintf("there is no selection %q", c.name), nearest(c.name, p.names)})
			return nil
		}
		p.used[c.name] = true
		return n
	case condOf:
		var args []*node
		found := false
		for _, name := range p.names {
			if matchName(name, c.name) {
				found = true
				p.used[name] = true
				if p.nodes[name] == nil {
					return nil // reported with the selection
				}
				args = append(args, p.nodes[name])
			}
		}
		if !found {
			p.conditionError(at, &conditionError{c.column, fmt.Sprintf("no selection matches %q", c.name), "selections are " + strings.Join(p.names, ", ")})
			return nil
		}
		if c.all {
			return and(args...)
		}
		return or(args...)
	}
	var args []*node
	for _, a := range c.args {
		n := p.build(at, a)
		if n == nil {
			return nil
		}
		args = append(args, n)
	}
	switch c.kind {
	case condAnd:
		return and(args...)
	case condOr:
		return or(args...)
	}
	return not(args[0])
}

// selection: a mapping is a conjunction of items, a list a disjunction of
// mappings and keywords, a scalar a keyword.
func (p *detectionParser) selection(name string, n *yaml.Node) *node {
	switch n.Kind {
	case yaml.MappingNode:
		return p.items(name, n)
	case yaml.SequenceNode:
		if len(n.Content) == 0 {
			p.error(n, "give it a mapping or keywords", "selection %q is empty", name)
			return nil
		}
		var args []*node
		var keywords []*yaml.Node
		ok := true
		for _, item := range n.Content {
			switch item.Kind {
			case yaml.MappingNode:
				arg := p.items(name, item)
				ok = ok && arg != nil
				args = append(args, arg)
			case yaml.ScalarNode:
				keywords = append(keywords, item)
			default:
				p.error(item, "", "selection %q holds a list in a list", name)
				ok = false
			}
		}
		if len(keywords) > 0 {
			arg := p.values(keywordField, modifiers{}, keywords)
			ok = ok && arg != nil
			args = append(args, arg)
		}
		if !ok {
			return nil
		}
		return or(args...)
	}
	return p.values(keywordField, modifiers{}, []*yaml.Node{n})
}

func (p *detectionParser) items(name string, n *yaml.Node) *node {
	if len(n.Content) == 0 {
		p.error(n, "give it fields and values", "selection %q is empty", name)
		return nil
	}
	var args []*node
	ok := true
	for key, value := range members(n) {
		arg := p.item(key, value)
		ok = ok && arg != nil
		args = append(args, arg)
	}
	if !ok {
		return nil
	}
	return and(args...)
}

// item is field|modifier|...: value or values.
func (p *detectionParser) item(key, value *yaml.Node) *node {
	names := strings.Split(key.Value, "|")
	field := names[0]
	m, err := parseModifiers(names[1:])
	if err != nil {
		p.modifierError(key, err)
		return nil
	}
	if hint, what := checkField(field, &p.opts.Limits); what != "" {
		p.error(key, hint, "%s", what)
		return nil
	}
	if field == keywordField && len(names) == 1 {
		p.error(key, "write the field's name, or '|all' for keywords that must all occur", "an empty field name")
		return nil
	}
	list := []*yaml.Node{value}
	switch value.Kind {
	case yaml.SequenceNode:
		list = value.Content
		if len(list) == 0 {
			p.error(value, "give at least one value", "field %q has no values", field)
			return nil
		}
	case yaml.MappingNode:
		p.error(value, "write the path with dots: "+field+".name", "the value of field %q is a mapping", field)
		return nil
	}
	n := p.values(field, m, list)
	if n != nil && m.neq {
		return not(n)
	}
	return n
}

// checkField says what is wrong with the name of a field.
func checkField(field string, limits *Limits) (hint, what string) {
	if strings.Count(field, ".") >= limits.FieldSegments {
		return "", fmt.Sprintf("field name with more than %d parts", limits.FieldSegments)
	}
	if strings.HasPrefix(field, envelopePrefix) && !isEnvelopeField(field) {
		return nearest(field, envelopeNames()), fmt.Sprintf("there is no field %q in the envelope", field)
	}
	return "", ""
}

func (p *detectionParser) modifierError(n *yaml.Node, err error) {
	hint := ""
	var m *modifierError
	if errors.As(err, &m) {
		hint = m.hint
	}
	p.error(n, hint, "%s", err.Error())
}

// values builds the expression of one item's values.
func (p *detectionParser) values(field string, m modifiers, list []*yaml.Node) *node {
	// not (a or b) is what neq means, with and without all.
	conjunction := m.all && !m.neq
	either := alternatives{parser: p, field: field}
	var all []*node
	ok := true
	for _, n := range list {
		v, err := p.operand(n, m)
		if err == nil && conjunction {
			one := alternatives{parser: p, field: field}
			if err = one.add(v); err == nil {
				all = append(all, one.node())
			}
		} else if err == nil {
			err = either.add(v)
		}
		if err != nil {
			p.modifierError(n, err)
			ok = false
		}
	}
	switch {
	case !ok:
		return nil
	case conjunction:
		return and(all...)
	}
	return either.node()
}

// operand reads a scalar and applies the modifiers.
func (p *detectionParser) operand(n *yaml.Node, m modifiers) (operand, error) {
	if p.tests++; p.tests > p.opts.Limits.RuleTests {
		return operand{}, illegal("split the rule", "more than %d values", p.opts.Limits.RuleTests)
	}
	if n.Kind != yaml.ScalarNode {
		return operand{}, illegal("write a string, number, boolean or null", "a value is %s", kindName(n))
	}
	if len(n.Value) > p.opts.Limits.ValueBytes {
		return operand{}, illegal("", "value of %d bytes, the limit is %d", len(n.Value), p.opts.Limits.ValueBytes)
	}
	v := operand{raw: n.Value}
	switch n.ShortTag() {
	case "!!null":
		v.kind = opdNull
		if len(m.chain) > 0 {
			return v, illegal("write null without modifiers, or exists: false", "null with modifier %q", m.chain[0])
		}
		return v, nil
	case "!!bool":
		v.kind = opdBool
		if err := n.Decode(&v.truth); err != nil {
			return v, err
		}
	case "!!int", "!!float":
		f, text, ok := yamlNumber(n)
		if !ok {
			return v, illegal("quote it if it is a string", "%q is not a finite number", n.Value)
		}
		v.kind, v.number, v.raw = opdNumber, f, text
	default:
		v.kind, v.pattern = opdString, parsePattern(n.Value)
	}
	return m.apply(v, p.opts)
}

// yamlNumber returns the value of a number and the canonical text of it.
func yamlNumber(n *yaml.Node) (f float64, text string, ok bool) {
	if n.ShortTag() == "!!int" {
		if i, err := strconv.ParseInt(n.Value, 0, 64); err == nil {
			return float64(i), strconv.FormatInt(i, 10), true
		}
		if u, err := strconv.ParseUint(n.Value, 0, 64); err == nil {
			return float64(u), strconv.FormatUint(u, 10), true
		}
	}
	if n.Decode(&f) != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return 0, "", false
	}
	return f, string(appendNumber(nil, f)), true
}
