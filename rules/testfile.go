package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// TestFile holds tests of rules. It lies beside the rule file: brute.test.yml
// beside brute.yml.
//
//	rule: <id or name>        # default: all rules of the sibling file
//	tests:
//	  - name: five failures in a minute
//	    events:
//	      - time: 0s          # offset from the test's start, or RFC 3339
//	        message: {eventType: Connect, status: Failure}
//	      - {time: 1s, every: 500ms, repeat: 100, message: {eventType: Ping}}
//	      - time: 30s
//	        source: cloudtrail      # and other envelope fields, instead of
//	        client_id: pump-0001    # what ingest would derive
//	        message: '{"as": "text"}'
//	    matches: [[failed_connect], [], []]   # by event as written
//	    detections:
//	      - {rule: brute_force, group: {tocsin.client_id: pump-0001}, count: 5, first: 0s, last: 50s}
//	  - name: success
//	    events: [{message: {eventType: Connect, status: Success}}]
//	    none: true            # no detection at all
type TestFile struct {
	File  string
	Line  int
	Rule  string // ID or name; "" for all rules of the sibling file
	Tests []TestCase
}

// TestCase is one test: events in the order in which they arrive, repetitions
// written out, and what must be found.
type TestCase struct {
	Name   string
	Line   int
	Events []TestEvent
	// Matches are, by event, the names or IDs of the detection rules that match
	// it, in any order; nil when the test does not say.
	Matches [][]string
	// Detections are all that result, in any order; nil when the test does not say.
	Detections []TestDetection
	// None: no detection may result.
	None bool
}

// TestEvent is one event of a test.
type TestEvent struct {
	Line int
	// Time is when the event happened. Relative to the test's start (Offset) or
	// absolute (Time not zero).
	Time   time.Time
	Offset time.Duration
	// Envelope are the envelope fields given, by name without "tocsin.".
	Envelope map[string]string
	// Message is the original record.
	Message []byte
}

// TestDetection is an expected detection. Fields that are not given are not
// compared.
type TestDetection struct {
	Line  int
	Rule  string
	Group map[string]string
	Count int // 0: not given
	// First and Last are the times of the first and last contributing event.
	First, Last *TestTime
}

// TestTime is an absolute time, or an offset from the test's start if Time is
// zero.
type TestTime struct {
	Time   time.Time
	Offset time.Duration
}

// At returns the time of t in a test that starts at start.
func (t TestTime) At(start time.Time) time.Time {
	if t.Time.IsZero() {
		return start.Add(t.Offset)
	}
	return t.Time
}

// At returns the time of the event in a test that starts at start.
func (e *TestEvent) At(start time.Time) time.Time { return TestTime{e.Time, e.Offset}.At(start) }

const (
	maxTests      = 1000
	maxTestEvents = 100_000
)

// IsTestFile reports whether a file of that name holds tests.
func IsTestFile(name string) bool {
	stem, ok := yamlStem(name)
	return ok && (strings.HasSuffix(stem, ".test") || strings.HasSuffix(stem, "_test"))
}

// RuleFileOf returns the name of the file whose rules a test file is for.
func RuleFileOf(testFile string) string {
	stem, ok := yamlStem(testFile)
	if !ok {
		return ""
	}
	return strings.TrimSuffix(strings.TrimSuffix(stem, ".test"), "_test") + testFile[len(stem):]
}

// ParseTestFile reads a file of tests. It returns nil if there are errors among
// the diagnostics.
func ParseTestFile(src Source) (*TestFile, Diagnostics) {
	var diags Diagnostics
	limits := Limits{}.withDefaults()
	docs := readDocuments(src, &limits, &diags)
	if len(docs) != 1 {
		if diags.Errors() == 0 {
			diags = append(diags, Diagnostic{File: src.Name, Message: fmt.Sprintf("a test file is one YAML document, not %d", len(docs))})
		}
		return nil, diags
	}
	p := testParser{docs[0].reporter}
	f := p.file(docs[0].root)
	f.File = src.Name
	sortDiagnostics(diags, []Source{src})
	if diags.Errors() > 0 {
		return nil, diags
	}
	return f, diags
}

type testParser struct{ *reporter }

func (p testParser) file(root *yaml.Node) *TestFile {
	f := &TestFile{Line: root.Line + p.offset}
	tests := 0
	p.keys(root, "a test file", map[string]func(*yaml.Node){
		"rule": func(n *yaml.Node) { f.Rule = p.text(n) },
		"tests": func(n *yaml.Node) {
			p.list(n, "tests", maxTests, func(n *yaml.Node) { f.Tests = append(f.Tests, p.test(n)) })
			tests++
		},
	})
	if tests > 0 && len(f.Tests) == 0 {
		p.error(root, "", "there is no test")
	}
	if tests == 0 {
		p.error(root, "add tests:", "the file has no tests")
	}
	return f
}

func (p testParser) test(n *yaml.Node) TestCase {
	c := TestCase{Line: n.Line + p.offset}
	var repeats []int // by event as written
	p.keys(n, "a test", map[string]func(*yaml.Node){
		"name": func(n *yaml.Node) { c.Name = p.text(n) },
		"events": func(n *yaml.Node) {
			p.list(n, "events", maxTestEvents, func(n *yaml.Node) {
				e, r := p.event(n)
				repeats = append(repeats, r.count)
				if len(c.Events)+r.count > maxTestEvents {
					p.error(n, "", "more than %d events", maxTestEvents)
					return
				}
				for range r.count {
					c.Events = append(c.Events, e)
					if e.Time.IsZero() {
						e.Offset += r.every
					} else {
						e.Time = e.Time.Add(r.every)
					}
				}
			})
		},
		"matches": func(n *yaml.Node) {
			c.Matches = [][]string{}
			p.list(n, "matches", maxTestEvents, func(n *yaml.Node) { c.Matches = append(c.Matches, p.texts(n)) })
		},
		"detections": func(n *yaml.Node) {
			c.Detections = []TestDetection{}
			p.list(n, "detections", maxTestEvents, func(n *yaml.Node) { c.Detections = append(c.Detections, p.detection(n)) })
		},
		"none": func(n *yaml.Node) {
			if n.ShortTag() != "!!bool" || n.Decode(&c.None) != nil {
				p.error(n, "write true", "none is %s", kindName(n))
			}
		},
	})
	switch {
	case n.Kind != yaml.MappingNode:
	case len(c.Events) == 0:
		p.error(n, "add events:", "the test has no events")
	case c.Matches != nil && len(c.Matches) != len(repeats):
		p.error(n, "give one list of rules for each event, [] for none", "matches of %d events, but there are %d", len(c.Matches), len(repeats))
		c.Matches = nil
		return c
	case c.None && len(c.Detections) > 0:
		p.error(n, "remove one of them", "the test expects detections and none")
	case c.Matches == nil && c.Detections == nil && !c.None:
		p.error(n, "add matches:, detections: or none: true", "the test expects nothing")
	}
	if c.Name == "" && n.Kind == yaml.MappingNode {
		p.error(n, "add name:", "the test has no name")
	}
	if c.Matches != nil && len(repeats) == len(c.Matches) {
		var all [][]string
		for i, names := range c.Matches {
			for range repeats[i] {
				all = append(all, names)
			}
		}
		c.Matches = all
	}
	return c
}

// repetition is how often an event happens, and at what interval.
type repetition struct {
	count int
	every time.Duration
}

func (p testParser) event(n *yaml.Node) (TestEvent, repetition) {
	r := repetition{count: 1}
	e := TestEvent{Line: n.Line + p.offset, Envelope: map[string]string{}}
	given := false
	keys := map[string]func(*yaml.Node){
		"time": func(n *yaml.Node) {
			t := p.time(n)
			e.Time, e.Offset = t.Time, t.Offset
		},
		"repeat": func(n *yaml.Node) {
			count, err := strconv.Atoi(n.Value)
			if err != nil || count < 1 || count > maxTestEvents {
				p.error(n, "give a number from 1", "repeat is %q", n.Value)
				return
			}
			r.count = count
		},
		"every": func(n *yaml.Node) {
			d, err := time.ParseDuration(n.Value)
			if err != nil {
				p.error(n, "write a duration such as 500ms", "every is %q", n.Value)
			}
			r.every = d
		},
		"message": func(n *yaml.Node) {
			given = true
			if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" {
				e.Message = []byte(n.Value)
				return
			}
			e.Message = p.appendJSON(nil, n)
		},
	}
	for _, name := range envelopeNames() {
		name := strings.TrimPrefix(name, envelopePrefix)
		keys[name] = func(n *yaml.Node) { e.Envelope[name] = p.text(n) }
	}
	p.keys(n, "an event", keys)
	if !given && n.Kind == yaml.MappingNode {
		p.error(n, "add message: with the log record", "the event has no message")
	}
	return e, r
}

func (p testParser) detection(n *yaml.Node) TestDetection {
	d := TestDetection{Line: n.Line + p.offset}
	at := func(to **TestTime) func(*yaml.Node) {
		return func(n *yaml.Node) {
			t := p.time(n)
			*to = &t
		}
	}
	p.keys(n, "a detection", map[string]func(*yaml.Node){
		"rule": func(n *yaml.Node) { d.Rule = p.text(n) },
		"group": func(n *yaml.Node) {
			d.Group = map[string]string{}
			if n.Kind != yaml.MappingNode {
				p.error(n, "write field: value", "group is %s, not a mapping", kindName(n))
				return
			}
			for key, value := range members(n) {
				d.Group[key.Value] = p.text(value)
			}
		},
		"count": func(n *yaml.Node) {
			count, err := strconv.Atoi(n.Value)
			if err != nil || count < 1 {
				p.error(n, "give the number of contributing events", "count is %q", n.Value)
			}
			d.Count = count
		},
		"first": at(&d.First),
		"last":  at(&d.Last),
	})
	if d.Rule == "" && n.Kind == yaml.MappingNode {
		p.error(n, "add rule: with its id or name", "the detection names no rule")
	}
	return d
}

// keys calls the function of each key; others are errors.
func (p testParser) keys(n *yaml.Node, what string, known map[string]func(*yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		p.error(n, "", "%s is %s, not a mapping", what, kindName(n))
		return
	}
	for key, value := range members(n) {
		f, ok := known[key.Value]
		if !ok {
			names := make([]string, 0, len(known))
			for name := range known {
				names = append(names, name)
			}
			slices.Sort(names)
			p.error(key, nearest(key.Value, names), "unknown key %q in %s", key.Value, what)
			continue
		}
		f(value)
	}
}

func (p testParser) list(n *yaml.Node, what string, most int, f func(*yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		p.error(n, "", "%s is %s, not a list", what, kindName(n))
		return
	}
	if len(n.Content) > most {
		p.error(n, "", "%d %s, the limit is %d", len(n.Content), what, most)
		return
	}
	for _, item := range n.Content {
		f(item)
	}
}

func (p testParser) text(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		p.error(n, "", "expected a string, not %s", kindName(n))
		return ""
	}
	return n.Value
}

// texts takes a list of strings, or one.
func (p testParser) texts(n *yaml.Node) []string {
	if isNull(n) {
		return nil
	}
	if n.Kind == yaml.ScalarNode {
		return []string{n.Value}
	}
	var out []string
	p.list(n, "matches", maxTestEvents, func(n *yaml.Node) { out = append(out, p.text(n)) })
	return out
}

func (p testParser) time(n *yaml.Node) TestTime {
	if d, err := time.ParseDuration(n.Value); err == nil && n.Kind == yaml.ScalarNode {
		return TestTime{Offset: d}
	}
	t, err := time.Parse(time.RFC3339Nano, n.Value)
	if err != nil || n.Kind != yaml.ScalarNode {
		p.error(n, "write an offset such as 90s, or RFC 3339 such as 2026-11-20T10:00:00Z", "%q is not a time", n.Value)
	}
	return TestTime{Time: t}
}

// appendJSON writes a YAML value as JSON, keys in their order, so that a message
// looks as it is written in the test.
func (p testParser) appendJSON(b []byte, n *yaml.Node) []byte {
	switch n.Kind {
	case yaml.MappingNode:
		b = append(b, '{')
		i := 0
		for key, value := range members(n) {
			if i++; i > 1 {
				b = append(b, ',')
			}
			b = append(appendJSONString(b, key.Value), ':')
			b = p.appendJSON(b, value)
		}
		return append(b, '}')
	case yaml.SequenceNode:
		b = append(b, '[')
		for i, item := range n.Content {
			if i > 0 {
				b = append(b, ',')
			}
			b = p.appendJSON(b, item)
		}
		return append(b, ']')
	}
	switch n.ShortTag() {
	case "!!null":
		return append(b, "null"...)
	case "!!bool":
		var v bool
		if err := n.Decode(&v); err != nil {
			p.error(n, "", "%s", err)
		}
		return strconv.AppendBool(b, v)
	case "!!int", "!!float":
		_, text, ok := yamlNumber(n)
		if !ok {
			p.error(n, "quote it if it is a string", "JSON has no number %q", n.Value)
		}
		return append(b, text...)
	}
	return appendJSONString(b, n.Value)
}

func appendJSONString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = append(b, string(r)...)
		}
	}
	return append(b, '"')
}
