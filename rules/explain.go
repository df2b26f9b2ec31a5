package rules

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/tocsin-io/tocsin/schemas"
)

// Explainer says why detection rules match an event or do not. It reads a rule
// as it is written, item by item, and has each item decided by a Matcher as if it
// were a rule of its own; how the items make up the rule is evaluated in the
// plainest way. It is for one goroutine.
type Explainer struct {
	opts    Options
	index   *ruleIndex
	filters []*parsedFilter
	rules   map[*parsedRule]*explainedRule
}

// Explanation is why a rule matches an event or does not.
type Explanation struct {
	Rule    *Meta `json:"-"`
	Matched bool  `json:"matched"`
	// Selected: the event is of the rule's log source.
	Selected       bool      `json:"selected"`
	LogSource      LogSource `json:"log_source"`
	EventLogSource LogSource `json:"event_log_source"`
	// Parts are the rule's own detection and those of the filters on it. All must
	// hold.
	Parts []ExplainedPart `json:"parts"`
}

// ExplainedPart is a detection with its condition.
type ExplainedPart struct {
	Filter     string               `json:"filter,omitempty"` // title of the filter, "" for the rule itself
	File       string               `json:"file"`
	Line       int                  `json:"line"`
	Holds      bool                 `json:"holds"`
	Conditions []ExplainedCondition `json:"conditions"` // alternatives
	Selections []ExplainedSelection `json:"selections"`
}

// ExplainedCondition is a node of a condition.
type ExplainedCondition struct {
	Text  string               `json:"text"`
	Holds bool                 `json:"holds"`
	Parts []ExplainedCondition `json:"parts,omitempty"`
}

// ExplainedSelection is a named selection: alternatives of conjunctions of
// items.
type ExplainedSelection struct {
	Name         string            `json:"name"`
	Line         int               `json:"line"`
	Holds        bool              `json:"holds"`
	Alternatives [][]ExplainedItem `json:"alternatives"`
}

// ExplainedItem is a field with its modifiers and values, or keywords.
type ExplainedItem struct {
	Key   string `json:"key"` // as written; "" for keywords
	Line  int    `json:"line"`
	Holds bool   `json:"holds"`
	// Seen are the field's values in the event, as JSON; nil where it is absent,
	// and for keywords, which see the whole message.
	Seen   []string         `json:"seen"`
	Values []ExplainedValue `json:"values"`
}

// ExplainedValue is one value of an item.
type ExplainedValue struct {
	Text string `json:"text"`
	Line int    `json:"line"`
	// Holds: the field has this value, by the item's modifiers but neq.
	Holds bool `json:"holds"`
}

// NewExplainer returns an Explainer of the rules in sources. What is wrong with
// some of them Compile reports; these are not there.
func NewExplainer(sources []Source, opts Options) *Explainer {
	opts.Limits = opts.Limits.withDefaults()
	var diags Diagnostics
	p := &parser{opts: opts, regexes: map[string]*regex{}}
	for _, src := range sources {
		for _, d := range readDocuments(src, &opts.Limits, &diags) {
			p.document(d)
		}
	}
	return &Explainer{opts: opts, index: newRuleIndex(p), filters: p.filters, rules: map[*parsedRule]*explainedRule{}}
}

// Explain explains the detection rule with that ID or name for an event; as is
// the event's log source, nil for the one that the pipeline gives it.
func (x *Explainer) Explain(rule string, ev *schemas.Event, as *LogSource) (*Explanation, error) {
	r, ok := x.index.lookup(rule).(*parsedRule)
	if !ok || !r.ok {
		return nil, fmt.Errorf("there is no detection rule %q; %s", rule, x.index.hint(rule))
	}
	e := x.rules[r]
	if e == nil {
		e = x.prepare(r)
		x.rules[r] = e
	}
	of := LogSource{Product: Product, Service: string(ev.Source)}
	if as != nil {
		of = *as
	}
	return e.explain(ev, of), nil
}

// explainedRule is a rule taken apart.
type explainedRule struct {
	rule    *parsedRule
	parts   []explainedPart
	matcher *Matcher
}

type explainedPart struct {
	filter     string
	file       string
	line       int
	names      []string
	selections map[string]explainedSelection
	conditions []*condition
}

type explainedSelection struct {
	line         int
	alternatives [][]explainedItem
}

// explainedItem is an item and the rules, of the Explainer's making, that decide
// it and each of its values.
type explainedItem struct {
	key, field string
	line       int
	item       int32
	values     []explainedValue
}

type explainedValue struct {
	text string
	line int
	test int32
}

func (x *Explainer) prepare(r *parsedRule) *explainedRule {
	e := &explainedRule{rule: r}
	t := &itemCompiler{opts: &x.opts}
	e.parts = append(e.parts, t.part("", r.reporter, r.rule.Line, member(r.node, "detection")))
	for _, f := range x.filters {
		if f.appliesTo(r, x.index) {
			e.parts = append(e.parts, t.part(f.rule, f.reporter, f.node.Line+f.offset, member(f.node, "filter"), "rules"))
		}
	}
	e.matcher = link(&parser{rules: t.rules}, nil).NewMatcher()
	return e
}

func (f *parsedFilter) appliesTo(r *parsedRule, index *ruleIndex) bool {
	if !f.ok || !f.logSource.covers(r.rule.LogSource) {
		return false
	}
	if f.any {
		return true
	}
	for _, ref := range f.refs {
		if index.lookup(ref.Value) == r {
			return true
		}
	}
	return false
}

// itemCompiler makes a rule of every item and of every value.
type itemCompiler struct {
	opts  *Options
	rules []*parsedRule
}

func (t *itemCompiler) rule(n *node) int32 {
	t.rules = append(t.rules, &parsedRule{expr: n, ok: n != nil})
	return int32(len(t.rules) - 1)
}

func (t *itemCompiler) part(filter string, from *reporter, line int, detection *yaml.Node, skip ...string) explainedPart {
	// The rule was found to be right before: nothing is reported here.
	var diags Diagnostics
	r := *from
	r.diags = &diags
	p := &detectionParser{reporter: &r, opts: t.opts, regexes: map[string]*regex{}}
	out := explainedPart{filter: filter, file: from.file, line: line, selections: map[string]explainedSelection{}}
	for key, value := range members(detection) {
		if key.Value == "condition" {
			list := []*yaml.Node{value}
			if value.Kind == yaml.SequenceNode {
				list = value.Content
			}
			for _, n := range list {
				if c, err := parseCondition(n.Value, &t.opts.Limits); err == nil {
					out.conditions = append(out.conditions, c)
				}
			}
		}
		if isReserved(key.Value) || len(skip) > 0 && key.Value == skip[0] {
			continue
		}
		s := explainedSelection{line: key.Line + r.offset}
		switch value.Kind {
		case yaml.MappingNode:
			s.alternatives = append(s.alternatives, t.items(p, value))
		case yaml.SequenceNode:
			var keywords []*yaml.Node
			for _, n := range value.Content {
				if n.Kind == yaml.MappingNode {
					s.alternatives = append(s.alternatives, t.items(p, n))
				} else {
					keywords = append(keywords, n)
				}
			}
			if len(keywords) > 0 {
				s.alternatives = append(s.alternatives, []explainedItem{t.keywords(p, keywords)})
			}
		default:
			s.alternatives = append(s.alternatives, []explainedItem{t.keywords(p, []*yaml.Node{value})})
		}
		out.names = append(out.names, key.Value)
		out.selections[key.Value] = s
	}
	return out
}

func (t *itemCompiler) items(p *detectionParser, n *yaml.Node) []explainedItem {
	var out []explainedItem
	for key, value := range members(n) {
		names := strings.Split(key.Value, "|")
		item := explainedItem{key: key.Value, field: names[0], line: key.Line + p.offset, item: t.rule(p.item(key, value))}
		// Whether one value is there has nothing to do with the others.
		m, err := parseModifiers(names[1:])
		if err != nil {
			continue
		}
		m.all, m.neq = false, false
		list := []*yaml.Node{value}
		if value.Kind == yaml.SequenceNode {
			list = value.Content
		}
		item.values = t.values(p, item.field, m, list)
		out = append(out, item)
	}
	return out
}

func (t *itemCompiler) keywords(p *detectionParser, list []*yaml.Node) explainedItem {
	return explainedItem{
		field: keywordField, line: list[0].Line + p.offset,
		item:   t.rule(p.values(keywordField, modifiers{}, list)),
		values: t.values(p, keywordField, modifiers{}, list),
	}
}

func (t *itemCompiler) values(p *detectionParser, field string, m modifiers, list []*yaml.Node) []explainedValue {
	var out []explainedValue
	for _, n := range list {
		text := n.Value
		if isNull(n) {
			text = "null"
		}
		out = append(out, explainedValue{text: text, line: n.Line + p.offset, test: t.rule(p.values(field, m, []*yaml.Node{n}))})
	}
	return out
}

func (e *explainedRule) explain(ev *schemas.Event, of LogSource) *Explanation {
	out := &Explanation{
		Rule: &e.rule.rule.Meta, LogSource: e.rule.rule.LogSource, EventLogSource: of,
		Selected: e.rule.rule.LogSource.selects(of),
	}
	holds := map[int32]bool{}
	for _, i := range e.matcher.MatchAs(AnyLogSource, ev) {
		holds[i] = true
	}
	out.Matched = out.Selected
	for i := range e.parts {
		part := e.parts[i].explain(ev, holds)
		out.Matched = out.Matched && part.Holds
		out.Parts = append(out.Parts, part)
	}
	return out
}

func (p *explainedPart) explain(ev *schemas.Event, holds map[int32]bool) ExplainedPart {
	out := ExplainedPart{Filter: p.filter, File: p.file, Line: p.line}
	selected := map[string]bool{}
	for _, name := range p.names {
		s := p.selections[name]
		es := ExplainedSelection{Name: name, Line: s.line}
		for _, items := range s.alternatives {
			all := true
			var list []ExplainedItem
			for i := range items {
				item := items[i].explain(ev, holds)
				all = all && item.Holds
				list = append(list, item)
			}
			es.Holds = es.Holds || all
			es.Alternatives = append(es.Alternatives, list)
		}
		selected[name] = es.Holds
		out.Selections = append(out.Selections, es)
	}
	for _, c := range p.conditions {
		e := c.explain(p.names, selected)
		out.Holds = out.Holds || e.Holds
		out.Conditions = append(out.Conditions, e)
	}
	return out
}

func (it *explainedItem) explain(ev *schemas.Event, holds map[int32]bool) ExplainedItem {
	out := ExplainedItem{Key: it.key, Line: it.line, Holds: holds[it.item]}
	if it.field != keywordField {
		out.Seen = seenValues(ev, it.field)
	}
	for _, v := range it.values {
		out.Values = append(out.Values, ExplainedValue{Text: v.text, Line: v.line, Holds: holds[v.test]})
	}
	return out
}

func (c *condition) explain(names []string, selected map[string]bool) ExplainedCondition {
	out := ExplainedCondition{}
	switch c.kind {
	case condName:
		out.Text, out.Holds = c.name, selected[c.name]
		return out
	case condOf:
		out.Text, out.Holds = "1 of "+c.name, false
		if c.all {
			out.Text, out.Holds = "all of "+c.name, true
		}
		for _, name := range names {
			if !matchName(name, c.name) {
				continue
			}
			if c.all {
				out.Holds = out.Holds && selected[name]
			} else {
				out.Holds = out.Holds || selected[name]
			}
			out.Parts = append(out.Parts, ExplainedCondition{Text: name, Holds: selected[name]})
		}
		return out
	}
	for _, arg := range c.args {
		out.Parts = append(out.Parts, arg.explain(names, selected))
	}
	switch c.kind {
	case condNot:
		out.Text, out.Holds = "not", !out.Parts[0].Holds
	case condAnd:
		out.Text, out.Holds = "and", true
		for _, part := range out.Parts {
			out.Holds = out.Holds && part.Holds
		}
	default:
		out.Text = "or"
		for _, part := range out.Parts {
			out.Holds = out.Holds || part.Holds
		}
	}
	return out
}
