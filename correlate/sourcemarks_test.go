package correlate

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/internal/watermark"
	"github.com/tocsin-io/tocsin/schemas"
)

func TestSourceMarks(t *testing.T) {
	s := newSourceMarks(3, 2)
	check := func(what string, want int64) {
		t.Helper()
		if got := s.events(); got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	check("nothing heard", watermark.None)
	s.hear(0, 100, false)
	s.hear(1, 200, false)
	check("one source not heard of yet", watermark.None)
	s.hear(2, watermark.None, true)
	check("the third has never had an event", 100)
	s.hear(0, 90, false)
	check("told an older one, by a replay", 100)
	s.hear(0, 300, false)
	check("the slower one counts", 200)
	s.hear(1, 200, true)
	check("the slower one is idle", 300)
	s.hear(0, 400, true)
	check("all are idle: the furthest", 400)
	s.hear(1, 250, false)
	check("one wakes up behind: never backwards", 400)
	s.hear(1, 500, false)
	check("and catches up", 500)
	for _, source := range []int{-1, 3, maxSources - 1, noSource, maxSources + 1, resultSource(0, 2), resultSource(maxLevels, 0), math.MaxUint32, math.MinInt64} {
		s.hear(source, 1<<60, false)
	}
	check("sources that there are not", 500)
	if n := len(s.sources) + len(s.results); n > 4 {
		t.Errorf("%d marks held", n)
	}
}

// TestRestoredSourcesAreBusy: one that was idle when the snapshot was made may
// have much to catch up now, and is waited for until it says otherwise.
func TestRestoredSourcesAreBusy(t *testing.T) {
	in := &matchInput{marks: newSourceMarks(2, 1)}
	in.load(&snapshotHeader{
		Mark:    100,
		Sources: []snapshotSource{{Heard: true, Watermark: 100}, {Heard: true, Idle: true, Watermark: 50}, {Heard: true, Watermark: 1}},
		Results: make([][]int64, maxLevels+1),
	})
	in.marks.hear(0, 1_000_000, false)
	if got := in.marks.events(); got != 100 {
		t.Errorf("watermark %d while the second source has not said a word", got)
	}
	in.marks.hear(1, 50, true)
	if got := in.marks.events(); got != 1_000_000 {
		t.Errorf("watermark %d though the second source is idle", got)
	}
}

// TestLevelsWaitForResults: a level goes on when all the results of the one below
// that could be of its time have come.
func TestLevelsWaitForResults(t *testing.T) {
	plan := levelPlan{hold: []int64{10, 0, 0}, shuffled: []bool{false, true, false}}
	s := newSourceMarks(1, 2)
	check := func(what string, want ...int64) {
		t.Helper()
		var got []int64
		for level := range plan.hold {
			got = append(got, s.watermark(level, &plan))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	none := int64(watermark.None)
	check("nothing", none, none, none)
	s.hear(0, 1000, false)
	check("results of level 1 not heard of", 1000, 990, none)
	s.hear(resultSource(1, 0), 980, false)
	check("of one partition", 1000, 990, none)
	s.hear(resultSource(1, 1), 500, false)
	check("of both", 1000, 990, 500)
	s.hear(resultSource(1, 1), 2000, false)
	check("one is ahead", 1000, 990, 980)
	s.hear(resultSource(1, 0), 2000, false)
	check("both are ahead of the events here", 1000, 990, 990)
}

func TestPlanOfLevels(t *testing.T) {
	set := compileRules(t, fleetRules+`---
title: Many silent in an account
id: c-many-silent
name: many_silent
correlation: {type: event_count, rules: [silent_by_account], group-by: [tocsin.account], timespan: 5m, condition: {gte: 2}}
---
title: Silent, by account
id: c-silent-2
name: silent_by_account
correlation: {type: temporal, rules: [connect, publish], group-by: [tocsin.device, tocsin.account], timespan: 7m, condition: connect and not publish}
---
title: Third level
id: c-third
name: third
correlation: {type: temporal, rules: [shared_often, many_silent, connect], group-by: [tocsin.account], timespan: 5m}
`)
	plan := planLevels(set)
	got := make(map[string]int)
	for i, c := range set.Correlations {
		got[c.Name] = plan.of[i]
	}
	want := map[string]int{
		"refusals": 0, "shared": 0, "refused_then_found": 0, "silent": 0, "everywhere": 0, "attack": 1, "shared_often": 1,
		"many_silent": 1, "silent_by_account": 0, "third": 2,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// silent has a hold too, but nobody waits for its results.
	if diff := cmp.Diff([]int64{(7 * time.Minute).Milliseconds(), 0, 0}, plan.hold); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]bool{true, true, false}, plan.shuffled); diff != "" {
		t.Error(diff)
	}
	if got := plan.behind(watermark.None, 0); got != watermark.None {
		t.Errorf("none less something is %d", got)
	}
	// Every correlation has its windows in one level, of one of the two inputs.
	local, remote := newLevels(set, true, WindowOptions{}), newLevels(set, false, WindowOptions{})
	for i, c := range set.Correlations {
		places := 0
		for _, l := range []*levels{local, remote} {
			for level, w := range l.windows {
				if w.rules[i] != nil {
					places++
					if level != plan.of[i] || c.Local != (l == local) {
						t.Errorf("%s has windows in level %d", c.Name, level)
					}
				}
			}
		}
		if places != 1 {
			t.Errorf("%s has windows in %d places", c.Name, places)
		}
	}
}

// TestResultsThatComeLongAfter: a condition that waits for the end of its window
// gives a result that is older than the allowed lateness by then. The correlation
// above must take it.
func TestResultsThatComeLongAfter(t *testing.T) {
	t.Parallel()
	set := compileRules(t, fleetRules+`---
title: Long silent
id: c-long
name: long_silent
correlation: {type: temporal, rules: [connect, publish], group-by: [tocsin.device, tocsin.account], timespan: 2h, condition: connect and not publish}
---
title: Many long silent, by account
id: c-many-long
name: many_long
correlation: {type: event_count, rules: [long_silent], group-by: [tocsin.account], timespan: 1h, condition: {gte: 3}}
---
title: Long silent often
id: c-long-often
name: long_often
correlation: {type: event_count, rules: [long_silent], group-by: [tocsin.device], timespan: 1h, condition: {gte: 1}}
`)
	k := fakeCluster(t, 3)
	k.open()
	k.start(set)
	var events []*schemas.Event
	for i := range byte(3) {
		at := fleetStart + int64(i)*60_000
		device := []byte{'a' + i}
		events = append(events, &schemas.Event{
			ID: schemas.EventID{i}, Time: at, IngestTime: at, Source: []byte("iot"), Account: []byte("1"), Device: device,
			Message: []byte(`{"eventType":"Connect","status":"Success","clientId":"` + string(device) + `"}`),
		})
	}
	k.send(1, events)
	// Time goes on in small steps, as it does.
	for at := fleetStart; at < fleetStart+(6*time.Hour).Milliseconds(); at += (5 * time.Minute).Milliseconds() {
		k.markers("step", at)
	}
	k.quiet()
	count := make(map[string]int64)
	for _, f := range newest(k.detections()) {
		if f.Status == "Resolved" {
			count[f.FindingInfo.Analytic.UID] += f.Count
		}
	}
	if count["c-many-long"] != 3 || count["c-long-often"] != 3 {
		t.Errorf("results in outer detections: %v", count)
	}
}
