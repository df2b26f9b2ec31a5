package watermark

import (
	"fmt"
	"math"
	"testing"
	"time"
)

func TestWatermarkIsMinimumOverActiveLanes(t *testing.T) {
	tr := New(Options{Disorder: 10 * time.Millisecond, Idle: time.Second})
	if got := tr.Watermark(); got != None {
		t.Errorf("before any event: %d", got)
	}
	a, b := tr.Lane([]byte("a")), tr.Lane([]byte("b"))
	a.Observe(1000, 0)
	b.Observe(5000, 0)
	if got := tr.Watermark(); got != 990 {
		t.Errorf("got %d, want the slower lane's 990", got)
	}
	a.Observe(900, 0) // disorder within the lane moves nothing
	if got := tr.Watermark(); got != 990 {
		t.Errorf("got %d after an older event, want 990", got)
	}
	a.Observe(6000, 0)
	if got := tr.Watermark(); got != 4990 {
		t.Errorf("got %d, want 4990", got)
	}
}

func TestIdleLaneStopsHoldingBack(t *testing.T) {
	tr := New(Options{Disorder: 10 * time.Millisecond, Idle: time.Second})
	tr.Lane([]byte("a")).Observe(1000, 0)
	b := tr.Lane([]byte("b"))
	b.Observe(5000, 0)
	now := time.Unix(0, 0)
	tick := func(d time.Duration, caughtUp bool) {
		now = now.Add(d)
		tr.Tick(now, caughtUp)
	}
	// Time spent while there was something to read does not count, nor does
	// the gap between a busy tick and the next idle one.
	tick(0, true)
	tick(time.Hour, false)
	tick(time.Hour, true)
	tick(500*time.Millisecond, true)
	if got := tr.Watermark(); got != 990 {
		t.Fatalf("got %d, want 990: lane a was not read long enough to be idle", got)
	}
	b.Observe(5001, 0)
	tick(600*time.Millisecond, true)
	if got := tr.Watermark(); got != 4991 {
		t.Errorf("got %d, want 4991 with lane a idle", got)
	}
	if tr.Idle() {
		t.Error("lane b was heard 600 ms ago, yet the tracker is idle")
	}
	tick(time.Second, true)
	if !tr.Idle() || tr.Watermark() != 4991 {
		t.Errorf("all idle: idle %v, watermark %d", tr.Idle(), tr.Watermark())
	}
	// A lane that wakes up behind the watermark cannot pull it back.
	tr.Lane([]byte("a")).Observe(1100, 0)
	if got := tr.Watermark(); got != 4991 {
		t.Errorf("watermark ran backwards to %d", got)
	}
}

func TestFutureEventsDoNotMoveTheWatermark(t *testing.T) {
	tr := New(Options{Disorder: time.Millisecond, Future: time.Second})
	l := tr.Lane([]byte("a"))
	if !l.Observe(1000, 1000) || !l.Observe(2000, 1000) {
		t.Error("event within the tolerance refused")
	}
	if l.Observe(2001, 1000) {
		t.Error("event beyond the tolerance accepted")
	}
	if got := tr.Watermark(); got != 1999 {
		t.Errorf("got %d, want 1999", got)
	}
	// Nor those of times that no clock shows: the disorder taken off the least
	// number would be the greatest one.
	if tr.Lane([]byte("b")).Observe(math.MinInt64+1, 1000) {
		t.Error("event before 1970 accepted")
	}
	if got := tr.Watermark(); got != 1999 {
		t.Errorf("got %d, want 1999", got)
	}
}

func TestLanesAreBounded(t *testing.T) {
	tr := New(Options{MaxLanes: 3})
	for i := range 100 {
		tr.Lane(fmt.Appendf(nil, "lane-%d", i)).Observe(int64(i), 0)
	}
	if len(tr.order) != 4 {
		t.Errorf("%d lanes held, want 3 and the overflow", len(tr.order))
	}
}

func TestStateRoundTrip(t *testing.T) {
	opts := Options{Disorder: 10 * time.Millisecond}
	tr := New(opts)
	tr.Lane([]byte("a")).Observe(1000, 0)
	tr.Lane([]byte("b")).Observe(2000, 0)
	want := tr.Watermark()
	again := New(opts)
	again.Restore(tr.State())
	if got := again.Watermark(); got != want {
		t.Errorf("restored watermark %d, want %d", got, want)
	}
	again.Lane([]byte("a")).Observe(3000, 0)
	if got := again.Watermark(); got != 1990 {
		t.Errorf("got %d, want 1990: lane b must still count", got)
	}
}

// A lane that brings something every five minutes, about the five minutes before,
// would hold the watermark back for ever where there is always something to read.
func TestDerivedLanesTakeNoPart(t *testing.T) {
	tr := New(Options{Disorder: 10 * time.Millisecond, Idle: time.Second})
	derived := tr.Lane([]byte("derived/behavior/3"))
	if !derived.Observe(500, 500) || tr.Watermark() != None || !tr.Idle() {
		t.Errorf("an event that follows from others moved the watermark to %d", tr.Watermark())
	}
	a := tr.Lane([]byte("a"))
	a.Observe(400_000, 0)
	derived.Observe(300_000, 400_001)
	a.Observe(401_000, 0)
	if got := tr.Watermark(); got != 400_990 {
		t.Errorf("got %d, want 400990", got)
	}
	if tr.Lane([]byte("derived/registry")).Observe(10_000_000, 1) {
		t.Error("a derived event of the future is believed")
	}
	if n := len(tr.State().Lanes); n != 1 {
		t.Errorf("%d lanes in the state, want 1", n)
	}
}
