package behavior

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/watermark"
	"github.com/tocsin-io/tocsin/schemas"
)

// commitInterval is the time between two commits while intervals stay open.
const commitInterval = 10 * time.Second

// worker owns one partition of tocsin.events: nothing in it is shared, so nothing in
// it is locked.
type worker struct {
	s      *Service
	a      *kafka.Assignment
	number int // of the partition
	log    *zap.Logger
	out    *outbox

	tracker   *watermark.Tracker
	reader    schemas.BatchReader
	lanes     []*lane
	numbers   map[string]uint32 // of lanes
	batch     []uint32          // number of the lane by lane index of the record at hand
	devices   *deviceTable
	certs     *certificateTable
	origins   *originTable
	intervals *intervals

	histograms [numMetrics]histogram // of the last complete interval
	active     int64                 // devices in it
	activeIn   int64                 // its number
	message    message
	arena      []byte   // texts of the event that is derived
	offlineAt  int      // where the next look for offline devices begins
	saving     []uint32 // devices whose records wait
	observed   []uint32 // certificates likewise
	allowance  float64  // records that may be written
	allowedAt  time.Time
	watch      *sourceWatch // nil but for partition 0

	next         int64 // the first offset that is not read
	readBefore   int64 // offsets below were read by the owner before
	closed       int64 // end of the last complete interval
	now          int64 // by the clock, Unix milliseconds
	caughtUpAt   time.Time
	sharedAt     time.Time
	sharedClosed int64
	committedAt  time.Time
	counted      int // devices in the metrics
	taken        int // events not in the metrics yet
}

func newWorker(s *Service, a *kafka.Assignment, number int) *worker {
	w := &worker{
		s: s, a: a, number: number, next: -1,
		log:       s.log.With(zap.Int("partition", number)),
		out:       newOutbox(s.opts.Producer, schemas.DerivedLane+"behavior/"+strconv.Itoa(number), s.events, s.identities),
		tracker:   watermark.New(s.opts.Watermark),
		numbers:   make(map[string]uint32),
		origins:   newOriginTable(),
		intervals: &intervals{millis: s.opts.Interval.Milliseconds(), max: 4 * s.opts.MaxDevices},
		allowance: float64(s.opts.MaxRecords),
	}
	w.setNow(s.opts.Now())
	w.allowedAt = s.opts.Now()
	w.devices = newDeviceTable(s.opts.MaxDevices, func(n uint32) {
		w.intervals.drop(w.devices.at(n))
		s.metrics.bounds.WithLabelValues(boundDevices).Inc()
	})
	w.certs = newCertificateTable(s.opts.MaxDevices, func() { s.metrics.bounds.WithLabelValues(boundCertificates).Inc() })
	if number == 0 {
		w.watch = &sourceWatch{reported: make(map[string]time.Time)}
	}
	return w
}

func (w *worker) setNow(t time.Time) { w.now = t.UnixMilli() }

// forget gives a device up.
func (w *worker) forget(n uint32) {
	w.intervals.drop(w.devices.at(n))
	w.devices.remove(n)
}

// run reads until the partition is revoked.
func (w *worker) run(ctx context.Context) error {
	out, stop := w.outputs(ctx)
	defer stop()
	var buf kafka.FetchBuffer
	for {
		batch, err := w.a.Fetch(ctx, &buf)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return err
		}
		if g := batch.Gap; g != nil {
			w.log.Error("offsets could not be read", zap.Int64("from", g.From), zap.Int64("to", g.To), zap.String("reason", g.Reason))
		}
		now := w.s.opts.Now()
		w.setNow(now)
		whole := true
		for i := range batch.Records {
			if whole = ctx.Err() == nil; !whole {
				break
			}
			w.process(out, &batch.Records[i])
			w.next = batch.Records[i].Offset + 1
			// Per record, not per fetch: how records are cut into fetches differs from run to
			// run, and what is in an interval must not.
			w.advance(out, w.tracker.Watermark())
		}
		if whole {
			w.next = batch.Next
		}
		if err := w.tick(out, now, batch.CaughtUp && whole); err != nil {
			return err
		}
	}
	w.saveLast(out)
	w.writeObserved(out, true)
	return w.commit(out, w.s.opts.Now())
}

// outputs returns the context of what is sent: it ends when the drain time is over that
// begins with the end of ctx.
func (w *worker) outputs(ctx context.Context) (context.Context, context.CancelFunc) {
	out, stop := context.WithCancel(context.WithoutCancel(ctx))
	unwatch := context.AfterFunc(ctx, func() {
		drain, cancel := w.a.Drain(ctx)
		defer cancel()
		select {
		case <-drain.Done():
			stop()
		case <-out.Done(): // run has returned
		}
	})
	return out, func() {
		unwatch()
		stop()
	}
}

// tick does what is due after a fetch.
func (w *worker) tick(ctx context.Context, now time.Time, caughtUp bool) error {
	w.tracker.Tick(now, caughtUp)
	w.advance(ctx, w.tracker.Watermark())
	if caughtUp {
		w.caughtUpAt = now
		if w.tracker.Idle() {
			// Nothing comes here that could move the watermark. The others say how late it is;
			// an interval behind them, because what is held up on its way here alone would be
			// late otherwise.
			w.advance(ctx, w.s.fleet.closed(w.number)-w.intervals.millis)
		}
	}
	w.saveSome(ctx, now)
	w.writeObserved(ctx, false)
	if w.watch != nil && now.Sub(w.sharedAt) >= w.s.opts.FleetInterval {
		w.watchSources(ctx, now)
	}
	w.out.sendBatches(ctx)
	if n := len(w.devices.numbers); n != w.counted {
		w.counted = n
		w.s.metrics.devices.WithLabelValues(strconv.Itoa(w.number)).Set(float64(n))
	}
	if err := w.out.failed(); err != nil {
		return err
	}
	if w.closed != w.sharedClosed || now.Sub(w.sharedAt) >= w.s.opts.FleetInterval || now.Sub(w.committedAt) >= commitInterval {
		return w.commit(ctx, now)
	}
	return nil
}

func (w *worker) process(ctx context.Context, rec *kafka.FetchedRecord) {
	w.reader.Reset(rec.Value)
	w.batch = w.batch[:0]
	var ev schemas.Event
	for w.reader.Next(&ev) {
		switch string(ev.Source) {
		case schemas.SourceBehavior, schemas.SourceRegistry:
			continue // made of other events
		}
		if ev.IngestTime == 0 {
			ev.IngestTime = rec.Time.UnixMilli() // of a producer that does not say
		}
		l := w.laneOf(&ev)
		if !l.track.Observe(ev.Time, ev.IngestTime) {
			continue // its clock is wrong: it belongs to no interval
		}
		l.newest = max(l.newest, ev.Time)
		w.event(ctx, &ev, rec.Offset)
	}
	w.s.metrics.events.Add(float64(w.taken))
	w.taken = 0
	if err := w.reader.Err(); err != nil {
		// The events before the damage were taken. The correlator keeps the record.
		w.log.Warn("a record of events could not be read", zap.String("origin", fmt.Sprintf("%s/%d@%d", schemas.TopicEvents, w.number, rec.Offset)), zap.Error(err))
		w.s.metrics.unreadable.Inc()
	}
}

// laneOf returns the lane that the event came by, and notes once for each record
// that something did.
func (w *worker) laneOf(ev *schemas.Event) *lane {
	at := min(int(ev.Lane), schemas.MaxLanes-1)
	for len(w.batch) <= at {
		w.batch = append(w.batch, none)
	}
	if w.batch[at] == none {
		l := w.watchLane(w.reader.Lane(ev.Lane))
		w.batch[at] = w.numbers[l.name]
		l.arrived(ev.IngestTime)
	}
	return w.lanes[w.batch[at]]
}

// watchLane returns the lane of this name, or the one that stands for all that are too
// many.
func (w *worker) watchLane(name []byte) *lane {
	if n, ok := w.numbers[string(name)]; ok {
		return w.lanes[n]
	}
	if len(w.lanes) >= maxLanes {
		w.s.metrics.bounds.WithLabelValues(boundLanes).Inc()
		name = nil
		if n, ok := w.numbers[""]; ok {
			return w.lanes[n]
		}
	}
	l := &lane{name: string(name), track: w.tracker.Lane(name)}
	w.numbers[l.name] = uint32(len(w.lanes))
	w.lanes = append(w.lanes, l)
	return l
}

// event counts one. It does not allocate for a device that is known.
func (w *worker) event(ctx context.Context, ev *schemas.Event, offset int64) {
	what := classify(ev)
	if what.change {
		w.change(ctx, ev)
		return
	}
	if what == (deed{}) || len(ev.Device) == 0 || len(ev.ClientID) == 0 && len(ev.ThingName) == 0 && len(ev.CertificateID) == 0 {
		return // of no device
	}
	w.taken++
	n, known := w.devices.find(ev.Device)
	if !known {
		// What it calls itself, even if it is not let in.
		n, _ = w.devices.add(ev.Device)
		w.name(w.devices.at(n), ev)
	}
	d := w.devices.at(n)
	d.touched = max(d.touched, ev.Time)
	if what.active {
		if d.silentSince != 0 && ev.Time > d.lastSeen {
			w.returned(ctx, n, ev.Time)
		}
		moved := d.heard(ev.Time, w.leastPause()) && w.describe(d, ev)
		if moved || w.now-d.observedAt >= observeGap.Milliseconds() || !is(&d.certID, ev.CertificateID) {
			d.observedAt = w.now
			w.observe(d, ev)
		}
	}
	if what.up && ev.Time > d.up {
		d.up, d.dirty = ev.Time, true
	}
	if what.down && ev.Time > d.down {
		d.down, d.dirty = ev.Time, true
	}
	number := w.intervals.numberOf(ev.Time)
	if w.intervals.end(number) <= w.closed {
		if offset < w.readBefore {
			w.s.metrics.repeated.Inc()
		} else {
			w.s.metrics.late.Inc()
		}
		return
	}
	w.count(ctx, d, n, what, ev, number, offset)
}

// describe takes over what the newest event says of its device, and reports whether a
// name or an address changed.
func (w *worker) describe(d *device, ev *schemas.Event) bool {
	d.dirty = true
	d.lane = w.batch[min(int(ev.Lane), schemas.MaxLanes-1)]
	d.status, d.hasExpiry, d.expiry = ev.CertificateStatus, ev.HasExpiry, ev.DaysToExpiry
	return w.name(d, ev)
}

// name takes over what the event calls its device, and where it is.
func (w *worker) name(d *device, ev *schemas.Event) (changed bool) {
	d.origin = w.origins.number(ev.Account, ev.Region)
	if len(ev.ClientID) > 0 && d.client != string(ev.ClientID) {
		d.client, changed = sameAs(d.key, ev.ClientID), true
	}
	if len(ev.ThingName) > 0 && d.thing != string(ev.ThingName) {
		d.thing, changed = sameAs(d.key, ev.ThingName), true
	}
	if len(ev.SourceIP) > 0 && d.ip != string(ev.SourceIP) {
		d.ip, changed = string(ev.SourceIP), true
	}
	return changed
}

// count adds the event to its interval.
func (w *worker) count(ctx context.Context, d *device, n uint32, what deed, ev *schemas.Event, number, offset int64) {
	s := w.intervals.slotOf(d, n, number, offset)
	for s == nil {
		// So many devices in so many intervals at once: time runs far apart in the lanes.
		w.s.metrics.bounds.WithLabelValues(boundIntervals).Inc()
		w.closeOldest(ctx)
		if w.intervals.end(number) <= w.closed {
			w.s.metrics.late.Inc()
			return
		}
		s = w.intervals.slotOf(d, n, number, offset)
	}
	if what.count != countNothing {
		s.counts[what.count]++
	}
	if what.attempt != countNothing {
		s.counts[what.attempt]++
	}
	if len(ev.SourceIP) > 0 && what.active {
		if hash := max(uint32(xxhash.Sum64(ev.SourceIP)), 1); !s.has(hash) {
			s.add(hash, ev.SourceIP)
		}
	}
}

// advance completes the intervals that end by mark.
func (w *worker) advance(ctx context.Context, mark int64) {
	if mark < w.closed+w.intervals.millis {
		return
	}
	end := mark - mark%w.intervals.millis
	for len(w.intervals.open) > 0 && w.intervals.end(w.intervals.open[0].number) <= end {
		w.closeOldest(ctx)
	}
	if w.closed == 0 && len(w.devices.numbers) == 0 {
		return // nothing has ever come; where time begins is not known yet
	}
	w.closed = end
	w.offline(ctx, end)
	w.silent(ctx, end)
	w.dueDevices(ctx, w.intervals.numberOf(end))
}

// commit makes everything safe that was derived, says how far the partition has come,
// and only then gives up the input. In any other order a crash in between would lose
// what was not yet written, or complete an interval again from a part of it.
func (w *worker) commit(ctx context.Context, now time.Time) error {
	if err := w.out.flush(ctx); err != nil {
		return err
	}
	if w.closed != w.sharedClosed || now.Sub(w.sharedAt) >= w.s.opts.FleetInterval {
		if err := w.share(ctx, now); err != nil {
			return err
		}
	}
	w.committedAt = now
	next := w.intervals.from(w.next)
	if next < 0 {
		return nil
	}
	if err := w.a.Commit(ctx, next); err != nil {
		if errors.Is(err, kafka.ErrFenced) {
			return err
		}
		// More is read again by the next owner; nothing is lost.
		w.log.Warn("commit failed", zap.Error(err))
	}
	return nil
}

// share publishes how far the partition has come and what its devices did.
func (w *worker) share(ctx context.Context, now time.Time) error {
	s := schemas.FleetShare{
		Partition: w.number, Closed: timeOf(w.closed), Next: w.next, CaughtUpAt: w.caughtUpAt.UTC(),
		Interval: w.s.fleet.seconds, Devices: w.active,
		Metrics: make(map[string][][2]uint32, numMetrics), Lanes: make(map[string]schemas.LaneShare, len(w.lanes)),
	}
	if w.active > 0 {
		s.Start = timeOf(w.activeIn * w.intervals.millis)
	}
	for m := range w.histograms {
		if pairs := w.histograms[m].pairs(); pairs != nil {
			s.Metrics[metricNames[m]] = pairs
		}
	}
	for _, l := range w.lanes {
		if l.name != "" && l.last != 0 && w.now-l.last < laneMemory.Milliseconds() {
			s.Lanes[l.name] = l.share()
		}
	}
	value, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode what the fleet did: %w", err)
	}
	w.out.identity(ctx, fleetKey, schemas.KeyFleet+strconv.Itoa(w.number), value)
	if err := w.out.flush(ctx); err != nil {
		return err
	}
	w.s.fleet.put(&s)
	w.s.metrics.records.WithLabelValues("fleet").Inc()
	w.sharedAt, w.sharedClosed = now, w.closed
	return nil
}
