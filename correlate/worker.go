package correlate

import (
	"context"
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
	// drain sends what is held back: what is given up after it must not depend on
	// it.
	drain(ctx context.Context)
	// watermark returns how far event time has come for a level of the windows.
	watermark(level int) int64
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
	windows *levels
	input   input
	out     *outbox
	emit    *emitter

	next     int64  // the first offset whose effect is not in the windows
	sequence uint64 // of the last snapshot
	saved    int64  // next at the last snapshot
	savedAt  time.Time
	begunAt  time.Time // of the last one, done or not
	saveTook time.Duration
	saving   *checkpoint // under way; nil when none is

	status  workerStatus
	counted Stats // what the metrics have of the windows' counts
}

func newWorker(c *Correlator, a *kafka.Assignment) *worker {
	w := &worker{
		c: c, a: a,
		log: c.log.With(zap.String("topic", a.Topic), zap.Int("partition", a.Partition)),
		key: snapshotKey{topic: a.Topic, partition: a.Partition},
		set: c.rules.Load(),
		out: newOutbox(c.opts.Producer, c.matches),
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

func (w *worker) newWindows() *levels {
	return newLevels(w.set, w.key.topic == schemas.TopicEvents, w.c.opts.Windows)
}

// restore loads the newest snapshot that can be used and seeks to its offset,
// which is the truth; the group's committed offset only shows the lag to others.
func (w *worker) restore(ctx context.Context) error {
	start := time.Now()
	w.savedAt, w.begunAt = start, start
	w.next, w.saved = -1, -1
	unusable := 0
	found, err := w.c.store.load(ctx, w.key, func(snapshot []byte, sequence uint64) bool {
		h, err := w.use(snapshot)
		if err != nil {
			unusable++
			w.log.Error("snapshot cannot be used, looking for an older one", zap.Uint64("sequence", sequence), zap.Error(err))
			w.windows = w.newWindows()
			return false
		}
		w.input.load(h)
		w.counted = w.windows.stats()
		w.next, w.saved, w.sequence = h.Next, h.Next, sequence
		w.log.Info("restored", zap.Int64("offset", w.next), zap.Uint64("sequence", sequence),
			zap.Int("bytes", len(snapshot)), zap.Duration("took", time.Since(start)))
		return true
	})
	switch {
	case err != nil:
		return err
	case found:
		w.a.SeekTo(w.next)
		w.c.metrics.restores.WithLabelValues("ok").Inc()
	case w.a.Committed >= 0:
		// Better to go on without the windows than not at all.
		w.next = w.a.Committed
		w.log.Error("no snapshot can be used: windows start empty at the committed offset",
			zap.Int64("offset", w.next), zap.Int("unusable", unusable))
		w.c.metrics.restores.WithLabelValues("missing").Inc()
	}
	return nil
}

// use puts a snapshot into the windows. After an error they must be made anew.
func (w *worker) use(snapshot []byte) (*snapshotHeader, error) {
	h, windows, err := decodeSnapshot(snapshot)
	if err != nil {
		return nil, err
	}
	if h.Topic != w.key.topic || h.Partition != w.key.partition || h.Next < 0 {
		return nil, fmt.Errorf("%w: it is of %s/%d at %d", errSnapshotTorn, h.Topic, h.Partition, h.Next)
	}
	return h, w.windows.restore(windows)
}

// run reads until the partition is revoked, then leaves a last snapshot so that
// the next owner has nothing to read again.
func (w *worker) run(ctx context.Context) error {
	// Outputs outlive ctx by the time that the group grants: records that end with
	// it would fail, and all since the last snapshot would have to be done again.
	out, stop := w.outputs(ctx)
	defer func() {
		stop()
		if w.saving != nil {
			<-w.saving.done
			w.c.presses <- w.saving.press
		}
	}()
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
		if g := batch.Gap; g != nil {
			w.log.Error("offsets could not be read", zap.Int64("from", g.From), zap.Int64("to", g.To), zap.String("reason", g.Reason))
			if g.To < w.next {
				// The topic was made anew or cut short: what comes now has never been read,
				// whatever its offsets.
				w.next, w.saved = g.To, -1
			}
		}
		whole := w.take(ctx, out, &batch)
		now := time.Now()
		w.input.tick(out, now, batch.CaughtUp && whole)
		if whole {
			w.next = max(w.next, batch.Next)
		}
		w.report()
		if err := w.out.failed(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			break
		}
		if err := w.keepSafe(out, now); err != nil {
			return err
		}
	}
	return w.leaveSafe(out)
}

// take processes the records of a batch, until ctx ends: then it reports false,
// and next says how far it came.
func (w *worker) take(ctx, out context.Context, batch *kafka.FetchBatch) (whole bool) {
	for i := range batch.Records {
		rec := &batch.Records[i]
		if rec.Offset < w.next {
			continue
		}
		if ctx.Err() != nil {
			return false
		}
		w.input.process(out, rec)
		w.next = rec.Offset + 1
		// Per record, not per fetch: how records are cut into fetches differs
		// from run to run, and what is late must not.
		w.advance(out)
	}
	return true
}

// outputs returns the context of what is sent: it ends when the drain time is
// over that begins with the end of ctx.
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

// advance moves the windows to the input's watermark and reports what changed.
func (w *worker) advance(ctx context.Context) {
	w.windows.advance(w.input.watermark, func(e *Episode) { w.emit.episode(ctx, e) })
}

// switchRules moves the windows over to a new rule set. They go through their
// snapshot form, which is keyed by what a rule says and not by its number.
func (w *worker) switchRules(set *rules.Set) error {
	state := w.windows.appendSnapshot(nil)
	w.set = set
	w.windows = w.newWindows()
	if err := w.windows.restore(state); err != nil {
		return fmt.Errorf("carry windows over to the new rules: %w", err)
	}
	w.input.useRules(set)
	return nil
}
