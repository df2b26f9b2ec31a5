package main

import (
	"os"
	"strings"

	"github.com/markuskont/go-sigma-rule-engine"
	"gopkg.in/yaml.v2"
)

// ruleEngine is github.com/markuskont/go-sigma-rule-engine.
type ruleEngine struct {
	rules bySource[*sigma.Tree]
}

func newRuleEngine(files []string, route bool) (engine, int, error) {
	e := &ruleEngine{rules: bySource[*sigma.Tree]{route: route}}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, 0, err
		}
		var r sigma.Rule
		if err := yaml.Unmarshal(data, &r); err != nil {
			continue // it is not among the loaded
		}
		tree, err := sigma.NewTree(sigma.RuleHandle{Rule: r, Path: name})
		if err != nil {
			continue
		}
		e.rules.add(tree, logSource{r.Logsource.Product, r.Logsource.Category, r.Logsource.Service})
	}
	return e, len(e.rules.rules), nil
}

func (e *ruleEngine) match(event map[string]any, ls logSource, found func(string)) {
	for _, tree := range e.rules.of(ls) {
		if result, ok := tree.Eval(fields(event)); ok {
			found(result.ID)
		}
	}
}

// fields is an event as the library wants it.
type fields map[string]any

func (f fields) Keywords() ([]string, bool) {
	var out []string
	for _, v := range f {
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	}
	return out, true
}

func (f fields) Select(name string) (any, bool) {
	if v, ok := f[name]; ok {
		return v, true
	}
	var at any = map[string]any(f)
	for _, key := range strings.Split(name, ".") {
		m, ok := at.(map[string]any)
		if !ok {
			return nil, false
		}
		if at, ok = m[key]; !ok {
			return nil, false
		}
	}
	return at, true
}
