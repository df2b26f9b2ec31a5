package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// files writes files into a new directory.
func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const bruteRules = `title: Refused
id: 00000000-0000-4000-8000-000000000001
name: refused
logsource: {product: aws, service: iot}
detection:
  selection:
    eventType: Connect
    status: [Failure, Denied]
  condition: selection
level: low
---
title: Refused again and again
id: 00000000-0000-4000-8000-000000000002
name: brute
correlation:
  type: event_count
  rules: [refused]
  group-by: [clientId]
  timespan: 1m
  condition: {gte: 3}
level: high
`

const bruteTests = `tests:
  - name: three
    events: [{every: 1s, repeat: 3, message: {eventType: Connect, status: Failure, logLevel: ERROR, clientId: a}}]
    detections: [{rule: brute, group: {clientId: a}, count: 3}]
  - name: two
    events: [{every: 1s, repeat: 2, message: {eventType: Connect, status: Failure, logLevel: ERROR, clientId: a}}]
    none: true
`

// bruteLog is four refused connections, one each 10 seconds, and one that was
// accepted.
const bruteLog = `{"timestamp":"2026-11-20 10:00:00.000","logLevel":"ERROR","eventType":"Connect","status":"Failure","clientId":"a"}
{"timestamp":"2026-11-20 10:00:20.000","logLevel":"ERROR","eventType":"Connect","status":"Failure","clientId":"a"}
{"timestamp":"2026-11-20 10:00:10.000","logLevel":"ERROR","eventType":"Connect","status":"Failure","clientId":"a"}
{"timestamp":"2026-11-20 10:00:30.000","logLevel":"ERROR","eventType":"Connect","status":"Denied","clientId":"a"}
{"timestamp":"2026-11-20 10:00:40.000","logLevel":"INFO","eventType":"Connect","status":"Success","clientId":"a"}
`

func TestRulesLint(t *testing.T) {
	expect(t, []string{"rules", "lint"}, exitOK, "ok: ", "")
	dir := writeFiles(t, map[string]string{"brute.yml": bruteRules, "brute.test.yml": bruteTests})
	expect(t, []string{"rules", "lint", dir}, exitOK, "ok: 1 rules, 1 correlations, 1 test files", "")
	expect(t, []string{"rules", "lint", filepath.Join(dir, "brute.yml")}, exitOK, "1 test files", "")
	expect(t, []string{"rules", "lint", filepath.Join(dir, "brute.test.yml")}, exitOK, "ok: 0 rules, 0 correlations, 1 test files", "")
	expect(t, []string{"rules", "lint", filepath.Join(dir, "brute.yml"), filepath.Join(dir, "brute.test.yml")}, exitOK, "ok: 1 rules, 1 correlations, 1 test files", "")
	expect(t, []string{"rules", "lint", "/nowhere"}, exitFailed, "", "no such file")
	expect(t, []string{"rules", "lint", t.TempDir()}, exitFailed, "", "no rule files")

	dir = writeFiles(t, map[string]string{
		"w.yml":      strings.ReplaceAll(bruteRules, "product: aws, service: iot", "product: windows, category: process_creation"),
		"w.test.yml": "tests:\n  - name: t\n",
	})
	rule, test := filepath.Join(dir, "w.yml"), filepath.Join(dir, "w.test.yml")
	expect(t, []string{"rules", "lint", dir}, exitConfig,
		rule+`:1:1: warning: the rule is idle: no event has product "windows"; what the pipeline takes in has product: aws`, "problems in 1 rule files and 1 test files")
	expect(t, []string{"rules", "lint", dir}, exitConfig, test+":2:5: error: the test has no events", "")
	expect(t, []string{"rules", "lint", "--format", "github", rule}, exitConfig, "::warning file="+rule+",line=1,col=1::the rule is idle", "")
	if err := os.Remove(test); err != nil {
		t.Fatal(err)
	}
	expect(t, []string{"rules", "lint", dir}, exitOK, "warning", "")
	expect(t, []string{"rules", "lint", "--strict", "--format", "json", dir}, exitConfig, `"severity":"warning","rule":"Refused"`, "1 problems")
}

func TestRulesPlaceholders(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"r.yml":       strings.ReplaceAll(bruteRules, "status: [Failure, Denied]", "status|expand: '%bad%'"),
		"values.yaml": "bad: [Failure]\n",
	})
	rule, values := filepath.Join(dir, "r.yml"), filepath.Join(dir, "values.yaml")
	expect(t, []string{"rules", "lint", rule}, exitConfig, "no value for placeholder %bad%", "")
	expect(t, []string{"rules", "lint", "--placeholders", values, rule}, exitOK, "ok: ", "")
	expect(t, []string{"rules", "lint", "--placeholders", rule, rule}, exitFailed, "", "want a mapping of names")
	expect(t, []string{"rules", "lint", "--placeholders", "/nowhere", rule}, exitFailed, "", "no such file")
}

func TestRulesListAndShow(t *testing.T) {
	dir := writeFiles(t, map[string]string{"brute.yml": bruteRules})
	code, out, _ := tocsin("rules", "list", dir)
	if want := "LEVEL  NAME   LOOKS AT     TITLE\nhigh   brute  event_count  Refused again and again\n"; code != exitOK || out != want {
		t.Errorf("exit %d, got\n%swant\n%s", code, out, want)
	}
	expect(t, []string{"rules", "list", "--all", dir}, exitOK, "low    refused  aws/iot", "")
	code, out, _ = tocsin("rules", "list", "--json", "--all", dir)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var r ruleJSON
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil || code != exitOK || r.Name != "brute" || r.Condition != "events gte 3" || !r.Alerts || r.Timespan != "1m" {
		t.Errorf("%v: %s", err, out)
	}
	expect(t, []string{"rules", "show", "Refused again and again", dir}, exitOK, "group by      clientId\ntimespan      1m\ncondition     events gte 3\n", "")
	expect(t, []string{"rules", "show", "refused", dir}, exitOK, "alerts        no, it is part of a correlation\nlog source    aws/iot\nused by       brute\n", "")
	expect(t, []string{"rules", "show", "--json", "00000000-0000-4000-8000-000000000001", dir}, exitOK, `"used_by": [`, "")
	expect(t, []string{"rules", "show", "nope", dir}, exitUsage, "", `there is no rule "nope"`)
	expect(t, []string{"rules", "list", writeFiles(t, map[string]string{"bad.yml": "title: x\n"})}, exitOK, "LEVEL", "1 rule left out because of errors")
}

func TestListingFits(t *testing.T) {
	l := listing{heads: []string{"A", "B"}, flexible: []int{1}}
	l.add("one", "a long text that must give way")
	l.add("two", "\x1b[31mred\n")
	var b bytes.Buffer
	if err := l.write(&b, 25); err != nil {
		t.Fatal(err)
	}
	if want := "A    B\none  a long text that ...\ntwo  ?[31mred?\n"; b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	if got := strings.Join(wrap("a bb  ccc d", 5), "|"); got != "a bb|ccc d" {
		t.Error(got)
	}
}

func TestRulesTest(t *testing.T) {
	expect(t, []string{"rules", "test"}, exitOK, "ok: ", "")
	dir := writeFiles(t, map[string]string{"brute.yml": bruteRules, "brute.test.yml": bruteTests})
	expect(t, []string{"rules", "test", dir}, exitOK, "ok: 2 tests", "")
	expect(t, []string{"rules", "test", "-v", filepath.Join(dir, "brute.test.yml")}, exitOK, "brute.test.yml:2: three\n", "")
	expect(t, []string{"rules", "test", filepath.Join(dir, "brute.yml")}, exitOK, "ok: 2 tests", "")
	expect(t, []string{"rules", "test", t.TempDir()}, exitFailed, "", "no tests")

	wrong := writeFiles(t, map[string]string{"brute.yml": bruteRules, "brute.test.yml": strings.ReplaceAll(bruteTests, "count: 3", "count: 4")})
	file := filepath.Join(wrong, "brute.test.yml")
	expect(t, []string{"rules", "test", wrong}, exitFailed, "FAIL: "+file+":4: three: brute: count is 3, want 4\n", "1 of 2 tests failed")
	expect(t, []string{"rules", "test", "--format", "github", wrong}, exitFailed, "::error file="+file+",line=4,col=1::three: brute: count is 3, want 4", "")
	_, out, _ := tocsin("rules", "test", "--format", "json", wrong)
	first, _, _ := strings.Cut(out, "\n")
	var r struct {
		Passed   bool
		Failures []struct{ Line int }
	}
	if err := json.Unmarshal([]byte(first), &r); err != nil || r.Passed || r.Failures[0].Line != 4 {
		t.Errorf("%v: %s", err, out)
	}
	bad := writeFiles(t, map[string]string{"brute.yml": "title: x\n", "brute.test.yml": bruteTests})
	expect(t, []string{"rules", "test", bad}, exitConfig, "", "Try: tocsin rules lint "+bad)
	bad = writeFiles(t, map[string]string{"brute.yml": bruteRules, "brute.test.yml": "tests: 1\n"})
	expect(t, []string{"rules", "test", bad}, exitConfig, "", "tests is")
}

func TestRulesExplain(t *testing.T) {
	dir := writeFiles(t, map[string]string{"brute.yml": bruteRules, "log.jsonl": bruteLog})
	rule, log := filepath.Join(dir, "brute.yml"), filepath.Join(dir, "log.jsonl")
	code, out, stderr := tocsin("rules", "explain", "refused", "--rules", rule, "--event", log, "--limit", "1")
	want := `event 1: 2026-11-20T10:00:00Z iot Connect, device a
  [x] refused matches
      [x] condition: selection
      [x] selection  ` + rule + `:6
          [x] eventType: Connect
              saw "Connect"
          [x] status: Failure, Denied
              saw "Failure"
              equal to Failure

4 events more not explained: --limit 5

`
	if code != exitOK || out != want {
		t.Errorf("exit %d, %s got\n%swant\n%s", code, stderr, out, want)
	}
	code, out, stderr = tocsin("rules", "explain", "brute", "--rules", rule, "--event", log, "--limit", "0")
	want = `brute: event_count of refused within 1m, by clientId: events gte 3

5 events more not explained: --limit 5

5 events, 4 of them match a rule; 1 group
`
	if code != exitOK || !strings.HasPrefix(out, want) {
		t.Errorf("exit %d, %s got\n%swant\n%s", code, stderr, out, want)
	}
	_, out, _ = tocsin("rules", "explain", "brute", "--rules", rule, "--event", log)
	want = `  [x] clientId=a: 4 events from 2026-11-20 10:00:00.000 to 2026-11-20 10:00:30.000
      closest window: 4 events from 2026-11-20 10:00:00.000 to 2026-11-20 10:00:30.000; events gte 3: it is 4
      detection `
	if !strings.Contains(out, want) {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	_, out, _ = tocsin("rules", "explain", "brute", "--rules", rule, "--event", log, "--format", "json")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var e struct {
		Rules []struct{ Matched bool }
	}
	var w struct{ Groups []groupJSON }
	if len(lines) != 6 || json.Unmarshal([]byte(lines[4]), &e) != nil || json.Unmarshal([]byte(lines[5]), &w) != nil {
		t.Fatal(out)
	}
	if e.Rules[0].Matched || !w.Groups[0].Window.Holds || w.Groups[0].Detections[0].Count != 4 {
		t.Errorf("%+v %+v", e, w)
	}
	expect(t, []string{"rules", "explain", "refused", "--rules", rule, "--event", log, "--logsource", "product=windows"}, exitOK,
		"[ ] log source: the rule is for aws/iot, the event is windows", "")
	expect(t, []string{"rules", "explain", "refused", "--rules", rule, "--event", log, "--ignore-logsource"}, exitOK, "[x] refused matches", "")
	expect(t, []string{"rules", "explain", "refused", "--rules", rule, "--event", log, "--logsource", "x"}, exitUsage, "", "write product=NAME")
	expect(t, []string{"rules", "explain", "nope", "--rules", rule, "--event", log}, exitUsage, "", `there is no rule "nope"`)
	expect(t, []string{"rules", "explain", "refused", "--rules", rule, "--event", "/nowhere"}, exitFailed, "", "no such file")
	expect(t, []string{"rules", "explain", "refused", "--rules", rule, "--event", "-"}, exitFailed, "", "there is no event")
}

func TestBacktest(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"brute.yml": bruteRules, "five.yml": strings.ReplaceAll(bruteRules, "gte: 3", "gte: 5"),
		"many.yml": strings.ReplaceAll(bruteRules, ", Denied", ""), "log.jsonl": bruteLog,
	})
	rule, five, many, log := filepath.Join(dir, "brute.yml"), filepath.Join(dir, "five.yml"), filepath.Join(dir, "many.yml"), filepath.Join(dir, "log.jsonl")
	code, out, stderr := tocsin("backtest", "--rules", rule, "--events", log)
	lines := strings.Split(out, "\n")
	if code != exitOK || len(lines) != 3 || !strings.HasPrefix(lines[1], "high   brute  2026-11-20 10:00:00.000  2026-11-20 10:00:30.000  4      ") || !strings.HasSuffix(lines[1], "clientId=a") {
		t.Errorf("exit %d, %s\n%s", code, stderr, out)
	}
	if !strings.Contains(stderr, "5 events in ") || !strings.Contains(stderr, "4 matched a rule, 1 detection\n") {
		t.Error(stderr)
	}
	expect(t, []string{"backtest", "--rules", rule, "--events", log, "--format", "json"}, exitOK, `"rule":"brute","rule_id":"00000000-0000-4000-8000-000000000002"`, "")
	expect(t, []string{"backtest", "--rules", five, "--baseline", rule, "--events", log}, exitOK, "-  high   brute", "0 added, 1 lost, 0 changed")
	expect(t, []string{"backtest", "--rules", rule, "--baseline", five, "--events", log}, exitOK, "+  high   brute", "1 added, 0 lost, 0 changed")
	expect(t, []string{"backtest", "--rules", many, "--baseline", rule, "--events", log}, exitOK, "4->3", "0 added, 0 lost, 1 changed")
	expect(t, []string{"backtest", "--rules", rule, "--baseline", rule, "--events", log}, exitOK, "", "0 added, 0 lost, 0 changed")
	expect(t, []string{"backtest", "--rules", rule, "--events", log, "--logsource", "product=aws,service=cloudtrail"}, exitOK, "", "0 matched")
	expect(t, []string{"backtest", "--rules", rule, "--events", log, "--ignore-logsource"}, exitOK, "brute", "")
	expect(t, []string{"backtest"}, exitUsage, "", "give --events")
	expect(t, []string{"backtest", "--events", log, "--from", "2026-11-20T00:00:00Z"}, exitUsage, "", "exclude each other")
	expect(t, []string{"backtest", "--from", "2026-11-20T00:00:00Z", "--to", "2026-11-19T00:00:00Z"}, exitUsage, "", "a later --to")
	expect(t, []string{"backtest", "--rules", write(t, "bad.yml", "title: x\n"), "--events", log}, exitConfig, "", "Try: tocsin rules lint")
	expect(t, []string{"backtest", "--rules", rule, "--events", "/nowhere"}, exitFailed, "", "no such file")
}
