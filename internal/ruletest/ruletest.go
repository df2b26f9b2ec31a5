// Package ruletest runs the tests that lie beside rules: events in, detections
// out, on the engine that the pipeline has. See rules.TestFile for the format.
package ruletest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/correlate"
	"github.com/tocsin-io/tocsin/internal/backtest"
	"github.com/tocsin-io/tocsin/rules"
)

// start is when tests start whose events say only how much later they are.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Result is what became of one test.
type Result struct {
	File     string
	Line     int
	Name     string
	Failures []Failure // none: it passed
}

// Failure is one difference, at the line that expected something else.
type Failure struct {
	File    string
	Line    int
	Message string
}

// String returns "file:line: message".
func (f Failure) String() string { return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Message) }

// Runner runs tests against a set of rules.
type Runner struct {
	set     *rules.Set
	byName  map[string]*rules.Meta // by ID and by name
	indexOf map[*rules.Meta]int32  // of detection rules, in Set.Rules
}

// New returns a Runner for the rules of set.
func New(set *rules.Set) *Runner {
	r := &Runner{set: set, byName: map[string]*rules.Meta{}, indexOf: map[*rules.Meta]int32{}}
	for i, rule := range set.Rules {
		r.name(&rule.Meta)
		r.indexOf[&rule.Meta] = int32(i)
	}
	for _, c := range set.Correlations {
		r.name(&c.Meta)
	}
	return r
}

func (r *Runner) name(m *rules.Meta) {
	r.byName[m.ID] = m
	if m.Name != "" {
		r.byName[m.Name] = m
	}
}

// Run runs the tests of a file.
func (r *Runner) Run(f *rules.TestFile) []Result {
	var out []Result
	for i := range f.Tests {
		c := &run{Runner: r, file: f, test: &f.Tests[i], scope: map[*rules.Meta]bool{}}
		c.start = c.startTime()
		c.run()
		out = append(out, Result{File: f.File, Line: c.test.Line, Name: c.test.Name, Failures: c.failures})
	}
	return out
}

// run is one test at work.
type run struct {
	*Runner
	file     *rules.TestFile
	test     *rules.TestCase
	start    time.Time
	scope    map[*rules.Meta]bool // rules of which everything is compared
	failures []Failure
}

func (c *run) fail(line int, format string, args ...any) {
	if line == 0 {
		line = c.test.Line
	}
	c.failures = append(c.failures, Failure{c.file.File, line, fmt.Sprintf(format, args...)})
}

// startTime is that of the first absolute time in the test, so that offsets
// beside it stay near it.
func (c *run) startTime() time.Time {
	for _, e := range c.test.Events {
		if !e.Time.IsZero() {
			return e.Time.Add(-e.Offset)
		}
	}
	return start
}

func (c *run) run() {
	if !c.findScope() {
		return
	}
	var found backtest.Collector
	replay := correlate.NewReplay(c.set, correlate.ReplayOptions{}, found.Add)
	maker := newEventMaker()
	for i := range c.test.Events {
		e := &c.test.Events[i]
		ev, err := maker.event(i, e, e.At(c.start))
		if err != nil {
			c.fail(e.Line, "%v", err)
			continue
		}
		matched := replay.Event(ev)
		if c.test.Matches != nil {
			c.compareMatches(i, matched)
		}
	}
	if len(c.failures) > 0 {
		return // what follows from events that are missing says nothing
	}
	replay.Finish()
	if n := replay.Stats().Windows.Late; n > 0 {
		c.fail(0, "%d events are older than those before them by more than the allowed lateness: put the events into the order of time", n)
	}
	if c.test.Detections == nil && !c.test.None {
		return
	}
	var got []backtest.Detection
	for _, d := range found.Detections() {
		if c.scope[c.byName[d.RuleID]] {
			got = append(got, d)
		}
	}
	c.compareDetections(got)
}

// findScope: a test is about the rule that its file names, or about all rules of
// the sibling file; and about those that it names itself, wherever they are.
func (c *run) findScope() bool {
	if c.file.Rule != "" {
		if m := c.lookup(c.file.Line, c.file.Rule); m != nil {
			c.scope[m] = true
		}
	} else {
		sibling := rules.RuleFileOf(c.file.File)
		for _, m := range c.byName {
			if m.File == sibling {
				c.scope[m] = true
			}
		}
		if len(c.scope) == 0 {
			c.fail(c.file.Line, "there are no rules in %s, the file that these tests are for", sibling)
		}
	}
	for _, d := range c.test.Detections {
		if m := c.lookup(d.Line, d.Rule); m != nil {
			c.scope[m] = true
		}
	}
	return len(c.failures) == 0
}

func (c *run) lookup(line int, name string) *rules.Meta {
	m := c.byName[name]
	if m == nil {
		c.fail(line, "there is no rule %q", name)
	}
	return m
}

func ruleName(m *rules.Meta) string {
	if m.Name != "" {
		return m.Name
	}
	return m.ID
}

// compareMatches compares the detection rules that event i matches.
func (c *run) compareMatches(i int, matched []int32) {
	line := c.test.Events[i].Line
	want := map[*rules.Meta]bool{}
	for _, name := range c.test.Matches[i] {
		m := c.lookup(line, name)
		if m == nil {
			continue
		}
		if _, isRule := c.indexOf[m]; !isRule {
			c.fail(line, "%s is a correlation: events match detection rules", name)
			continue
		}
		want[m] = true
		if !slices.Contains(matched, c.indexOf[m]) {
			c.fail(line, "the event should match %s, but does not", name)
		}
	}
	for _, r := range matched {
		m := &c.set.Rules[r].Meta
		if c.scope[m] && !want[m] {
			c.fail(line, "the event should not match %s, but does", ruleName(m))
		}
	}
}

// compareDetections pairs what was expected with what was found.
func (c *run) compareDetections(got []backtest.Detection) {
	want := c.test.Detections
	// Kuhn's algorithm: an expectation that says little may have to leave a
	// detection to one that says more.
	owner := make([]int, len(got)) // expectation of each detection, -1 for none
	for j := range owner {
		owner[j] = -1
	}
	var assign func(i int, tried []bool) bool
	assign = func(i int, tried []bool) bool {
		for j := range got {
			if tried[j] || len(c.differences(&want[i], &got[j])) > 0 {
				continue
			}
			tried[j] = true
			if owner[j] < 0 || assign(owner[j], tried) {
				owner[j] = i
				return true
			}
		}
		return false
	}
	var missing []int
	for i := range want {
		if !assign(i, make([]bool, len(got))) {
			missing = append(missing, i)
		}
	}
	for _, i := range missing {
		j := c.nearest(&want[i], got, owner)
		if j < 0 {
			c.fail(want[i].Line, "%s should be detected, but is not", want[i].Rule)
			continue
		}
		owner[j] = i
		c.fail(want[i].Line, "%s: %s", want[i].Rule, strings.Join(c.differences(&want[i], &got[j]), "; "))
	}
	for j := range got {
		if owner[j] < 0 {
			c.fail(0, "unexpected detection: %s", c.describe(&got[j]))
		}
	}
}

// nearest returns the detection of the same rule that nobody expects and that
// differs least, -1 if there is none.
func (c *run) nearest(want *rules.TestDetection, got []backtest.Detection, owner []int) int {
	best, least := -1, 0
	for j := range got {
		if owner[j] >= 0 || c.byName[want.Rule] != c.byName[got[j].RuleID] {
			continue
		}
		if n := len(c.differences(want, &got[j])); best < 0 || n < least {
			best, least = j, n
		}
	}
	return best
}

// differences says in what got is not what was expected.
func (c *run) differences(want *rules.TestDetection, got *backtest.Detection) []string {
	if c.byName[want.Rule] != c.byName[got.RuleID] {
		return []string{"it is of another rule"}
	}
	var out []string
	differ := func(what string, got, want any) { out = append(out, fmt.Sprintf("%s is %v, want %v", what, got, want)) }
	names := make([]string, 0, len(want.Group))
	for name := range want.Group {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value, ok := got.Group[name]
		switch {
		case !ok:
			out = append(out, fmt.Sprintf("the group has no %s; it is %s", name, got.GroupText()))
		case value != want.Group[name]:
			differ("group "+name, value, want.Group[name])
		}
	}
	if want.Count != 0 && int64(want.Count) != got.Count {
		differ("count", got.Count, want.Count)
	}
	if want.First != nil && !want.First.At(c.start).Equal(got.First) {
		differ("first", c.offset(got.First), c.offset(want.First.At(c.start)))
	}
	if want.Last != nil && !want.Last.At(c.start).Equal(got.Last) {
		differ("last", c.offset(got.Last), c.offset(want.Last.At(c.start)))
	}
	return out
}

func (c *run) describe(d *backtest.Detection) string {
	group := d.GroupText()
	if group == "" {
		group = "no group"
	}
	return fmt.Sprintf("%s, %s, count %d, first %s, last %s", d.Rule, group, d.Count, c.offset(d.First), c.offset(d.Last))
}

func (c *run) offset(t time.Time) string { return t.Sub(c.start).String() }
