package correlate

import (
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/internal/watermark"
)

// TestRestoredLanesHoldTheWatermark: a lane that was slower than the others when
// the snapshot was made, and has brought nothing since, still counts.
func TestRestoredLanesHoldTheWatermark(t *testing.T) {
	input := func() *eventInput {
		c := &Correlator{metrics: newMetrics(nil), matches: 1, opts: Options{Watermark: watermark.Options{Disorder: time.Millisecond, Idle: time.Hour}}}
		w := &worker{c: c, set: compileRules(t, fleetRules), out: newOutbox(nil, 1)}
		w.windows = newLevels(w.set, true, WindowOptions{})
		return newEventInput(w)
	}
	before := input()
	before.tracker.Lane([]byte("slow")).Observe(1000, 0)
	before.tracker.Lane([]byte("fast")).Observe(900_000, 0)
	if got := before.watermark(0); got != 999 {
		t.Fatalf("watermark %d", got)
	}
	h := new(snapshotHeader)
	before.save(h)
	b, err := encodeSnapshot(h, nil)
	if err != nil {
		t.Fatal(err)
	}
	h, _, err = decodeSnapshot(b)
	if err != nil {
		t.Fatal(err)
	}
	after := input()
	after.load(h)
	after.tracker.Lane([]byte("fast")).Observe(2_000_000, 0)
	if got := after.watermark(0); got != 999 {
		t.Errorf("the watermark is %d: the slow lane was forgotten", got)
	}
	after.tracker.Lane([]byte("slow")).Observe(1_500_000, 0)
	if got := after.watermark(0); got != 1_499_999 {
		t.Errorf("the watermark is %d: the slow lane was not taken for what it is", got)
	}
}
