package correlate

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// checkpoint is a snapshot on its way. The worker stands still only while the
// windows are encoded; whatever waits for Kafka, or compresses, is done beside
// it. A worker has one at a time.
type checkpoint struct {
	next     int64
	sequence uint64
	press    *snapshotPress
	outputs  *outputCut
	origin   string
	paused   time.Duration

	done   chan struct{} // closed when the fields below are set
	cost   time.Duration // of processor time, about
	packed int
	err    error
	// redo: the worker must start over from its last snapshot.
	redo bool
}

// begin takes the state at next and leaves the rest to a goroutine, which ends
// with ctx.
func (w *worker) begin(ctx context.Context, press *snapshotPress) (*checkpoint, error) {
	start := time.Now()
	w.input.drain(ctx)
	h := &snapshotHeader{Topic: w.key.topic, Partition: w.key.partition, Next: w.next}
	w.input.save(h)
	if err := press.take(h, w.windows.appendSnapshot); err != nil {
		return nil, err
	}
	c := &checkpoint{
		next: w.next, sequence: w.sequence + 1, press: press, outputs: w.out.cut(),
		origin: fmt.Sprintf("output of %s/%d before offset %d", w.key.topic, w.key.partition, w.next),
		done:   make(chan struct{}),
	}
	c.paused = time.Since(start)
	w.c.metrics.snapshotPause.Observe(c.paused.Seconds())
	go func() {
		defer close(c.done)
		c.err = w.write(ctx, c)
	}()
	return c, nil
}

// write makes everything up to c.next safe: outputs first, then the snapshot; the
// commit follows when the worker sees that this is done. In any other order a
// crash in between would lose what was not yet written. It uses nothing of the
// worker that changes.
func (w *worker) write(ctx context.Context, c *checkpoint) error {
	if err := w.settle(ctx, c); err != nil {
		c.redo = true
		return err
	}
	start := time.Now()
	snapshot := c.press.pack()
	c.cost, c.packed = c.paused+time.Since(start), len(snapshot)
	err := w.c.store.save(ctx, w.key, c.sequence, w.c.writer, snapshot)
	c.redo = errors.Is(err, errSuperseded)
	return err
}

// settle waits until all outputs up to the checkpoint are in Kafka. Those that it
// will never take because of their size go to the dead letter topic.
func (w *worker) settle(ctx context.Context, c *checkpoint) error {
	for outputs := c.outputs; ; outputs = w.out.cut() {
		if err := w.out.wait(ctx, outputs); err != nil {
			return err
		}
		refused := w.out.takeRefused()
		if len(refused) == 0 {
			return nil
		}
		for _, r := range refused {
			origin := c.origin + " to " + r.topic
			if r.topic == schemas.TopicDeadLetter {
				w.log.Error("BUG: a dead letter is too large and is lost", zap.String("origin", origin), zap.Error(r.err))
				continue
			}
			w.deadLetter(ctx, origin, r.rec.Value, reasonTooLarge, r.err)
		}
	}
}

// finish takes note of a checkpoint that is done. A snapshot that could not be
// written leaves the one before in force: the worker goes on and tries again after
// the interval.
func (w *worker) finish(ctx context.Context, c *checkpoint) error {
	w.saving = nil
	w.c.presses <- c.press
	if c.err != nil {
		w.c.metrics.snapshotFailures.Inc()
		if c.redo || ctx.Err() != nil {
			return c.err
		}
		w.log.Error("snapshot was not written, the one before stays in force", zap.Int64("offset", w.saved), zap.Error(c.err))
		return nil
	}
	w.sequence = c.sequence
	w.saved, w.savedAt, w.saveTook = c.next, time.Now(), c.cost
	w.c.metrics.snapshotSeconds.Observe(c.cost.Seconds())
	w.c.metrics.snapshotBytes.Observe(float64(c.packed))
	if err := w.a.Commit(ctx, c.next); err != nil {
		if errors.Is(err, kafka.ErrFenced) {
			return err
		}
		// The snapshot holds the offset; the commit only shows it.
		w.log.Warn("commit failed", zap.Error(err))
	}
	return nil
}

// maxSnapshotStretch bounds how many times the interval the time between two
// snapshots becomes: what was read since the last one is read again after a crash.
const maxSnapshotStretch = 12

// snapshotDue spaces the snapshots of all workers so that making them takes about
// a twentieth of the processors' time, however large they are.
func (w *worker) snapshotDue(now time.Time) bool {
	if w.saving != nil || w.next < 0 || w.next == w.saved {
		return false
	}
	interval := w.c.opts.SnapshotInterval
	share := max(1, float64(w.c.workers.count())/float64(runtime.GOMAXPROCS(0)))
	spaced := time.Duration(20 * share * float64(w.saveTook))
	return now.Sub(w.begunAt) >= min(max(interval, spaced), maxSnapshotStretch*interval)
}

// keepSafe takes a snapshot when one is due, and note of one that is done.
func (w *worker) keepSafe(ctx context.Context, now time.Time) error {
	if w.saving != nil {
		select {
		case <-w.saving.done:
			if err := w.finish(ctx, w.saving); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	if !w.snapshotDue(now) {
		return nil
	}
	select {
	case press := <-w.c.presses:
		// Encoded, the windows take about half of their memory.
		if size := int(w.windows.stats().Bytes / 2); cap(press.raw) < size {
			// It goes on meanwhile, and finds the press ready the next time.
			go func() {
				press.grow(size)
				w.c.presses <- press
			}()
			return nil
		}
		w.begunAt = now
		saving, err := w.begin(ctx, press)
		if err != nil {
			w.c.presses <- press
			return err
		}
		w.saving = saving
	default:
		// Others are at it; reading goes on meanwhile.
	}
	return nil
}

// leaveSafe takes a last snapshot. When an output fails, none is written, and the
// next owner does them again.
func (w *worker) leaveSafe(ctx context.Context) error {
	if w.saving != nil {
		<-w.saving.done // it ends with ctx
		if err := w.finish(ctx, w.saving); err != nil {
			return err
		}
	}
	if w.next < 0 || w.next == w.saved {
		return nil
	}
	select {
	case press := <-w.c.presses:
		last, err := w.begin(ctx, press)
		if err != nil {
			w.c.presses <- press
			return err
		}
		<-last.done
		if err := w.finish(ctx, last); err != nil {
			return err
		}
		return last.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
