package correlate

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestSameDetectionsHoweverPartitioned: the final detections are those of one
// process that sees all events in order, with any number of partitions and of
// correlators.
func TestSameDetectionsHoweverPartitioned(t *testing.T) {
	set := compileRules(t, fleetRules)
	events := fleetEvents(1, 2000, 30*time.Minute)
	want := expected(t, set, events)
	var ids []string
	for _, c := range []struct{ partitions, correlators int }{{1, 1}, {4, 1}, {7, 1}, {4, 2}} {
		t.Run(fmt.Sprintf("%d partitions, %d correlators", c.partitions, c.correlators), func(t *testing.T) {
			k := fakeCluster(t, c.partitions)
			for range c.correlators {
				k.start(set)
			}
			k.send(1, events)
			k.close(fleetStart + (30 * time.Minute).Milliseconds())
			k.quiet(60 * time.Second)
			states := k.check(want)
			got := localIDs(set, states)
			if ids == nil {
				ids = got
			}
			if diff := cmp.Diff(ids, got); diff != "" {
				t.Errorf("IDs of detections beside the events (-first +this):\n%s", diff)
			}
		})
	}
}
