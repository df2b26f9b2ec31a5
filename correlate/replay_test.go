package correlate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// replayRules has a correlation of each way of deciding, one that refers to
// another, and a rule that alerts by itself.
const replayRules = `
title: fail
name: fail
logsource: {product: aws, service: iot}
detection: {s: {status: Failure}, condition: s}
---
title: drop
name: drop
logsource: {product: aws, service: iot}
detection: {s: {eventType: Disconnect}, condition: s}
---
title: alone
name: alone
logsource: {product: aws, service: iot}
detection: {s: {eventType: Alone}, condition: s}
---
title: burst
name: burst
correlation: {type: event_count, rules: [fail], group-by: [clientId], timespan: 1m, condition: {gte: 3}}
---
title: spread
name: spread
correlation: {type: value_count, rules: [fail], group-by: [tocsin.source_ip], timespan: 2m, condition: {field: clientId, gte: 2}}
---
title: quiet
name: quiet
correlation: {type: event_count, rules: [drop], group-by: [clientId], timespan: 30s, condition: {lt: 2}}
---
title: both
name: both
correlation: {type: temporal, rules: [burst, quiet], group-by: [clientId], timespan: 10m, generate: true}
`

func replaySet(t testing.TB) *rules.Set {
	t.Helper()
	set, diags := rules.Compile([]rules.Source{{Name: "replay.yml", Data: []byte(replayRules)}}, rules.Options{})
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	return set
}

func replayEvents(rng *rand.Rand, n int) []schemas.Event {
	events := make([]schemas.Event, n)
	at := int64(1_800_000_000_000)
	for i := range events {
		at += rng.Int64N(20_000)
		if rng.IntN(40) == 0 {
			at += 3_600_000 // a quiet hour: time goes on at once
		}
		kind := []string{`"eventType":"Connect","status":"Failure"`, `"eventType":"Disconnect"`, `"eventType":"Alone"`, `"eventType":"Ping"`}[rng.IntN(4)]
		events[i] = schemas.Event{
			ID: eventID(fmt.Sprint(i)), Time: at, IngestTime: at, Source: []byte("iot"),
			SourceIP: fmt.Appendf(nil, "198.51.100.%d", rng.IntN(3)),
			Message:  fmt.Appendf(nil, `{%s,"clientId":"c%d"}`, kind, rng.IntN(4)),
		}
	}
	return events
}

// final returns the last state of every detection, those that were taken back
// left out. Their IDs are not compared, nor those that stand for results of inner
// correlations: what opened an episode depends on the order.
func final(found []*schemas.Finding) []string {
	latest := map[string]*schemas.Finding{}
	for _, f := range found {
		latest[f.FindingInfo.UID] = f
	}
	var out []string
	for _, f := range latest {
		if f.StatusID == schemas.StatusSuppressed {
			continue
		}
		var ids []string
		for _, e := range f.Evidences {
			if f.Unmapped.RuleName != "both" {
				ids = append(ids, e.Data.EventID)
			}
		}
		out = append(out, fmt.Sprint(f.Unmapped.RuleName, f.Unmapped.Group, f.StartTime, f.EndTime, f.Count, ids))
	}
	slices.Sort(out)
	return out
}

func replay(set *rules.Set, events []schemas.Event, opts ReplayOptions) []string {
	var found []*schemas.Finding
	r := NewReplay(set, opts, func(f *schemas.Finding) { found = append(found, f) })
	for i := range events {
		r.Event(&events[i])
	}
	r.Finish()
	return final(found)
}

// TestReplayOrder: held back, events may come in any order; in order, holding
// back changes nothing.
func TestReplayOrder(t *testing.T) {
	set := replaySet(t)
	names := map[string]bool{}
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		events := replayEvents(rng, 300)
		var found []*schemas.Finding
		r := NewReplay(set, ReplayOptions{}, func(f *schemas.Finding) { found = append(found, f) })
		for i := range events {
			r.Event(&events[i])
		}
		r.Finish()
		if s := r.Stats().Windows; s.Groups != 0 || s.Late != 0 {
			t.Fatalf("seed %d: %d groups are left, %d matches were late", seed, s.Groups, s.Late)
		}
		want := final(found)
		for _, f := range found {
			names[f.Unmapped.RuleName] = true
		}
		for _, reorder := range []int{1, 7, 1 << 20} {
			if d := cmp.Diff(want, replay(set, events, ReplayOptions{Reorder: reorder})); d != "" {
				t.Fatalf("seed %d: reorder %d in order:\n%s", seed, reorder, d)
			}
		}
		rng.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		events = append(events, events[:50]...)
		if d := cmp.Diff(want, replay(set, events, ReplayOptions{Reorder: 1 << 20})); d != "" {
			t.Fatalf("seed %d: shuffled:\n%s", seed, d)
		}
	}
	for _, c := range set.Correlations {
		if !names[c.Name] {
			t.Errorf("%s never fired: the test shows nothing of it", c.Name)
		}
	}
	if !names["alone"] {
		t.Error("the rule that alerts by itself never fired")
	}
}

func TestReplayAllocations(t *testing.T) {
	set := replaySet(t)
	r := NewReplay(set, ReplayOptions{}, func(*schemas.Finding) {})
	ev := schemas.Event{Source: []byte("iot"), Message: []byte(`{"eventType":"Ping","status":"Success","clientId":"c1"}`), Time: 1, IngestTime: 1}
	if n := testing.AllocsPerRun(1000, func() { ev.Time++; r.Event(&ev) }); n != 0 {
		t.Errorf("%v allocations for an event that matches nothing", n)
	}
}

func TestGroupStates(t *testing.T) {
	set := replaySet(t)
	r := NewReplay(set, ReplayOptions{}, func(*schemas.Finding) {})
	const start = int64(1_800_000_000_000)
	for i, at := range []int64{0, 100, 110} {
		ev := schemas.Event{
			ID: eventID(fmt.Sprint(i)), Time: start + at*1000, IngestTime: start + at*1000, Source: []byte("iot"),
			Message: []byte(`{"status":"Failure","clientId":"c1"}`),
		}
		r.Event(&ev)
	}
	index := slices.IndexFunc(set.Correlations, func(c *rules.Correlation) bool { return c.Name == "burst" })
	want := []GroupState{{
		Group: []string{"c1"}, Events: 3, First: start, Last: start + 110_000,
		Closest: WindowState{First: start + 100_000, Last: start + 110_000, End: start + 160_000, Events: 2, Value: 2, Decided: true},
	}}
	if d := cmp.Diff(want, r.Groups(index)); d != "" {
		t.Error(d)
	}
	r.Event(&schemas.Event{
		ID: eventID("3"), Time: start + 120_000, Source: []byte("iot"), Message: []byte(`{"status":"Failure","clientId":"c1"}`),
	})
	got := r.Groups(index)[0]
	if !got.Closest.Holds || got.Closest.Value != 3 || len(got.Episodes) != 1 || got.Episodes[0].Count != 3 {
		t.Errorf("%+v", got)
	}
}

// TestRetractedFinding: what was reported and turned out wrong must not look
// like a new detection.
func TestRetractedFinding(t *testing.T) {
	f := (&findingOf{meta: &rules.Meta{}, kind: EpisodeRetracted, count: 1}).finding("test")
	if f.ActivityID != schemas.ActivityClose || f.StatusID != schemas.StatusSuppressed || f.Unmapped.MergedInto != "" {
		t.Errorf("activity %s, status %s, merged into %q", f.ActivityName, f.Status, f.Unmapped.MergedInto)
	}
}
