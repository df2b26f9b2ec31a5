package behavior

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

const (
	// maxOffline bounds the datapoints of devices that did nothing, for each interval.
	maxOffline = 2000
	// offlineFor is how long a device that does nothing has datapoints.
	offlineFor = 24 * time.Hour
)

var sourceBehavior = []byte(schemas.SourceBehavior)

// closeOldest makes the datapoints of the oldest open interval.
func (w *worker) closeOldest(ctx context.Context) {
	o := &w.intervals.open[0]
	end := w.intervals.end(o.number)
	fleet := w.s.fleet.before(o.number)
	for m := range w.histograms {
		w.histograms[m] = histogram{}
	}
	w.active = 0
	for _, i := range o.slots {
		s := &w.intervals.slots[i]
		if s.device == none {
			w.intervals.free = append(w.intervals.free, i)
			continue
		}
		d := w.devices.at(s.device)
		w.datapoint(ctx, d, s, end, fleet)
		w.intervals.release(d, i)
	}
	if w.active > 0 {
		w.activeIn = o.number
		w.s.fleet.complete(w.number, o.number, &w.histograms)
	}
	w.intervals.close()
	w.closed = max(w.closed, end)
}

// valuesOf returns what the device did until end. s is nil for nothing.
func (w *worker) valuesOf(d *device, s *slot, end int64) (v values) {
	if s != nil {
		c := &s.counts
		v[messagesSent], v[messagesReceived] = c[countSent], c[countReceived]
		v[authorizationFailures] = max(c[countLogFailure], c[countLifeFailure])
		v[connectionAttempts] = max(c[countLogAttempt], c[countLifeAttempt])
		v[disconnects] = max(c[countLogDisconnect], c[countLifeDisconnect])
		v[sourceAddresses] = uint32(s.n)
	}
	if d.offline() {
		v[disconnectDuration] = clampUint32((end - d.down) / 1000)
	}
	return v
}

func (w *worker) datapoint(ctx context.Context, d *device, s *slot, end int64, fleet *[numMetrics]distribution) {
	v := w.valuesOf(d, s, end)
	m := &w.message
	m.begin()
	w.identify(d)
	m.name("interval_start")
	m.buf = append(timeOf(end-w.intervals.millis).AppendFormat(append(m.buf, '"'), time.RFC3339), '"')
	m.int("interval_seconds", w.intervals.millis/1000)
	m.bool("connected", !d.offline())
	for k := range v {
		m.int(metricNames[k], int64(v[k]))
	}
	if s != nil {
		w.addresses(d, s)
	}
	learned := w.learned(d, end)
	m.bool("learning", !learned)
	for k, x := range v {
		// Nothing is said about what is not there and never was.
		if fleet != nil && fleet[k].total() > 0 && (x > 0 || k == int(messagesSent) || k == int(messagesReceived)) {
			m.decimal(fleet[k].percentile(x), metricNames[k], "_percentile")
		}
		if usual := d.base[k].usual(); learned && (x > 0 || usual >= 0.05) {
			m.decimal(usual, metricNames[k], "_baseline_mean")
			m.decimal(d.base[k].score(x), metricNames[k], "_baseline_score")
		}
	}
	w.derive(ctx, d, schemas.TypeDatapoint, end, end)

	if s == nil {
		return
	}
	w.active++
	for k, x := range v {
		w.histograms[k][bucketOf(x)]++
	}
	// A replay finds the interval in the baseline already.
	if end > d.learned && d.lastSeen > 0 {
		weight := float64(w.intervals.millis) / float64(w.s.opts.Learning.Milliseconds())
		for k, x := range v {
			d.base[k].learn(x, d.intervals, weight)
		}
		d.intervals++
		d.learned, d.dirty = end, true
	}
}

// learned reports whether what a device does can be compared with what it did.
func (w *worker) learned(d *device, end int64) bool {
	return d.firstSeen > 0 && d.intervals >= fewestLearned && end-d.firstSeen >= w.s.opts.Learning.Milliseconds()
}

// identify names the device in the message.
func (w *worker) identify(d *device) {
	w.message.text("device", d.key)
	w.message.text("client_id", d.client)
	w.message.text("thing_name", d.thing)
}

// addresses adds the source addresses of the interval to the message and to what is
// known of the device.
func (w *worker) addresses(d *device, s *slot) {
	m := &w.message
	fresh := false
	known := d.hasAddress()
	if s.n > 0 {
		m.name("source_ips")
		m.buf = append(m.buf, '[')
		for i := range s.n {
			a := s.address(i)
			if i > 0 {
				m.buf = append(m.buf, ',')
			}
			m.buf = append(m.buf, '"')
			m.buf = netip.AddrFrom16(a.ip).Unmap().AppendTo(m.buf)
			m.buf = append(m.buf, '"')
			if d.remember(a.hash) {
				fresh, d.dirty = fresh || known, true
			}
		}
		m.buf = append(m.buf, ']')
	}
	m.bool("new_source_ip", fresh)
	d.urgent = d.urgent || fresh
}

// offline makes datapoints of devices that are offline and had none, ever other ones
// when there are too many.
func (w *worker) offline(ctx context.Context, end int64) {
	fleet := w.s.fleet.before(w.intervals.numberOf(end - 1))
	made, total := 0, len(w.devices.all)
	for i := range total {
		n := (w.offlineAt + i) % total
		d := w.devices.at(uint32(n))
		if !d.used || !d.offline() || d.down >= end || end-d.down > offlineFor.Milliseconds() || d.touched >= end-w.intervals.millis {
			continue
		}
		if made == maxOffline {
			w.offlineAt = n
			w.s.metrics.bounds.WithLabelValues(boundOffline).Inc()
			return
		}
		made++
		w.datapoint(ctx, d, nil, end, fleet)
	}
}

// derive sends the message at hand as an event of the device. unique is what tells it
// from the others of its type.
func (w *worker) derive(ctx context.Context, d *device, typ string, at, unique int64) {
	o := w.origins.at(d.origin)
	w.arena = w.arena[:0]
	text := func(s string) []byte {
		start := len(w.arena)
		w.arena = append(w.arena, s...)
		return w.arena[start:]
	}
	ev := schemas.Event{
		ID:   w.eventID(typ, d.key, unique),
		Time: at, IngestTime: w.now,
		Source: sourceBehavior, Type: text(typ), Account: text(o.account), Region: text(o.region),
		Device: text(d.key), ClientID: text(d.client), ThingName: text(d.thing), SourceIP: text(d.ip),
		Message: w.message.end(), CertificateStatus: d.status, HasExpiry: d.hasExpiry, DaysToExpiry: d.expiry,
	}
	if d.certID != ([32]byte{}) {
		start := len(w.arena)
		w.arena = hex.AppendEncode(w.arena, d.certID[:])
		ev.CertificateID = w.arena[start:]
	}
	w.out.event(ctx, &ev)
	w.s.metrics.derived[typ].Inc()
}

// eventID is that of a derived event: the same whenever it is derived again.
func (w *worker) eventID(typ, who string, unique int64) schemas.EventID {
	b := append(append(w.arena[:0], typ...), who...)
	b = binary.BigEndian.AppendUint64(b, uint64(unique))
	w.arena = b[:0]
	return schemas.NewEventID(sourceBehavior, b[:len(typ)], b[len(typ):len(typ)+len(who)], b[len(typ)+len(who):])
}
