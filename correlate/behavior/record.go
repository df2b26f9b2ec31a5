package behavior

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

const (
	// savePeriod is how often the record of a device that is heard is written.
	savePeriod = time.Hour
	// leastObserveGap is the least time between two records of one certificate, and
	// addressGap that when only its address changed: one that is used from everywhere
	// must not fill the topic.
	leastObserveGap = time.Second
	// observeGap is how often the observation is looked at while a device goes on as
	// before.
	observeGap = 10 * time.Second
	addressGap = time.Minute
	// maxAhead is how far in the future a device can have been heard: clocks differ.
	maxAhead = time.Hour
	// maxLeft bounds the records of devices that are written when a partition is given
	// up.
	maxLeft = 5000
)

// saveNow writes the record of a device.
func (w *worker) saveNow(ctx context.Context, n uint32) {
	d := w.devices.at(n)
	value, err := json.Marshal(w.deviceRecord(d))
	if err != nil {
		w.log.Error("BUG: a device that cannot be encoded", zap.Error(err))
		return
	}
	d.dirty, d.urgent = false, false
	w.out.identity(ctx, d.key, schemas.KeyDevice+d.key, value)
	w.s.metrics.records.WithLabelValues("device").Inc()
}

// dueDevices queues the records to be written after an interval: every device that
// changed has its turn once in a savePeriod, so that they are spread over it.
func (w *worker) dueDevices(ctx context.Context, number int64) {
	turns := max(1, savePeriod.Milliseconds()/w.intervals.millis)
	for n := range w.devices.all {
		d := w.devices.at(uint32(n))
		switch {
		case !d.used || !d.dirty || d.lastSeen == 0:
		case d.urgent:
			w.saveNow(ctx, uint32(n))
		case !d.queued && int64(n)%turns == number%turns:
			d.queued = true
			w.saving = append(w.saving, uint32(n))
		}
	}
}

// saveSome writes the records that are queued, as many as the rate allows.
func (w *worker) saveSome(ctx context.Context, now time.Time) {
	limit := float64(w.s.opts.MaxRecords)
	w.allowance = min(limit, w.allowance+limit*now.Sub(w.allowedAt).Seconds())
	w.allowedAt = now
	done := 0
	for done < len(w.saving) && w.allowance >= 1 {
		n := w.saving[done]
		done++
		if d := w.devices.at(n); d.used && d.queued {
			d.queued = false
			if d.dirty {
				w.saveNow(ctx, n)
				w.allowance--
			}
		}
	}
	if left := len(w.saving) - done; done > 0 && left > 0 {
		w.s.metrics.bounds.WithLabelValues(boundRecords).Add(float64(left))
	}
	w.saving = w.saving[:copy(w.saving, w.saving[done:])]
}

// saveLast writes what changed when the partition is given up.
func (w *worker) saveLast(ctx context.Context) {
	written := 0
	for n := range w.devices.all {
		if d := w.devices.at(uint32(n)); d.used && d.dirty && d.lastSeen != 0 && written < maxLeft {
			w.saveNow(ctx, uint32(n))
			written++
		}
	}
}

// observe notes who used the event's certificate.
func (w *worker) observe(d *device, ev *schemas.Event) {
	if !is(&d.certID, ev.CertificateID) {
		hash, ok := certificateHash(ev.CertificateID)
		if !ok {
			return
		}
		d.certID, d.dirty = hash, true
	}
	d.cert = w.certs.number(d.certID, d.cert)
	c := w.certs.at(d.cert)
	c.lastSeen = max(c.lastSeen, ev.Time)
	if observeName(&c.clients, ev.ClientID) {
		c.changed = true
	}
	if observeName(&c.things, ev.ThingName) {
		c.changed = true
	}
	moved := len(ev.SourceIP) > 0 && c.ip != string(ev.SourceIP)
	if moved {
		c.ip = string(ev.SourceIP)
	}
	age := w.now - c.savedAt
	if !c.queued && (c.changed || moved && age >= addressGap.Milliseconds() || age >= w.s.opts.ObserveInterval.Milliseconds()) {
		c.queued = true
		w.observed = append(w.observed, d.cert)
	}
}

// writeObserved writes the queued observations. With all, also those whose certificate
// was written a moment ago.
func (w *worker) writeObserved(ctx context.Context, all bool) {
	kept := w.observed[:0]
	for _, n := range w.observed {
		c := w.certs.at(n)
		if !c.queued {
			continue // given up, and another one has its number
		}
		if !all && w.now-c.savedAt < leastObserveGap.Milliseconds() {
			kept = append(kept, n)
			continue
		}
		value, err := json.Marshal(c.record())
		if err != nil {
			w.log.Error("BUG: an observation that cannot be encoded", zap.Error(err))
			continue
		}
		c.queued, c.changed, c.savedAt = false, false, w.now
		id := c.id()
		w.out.identity(ctx, id, schemas.KeyObserved+id+"/"+strconv.Itoa(w.number), value)
		w.s.metrics.records.WithLabelValues("observed").Inc()
	}
	w.observed = kept
}

// restore reads what is known of the devices of the partition.
func (w *worker) restore(ctx context.Context) error {
	start := time.Now()
	if err := w.s.fleet.catchUp(ctx); err != nil {
		return err
	}
	if share, ok := w.s.fleet.share(w.number); ok {
		w.closed, w.readBefore = millisOf(share.Closed), share.Next
		for name, l := range share.Lanes {
			if watched := w.watchLane([]byte(name)); watched.name != "" {
				watched.last, watched.gap, watched.seen = millisOf(l.Last), float32(l.UsualGapSeconds), l.Seen
				if watched.newest = millisOf(l.Newest); watched.newest > 0 {
					// A lane that is behind holds time back from the first record on, as it did.
					watched.track.Observe(watched.newest, 0)
				}
			}
		}
	}
	// The topic is cut like tocsin.events, unless somebody made it otherwise.
	from, to := w.number, w.number+1
	if w.s.identities != w.s.events {
		from, to = 0, w.s.identities
	}
	devices := 0
	for p := from; p < to; p++ {
		err := w.s.opts.Client.ReadAll(ctx, schemas.TopicIdentities, p, func(r *kafka.FetchedRecord) error {
			if w.restoreRecord(r) {
				devices++
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	w.s.metrics.restored.Add(float64(devices))
	w.log.Info("restored", zap.Int("devices", len(w.devices.numbers)), zap.Time("closed", timeOf(w.closed)), zap.Duration("took", time.Since(start)))
	return nil
}

// restoreRecord takes the record of a device over. Anybody may write to the topic:
// what is no device of this partition is passed over.
func (w *worker) restoreRecord(r *kafka.FetchedRecord) bool {
	key, ok := deviceKey(r.Key)
	if !ok || schemas.Partition(key, w.s.events) != w.number {
		return false
	}
	if len(r.Value) == 0 {
		if n, known := w.devices.find(key); known {
			w.forget(n)
		}
		return false
	}
	var d schemas.Device
	if json.Unmarshal(r.Value, &d) != nil || d.Device != string(key) || d.LastSeen.IsZero() ||
		d.LastSeen.UnixMilli() > w.now+maxAhead.Milliseconds() {
		return false
	}
	w.restoreDevice(&d)
	return true
}

// deviceKey returns the device that a record of tocsin.identities is of.
func deviceKey(key []byte) ([]byte, bool) {
	const prefix = schemas.KeyDevice
	if len(key) <= len(prefix) || string(key[:len(prefix)]) != prefix {
		return nil, false
	}
	return key[len(prefix):], true
}
