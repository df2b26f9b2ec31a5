package main

import (
	"context"
	"os"

	"github.com/bradleyjkemp/sigma-go"
	"github.com/bradleyjkemp/sigma-go/evaluator"
)

// sigmaGo is github.com/bradleyjkemp/sigma-go. Its bundles of rules keep what
// they found for every string that they ever saw, so rules are evaluated one by
// one.
type sigmaGo struct {
	rules bySource[*evaluator.RuleEvaluator]
}

func newSigmaGo(files []string, route bool) (engine, int, error) {
	e := &sigmaGo{rules: bySource[*evaluator.RuleEvaluator]{route: route}}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, 0, err
		}
		r, err := sigma.ParseRule(data)
		if err != nil {
			continue // it is not among the loaded
		}
		e.rules.add(evaluator.ForRule(r), logSource{r.Logsource.Product, r.Logsource.Category, r.Logsource.Service})
	}
	return e, len(e.rules.rules), nil
}

func (e *sigmaGo) match(event map[string]any, ls logSource, found func(string)) {
	for _, r := range e.rules.of(ls) {
		// An error is a rule that cannot be evaluated: no match.
		if result, err := r.Matches(context.Background(), event); err == nil && result.Match {
			found(r.ID)
		}
	}
}
