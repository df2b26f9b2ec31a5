package correlate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// input is what differs between a partition of tocsin.events and one of
// tocsin.matches. All methods are called by the worker's goroutine.
type input interface {
	// process takes one record. Its memory is valid during the call. It must not
	// fail for what the record holds: that goes to the dead letter topic.
	process(ctx context.Context, rec *kafka.FetchedRecord)
	// tick is called after the records of every fetch and sends what is still
	// held back; caughtUp says that nothing is waiting to be read.
	tick(ctx context.Context, now time.Time, caughtUp bool)
	// watermark returns how far event time has come.
	watermark() int64
	// useRules is called when the rules changed; the windows are the worker's.
	useRules(set *rules.Set)
	// save and load carry the input's own part of a snapshot.
	save(h *snapshotHeader)
	load(h *snapshotHeader)
}

// worker owns one partition of one input topic: nothing in it is shared, so
// nothing in it is locked.
type worker struct {
	c   *Correlator
	a   *kafka.Assignment
	log *zap.Logger
	key snapshotKey

	set     *rules.Set
	windows *Windows
	input   input
	out     *outbox
	emit    *emitter

	next     int64  // the first offset whose effect is not in the windows
	sequence uint64 // of the last snapshot
	saved    int64  // next at the last snapshot
	savedAt  time.Time
	saveTook time.Duration

	status workerStatus
}

func newWorker(c *Correlator, a *kafka.Assignment) *worker {
	w := &worker{
		c: c, a: a,
		log: c.log.With(zap.String("topic", a.Topic), zap.Int("partition", a.Partition)),
		key: snapshotKey{topic: a.Topic, partition: a.Partition},
		set: c.rules.Load(),
		out: newOutbox(c.opts.Producer),
	}
	local := a.Topic == schemas.TopicEvents
	w.windows = w.newWindows()
	w.emit = newEmitter(w)
	if local {
		w.input = newEventInput(w)
	} else {
		w.input = newMatchInput(w)
	}
	return w
}

func (w *worker) newWindows() *Windows {
	local := w.key.topic == schemas.TopicEvents
	here := func(c *rules.Correlation) bool { return c.Local == local }
	return NewWindows(w.set, here, w.c.opts.Windows)
}

// restore loads the newest snapshot and seeks to its offset, which is the
// truth; the group's committed offset only shows the lag to others.
func (w *worker) restore(ctx context.Context) error {
	start := time.Now()
	w.savedAt = start
	snapshot, sequence, err := w.c.store.load(ctx, w.key)
	if err != nil {
		return err
	}
	w.next = -1
	if snapshot == nil {
		if w.a.Committed >= 0 {
			w.next = w.a.Committed
			w.log.Warn("no snapshot: windows start empty at the committed offset", zap.Int64("offset", w.next))
			w.c.metrics.restores.WithLabelValues("missing").Inc()
		}
		return nil
	}
	h, windows, err := decodeSnapshot(snapshot)
	if err != nil {
		return err
	}
	if h.Topic != w.key.topic || h.Partition != w.key.partition {
		return fmt.Errorf("%w: it is of %s/%d", errSnapshotTorn, h.Topic, h.Partition)
	}
	if err := w.windows.Restore(windows); err != nil {
		return err
	}
	w.input.load(h)
	w.next, w.saved, w.sequence = h.Next, h.Next, sequence
	w.a.SeekTo(w.next)
	w.c.metrics.restores.WithLabelValues("ok").Inc()
	w.log.Info("restored", zap.Int64("offset", w.next), zap.Uint64("sequence", sequence),
		zap.Int("bytes", len(snapshot)), zap.Duration("took", time.Since(start)))
	return nil
}

// run reads until the partition is revoked, then leaves a last snapshot so that
// the next owner has nothing to read again.
func (w *worker) run(ctx context.Context) error {
	var buf kafka.FetchBuffer
	for {
		batch, err := w.a.Fetch(ctx, &buf)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return err
		}
		if set := w.c.rules.Load(); set != w.set {
			if err := w.switchRules(set); err != nil {
				return err
			}
		}
		if batch.Gap != nil {
			w.log.Error("offsets could not be read", zap.Int64("from", batch.Gap.From), zap.Int64("to", batch.Gap.To),
				zap.String("reason", batch.Gap.Reason))
		}
		for i := range batch.Records {
			rec := &batch.Records[i]
			if rec.Offset < w.next {
				continue
			}
			w.input.process(ctx, rec)
			w.next = rec.Offset + 1
			// Per record, not per fetch: how records are cut into fetches differs
			// from run to run, and what is late must not.
			w.advance(ctx)
		}
		now := time.Now()
		w.input.tick(ctx, now, batch.CaughtUp)
		w.advance(ctx)
		w.next = max(w.next, batch.Next)
		w.report()
		if ctx.Err() != nil {
			break
		}
		if w.snapshotDue(now) {
			if err := w.checkpoint(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
	drain, cancel := w.a.Drain(ctx)
	defer cancel()
	if w.next < 0 || w.next == w.saved {
		return nil
	}
	// Outputs that were handed over with the ended context may have failed; then
	// flush says so, no snapshot is written, and the next owner does them again.
	return w.checkpoint(drain)
}

// advance moves the windows to the input's watermark and reports what changed.
// An episode that feeds another correlation here may change that one too, hence
// the loop; rules refer to each other without cycles, so it ends.
func (w *worker) advance(ctx context.Context) {
	w.windows.Advance(w.input.watermark())
	for {
		w.windows.Drain(func(e *Episode) { w.emit.episode(ctx, e) })
		if !w.emit.feed() {
			return
		}
	}
}

// snapshotDue spaces snapshots so that writing them takes at most about a
// twentieth of the time, however large they are.
func (w *worker) snapshotDue(now time.Time) bool {
	since := now.Sub(w.savedAt)
	return w.next >= 0 && w.next != w.saved && since >= w.c.opts.SnapshotInterval && since >= 20*w.saveTook
}

// checkpoint makes everything up to next safe: outputs first, then the
// snapshot, then the commit. In any other order a crash in between would lose
// what was not yet written.
func (w *worker) checkpoint(ctx context.Context) error {
	start := time.Now()
	if err := w.out.flush(ctx); err != nil {
		return err
	}
	h := &snapshotHeader{Topic: w.key.topic, Partition: w.key.partition, Next: w.next, Mark: w.input.watermark()}
	w.input.save(h)
	snapshot, err := encodeSnapshot(h, w.windows.AppendSnapshot(nil))
	if err != nil {
		return err
	}
	if err := w.c.store.save(ctx, w.key, w.sequence+1, w.c.writer, snapshot); err != nil {
		return err
	}
	w.sequence++
	w.saved, w.savedAt, w.saveTook = w.next, time.Now(), time.Since(start)
	w.c.metrics.snapshotSeconds.Observe(w.saveTook.Seconds())
	w.c.metrics.snapshotBytes.Observe(float64(len(snapshot)))
	if err := w.a.Commit(ctx, w.next); err != nil {
		if errors.Is(err, kafka.ErrFenced) {
			return err
		}
		// The snapshot holds the offset; the commit only shows it.
		w.log.Warn("commit failed", zap.Error(err))
	}
	return nil
}

// switchRules moves the windows over to a new rule set. They go through their
// snapshot form, which is keyed by what a rule says and not by its number.
func (w *worker) switchRules(set *rules.Set) error {
	state := w.windows.AppendSnapshot(nil)
	w.set = set
	w.windows = w.newWindows()
	if err := w.windows.Restore(state); err != nil {
		return fmt.Errorf("carry windows over to the new rules: %w", err)
	}
	w.input.useRules(set)
	return nil
}
