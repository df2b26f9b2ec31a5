package correlate

import (
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// TestOuterMatches: a correlation that others refer to is an event for them, at
// the end of its first satisfied window, with the detection's ID and as much of
// its group as the outer one asks for.
func TestOuterMatches(t *testing.T) {
	bound := func(v float64) rules.Condition {
		return rules.Condition{Bounds: []rules.Bound{{Op: rules.GTE, Value: v}}}
	}
	set := &rules.Set{
		Rules: []*rules.Rule{{Meta: rules.Meta{Name: "r", Hash: 9}, Uses: []rules.Use{{Correlation: 0, Step: 0}}}},
		Correlations: []*rules.Correlation{
			{
				Meta: rules.Meta{Name: "inner", Hash: 1}, Type: rules.EventCount, GroupBy: []string{"device", "ip"}, Timespan: time.Minute,
				Steps: []rules.Step{{Name: "r", Rule: 0, Correlation: -1}}, Condition: bound(2), Evidence: 20,
				Uses: []rules.Use{{Correlation: 1, Step: 0}, {Correlation: 2, Step: 0}},
			},
			{
				Meta: rules.Meta{Name: "outer", Hash: 2}, Type: rules.EventCount, GroupBy: []string{"ip"}, Timespan: time.Hour,
				Steps:     []rules.Step{{Name: "inner", Rule: -1, Correlation: 0, GroupFrom: []int{1}}},
				Condition: bound(2), Evidence: 20,
			},
			{
				Meta: rules.Meta{Name: "lacking", Hash: 3}, Type: rules.EventCount, GroupBy: []string{"account"}, Timespan: time.Hour,
				Steps:     []rules.Step{{Name: "inner", Rule: -1, Correlation: 0, GroupFrom: []int{-1}}},
				Condition: bound(1), Evidence: 20,
			},
		},
	}
	w := NewWindows(set, func(*rules.Correlation) bool { return true }, WindowOptions{})
	var found []Episode
	drain := func() {
		for again := true; again; {
			var next []Match
			w.Drain(func(e *Episode) {
				k := keep(e)
				found = append(found, k)
				if k.Kind == EpisodeOpened {
					next = append(next, w.OuterMatches(&k)...)
				}
			})
			for i := range next {
				w.Add(&next[i])
			}
			again = len(next) > 0
		}
	}
	for i, m := range []struct {
		device, ip string
		time       int64
	}{
		// Late: the first satisfied window of pump-1 ends at 5000, whatever came first.
		{"pump-1", "x", 5000}, {"pump-1", "x", 1000}, {"pump-2", "y", 7000}, {"pump-2", "y", 7001}, {"pump-3", "x", 30000}, {"pump-3", "x", 31000},
	} {
		w.Add(&Match{Time: m.time, ID: eventID(m.device + string(rune('0'+i))), Group: scriptTuple(m.device + "," + m.ip)})
		drain()
	}
	if len(found) != 4 {
		t.Fatalf("%d detections, not 4: %v", len(found), found)
	}
	outer := found[3]
	if outer.Correlation != 1 || groupText(outer.Group) != "x" || outer.Count != 2 || outer.First != 5000 || outer.Last != 31000 {
		t.Errorf("outer detection: correlation %d, group %s, %d events, %d..%d", outer.Correlation, groupText(outer.Group), outer.Count, outer.First, outer.Last)
	}
	if len(outer.Evidence) != 2 || outer.Evidence[0].ID != schemas.EventID(found[0].ID) || outer.Evidence[1].ID != schemas.EventID(found[2].ID) {
		t.Errorf("evidence of the outer detection is not the inner ones: %v", outer.Evidence)
	}
}
