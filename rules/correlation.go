package rules

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// parsedCorrelation is a correlation before its references are resolved.
type parsedCorrelation struct {
	*reporter
	node        *yaml.Node // the correlation mapping
	correlation Correlation
	generate    bool
	refs        []*yaml.Node
	groupBy     []*yaml.Node
	fields      []*yaml.Node // of the condition
	aliases     map[string]*alias
	aliasNames  []string
	expr        *condition // boolean condition
	exprNode    *yaml.Node
	atLeast     int // temporal: that many rules, 0 for all
	ok          bool

	steps []resolved
	state visitState
	index int // in Set.Correlations
}

type alias struct {
	node   *yaml.Node
	fields map[string]*yaml.Node // by rule as referred to
}

var correlationTypes = []string{
	EventCount:      "event_count",
	ValueCount:      "value_count",
	ValueSum:        "value_sum",
	ValueAvg:        "value_avg",
	ValuePercentile: "value_percentile",
	ValueMedian:     "value_median",
	Temporal:        "temporal",
	TemporalOrdered: "temporal_ordered",
}

// String returns Sigma's name of the type.
func (t CorrelationType) String() string {
	if int(t) < len(correlationTypes) {
		return correlationTypes[t]
	}
	return ""
}

var operatorNames = []string{GT: "gt", GTE: "gte", LT: "lt", LTE: "lte", EQ: "eq", NEQ: "neq"}

// String returns Sigma's name of the operator.
func (o Operator) String() string {
	if int(o) < len(operatorNames) {
		return operatorNames[o]
	}
	return ""
}

// Holds compares value with the bound.
func (b Bound) Holds(value float64) bool {
	switch b.Op {
	case GT:
		return value > b.Value
	case GTE:
		return value >= b.Value
	case LT:
		return value < b.Value
	case LTE:
		return value <= b.Value
	case EQ:
		return value == b.Value
	default:
		return value != b.Value
	}
}

// Holds reports whether value is within all bounds.
func (c *Condition) Holds(value float64) bool {
	for _, b := range c.Bounds {
		if !b.Holds(value) {
			return false
		}
	}
	return true
}

func (t CorrelationType) isTemporal() bool { return t == Temporal || t == TemporalOrdered }

var correlationKeys = []string{"type", "rules", "aliases", "group-by", "timespan", "condition", "generate"}

func (p *parser) correlation(d document) *parsedCorrelation {
	c := &parsedCorrelation{reporter: d.reporter, aliases: map[string]*alias{}, index: -1}
	c.correlation.Meta = parseMeta(d)
	a := parseAttributes(d, &p.opts.Limits, "tocsin.suppress", "tocsin.realert", "tocsin.evidence")
	c.correlation.Suppress, c.correlation.Realert, c.correlation.Evidence = a.suppress, a.realert, a.evidence
	c.node = member(d.root, "correlation")
	if c.node.Kind != yaml.MappingNode {
		d.error(c.node, "give it type, rules, group-by, timespan and condition", "correlation is %s, not a mapping", kindName(c.node))
		return c
	}
	if n := member(d.root, "detection"); n != nil {
		d.error(n, "put the rule into a document of its own", "a correlation cannot have a detection")
	}
	for key := range members(c.node) {
		if !slices.Contains(correlationKeys, key.Value) {
			d.error(key, nearest(key.Value, correlationKeys), "unknown key %q in the correlation", key.Value)
		}
	}
	c.generate = parseGenerate(d, c.node)
	c.parseType()
	if rules := member(c.node, "rules"); rules == nil {
		c.error(c.node, "add rules: with IDs or names", "the correlation has no rules")
	} else {
		c.refs = references(c.reporter, rules)
		if len(c.refs) > p.opts.Limits.CorrelationSteps {
			c.error(rules, "", "a correlation of %d rules, the limit is %d", len(c.refs), p.opts.Limits.CorrelationSteps)
		}
	}
	c.parseGroupBy(&p.opts.Limits)
	c.parseAliases(&p.opts.Limits)
	if n := member(c.node, "timespan"); n == nil {
		c.error(c.node, "add timespan: such as 5m", "the correlation has no timespan")
	} else {
		t, err := parseTimespan(n.Value, p.opts.Limits.Timespan)
		if err != nil {
			c.error(n, "write a number and one of the units s m h d w M y", "%s", err)
		}
		c.correlation.Timespan = t
	}
	c.parseCondition(&p.opts.Limits)
	c.ok = c.errors == 0
	return c
}

// parseGenerate takes generate where the schema has it (at the top) and where
// the specification's text has it (in the correlation).
func parseGenerate(d document, correlation *yaml.Node) bool {
	for _, n := range []*yaml.Node{member(correlation, "generate"), member(d.root, "generate")} {
		if n == nil {
			continue
		}
		var v bool
		if n.ShortTag() != "!!bool" || n.Decode(&v) != nil {
			d.error(n, "write true or false", "generate is %s", kindName(n))
		}
		return v
	}
	return false
}

func (c *parsedCorrelation) parseType() {
	n := member(c.node, "type")
	if n == nil {
		c.error(c.node, "add type: one of "+strings.Join(correlationTypes, ", "), "the correlation has no type")
		return
	}
	i := slices.Index(correlationTypes, n.Value)
	if i < 0 {
		c.error(n, nearest(n.Value, correlationTypes), "unknown correlation type %q", n.Value)
		return
	}
	c.correlation.Type = CorrelationType(i)
}

func (c *parsedCorrelation) parseGroupBy(limits *Limits) {
	n := member(c.node, "group-by")
	if n == nil || isNull(n) {
		return
	}
	list := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		list = n.Content
	}
	for _, item := range list {
		if item.Kind != yaml.ScalarNode || isNull(item) || item.Value == "" {
			c.error(item, "write the name of a field or alias", "group-by holds %s", kindName(item))
			continue
		}
		if slices.Contains(c.correlation.GroupBy, item.Value) {
			c.error(item, "name it once", "%q twice in group-by", item.Value)
			continue
		}
		if hint, what := checkField(item.Value, limits); what != "" {
			c.error(item, hint, "%s", what)
			continue
		}
		c.groupBy = append(c.groupBy, item)
		c.correlation.GroupBy = append(c.correlation.GroupBy, item.Value)
	}
}

func (c *parsedCorrelation) parseAliases(limits *Limits) {
	n := member(c.node, "aliases")
	if n == nil || isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		c.error(n, "write alias: {rule: field}", "aliases are %s, not a mapping", kindName(n))
		return
	}
	for key, value := range members(n) {
		a := &alias{node: key, fields: map[string]*yaml.Node{}}
		if value.Kind != yaml.MappingNode || len(value.Content) == 0 {
			c.error(value, "write alias: {rule: field}", "alias %q is %s", key.Value, kindName(value))
			continue
		}
		for rule, field := range members(value) {
			if field.Kind != yaml.ScalarNode || isNull(field) || field.Value == "" {
				c.error(field, "write the name of a field", "alias %q of rule %q is %s", key.Value, rule.Value, kindName(field))
				continue
			}
			if hint, what := checkField(field.Value, limits); what != "" {
				c.error(field, hint, "%s", what)
			}
			a.fields[rule.Value] = field
		}
		c.aliases[key.Value] = a
		c.aliasNames = append(c.aliasNames, key.Value)
	}
}

// parseCondition reads the bounds of a window's value, or the boolean condition
// of a temporal correlation.
func (c *parsedCorrelation) parseCondition(limits *Limits) {
	n := member(c.node, "condition")
	t := c.correlation.Type
	if n == nil || isNull(n) {
		if !t.isTemporal() {
			c.error(c.node, "add condition: such as {gte: 10}", "a correlation of type %s needs a condition", t)
		}
		return
	}
	if n.Kind == yaml.ScalarNode {
		c.parseExpr(n, limits)
		return
	}
	if n.Kind != yaml.MappingNode {
		c.error(n, "write a mapping such as {gte: 10}", "the condition is %s", kindName(n))
		return
	}
	known := append([]string{"field", "percentile"}, operatorNames...)
	for key, value := range members(n) {
		switch op := slices.Index(operatorNames, key.Value); {
		case op >= 0:
			c.parseBound(Operator(op), value)
		case key.Value == "field":
			c.parseFields(value, limits)
		case key.Value == "percentile":
			f, _, ok := yamlNumber(value)
			if !ok || f <= 0 || f > 100 {
				c.error(value, "give a number above 0, up to 100", "percentile is %q", value.Value)
			}
			if t != ValuePercentile {
				c.error(key, "use type value_percentile", "a correlation of type %s has no percentile", t)
			}
			c.correlation.Condition.Percentile = f
		default:
			c.error(key, nearest(key.Value, known), "unknown key %q in the condition", key.Value)
		}
	}
	c.checkCondition(n)
}

func (c *parsedCorrelation) parseBound(op Operator, n *yaml.Node) {
	f, _, ok := 0.0, "", false
	if tag := n.ShortTag(); n.Kind == yaml.ScalarNode && (tag == "!!int" || tag == "!!float") {
		f, _, ok = yamlNumber(n)
	}
	if !ok {
		c.error(n, "write a number, without quotes", "%s is %s", op, kindName(n))
		return
	}
	c.correlation.Condition.Bounds = append(c.correlation.Condition.Bounds, Bound{op, f})
}

func (c *parsedCorrelation) parseFields(n *yaml.Node, limits *Limits) {
	list := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		list = n.Content
	}
	for _, item := range list {
		if item.Kind != yaml.ScalarNode || isNull(item) || item.Value == "" {
			c.error(item, "write the name of a field", "the condition's field is %s", kindName(item))
			continue
		}
		if hint, what := checkField(item.Value, limits); what != "" {
			c.error(item, hint, "%s", what)
			continue
		}
		c.fields = append(c.fields, item)
	}
}

// checkCondition holds the condition against the type.
func (c *parsedCorrelation) checkCondition(n *yaml.Node) {
	t := c.correlation.Type
	cond := &c.correlation.Condition
	if len(cond.Bounds) == 0 {
		c.error(n, "add one of "+strings.Join(operatorNames, ", "), "the condition has no bound")
		return
	}
	if contradictory(cond.Bounds) {
		c.error(n, "", "no value satisfies the condition")
	}
	switch {
	case t == EventCount || t.isTemporal():
		if len(c.fields) > 0 {
			c.error(c.fields[0], "use value_count to count its values", "a correlation of type %s has no field", t)
		}
	case len(c.fields) == 0:
		c.error(n, "add field:", "a correlation of type %s needs a field", t)
	case t != ValueCount && len(c.fields) > 1:
		c.error(c.fields[1], "use one correlation for each", "a correlation of type %s has one field", t)
	}
	if t == ValuePercentile && cond.Percentile == 0 {
		c.error(n, "add percentile: such as 95", "a correlation of type value_percentile needs a percentile")
	}
	if t.isTemporal() {
		// Bounds are on the number of rules that have an event.
		b := cond.Bounds[0]
		k := math.Ceil(b.Value)
		if b.Op == GT {
			k = math.Floor(b.Value) + 1
		}
		if len(cond.Bounds) > 1 || b.Op != GT && b.Op != GTE || k < 1 || k > float64(len(c.refs)) {
			c.error(n, "use gte with at most the number of rules, or a condition such as a and b and not c",
				"a correlation of type %s cannot have this condition", t)
			return
		}
		cond.Bounds = nil
		if int(k) < len(c.refs) {
			if t == TemporalOrdered {
				c.error(n, "use type temporal", "temporal_ordered needs an event of every rule")
			}
			c.atLeast = int(k)
		}
	}
}

// contradictory reports whether the bounds exclude each other.
func contradictory(bounds []Bound) bool {
	// Any value that satisfies them is at, or next to, one of the limits.
	for _, b := range bounds {
		for _, v := range []float64{b.Value, math.Nextafter(b.Value, math.Inf(-1)), math.Nextafter(b.Value, math.Inf(1))} {
			c := Condition{Bounds: bounds}
			if c.Holds(v) {
				return false
			}
		}
	}
	return true
}

func (c *parsedCorrelation) parseExpr(n *yaml.Node, limits *Limits) {
	if c.correlation.Type != Temporal {
		c.error(n, "use type temporal, or a mapping such as {gte: 10}", "a correlation of type %s cannot have a boolean condition", c.correlation.Type)
		return
	}
	expr, err := parseCondition(n.Value, limits)
	if err != nil {
		c.conditionError(n, err)
		return
	}
	c.expr, c.exprNode = expr, n
}

// maxCombinations bounds what "k of n rules" is written out as.
const maxCombinations = 1000

// temporalExpr resolves the boolean condition over the steps.
func (c *parsedCorrelation) temporalExpr() *TemporalExpr {
	names := make([]string, len(c.refs))
	for i, ref := range c.refs {
		names[i] = ref.Value
	}
	switch {
	case c.expr != nil:
		used := make([]bool, len(names))
		e := c.buildExpr(c.expr, names, used)
		if e == nil {
			return nil
		}
		for i, u := range used {
			if !u {
				c.warn(c.refs[i], "name it in the condition or remove it", "rule %q is not in the condition", names[i])
			}
		}
		if ExprEval(e, func(int) bool { return false }) {
			c.error(c.exprNode, "add a rule that must have an event", "the condition holds without any event")
			return nil
		}
		return e
	case c.atLeast > 0:
		e := &TemporalExpr{Op: ExprOr}
		if !combinations(len(names), c.atLeast, func(steps []int) bool {
			all := &TemporalExpr{Op: ExprAnd}
			for _, s := range steps {
				all.Args = append(all.Args, &TemporalExpr{Op: ExprStep, Step: s})
			}
			e.Args = append(e.Args, all)
			return len(e.Args) <= maxCombinations
		}) {
			c.error(c.node, "use fewer rules", "%d of %d rules are more than %d combinations", c.atLeast, len(names), maxCombinations)
			return nil
		}
		return e
	}
	return nil
}

func (c *parsedCorrelation) buildExpr(at *condition, names []string, used []bool) *TemporalExpr {
	e := &TemporalExpr{}
	switch at.kind {
	case condName:
		e.Step = slices.Index(names, at.name)
		if e.Step < 0 {
			c.conditionError(c.exprNode, &conditionError{at.column, fmt.Sprintf("%q is not among the rules of the correlation", at.name), nearest(at.name, names)})
			return nil
		}
		used[e.Step] = true
		return e
	case condOf:
		e.Op = ExprOr
		if at.all {
			e.Op = ExprAnd
		}
		for i, name := range names {
			if matchName(name, at.name) {
				used[i] = true
				e.Args = append(e.Args, &TemporalExpr{Op: ExprStep, Step: i})
			}
		}
		if len(e.Args) == 0 {
			c.conditionError(c.exprNode, &conditionError{at.column, fmt.Sprintf("no rule matches %q", at.name), "rules are " + strings.Join(names, ", ")})
			return nil
		}
		return e
	case condAnd:
		e.Op = ExprAnd
	case condOr:
		e.Op = ExprOr
	case condNot:
		e.Op = ExprNot
	}
	for _, a := range at.args {
		arg := c.buildExpr(a, names, used)
		if arg == nil {
			return nil
		}
		e.Args = append(e.Args, arg)
	}
	return e
}

// combinations calls f with each k of 0..n-1 until it returns false.
func combinations(n, k int, f func([]int) bool) bool {
	steps := make([]int, k)
	for i := range steps {
		steps[i] = i
	}
	for {
		if !f(slices.Clone(steps)) {
			return false
		}
		i := k - 1
		for i >= 0 && steps[i] == n-k+i {
			i--
		}
		if i < 0 {
			return true
		}
		steps[i]++
		for j := i + 1; j < k; j++ {
			steps[j] = steps[j-1] + 1
		}
	}
}
