package rules

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gaissmai/bart"
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
	var where = map[string]*yaml.Node{}
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

// alternatives collects values any of which may match. All plain texts become
// one predicate.
type alternatives struct {
	parser *detectionParser
	field  string
	folded []literal
	cidr   []netip.Prefix
	others []*node
}

func (a *alternatives) node() *node {
	var args []*node
	if len(a.folded) > 0 {
		args = append(args, leaf(newLiterals(a.field, predLiterals, a.folded)))
	}
	if len(a.cidr) > 0 {
		args = append(args, leaf(newCIDR(a.field, a.cidr)))
	}
	return or(append(args, a.others...)...)
}

func (a *alternatives) test(p *predicate) { a.others = append(a.others, leaf(p)) }

func (a *alternatives) add(v operand) error {
	if a.field == keywordField {
		switch v.kind {
		case opdString, opdRegex, opdAlternatives:
		case opdNumber, opdBool:
			v = operand{kind: opdString, raw: v.raw, pattern: literalPattern(v.raw)}
		default:
			return illegal("name a field", "a keyword cannot be %s", operandNames[v.kind])
		}
	}
	switch v.kind {
	case opdString:
		return a.addPattern(v)
	case opdNumber:
		a.folded = append(a.folded, literal{op: litEqual, text: foldString(v.raw), number: true})
	case opdBool:
		a.folded = append(a.folded, literal{op: litEqual, text: strconv.FormatBool(v.truth)})
	case opdNull:
		a.test(&predicate{field: a.field, kind: predNull})
	case opdExists:
		n := leaf(&predicate{field: a.field, kind: predExists})
		if !v.truth {
			n = not(n)
		}
		a.others = append(a.others, n)
	case opdRegex:
		return a.addRegex(v)
	case opdCIDR:
		a.cidr = append(a.cidr, v.prefix)
	case opdTime:
		a.test(&predicate{field: a.field, kind: predCompare, part: v.part, op: EQ, number: v.number})
	case opdCompare:
		a.test(&predicate{field: a.field, kind: predCompare, part: v.part, op: v.op, number: v.number})
	case opdFieldRef:
		if hint, what := checkField(v.raw, &a.parser.opts.Limits); what != "" {
			return illegal(hint, "%s", what)
		}
		a.test(&predicate{field: a.field, kind: predFieldRef, ref: v.raw, refOp: v.ref, cased: v.cased})
	case opdAlternatives:
		for _, alt := range v.alternatives {
			if err := a.add(alt); err != nil {
				return err
			}
		}
	}
	return nil
}

// addPattern turns what is no more than a text at one end, or anywhere, into a
// literal. Other wildcards are tested behind literals that they require.
func (a *alternatives) addPattern(v operand) error {
	p := v.pattern
	if a.field == keywordField {
		p = p.prependStar().appendStar()
	}
	p = p.normal()
	for _, p := range unrollDashes(p) {
		if l, ok := asLiteral(p); ok {
			folded := literal{op: l.op, text: foldString(l.text)}
			if !v.cased {
				a.folded = append(a.folded, folded)
				continue
			}
			a.others = append(a.others, and(
				leaf(newLiterals(a.field, predLiterals, []literal{folded})),
				leaf(newLiterals(a.field, predCased, []literal{l}))))
			continue
		}
		if len(p.parts) == 1 && p.parts[0].kind == partStar {
			a.test(&predicate{field: a.field, kind: predAny})
			continue
		}
		test := &predicate{field: a.field, kind: predWildcard, pattern: p, cased: v.cased}
		if !v.cased {
			test.pattern = p.fold()
		}
		args := []*node{}
		if l, ok := requiredLiteral(p); ok {
			args = append(args, leaf(newLiterals(a.field, predLiterals, []literal{l})))
		}
		a.others = append(a.others, and(append(args, leaf(test))...))
	}
	return nil
}

// maxUnrolled bounds the variants that a pattern with dashes is written out as;
// with more it stays a wildcard pattern.
const maxUnrolled = 25

func unrollDashes(p pattern) []pattern {
	n := 1
	for _, part := range p.parts {
		if part.kind == partDash {
			if n *= len(dashes); n > maxUnrolled {
				return []pattern{p}
			}
		}
	}
	out := []pattern{{}}
	for _, at := range p.parts {
		if at.kind != partDash {
			for i := range out {
				out[i].parts = append(out[i].parts, at)
			}
			continue
		}
		var next []pattern
		for _, q := range out {
			for _, d := range dashes {
				next = append(next, pattern{append(slices.Clone(q.parts), part{partText, d})})
			}
		}
		out = next
	}
	for i := range out {
		out[i] = out[i].normal()
	}
	return out
}

// asLiteral returns a normal pattern as a literal if it is one.
func asLiteral(p pattern) (literal, bool) {
	star := func(i int) bool { return p.parts[i].kind == partStar }
	text := func(i int) bool { return p.parts[i].kind == partText }
	switch n := len(p.parts); {
	case n == 0:
		return literal{op: litEqual}, true
	case n == 1 && text(0):
		return literal{op: litEqual, text: p.parts[0].text}, true
	case n == 2 && text(0) && star(1):
		return literal{op: litPrefix, text: p.parts[0].text}, true
	case n == 2 && star(0) && text(1):
		return literal{op: litSuffix, text: p.parts[1].text}, true
	case n == 3 && star(0) && text(1) && star(2):
		return literal{op: litContains, text: p.parts[1].text}, true
	}
	return literal{}, false
}

// requiredLiteral returns the longest text of a wildcard pattern, folded, and
// where it must be.
func requiredLiteral(p pattern) (literal, bool) {
	best := literal{}
	for i, part := range p.parts {
		if part.kind != partText || len(part.text) <= len(best.text) {
			continue
		}
		best = literal{op: litContains, text: part.text}
		switch i {
		case 0:
			best.op = litPrefix
		case len(p.parts) - 1:
			best.op = litSuffix
		}
	}
	best.text = foldString(best.text)
	return best, best.text != ""
}

func (a *alternatives) addRegex(v operand) error {
	expr := v.regex
	if v.flags != "" {
		flags := []byte(v.flags)
		slices.Sort(flags)
		expr = "(?" + string(slices.Compact(flags)) + ")" + expr
	}
	re := a.parser.regexes[expr]
	if re == nil {
		if !utf8.ValidString(expr) {
			return illegal("", "the regular expression is not UTF-8")
		}
		var hint string
		var err error
		re, hint, err = compileRegex(expr, &a.parser.opts.Limits)
		if err != nil {
			return illegal(hint, "%s", err.Error())
		}
		a.parser.regexes[expr] = re
	}
	test := leaf(&predicate{field: a.field, kind: predRegex, regex: re})
	if required := requiredLiterals(expr); required != nil {
		var ls []literal
		for _, s := range required {
			ls = append(ls, literal{op: litContains, text: s})
		}
		test = and(leaf(newLiterals(a.field, predLiterals, ls)), test)
	}
	a.others = append(a.others, test)
	return nil
}

func newCIDR(field string, prefixes []netip.Prefix) *predicate {
	p := &predicate{field: field, kind: predCIDR, cidr: new(bart.Lite)}
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int { return strings.Compare(a.String(), b.String()) })
	p.prefixes = slices.Compact(prefixes)
	for _, prefix := range p.prefixes {
		p.cidr.Insert(prefix)
	}
	return p
}
