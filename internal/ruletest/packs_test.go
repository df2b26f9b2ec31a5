package ruletest

import (
	"testing"

	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/rules/packs"
)

// TestPacks runs the tests of the rules that come with the program. Every rule
// that alerts must be shown to fire and to keep still.
func TestPacks(t *testing.T) {
	sources, err := packs.Sources()
	if err != nil {
		t.Fatal(err)
	}
	set, diags := rules.Compile(sources, rules.Options{Strict: true})
	for _, d := range diags {
		t.Error(d)
	}
	tests, err := packs.TestSources()
	if err != nil {
		t.Fatal(err)
	}
	r := New(set)
	fires, still := map[*rules.Meta]bool{}, map[*rules.Meta]bool{}
	for _, src := range tests {
		f, diags := rules.ParseTestFile(src)
		if err := diags.Err(); err != nil {
			t.Error(err)
			continue
		}
		for _, result := range r.Run(f) {
			for _, failure := range result.Failures {
				t.Errorf("%s: %s", result.Name, failure)
			}
		}
		for i := range f.Tests {
			c := &f.Tests[i]
			expected := map[*rules.Meta]bool{}
			for _, d := range c.Detections {
				expected[r.byName[d.Rule]] = true
			}
			for _, m := range r.byName {
				switch {
				case expected[m]:
					fires[m] = true
				case m.File == rules.RuleFileOf(f.File) && (c.None || c.Detections != nil):
					still[m] = true
				}
			}
		}
	}
	alerting := func(m *rules.Meta, alerts bool) {
		if alerts && !fires[m] {
			t.Errorf("%s:%d: no test in which %s fires", m.File, m.Line, ruleName(m))
		}
		if alerts && !still[m] {
			t.Errorf("%s:%d: no test in which %s does not fire", m.File, m.Line, ruleName(m))
		}
	}
	for _, rule := range set.Rules {
		alerting(&rule.Meta, rule.Alerts)
	}
	for _, c := range set.Correlations {
		alerting(&c.Meta, c.Alerts)
	}
	if len(tests) < 20 {
		t.Errorf("only %d test files", len(tests))
	}
}
