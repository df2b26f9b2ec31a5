package behavior

import (
	"context"

	"github.com/tocsin-io/tocsin/internal/kafka"
)

// Replay is the work on one partition without a consumer group: what is derived goes
// to Options.Producer, and nothing is restored or committed. It is for one goroutine.
type Replay struct{ w *worker }

// NewReplay returns the work on a partition of tocsin.events, which has events
// partitions, while tocsin.identities has identities.
func NewReplay(opts Options, partition, events, identities int) *Replay {
	s := New(opts)
	s.events, s.identities = events, identities
	s.fleet = newFleet(nil, identities, s.opts.Interval, s.opts.LeastFleet, s.log)
	return &Replay{w: newWorker(s, nil, partition)}
}

// Record takes the next record. Its memory is needed during the call only.
func (r *Replay) Record(ctx context.Context, rec *kafka.FetchedRecord) {
	r.w.process(ctx, rec)
	r.w.next = rec.Offset + 1
	r.w.advance(ctx, r.w.tracker.Watermark())
}

// Devices returns how many devices are remembered.
func (r *Replay) Devices() int { return len(r.w.devices.numbers) }

// Flush waits until all that was derived is acknowledged.
func (r *Replay) Flush(ctx context.Context) error {
	r.w.writeObserved(ctx, true)
	return r.w.out.flush(ctx)
}
