package rules

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseTestFile(t *testing.T) {
	const text = `rule: brute
tests:
  - name: one
    events:
      - {time: 90s, client_id: a, message: {n: 1.50, s: "q\"\n", l: [true, null, 0x10], d: 2026-01-02, "k k": {}}}
      - {time: 2026-11-20T10:00:00Z, source: cloudtrail, certificate_days_to_expiry: -3, message: 'not JSON'}
    matches: [fails, []]
    detections:
      - {rule: brute, group: {tocsin.client_id: a}, count: 2, first: 0s, last: 2026-11-20T10:00:00Z}
  - name: two
    events: [{message: {}}]
    none: true
`
	got, diags := ParseTestFile(Source{Name: "brute.test.yml", Data: []byte(text)})
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	want := &TestFile{
		File: "brute.test.yml", Line: 1, Rule: "brute",
		Tests: []TestCase{
			{
				Name: "one", Line: 3,
				Events: []TestEvent{
					{Line: 5, Offset: 90 * time.Second, Envelope: map[string]string{"client_id": "a"}, Message: []byte(`{"n":1.5,"s":"q\"\u000a","l":[true,null,16],"d":"2026-01-02","k k":{}}`)},
					{Line: 6, Time: at, Envelope: map[string]string{"source": "cloudtrail", "certificate_days_to_expiry": "-3"}, Message: []byte("not JSON")},
				},
				Matches: [][]string{{"fails"}, nil},
				Detections: []TestDetection{
					{Line: 9, Rule: "brute", Group: map[string]string{"tocsin.client_id": "a"}, Count: 2, First: &TestTime{}, Last: &TestTime{Time: at}},
				},
			},
			{Name: "two", Line: 10, Events: []TestEvent{{Line: 11, Envelope: map[string]string{}, Message: []byte("{}")}}, None: true},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	start := time.Unix(100, 0)
	if e := got.Tests[0].Events[0]; !e.At(start).Equal(time.Unix(190, 0)) {
		t.Error(e.At(start))
	}
}

func TestRepeatedTestEvents(t *testing.T) {
	const text = `tests:
  - name: flood
    events:
      - {time: 1s, every: 500ms, repeat: 3, message: {}}
      - {message: {}}
    matches: [a, b]
`
	f, diags := ParseTestFile(Source{Name: "t.test.yml", Data: []byte(text)})
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	c := f.Tests[0]
	var offsets []time.Duration
	for _, e := range c.Events {
		offsets = append(offsets, e.Offset)
	}
	if d := cmp.Diff([]time.Duration{1e9, 15e8, 2e9, 0}, offsets); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([][]string{{"a"}, {"a"}, {"a"}, {"b"}}, c.Matches); d != "" {
		t.Error(d)
	}
}

func TestBrokenTestFiles(t *testing.T) {
	for text, want := range map[string]string{
		"":            "one YAML document, not 0",
		"tests: []":   "there is no test",
		"rule: a":     "the file has no tests",
		"tests: [{}]": "t.test.yml:1:9: error: the test has no events",
		"tests: [a]":  "a test is a string, not a mapping",
		"test: []":    `unknown key "test" in a test file; did you mean "tests"?`,
		"tests: [{name: a, events: [{}], none: true}]":                                    "the event has no message",
		"tests: [{name: a, events: [{message: a}]}]":                                      "the test expects nothing",
		"tests: [{events: [{message: a}], none: true}]":                                   "the test has no name",
		"tests: [{name: a, events: [{message: a, time: never}], none: true}]":             `"never" is not a time`,
		"tests: [{name: a, events: [{message: a, cliend_id: never}], none: true}]":        `did you mean "client_id"`,
		"tests: [{name: a, events: [{message: a, repeat: 999999999}], none: true}]":       `repeat is "999999999"`,
		"tests: [{name: a, events: [{message: a}], matches: []}]":                         "matches of 0 events, but there are 1",
		"tests: [{name: a, events: [{message: a}], detections: [{count: 1}]}]":            "the detection names no rule",
		"tests: [{name: a, events: [{message: a}], detections: [{rule: a, count: 0}]}]":   `count is "0"`,
		"tests: [{name: a, events: [{message: a}], detections: [{rule: a}], none: true}]": "expects detections and none",
		"tests: [{name: a, events: [{message: {a: .nan}}], none: true}]":                  "JSON has no number",
	} {
		f, diags := ParseTestFile(Source{Name: "t.test.yml", Data: []byte(text)})
		if err := diags.Err(); f != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func TestFileNames(t *testing.T) {
	for name, want := range map[string]string{"a/b.test.yml": "a/b.yml", "b_test.yaml": "b.yaml"} {
		if got := RuleFileOf(name); got != want || !IsTestFile(name) {
			t.Errorf("%s: %s", name, got)
		}
	}
	if IsTestFile("a.yml") || IsTestFile("test.txt") {
		t.Error("taken for test files")
	}
}
