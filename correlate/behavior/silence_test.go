package behavior

import (
	"fmt"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// until lets the clock device be heard every minute from one second to another.
func (r *rig) until(from, to int, lanes ...string) {
	if len(lanes) == 0 {
		lanes = []string{"firehose/logs"}
	}
	for s := from; s < to; s += 60 {
		for _, l := range lanes {
			r.feed(at(float64(s), "clock", "Ping", by(l)))
		}
	}
}

func TestDeviceSilent(t *testing.T) {
	r := newRig(t, func(o *Options) { o.SilenceIntervals = 3 })
	// One is heard all the time, one every twenty minutes, one not often enough to say.
	for s := 0; s < 7200; s += 60 {
		r.feed(at(float64(s), "clock", "Ping"), at(float64(s)+0.5, "busy", "Publish-In"))
		if s%1200 == 0 {
			r.feed(at(float64(s)+0.7, "rare", "Publish-In"))
		}
		if s == 0 {
			r.feed(at(0.8, "once", "Publish-In"))
		}
	}
	r.until(7200, 7200+3*3600)
	// Not a life sign: the broker noticed that it is gone, somebody else used its name.
	r.feed(at(18000, "busy", "Disconnect"), at(18001, "busy", "Connection.AuthNError", failing(`{}`)))
	r.feed(at(18010, "busy", "Connect"), at(18011, "busy", "Publish-In"), at(18012, "rare", "Publish-In"))
	r.until(18060, 18600)
	got := ""
	for _, m := range r.derived(schemas.TypeDeviceSilent) {
		got += only(m, "device time last_seen usual_gap_seconds silent_seconds connected") + "\n"
	}
	// After 15 minutes: 7140.5 + 900 is before 8100; after four times the usual 1200 s:
	// 6000.7 + 4800 is before 11100. The sweep is at the end of an interval.
	expect(t, "silent", got, `device=busy time=8100 last_seen=2026-11-20T11:59:00Z usual_gap_seconds=60 silent_seconds=959 connected=true
device=rare time=11100 last_seen=2026-11-20T11:40:00Z usual_gap_seconds=1200 silent_seconds=5099 connected=true
`)
	got = ""
	for _, m := range r.derived(schemas.TypeDeviceReturned) {
		got += only(m, "device time silent_seconds") + "\n"
	}
	expect(t, "returned", got, "device=busy time=18010 silent_seconds=10869\ndevice=rare time=18012 silent_seconds=12011\n")
}

// A source that stops does not make its devices silent.
func TestSilentSourceExcusesItsDevices(t *testing.T) {
	r := newRig(t, func(o *Options) { o.SilenceIntervals = 3 })
	for s := 0; s < 3600; s += 60 {
		r.feed(at(float64(s), "clock", "Ping", by("a")), at(float64(s), "p", "Publish-In", by("b")))
	}
	w := r.replay.w
	now := testStart
	for range 12 { // lane b has nothing to read: it does not hold time back
		now = now.Add(time.Second)
		if err := w.tickForTest(t, now); err != nil {
			t.Fatal(err)
		}
	}
	r.until(3600, 14400, "a")
	if got := r.derived(schemas.TypeDeviceSilent); len(got) != 0 {
		t.Fatalf("its source has stopped, and the device is silent: %v", got)
	}
	// Others by the same lane come on: now it is.
	for s := 14400; s < 15000; s += 60 {
		r.feed(at(float64(s), "clock", "Ping", by("a")), at(float64(s), "q", "Ping", by("b")))
	}
	if got := r.derived(schemas.TypeDeviceSilent); len(got) != 1 || got[0]["device"] != "p" {
		t.Fatalf("got %v", got)
	}
}

func (w *worker) tickForTest(t *testing.T, now time.Time) error {
	w.tracker.Tick(now, true)
	w.advance(t.Context(), w.tracker.Watermark())
	return w.out.failed()
}

// A source is silent when nothing comes although all partitions are read to their ends
// all the time; not after a restart, in a backlog, or while a partition is not heard of.
func TestSourceSilent(t *testing.T) {
	r := newRig(t, nil)
	w := r.replay.w
	w.s.events = 2
	now := testStart
	lastSeen := map[string]time.Time{}
	share := func(partition int, caughtUp time.Time, names ...string) {
		lanes := map[string]schemas.LaneShare{}
		for _, n := range names {
			lanes[n] = schemas.LaneShare{Last: lastSeen[n], UsualGapSeconds: 60, Seen: 100}
		}
		w.s.fleet.put(&schemas.FleetShare{Partition: partition, Closed: testStart, CaughtUpAt: caughtUp, Interval: 300, Lanes: lanes})
	}
	minute := func(caughtUp bool) {
		now = now.Add(time.Minute)
		at := now
		if !caughtUp {
			at = now.Add(-time.Hour)
		}
		share(0, now, "a", "b")
		share(1, at, "b")
		w.watchSources(t.Context(), now)
	}
	silent := func() string {
		got := ""
		for _, m := range r.derived(schemas.TypeSourceSilent) {
			got += fmt.Sprint(m["lane"], "@", m["time"], " ")
		}
		return got
	}
	hours := func(n int, caughtUp bool, alive ...string) {
		for range n * 60 {
			for _, l := range alive {
				lastSeen[l] = now.Add(50 * time.Second)
			}
			minute(caughtUp)
		}
	}
	// Partition 1 has not been heard of.
	lastSeen["a"] = testStart.Add(-time.Hour)
	share(0, now, "a")
	w.watchSources(t.Context(), now)
	expect(t, "with a partition missing", silent(), "")

	// After a start nothing is silent before the usual time has passed.
	lastSeen["b"] = lastSeen["a"]
	for range 15 {
		minute(true)
	}
	expect(t, "after a start", silent(), "")
	hours(2, true, "a", "b")
	expect(t, "while all come", silent(), "")
	hours(1, true, "a")
	expect(t, "one has stopped", silent(), fmt.Sprintf("b@%v ", lastSeen["b"].Add(15*time.Minute).Sub(testStart).Seconds()))
	hours(3, true, "a")
	if n := len(r.derived(schemas.TypeSourceSilent)); n != 1 {
		t.Errorf("one silence is reported %d times", n)
	}
	hours(1, true, "a", "b")
	hours(4, false)
	if n := len(r.derived(schemas.TypeSourceSilent)); n != 1 {
		t.Errorf("a backlog is reported: %v", silent())
	}
	hours(1, true)
	if n := len(r.derived(schemas.TypeSourceSilent)); n != 3 {
		t.Errorf("both have stopped: %v", silent())
	}
}
