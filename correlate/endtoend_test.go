package correlate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/schemas"
)

// TestSameDetectionsHoweverPartitioned: the final detections are those of one
// process that sees all events in order, with any number of partitions and of
// correlators.
func TestSameDetectionsHoweverPartitioned(t *testing.T) {
	t.Parallel()
	set := compileRules(t, fleetRules)
	events := fleetEvents(1, 2000, 30*time.Minute)
	want := expected(t, set, events)
	var ids []string
	lookups := 0.0
	for _, c := range []struct{ partitions, correlators int }{{1, 1}, {4, 1}, {7, 1}, {4, 2}} {
		t.Run(fmt.Sprintf("%d partitions, %d correlators", c.partitions, c.correlators), func(t *testing.T) {
			k := fakeCluster(t, c.partitions)
			k.open()
			var running []*runningCorrelator
			for range c.correlators {
				running = append(running, k.start(set))
			}
			k.send(1, events)
			k.close(fleetStart + (30 * time.Minute).Milliseconds())
			k.quiet()
			states := k.check(want)
			got := localIDs(set, states)
			if ids == nil {
				ids = got
			}
			if diff := cmp.Diff(ids, got); diff != "" {
				t.Errorf("IDs of detections beside the events (-first +this):\n%s", diff)
			}
			single := make(map[string]int)
			for _, f := range k.detections() {
				if rule := f.FindingInfo.Analytic.UID; strings.HasPrefix(rule, "r-") {
					if single[f.FindingInfo.UID]++; single[f.FindingInfo.UID] == 2 {
						t.Errorf("%s is reported twice by %s", f.FindingInfo.RelatedEvents[0].UID, rule)
					}
				}
			}
			repeated := 0.0
			for _, r := range running {
				lookups += r.metric(t, "tocsin_correlate_evidence_lookups_total", evidenceRead)
				if n := r.metric(t, "tocsin_correlate_evidence_lookups_total", evidenceMissing); n > 0 {
					t.Errorf("evidence of %v events is missing", n)
				}
				repeated += r.metric(t, "tocsin_correlate_duplicates_total", duplicateDetection)
			}
			if repeated == 0 {
				t.Error("no event came twice")
			}
		})
	}
	if lookups == 0 {
		t.Error("no group was heavy enough to leave its evidence where it is")
	}
}

// TestTwoOwnersAtOnce: workers that do not know yet that they were superseded go
// on in their old ways. Two groups of correlators read and write the same topics,
// snapshots included, and nothing is counted twice.
func TestTwoOwnersAtOnce(t *testing.T) {
	t.Parallel()
	set := compileRules(t, fleetRules)
	events := fleetEvents(2, 2000, 30*time.Minute)
	k := fakeCluster(t, 3)
	k.open()
	k.start(set)
	k.start(set, func(o *Options) { o.GroupID = "old" })
	<-k.feed(2, events, time.Second)
	k.close(fleetStart + (30 * time.Minute).Milliseconds())
	k.quiet()
	// The other group's records may come after: the order of the log says nothing.
	want := expected(t, set, events)
	await(t, time.Minute, func() string { return difference(want, outcomes(newest(k.detections()))) })
}

// TestIdlePartitionsHoldNobodyBack: windows behind the shuffle are decided though
// most partitions have no events at all.
func TestIdlePartitionsHoldNobodyBack(t *testing.T) {
	t.Parallel()
	set := compileRules(t, fleetRules)
	k := fakeCluster(t, 5)
	c := k.start(set, func(o *Options) { o.Watermark.Idle = 100 * time.Millisecond })
	// One device, so one partition, with one certificate.
	var events []*schemas.Event
	for i, message := range []string{
		`{"eventType":"Connect","status":"Failure"}`,
		`{"type":"UnauthorizedAccess:x"}`,
		`{"eventType":"Nothing"}`,
	} {
		at := fleetStart + int64([]int{0, 10, 400}[i])*1000
		source := []string{schemas.SourceIoT, schemas.SourceGuardDuty, schemas.SourceIoT}[i]
		events = append(events, &schemas.Event{
			ID: schemas.EventID{byte(i + 1)}, Time: at, IngestTime: at, Source: []byte(source),
			Device: []byte("pump"), CertificateID: []byte("cert"), Message: []byte(message),
		})
	}
	k.send(1, events)
	await(t, time.Minute, func() string {
		for _, f := range newest(k.detections()) {
			if f.FindingInfo.Analytic.UID == "c-ordered" && f.Status == "Resolved" && f.Count == 2 {
				return ""
			}
		}
		return "no closed detection of c-ordered"
	})
	if s := c.Status(); len(s) != 10 {
		t.Errorf("%d partitions in the status: %+v", len(s), s)
	}
}
