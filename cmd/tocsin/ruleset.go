package main

import (
	"errors"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/config"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/rules/packs"
)

// loadRules compiles the rules that the configuration names. The set holds
// those that are right, the diagnostics say what is wrong with the others; the
// error means that files could not be read.
func loadRules(c *config.Correlate) (*rules.Set, rules.Diagnostics, error) {
	var sources []rules.Source
	if c.Builtin {
		builtin, err := packs.Sources()
		if err != nil {
			return nil, nil, err
		}
		sources = builtin
	}
	if len(c.Rules) > 0 {
		own, err := rules.ReadDir(c.Rules...)
		if err != nil {
			return nil, nil, err
		}
		sources = append(sources, own...)
	}
	set, diagnostics := rules.Compile(sources, rules.Options{})
	return set, diagnostics, nil
}

// compileRules is loadRules for a process that runs: what is wrong with single
// rules is logged and the others are used; no rule at all is an error.
func (a *app) compileRules() (*rules.Set, error) {
	set, diagnostics, err := loadRules(&a.cfg.Correlate)
	if err != nil {
		return nil, err
	}
	for _, d := range diagnostics {
		if d.Severity == rules.SeverityError {
			a.log.Error("rule left out", zap.String("problem", d.String()))
		} else {
			a.log.Warn("rule", zap.String("problem", d.String()))
		}
	}
	if len(set.Rules) == 0 {
		return nil, errors.New("no rule is left; run: tocsin rules lint")
	}
	a.log.Info("rules", zap.Int("detection", len(set.Rules)), zap.Int("correlation", len(set.Correlations)))
	return set, nil
}
