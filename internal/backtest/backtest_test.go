package backtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

const rulesText = `
title: shell
name: shell
logsource: {product: windows, category: process_creation}
detection: {s: {Image|endswith: \cmd.exe}, condition: s}
---
title: many
name: many
correlation: {type: event_count, rules: [shell], group-by: [Host], timespan: 1m, condition: {gte: 3}}
---
title: admin
name: admin
logsource: {product: windows, category: process_creation}
detection: {s: {User: admin}, condition: s}
`

func compile(t *testing.T, text string) *rules.Set {
	t.Helper()
	set, diags := rules.Compile([]rules.Source{{Name: "r.yml", Data: []byte(text)}}, rules.Options{})
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	return set
}

// log has its last event first, two files' worth in one, and a line of text.
const log = `{"Utc":{"Time":"2026-11-20 10:00:40.000"},"Host":"h","Image":"C:\\cmd.exe","n":3}
{"Utc":{"Time":"2026-11-20 10:00:00.000"},"Host":"h","Image":"C:\\cmd.exe","n":1}
{"Utc":{"Time":"2026-11-19 08:00:00.000"},"Host":"h","Image":"C:\\cmd.exe","n":0}
{"Utc":{"Time":"2026-11-20 10:00:20.000"},"Host":"h","Image":"C:\\cmd.exe","n":2}
{"Utc":{"Time":"2026-11-20 10:00:20.000"},"Host":"h","Image":"C:\\cmd.exe","n":2}
{"User":"admin"}
not JSON at all
{"broken": 
`

func logFile(t *testing.T) *Files {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log.jsonl")
	if err := os.WriteFile(path, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Files{Paths: []string{path}}
}

func TestRun(t *testing.T) {
	ls, err := ParseLogSource("product=Windows, category=process_creation")
	if err != nil {
		t.Fatal(err)
	}
	set := compile(t, rulesText)
	report, err := Run(t.Context(), Options{Set: set, Source: logFile(t), LogSource: ls, TimeField: "Utc.Time"})
	if err != nil {
		t.Fatal(err)
	}
	at := func(s string) time.Time {
		when, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	if report.Stats.Events != 7 || report.Stats.Matched != 6 || report.Untimed != 2 || report.Source.Rejected != 1 || report.Stats.Windows.Late != 0 {
		t.Errorf("%+v", report)
	}
	if !strings.Contains(report.Source.FirstRejected, "log.jsonl@0: not_json: ") {
		t.Error(report.Source.FirstRejected)
	}
	if len(report.Detections) != 2 || report.Detections[1].Rule != "admin" {
		t.Fatalf("%+v", report.Detections)
	}
	d := report.Detections[0]
	if len(d.Evidence) != 3 || d.ID == "" {
		t.Errorf("%+v", d)
	}
	d.ID, d.Evidence = "", nil
	want := Detection{
		Rule: "many", RuleID: "many", Title: "many", Level: "medium", Group: map[string]string{"Host": "h"},
		First: at("2026-11-20T10:00:00Z"), Last: at("2026-11-20T10:00:40Z"), Count: 3, Complete: true,
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Error(diff)
	}
	for _, c := range []struct {
		what string
		as   *rules.LogSource
		n    int
	}{{"the events' own log source", nil, 0}, {"any", &rules.AnyLogSource, 2}} {
		report, err := Run(t.Context(), Options{Set: set, Source: logFile(t), LogSource: c.as, TimeField: "Utc.Time"})
		if err != nil || len(report.Detections) != c.n {
			t.Errorf("%s: %d detections, %v", c.what, len(report.Detections), err)
		}
	}
}

// TestFullMemory: with room for few matches the order of time is lost, and
// what comes too late for it is counted.
func TestFullMemory(t *testing.T) {
	report, err := Run(t.Context(), Options{
		Set: compile(t, rulesText), Source: logFile(t), LogSource: &rules.AnyLogSource, TimeField: "Utc.Time",
		MaxMatches: 2, Lateness: time.Second,
	})
	if err != nil || report.Stats.Windows.Late == 0 {
		t.Errorf("%+v, %v", report.Stats, err)
	}
}

func TestBaseline(t *testing.T) {
	changed := strings.ReplaceAll(strings.ReplaceAll(rulesText, "gte: 3", "gte: 4"), "User: admin", "User: root")
	report, err := Run(t.Context(), Options{
		Set: compile(t, rulesText), Baseline: compile(t, changed), Source: logFile(t), LogSource: &rules.AnyLogSource, TimeField: "Utc.Time",
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range report.Changes {
		got = append(got, string(d.Change)+" "+d.Rule)
	}
	if diff := cmp.Diff([]string{"added many", "added admin"}, got); diff != "" {
		t.Error(diff)
	}
}

type failing struct {
	n   int
	err error
}

func (f failing) Events(ctx context.Context, emit func(*schemas.Event) error) (SourceStats, error) {
	for range f.n {
		if err := emit(&schemas.Event{Message: make([]byte, 1000)}); err != nil {
			return SourceStats{}, err
		}
	}
	if f.err == nil {
		<-ctx.Done()
	}
	return SourceStats{}, f.err
}

func TestSourceFails(t *testing.T) {
	set := compile(t, rulesText)
	broken := errors.New("the disk is gone")
	if _, err := Run(t.Context(), Options{Set: set, Source: failing{10_000, broken}}); !errors.Is(err, broken) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := Run(ctx, Options{Set: set, Source: failing{1, nil}}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestParseLogSource(t *testing.T) {
	for text, want := range map[string]rules.LogSource{
		"product=aws":             {Product: "aws"},
		"service=IoT,product=aws": {Product: "aws", Service: "iot"},
		"category=a , product=b":  {Category: "a", Product: "b"},
	} {
		if got, err := ParseLogSource(text); err != nil || *got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "aws", "product=", "produkt=aws", "product=aws,"} {
		if _, err := ParseLogSource(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestCompare(t *testing.T) {
	d := func(rule, group string, first, last int, count int64) Detection {
		at := func(s int) time.Time { return time.Unix(int64(s), 0) }
		return Detection{Rule: rule, RuleID: rule, Group: map[string]string{"g": group}, First: at(first), Last: at(last), Count: count}
	}
	for name, c := range map[string]struct {
		old, now []Detection
		want     []string
	}{
		"same":             {[]Detection{d("r", "a", 0, 10, 3)}, []Detection{d("r", "a", 0, 10, 3)}, nil},
		"another group":    {[]Detection{d("r", "a", 0, 10, 3)}, []Detection{d("r", "b", 0, 10, 3)}, []string{"lost a", "added b"}},
		"another time":     {[]Detection{d("r", "a", 0, 10, 3)}, []Detection{d("r", "a", 11, 20, 3)}, []string{"lost a", "added a"}},
		"overlap":          {[]Detection{d("r", "a", 0, 10, 3)}, []Detection{d("r", "a", 10, 20, 3)}, []string{"changed a"}},
		"two become one":   {[]Detection{d("r", "a", 0, 10, 3), d("r", "a", 20, 30, 3)}, []Detection{d("r", "a", 0, 30, 6)}, []string{"changed a", "lost a"}},
		"one becomes two":  {[]Detection{d("r", "a", 0, 30, 6)}, []Detection{d("r", "a", 0, 10, 3), d("r", "a", 20, 30, 3)}, []string{"changed a", "added a"}},
		"nothing to start": {nil, []Detection{d("r", "a", 0, 1, 1)}, []string{"added a"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, change := range Compare(c.old, c.now) {
				got = append(got, string(change.Change)+" "+change.Group["g"])
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCollector(t *testing.T) {
	var c Collector
	add := func(uid string, status, revision int, count int64) {
		f := &schemas.Finding{StatusID: status, Count: count}
		f.FindingInfo.UID, f.Unmapped.Revision = uid, int64(revision)
		c.Add(f)
	}
	add("a", schemas.StatusNew, 1, 3)
	add("a", schemas.StatusResolved, 2, 5)
	add("b", schemas.StatusNew, 1, 3)
	add("b", schemas.StatusSuppressed, 2, 3)
	got := c.Detections()
	if len(got) != 1 || got[0].ID != "a" || got[0].Count != 5 {
		t.Errorf("%+v", got)
	}
}
