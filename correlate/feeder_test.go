package correlate

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/schemas"
)

// TestLongGroupsAndValuesTakeNoPart: what is too long to be a group or a value is
// counted, and the event goes on for the other correlations and by itself.
func TestLongGroupsAndValuesTakeNoPart(t *testing.T) {
	set := compileRules(t, `
title: connect
name: connect
logsource: {product: aws, service: iot}
detection: {s: {eventType: Connect}, condition: s}
---
title: by address
name: by_address
correlation: {type: event_count, rules: [connect], group-by: [tocsin.source_ip], timespan: 1m, condition: {gte: 3}}
generate: true
---
title: by agent
name: by_agent
correlation: {type: event_count, rules: [connect], group-by: [agents], timespan: 1m, condition: {gte: 3}}
---
title: agents
name: agents
correlation: {type: value_count, rules: [connect], group-by: [tocsin.source_ip], timespan: 1m, condition: {field: agent, gte: 3}}
`)
	long := strings.Repeat("x", maxTupleBytes+1)
	for name, c := range map[string]struct {
		message string
		matches []string
		ignored map[string]int
	}{
		"short": {`{"eventType":"Connect","agents":["a"],"agent":"b"}`, []string{"by_address", "by_agent", "agents"}, map[string]int{}},
		"group": {`{"eventType":"Connect","agents":["` + long + `"],"agent":"b"}`, []string{"by_address", "agents"}, map[string]int{ignoredLongGroup: 1}},
		"one of the groups": {
			`{"eventType":"Connect","agents":["a","` + long + `","c"],"agent":"b"}`,
			[]string{"by_address", "by_agent", "by_agent", "agents"},
			map[string]int{ignoredLongGroup: 1},
		},
		"value": {`{"eventType":"Connect","agents":["a"],"agent":"` + long + `"}`, []string{"by_address", "by_agent"}, map[string]int{ignoredLongValue: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			ignored := make(map[string]int)
			f := newFeeder(set, func(reason string) { ignored[reason]++ })
			matched, matches := f.match(&schemas.Event{Source: []byte("iot"), SourceIP: []byte("198.51.100.1"), Message: []byte(c.message)}, true)
			if len(matched) != 1 {
				t.Fatalf("%d rules match", len(matched))
			}
			var names []string
			for i := range matches {
				names = append(names, set.Correlations[matches[i].Correlation].Name)
			}
			if diff := cmp.Diff(c.matches, names); diff != "" {
				t.Errorf("takes part in (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.ignored, ignored); diff != "" {
				t.Errorf("ignored (-want +got):\n%s", diff)
			}
		})
	}
}
