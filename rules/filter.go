package rules

import (
	"go.yaml.in/yaml/v4"
)

// parsedFilter is a Sigma filter: a condition that is added to other rules.
type parsedFilter struct {
	*reporter
	node      *yaml.Node // the document
	logSource LogSource
	any       bool
	refs      []*yaml.Node
	expr      *node
	ok        bool
}

func (p *parser) filter(d document) *parsedFilter {
	f := &parsedFilter{reporter: d.reporter, node: d.root}
	f.logSource = parseLogSource(d, false)
	n := member(d.root, "filter")
	if n.Kind != yaml.MappingNode {
		d.error(n, "give it rules, selections and a condition", "filter is %s, not a mapping", kindName(n))
		return f
	}
	switch rules := member(n, "rules"); {
	case rules == nil:
		d.error(n, "add rules: with the IDs or names of rules, or any", "the filter has no rules")
	case rules.Kind == yaml.ScalarNode && rules.Value == "any":
		f.any = true
	default:
		f.refs = references(d.reporter, rules)
	}
	dp := &detectionParser{reporter: d.reporter, opts: &p.opts, regexes: p.regexes}
	f.expr = dp.parse(n, "rules")
	f.ok = f.errors == 0 && f.expr != nil
	return f
}

// references reads the rules of a correlation or filter: a list of IDs or names,
// or a single one.
func references(r *reporter, n *yaml.Node) []*yaml.Node {
	list := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		list = n.Content
	}
	if len(list) == 0 {
		r.error(n, "name at least one rule", "the list of rules is empty")
	}
	for _, item := range list {
		if item.Kind != yaml.ScalarNode || isNull(item) || item.Value == "" {
			r.error(item, "write the ID or name of a rule", "a rule is referred to by %s", kindName(item))
			return nil
		}
	}
	return list
}

// covers reports whether rules of log source other are among those that ls
// describes.
func (ls LogSource) covers(other LogSource) bool {
	return (ls.Product == "" || ls.Product == other.Product) &&
		(ls.Category == "" || ls.Category == other.Category) &&
		(ls.Service == "" || ls.Service == other.Service)
}

// applyFilters adds to each rule the conditions of the filters that name it: the
// rule then is (rule) and (filter condition), as in pySigma. So a filter that is
// to exclude says condition: not selection.
func applyFilters(filters []*parsedFilter, index *ruleIndex, rules []*parsedRule) {
	for _, f := range filters {
		if !f.ok {
			continue
		}
		if f.any {
			for _, r := range rules {
				if r.ok && f.logSource.covers(r.rule.LogSource) {
					r.expr = and(r.expr, f.expr)
				}
			}
			continue
		}
		for _, ref := range f.refs {
			switch target := index.lookup(ref.Value).(type) {
			case *parsedRule:
				if !f.logSource.covers(target.rule.LogSource) {
					f.warn(ref, "give the filter the rule's logsource", "the filter's logsource does not cover rule %q, which stays as it is", ref.Value)
					continue
				}
				if target.ok {
					target.expr = and(target.expr, f.expr)
				}
			case *parsedCorrelation:
				f.error(ref, "filter the rules that it refers to", "%q is a correlation", ref.Value)
			default:
				f.error(ref, index.hint(ref.Value), "there is no rule %q", ref.Value)
			}
		}
	}
}
