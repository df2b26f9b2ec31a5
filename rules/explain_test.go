package rules

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/schemas"
)

// TestExplainAgrees: an explanation comes to what the matcher comes to, for
// random rules and events.
func TestExplainAgrees(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if *naiveSeed != 0 {
		seed = *naiveSeed
	}
	r := rand.New(rand.NewPCG(seed, 7))
	matched := 0
	for range 10 {
		docs := make([]string, 20)
		for i := range docs {
			docs[i] = ruleWith(fmt.Sprintf("r%d", i), randomRule(r).yaml())
		}
		docs = append(docs, `
title: f
logsource: {product: aws, service: iot}
filter:
  rules: [r0, r1]
  s: {a|exists: true}
  condition: not s
`)
		set := compileOK(t, Options{}, docs...)
		m := set.NewMatcher()
		x := NewExplainer([]Source{{Name: "test.yml", Data: []byte(joinDocs(docs))}}, Options{})
		for range 30 {
			e := randomEvent(r)
			ev := &schemas.Event{Source: []byte("iot"), Message: []byte(e.raw)}
			got := map[int32]bool{}
			for _, i := range m.Match(ev) {
				got[i] = true
				matched++
			}
			for i, rule := range set.Rules {
				why, err := x.Explain(rule.Name, ev, nil)
				if err != nil {
					t.Fatal(err)
				}
				if why.Matched != got[int32(i)] {
					t.Fatalf("seed %d: explained as %t, matched %t: message\n%s\nand rule\n%s\n%+v", seed, why.Matched, got[int32(i)], e.raw, docs[i], why)
				}
			}
		}
	}
	if matched == 0 {
		t.Error("no rule matched anything")
	}
}

func joinDocs(docs []string) (out string) {
	for _, d := range docs {
		out += d + "\n---\n"
	}
	return out
}

func TestExplain(t *testing.T) {
	doc := ruleWith("brute", `
selection:
  user.name|startswith: [root, adm]
  status|neq: ok
  tocsin.client_id: c1
filter_a:
  - x: null
    y|gt: 3
  - lost
condition: selection and not 1 of filter_*`)
	filter := `
title: maintenance
logsource: {product: aws, service: iot}
filter:
  rules: any
  window: {maintenance: true}
  condition: not window
`
	x := NewExplainer([]Source{{Name: "b.yml", Data: []byte(doc + "---\n" + filter)}}, Options{})
	why, err := x.Explain("brute", &schemas.Event{
		Source: []byte("iot"), ClientID: []byte("c1"),
		Message: []byte(`{"user":[{"name":"Bob"},{"name":"Admin"}],"status":"bad","x":1,"y":[2,5]}`),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	why.Rule = nil
	ls := LogSource{Product: "aws", Service: "iot"}
	want := &Explanation{
		Matched: true, Selected: true, LogSource: ls, EventLogSource: ls,
		Parts: []ExplainedPart{
			{
				File: "b.yml", Line: 1, Holds: true,
				Conditions: []ExplainedCondition{{Text: "and", Holds: true, Parts: []ExplainedCondition{
					{Text: "selection", Holds: true},
					{Text: "not", Holds: true, Parts: []ExplainedCondition{{Text: "1 of filter_*", Parts: []ExplainedCondition{{Text: "filter_a"}}}}},
				}}},
				Selections: []ExplainedSelection{
					{Name: "selection", Line: 8, Holds: true, Alternatives: [][]ExplainedItem{{
						{
							Key: "user.name|startswith", Line: 9, Holds: true, Seen: []string{`"Bob"`, `"Admin"`},
							Values: []ExplainedValue{{Text: "root", Line: 9}, {Text: "adm", Line: 9, Holds: true}},
						},
						{Key: "status|neq", Line: 10, Holds: true, Seen: []string{`"bad"`}, Values: []ExplainedValue{{Text: "ok", Line: 10}}},
						{Key: "tocsin.client_id", Line: 11, Holds: true, Seen: []string{`"c1"`}, Values: []ExplainedValue{{Text: "c1", Line: 11, Holds: true}}},
					}}},
					{Name: "filter_a", Line: 12, Alternatives: [][]ExplainedItem{
						{
							{Key: "x", Line: 13, Seen: []string{"1"}, Values: []ExplainedValue{{Text: "null", Line: 13}}},
							{Key: "y|gt", Line: 14, Holds: true, Seen: []string{"2", "5"}, Values: []ExplainedValue{{Text: "3", Line: 14, Holds: true}}},
						},
						{{Line: 15, Values: []ExplainedValue{{Text: "lost", Line: 15}}}},
					}},
				},
			},
			{
				Filter: "maintenance", File: "b.yml", Line: 19, Holds: true,
				Conditions: []ExplainedCondition{{Text: "not", Holds: true, Parts: []ExplainedCondition{{Text: "window"}}}},
				Selections: []ExplainedSelection{{Name: "window", Line: 23, Alternatives: [][]ExplainedItem{{
					{Key: "maintenance", Line: 23, Values: []ExplainedValue{{Text: "true", Line: 23}}},
				}}}},
			},
		},
	}
	if d := cmp.Diff(want, why); d != "" {
		t.Error(d)
	}

	why, err = x.Explain("brute", &schemas.Event{Source: []byte("guardduty"), Message: []byte("{}")}, nil)
	if err != nil || why.Selected || why.Matched || why.EventLogSource.Service != "guardduty" {
		t.Errorf("%+v, %v", why, err)
	}
	if _, err := x.Explain("brut", &schemas.Event{}, nil); err == nil || err.Error() != `there is no detection rule "brut"; did you mean "brute"?` {
		t.Error(err)
	}
}

func TestSeenValues(t *testing.T) {
	for _, c := range []struct {
		message, field string
		want           []string
	}{
		{`{"a":{"b":1}}`, "a.b", []string{"1"}},
		{`{"a.b":1,"a":{"b":2},"a.b":3}`, "a.b", []string{"1", "2", "3"}},
		{`{"a":[{"b":1},[{"b":"x\"y"}]]}`, "a.b", []string{"1", `"x\"y"`}},
		{`{"a":{"b":1}}`, "a", []string{`{"b":1}`}},
		{`{"a":[]}`, "a", []string{"[]"}},
		{`{"a":null}`, "a", []string{"null"}},
		{`{"\u0061":true}`, "a", []string{"true"}},
		{`{"a":1`, "a", []string{"1"}},
		{`{"a":1,"b":`, "b", nil},
		{`{"ab":1}`, "a", nil},
		{`not JSON`, "a", nil},
		{`{"a":"b"}`, "a.b", nil},
	} {
		if d := cmp.Diff(c.want, seenValues(&schemas.Event{Message: []byte(c.message)}, c.field)); d != "" {
			t.Errorf("%s in %s: %s", c.field, c.message, d)
		}
	}
}

// TestExplainCorpus explains some of the SigmaHQ rules.
func TestExplainCorpus(t *testing.T) {
	sources := corpus(t)
	opts := Options{Placeholders: corpusPlaceholders(sources)}
	set, _ := Compile(sources, opts)
	x, m := NewExplainer(sources, opts), set.NewMatcher()
	ev := &schemas.Event{Source: []byte("cloudtrail"), Message: []byte(`{"EventID":4625,"eventSource":"iam.amazonaws.com","eventName":"CreateUser",` +
		`"Image":"C:\\Windows\\System32\\cmd.exe","CommandLine":"cmd /c whoami /all","User":"NT AUTHORITY\\SYSTEM"}`)}
	matched := map[int32]bool{}
	for _, i := range m.MatchAs(AnyLogSource, ev) {
		matched[i] = true
	}
	explained := 0
	for i, r := range set.Rules {
		if i%20 != 0 && !matched[int32(i)] {
			continue
		}
		why, err := x.Explain(r.ID, ev, &AnyLogSource)
		if err != nil {
			t.Fatal(err)
		}
		if why.Matched != matched[int32(i)] {
			t.Errorf("%s: explained as %t, matched %t", r.File, why.Matched, matched[int32(i)])
		}
		explained++
	}
	if explained < 100 || len(matched) == 0 {
		t.Errorf("%d rules explained, %d matched", explained, len(matched))
	}
}
