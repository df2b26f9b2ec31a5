package main

import (
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
