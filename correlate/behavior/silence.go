package behavior

import (
	"context"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

const (
	// maxSilent bounds the silent devices that are reported of one interval. When more
	// fall silent at once, the next intervals report them.
	maxSilent = 1000
	// forgetAfter is when a device that is not heard any more is forgotten.
	forgetAfter = 30 * 24 * time.Hour
)

// leastPause is what counts as a pause of a device, in seconds.
func (w *worker) leastPause() float32 { return float32(w.intervals.millis) / 5000 }

// patience is after how long the device is silent, in milliseconds.
func (w *worker) patience(d *device) int64 {
	return max(w.s.opts.SilenceFloor.Milliseconds(), int64(w.s.opts.SilenceFactor*float64(d.usualGap)*1000))
}

// silent reports the devices that should have been heard before end, and forgets those
// that are not heard any more.
func (w *worker) silent(ctx context.Context, end int64) {
	reported := 0
	for n := range w.devices.all {
		d := w.devices.at(uint32(n))
		if !d.used || d.lastSeen == 0 {
			continue
		}
		if end-d.lastSeen > forgetAfter.Milliseconds() {
			w.out.identity(ctx, d.key, schemas.KeyDevice+d.key, nil)
			w.forget(uint32(n))
			continue
		}
		due := d.lastSeen + w.patience(d)
		if d.silentSince != 0 || due > end || d.intervals < uint32(w.s.opts.SilenceIntervals) {
			continue
		}
		if d.lane != none && w.lanes[d.lane].newest < due && w.s.fleet.newest(w.lanes[d.lane].name) < due {
			continue // its source has not come that far: nobody can say
		}
		if reported == maxSilent {
			w.s.metrics.bounds.WithLabelValues(boundSilent).Inc()
			return
		}
		reported++
		m := &w.message
		m.begin()
		w.identify(d)
		m.text("last_seen", timeOf(d.lastSeen).Format(time.RFC3339))
		m.int("usual_gap_seconds", int64(d.usualGap))
		m.int("silent_seconds", (end-d.lastSeen)/1000)
		m.bool("connected", !d.offline())
		w.derive(ctx, d, schemas.TypeDeviceSilent, end, d.lastSeen)
		d.silentSince, d.dirty, d.urgent = d.lastSeen, true, true
		w.saveNow(ctx, uint32(n))
	}
}

// returned reports a device that was silent until t.
func (w *worker) returned(ctx context.Context, n uint32, t int64) {
	d := w.devices.at(n)
	m := &w.message
	m.begin()
	w.identify(d)
	m.text("silent_since", timeOf(d.silentSince).Format(time.RFC3339))
	m.int("silent_seconds", (t-d.silentSince)/1000)
	w.derive(ctx, d, schemas.TypeDeviceReturned, t, d.silentSince)
	d.silentSince, d.dirty = 0, true
	w.saveNow(ctx, n)
}

// sourceWatch tells when a source fell silent. Only the worker of partition 0 has one.
type sourceWatch struct {
	since    time.Time            // all partitions have been at their ends from then on
	reported map[string]time.Time // last time of each silent lane
}

// watchSources reports the lanes that nothing comes by any more. It looks at what all
// partitions have shared, because a lane's events are in all of them.
func (w *worker) watchSources(ctx context.Context, now time.Time) {
	opts := &w.s.opts
	lanes, all := w.s.fleet.lanes(w.s.events, now.Add(-3*opts.FleetInterval))
	if !all {
		w.watch.since = time.Time{}
		return
	}
	if w.watch.since.IsZero() {
		w.watch.since = now
	}
	for name, l := range lanes {
		if l.Seen < fewestLaneBatches || w.watch.reported[name].Equal(l.Last) {
			continue
		}
		patience := max(opts.SilenceFloor, time.Duration(opts.SilenceFactor*l.UsualGapSeconds*float64(time.Second)))
		from := l.Last
		if w.watch.since.After(from) {
			from = w.watch.since
		}
		if now.Sub(from) < patience {
			continue
		}
		w.watch.reported[name] = l.Last
		m := &w.message
		m.begin()
		m.text("lane", name)
		m.text("last_seen", l.Last.Format(time.RFC3339))
		m.int("usual_gap_seconds", int64(l.UsualGapSeconds))
		m.int("silent_seconds", int64(now.Sub(l.Last).Seconds()))
		ev := schemas.Event{
			ID:   w.eventID(schemas.TypeSourceSilent, name, l.Last.UnixMilli()),
			Time: l.Last.Add(patience).UnixMilli(), IngestTime: now.UnixMilli(),
			Source: sourceBehavior, Type: []byte(schemas.TypeSourceSilent), Device: []byte("source:" + name), Message: m.end(),
		}
		w.out.event(ctx, &ev)
		w.s.metrics.derived[schemas.TypeSourceSilent].Inc()
	}
	for name := range w.watch.reported {
		if _, known := lanes[name]; !known {
			delete(w.watch.reported, name)
		}
	}
}
