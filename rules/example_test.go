package rules_test

import (
	"fmt"

	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

func ExampleCompile() {
	const rule = `
title: Connection refused
name: connection_refused
logsource:
  product: aws
  service: iot
detection:
  connect:
    eventType: Connect
    status: Failure
  known:
    clientId|startswith: test-
  condition: connect and not known
level: low
`
	set, diags := rules.Compile([]rules.Source{{Name: "refused.yml", Data: []byte(rule)}}, rules.Options{})
	for _, d := range diags {
		fmt.Println(d)
	}
	m := set.NewMatcher() // one for each goroutine
	ev := &schemas.Event{
		Source:  []byte(schemas.SourceIoT),
		Message: []byte(`{"eventType":"Connect","status":"Failure","clientId":"pump-0001"}`),
	}
	for _, i := range m.Match(ev) {
		fmt.Println(set.Rules[i].Level, set.Rules[i].Title)
	}
	// Output:
	// refused.yml:2:1: warning: the rule has no id; give it a UUID
	// low Connection refused
}

func ExampleMatcher_MatchAs() {
	const rule = `
title: Shadow copies deleted
id: 5d1f7c0e-6d6b-4f3e-9b1a-2f0c1d3e4a5b
logsource: {product: windows, category: process_creation}
detection:
  selection:
    Image|endswith: '\vssadmin.exe'
    CommandLine|contains|all: [delete, shadows]
  condition: selection
`
	set, _ := rules.Compile([]rules.Source{{Name: "shadow.yml", Data: []byte(rule)}}, rules.Options{})
	m := set.NewMatcher()
	ev := &schemas.Event{Message: []byte(`{"Image":"C:\\Windows\\System32\\vssadmin.exe","CommandLine":"vssadmin Delete Shadows /all"}`)}
	for _, i := range m.MatchAs(rules.LogSource{Product: "windows", Category: "process_creation"}, ev) {
		fmt.Println(set.Rules[i].Title)
	}
	// Output:
	// Shadow copies deleted
}
