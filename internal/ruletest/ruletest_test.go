package ruletest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/rules"
)

const rulesText = `
title: fail
id: 00000000-0000-4000-8000-000000000001
name: fail
logsource: {product: aws, service: iot}
detection: {s: {eventType: Connect, status: Failure}, condition: s}
---
title: burst
id: 00000000-0000-4000-8000-000000000002
name: burst
correlation: {type: event_count, rules: [fail], group-by: [tocsin.device], timespan: 1m, condition: {gte: 3}}
---
title: expired
id: 00000000-0000-4000-8000-000000000003
name: expired
logsource: {product: aws}
detection: {s: {tocsin.certificate_days_to_expiry|lt: 0, tocsin.certificate_status: ACTIVE, tocsin.outcome: success}, condition: s}
---
title: silent
id: 00000000-0000-4000-8000-000000000004
name: silent
correlation: {type: event_count, rules: [ping], group-by: [tocsin.device], timespan: 1h, condition: {lte: 1}}
---
title: ping
id: 00000000-0000-4000-8000-000000000005
name: ping
logsource: {product: aws, service: lifecycle}
detection: {s: {ping: true}, condition: s}
`

// results runs the tests in text and returns what failed, without the file name.
func results(t *testing.T, text string) []string {
	t.Helper()
	set, diags := rules.Compile([]rules.Source{{Name: "r.yml", Data: []byte(rulesText)}}, rules.Options{})
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	f, diags := rules.ParseTestFile(rules.Source{Name: "r.test.yml", Data: []byte(text)})
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, result := range New(set).Run(f) {
		for _, failure := range result.Failures {
			out = append(out, strings.TrimPrefix(failure.String(), "r.test.yml:"))
		}
	}
	return out
}

const (
	threeFailures = `
      - {time: 0s, every: 10s, repeat: 3, message: {eventType: Connect, status: Failure, protocol: MQTT, clientId: a, accountId: "1"}}
`
	connected = `{eventType: Connect, status: Success, protocol: MQTT, clientId: a, accountId: "1"}`
)

func TestPassing(t *testing.T) {
	for name, text := range map[string]string{
		"all that can be said": `
tests:
  - name: t
    events:` + threeFailures + `
    matches: [fail]
    detections: [{rule: burst, group: {tocsin.device: a}, count: 3, first: 0s, last: 20s}]
`,
		"by ID, and nothing said of the detection": `
rule: 00000000-0000-4000-8000-000000000002
tests:
  - name: t
    events:` + threeFailures + `
    detections: [{rule: 00000000-0000-4000-8000-000000000002}]
`,
		"two groups": `
tests:
  - name: t
    events:` + threeFailures + `
      - {time: 21s, every: 10s, repeat: 3, client_id: b, message: {eventType: Connect, status: Failure, protocol: MQTT, clientId: a, accountId: "1"}}
    detections: [{rule: burst}, {rule: burst, group: {tocsin.device: b}}, ]
`,
		"the loose expectation leaves the detection to the strict one": `
tests:
  - name: t
    events:` + threeFailures + `
      - {time: 21s, every: 10s, repeat: 4, client_id: b, message: {eventType: Connect, status: Failure, protocol: MQTT, clientId: a, accountId: "1"}}
    detections: [{rule: burst}, {rule: burst, count: 3}]
`,
		"envelope": `
tests:
  - name: t
    events:
      - {certificate_days_to_expiry: -1, certificate_status: ACTIVE, outcome: success, message: ` + connected + `}
    matches: [expired]
    detections: [{rule: expired, group: {tocsin.device: a}, count: 1}]
`,
		"a window is decided after the last event": `
tests:
  - name: t
    events: [{time: 2026-11-20T10:00:00Z, source: lifecycle, device: x, message: {ping: true}}]
    detections: [{rule: silent, group: {tocsin.device: x}, count: 1, first: 2026-11-20T10:00:00Z}]
`,
		"another rule of the file does not count": `
rule: fail
tests:
  - name: t
    events:` + threeFailures + `
    none: true
`,
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff([]string(nil), results(t, text)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestFailing(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"nothing was expected": {
			"tests:\n  - name: t\n    events:" + threeFailures + "    none: true\n",
			[]string{"2: unexpected detection: burst, tocsin.device=a, count 3, first 0s, last 20s"},
		},
		"something else was expected": {
			"tests:\n  - name: t\n    events:" + threeFailures + `
    detections:
      - {rule: burst, group: {tocsin.device: b, x: y}, count: 4, first: 1s, last: 1m}
`,
			[]string{"7: burst: group tocsin.device is a, want b; the group has no x; it is tocsin.device=a; count is 3, want 4; first is 0s, want 1s; last is 20s, want 1m0s"},
		},
		"more was expected": {
			"tests:\n  - name: t\n    events:" + threeFailures + `
    detections: [{rule: burst}, {rule: burst}, {rule: expired}]
`,
			[]string{"6: burst should be detected, but is not", "6: expired should be detected, but is not"},
		},
		"matches": {
			"tests:\n  - name: t\n    events:" + threeFailures + `
      - {message: ` + connected + `}
    matches: [[], fail]
`,
			[]string{
				"4: the event should not match fail, but does",
				"4: the event should not match fail, but does",
				"4: the event should not match fail, but does",
				"6: the event should match fail, but does not",
			},
		},
		"a rule that is not there": {
			"tests:\n  - name: t\n    events: [{message: {}}]\n    detections: [{rule: nope}]\n",
			[]string{`4: there is no rule "nope"`},
		},
		"a correlation matches no event": {
			"tests:\n  - name: t\n    events: [{message: {}}]\n    matches: [burst]\n",
			[]string{"3: burst is a correlation: events match detection rules"},
		},
		"no event": {
			"tests:\n  - name: t\n    events: [{message: ''}]\n    none: true\n",
			[]string{"3: the message holds no event"},
		},
		"two events": {
			"tests:\n  - name: t\n    events: [{message: '{}{}'}]\n    none: true\n",
			[]string{"3: the message holds 2 events: write each as one of its own"},
		},
		"not JSON": {
			"tests:\n  - name: t\n    events: [{message: '{\"a\": '}]\n    none: true\n",
			[]string{"3: ingest rejects the message (not_json): json: unexpected end at byte 6 of the value at byte 0"},
		},
		"not a state": {
			"tests:\n  - name: t\n    events: [{outcome: maybe, message: {}}]\n    none: true\n",
			[]string{"3: outcome is \"maybe\", not one of [success failure]"},
		},
		"late": {
			"tests:\n  - name: t\n    events:\n      - {time: 2h, message: " + connected + "}\n      - {time: 0s, message: {eventType: Connect, status: Failure, protocol: MQTT, clientId: a, accountId: '1'}}\n    none: true\n",
			[]string{"2: 1 events are older than those before them by more than the allowed lateness: put the events into the order of time"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, results(t, c.text)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestNoSibling(t *testing.T) {
	f, diags := rules.ParseTestFile(rules.Source{Name: "other.test.yml", Data: []byte("tests:\n  - {name: t, events: [{message: {}}], none: true}\n")})
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	set, _ := rules.Compile([]rules.Source{{Name: "r.yml", Data: []byte(rulesText)}}, rules.Options{})
	got := New(set).Run(f)[0].Failures
	if len(got) != 1 || got[0].String() != "other.test.yml:1: there are no rules in other.yml, the file that these tests are for" {
		t.Error(got)
	}
}
