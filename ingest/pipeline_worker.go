package ingest

import (
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/ingest/decode"
	"github.com/tocsin-io/tocsin/schemas"
)

// maxOpenBytes bounds the batches of one worker that are neither full nor old
// enough to be sent. Only a delivery that inflates enormously, over very many
// partitions, gets there.
const maxOpenBytes = 16 << 20

// worker decodes deliveries, one at a time, and collects their events in one
// batch per partition. Nothing of it is shared, so nothing is locked.
type worker struct {
	p         *Pipeline
	ordered   <-chan *tracker // its own, besides the queue of all
	dec       *decode.Decoder
	open      []*batch // by partition; nil where there is none
	openCount int
	openBytes int
	oldest    time.Time // when the first of them was opened

	cur  *tracker // being decoded
	emit func(*schemas.Event)
	drop func(decode.Rejection)
}

func newWorker(p *Pipeline, ordered <-chan *tracker) *worker {
	w := &worker{p: p, ordered: ordered, dec: p.opts.NewDecoder(), open: make([]*batch, p.opts.Partitions)}
	w.emit, w.drop = w.event, w.rejection
	return w
}

// run ends when both queues are closed and empty.
func (w *worker) run() {
	linger := w.p.opts.BatchLinger
	timer := time.NewTimer(linger)
	timer.Stop()
	defer timer.Stop()
	take := func(t *tracker) {
		had := w.openCount
		w.decode(t)
		switch age := time.Since(w.oldest); {
		case w.openCount == 0:
			timer.Stop()
		case age >= linger:
			w.flush()
			timer.Stop()
		case had == 0:
			timer.Reset(linger - age)
		}
	}
	shared, ordered := (<-chan *tracker)(w.p.queue), w.ordered
	for shared != nil || ordered != nil {
		select {
		case t, ok := <-shared:
			if !ok {
				shared = nil
				break
			}
			take(t)
		case t, ok := <-ordered:
			if !ok {
				ordered = nil
				break
			}
			take(t)
		case <-timer.C:
			if w.openCount == 0 {
				break
			}
			// The batch that the timer was set for may have been sent when it was
			// full, and another one opened since.
			if age := time.Since(w.oldest); age < linger {
				timer.Reset(linger - age)
				break
			}
			w.flush()
		}
	}
	w.flush()
}

// decode does one delivery. Its data is not read after that.
func (w *worker) decode(t *tracker) {
	if w.p.hard.Err() != nil {
		t.release(ErrStopped)
		return
	}
	d, m := t.d, t.m
	w.cur = t
	m.deliveries.Inc()
	m.bytes.Add(float64(len(d.Data)))
	if d.Reject != nil {
		size := max(d.Reject.Size, len(d.Data))
		w.p.deadLetter(t, d.Reject.Reason, d.Reject.Err, d.Origin, d.Data, size)
	} else {
		stats := w.dec.Decode(d.Data, decode.Hints{Account: d.Account, Region: d.Region, Received: t.since}, w.emit, w.drop)
		m.count(stats)
	}
	w.cur = nil
	t.release(nil)
}

func (w *worker) event(ev *schemas.Event) {
	part := schemas.Partition(ev.Device, len(w.open))
	b := w.open[part]
	if b != nil && b.events.Size()+len(ev.Message) > w.p.opts.BatchBytes {
		w.send(part)
		b = nil
	}
	if b == nil {
		b = w.p.batches.Get().(*batch)
		b.partition = part
		w.open[part] = b
		if w.openCount == 0 {
			w.oldest = time.Now()
		}
		w.openCount++
	}
	before := b.events.Size()
	b.events.Append(ev, w.cur.d.Lane)
	b.carry(w.cur)
	w.openBytes += b.events.Size() - before
	switch {
	case b.events.Size() >= w.p.opts.BatchBytes, len(b.carries) == schemas.MaxLanes:
		// No batch has more lanes than deliveries in it.
		w.send(part)
	case w.openBytes >= maxOpenBytes:
		w.flush()
	}
}

func (w *worker) rejection(r decode.Rejection) {
	origin := w.cur.d.Origin
	if r.Offset > 0 {
		origin = fmt.Sprintf("%s, byte %d", origin, r.Offset)
	}
	w.p.deadLetter(w.cur, string(r.Reason), r.Err, origin, r.Raw, len(r.Raw))
}

// send publishes the open batch of a partition.
func (w *worker) send(part int) {
	b := w.open[part]
	w.open[part] = nil
	w.openCount--
	w.openBytes -= b.events.Size()
	w.p.publish(b)
}

func (w *worker) flush() {
	for part, b := range w.open {
		if b != nil {
			w.send(part)
		}
	}
}
