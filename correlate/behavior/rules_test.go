package behavior

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/correlate"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/rules/packs"
	"github.com/tocsin-io/tocsin/schemas"
)

// From log lines to detections: the pack's rules know the fields that datapoints have.
func TestPackRulesSeeDatapoints(t *testing.T) {
	sources, err := packs.Sources()
	if err != nil {
		t.Fatal(err)
	}
	set, diagnostics := rules.Compile(sources, rules.Options{})
	if len(diagnostics) > 0 {
		t.Fatal(diagnostics)
	}
	r := newRig(t, func(o *Options) {
		o.Learning, o.SilenceIntervals = 4*time.Hour, 3
		o.Now = func() time.Time { return testStart.Add(24 * time.Hour) }
	})
	start := 5 * 3600.0
	for i := range 60 { // five usual hours
		for k := range 10 {
			r.feed(at(float64(300*i+30*k), "pump-1", "Publish-In"), at(float64(300*i+30*k)+1, "pump-2", "Publish-In"))
		}
	}
	for k := range 9900 { // a quarter of an hour of eleven messages a second, from elsewhere
		r.feed(at(start+float64(k)/11, "pump-1", "Publish-In", from(fmt.Sprintf("203.0.113.%d", k%8))))
	}
	// Neither is heard again; the broker says so of one of them.
	r.feed(at(start+1000, "pump-1", "Disconnect"))
	for s := start + 1000; s < start+3*3600; s += 60 {
		r.feed(at(s, "clock", "Ping"))
	}
	r.derived("")

	found := map[string]bool{}
	replay := correlate.NewReplay(set, correlate.ReplayOptions{Windows: correlate.WindowOptions{Lateness: time.Hour}}, func(f *schemas.Finding) {
		if f.SeverityID > 1 {
			found[f.FindingInfo.Analytic.Name+" "+f.Device.UID] = true
		}
	})
	for _, ev := range r.sent.events {
		replay.Event(ev)
	}
	replay.Finish()
	var got []string
	for name := range found {
		got = append(got, name)
	}
	slices.Sort(got)
	want := []string{
		"Device is connected and silent pump-2",
		"Device sends many messages for a long time pump-1",
		"Device uses many source addresses at once pump-1",
		"Device with far more messages sent than it usually has pump-1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
