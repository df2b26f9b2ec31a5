package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	kgo "github.com/segmentio/kafka-go"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/backoff"
)

// Assignment is a partition that belongs to this member for one generation of the group. SeekTo and Fetch are for the
// handler's goroutine; the other methods may be called from any.
type Assignment struct {
	Topic     string
	Partition int
	// Committed is the group's committed offset when the handler started, -1 if there is none.
	Committed int64
	// Generation of the consumer group.
	Generation int32

	w        *groupWorker
	position int64 // offset to fetch next; OffsetFirst and OffsetLast are resolved by the first fetch
	failures int   // consecutive failed fetches
	corrupt  int   // consecutive fetches that found the batch at position corrupt

	committing sync.Mutex
	note       string // committed last with Commit's offset, guarded by committing
	lag        atomic.Int64
	drainBy    atomic.Int64 // Unix nanoseconds; 0 until the generation ends
	stopDrain  func() bool

	records, bytes prometheus.Counter
	lagGauge       prometheus.Gauge
}

func newAssignment(ctx context.Context, w *groupWorker) *Assignment {
	a := &Assignment{
		Topic:      w.topic,
		Partition:  w.partition,
		Committed:  w.committed.Load(),
		Generation: w.gen.ID,
		w:          w,
		records:    w.metrics.records.WithLabelValues(w.topic),
		bytes:      w.metrics.bytes.WithLabelValues(w.topic),
		lagGauge:   w.metrics.lag.WithLabelValues(w.topic, strconv.Itoa(w.partition)),
	}
	a.position = a.Committed
	if a.Committed < 0 {
		a.position = w.opts.StartOffset
	}
	a.stopDrain = context.AfterFunc(ctx, func() {
		a.drainBy.Store(time.Now().Add(w.opts.drainTimeout()).UnixNano())
	})
	return a
}

func (a *Assignment) end() {
	a.stopDrain()
	a.w.metrics.lag.DeleteLabelValues(a.Topic, strconv.Itoa(a.Partition))
}

// SeekTo sets the offset that the next Fetch starts from: any offset, OffsetFirst or OffsetLast. Without it a handler starts
// at Committed, or at the group's StartOffset.
func (a *Assignment) SeekTo(offset int64) {
	a.position, a.corrupt = offset, 0
}

// Position returns the offset that the next Fetch starts from. It can be OffsetFirst or OffsetLast before the first one.
func (a *Assignment) Position() int64 { return a.position }

// Lag returns how many records lay between the position and the high watermark at the last fetch.
func (a *Assignment) Lag() int64 { return a.lag.Load() }

// Drain returns a context for the work after revocation: the last produce and snapshot, the last commit. It lives on when
// ctx (the handler's) has ended, as long as the group will wait for this member.
func (a *Assignment) Drain(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline := time.Now().Add(a.w.opts.drainTimeout())
	if by := a.drainBy.Load(); by != 0 {
		deadline = time.Unix(0, by)
	}
	return context.WithDeadline(context.WithoutCancel(ctx), deadline)
}

// Fetch returns the next records, waiting up to MaxWait for some. It returns an empty batch when there are none, and also
// when the broker could not be reached, so that a worker can go on with work that time drives: only CaughtUp tells silence
// from failure. Failures are logged, counted and repeated by the next call, with a backoff.
//
// Offsets that retention has deleted, or that never existed in a partition that was recreated, are reported in batch.Gap,
// counted, and reading resumes at the oldest record; a batch that stays corrupt is reported and passed over.
//
// The error is that of ctx, or one that needs an operator (not authorised).
func (a *Assignment) Fetch(ctx context.Context, buf *FetchBuffer) (FetchBatch, error) {
	if err := ctx.Err(); err != nil {
		return FetchBatch{Next: a.position}, err
	}
	batch, err := a.fetch(ctx, buf)
	if err != nil {
		return a.failed(ctx, err)
	}
	a.failures = 0
	a.position = batch.Next
	lag := max(0, batch.HighWatermark-batch.Next)
	a.lag.Store(lag)
	a.lagGauge.Set(float64(lag))
	a.records.Add(float64(len(batch.Records)))
	a.bytes.Add(float64(batch.Bytes))
	return batch, nil
}

func (a *Assignment) fetch(ctx context.Context, buf *FetchBuffer) (FetchBatch, error) {
	c := a.w.client
	if a.position == OffsetFirst || a.position == OffsetLast {
		offset, err := c.listOffset(ctx, a.Topic, a.Partition, a.position)
		if err != nil {
			return FetchBatch{}, err
		}
		a.position = offset
	}
	batch, err := c.fetchOnce(ctx, fetchParams{
		topic: a.Topic, partition: a.Partition, offset: a.position, maxBytes: a.w.opts.FetchMaxBytes, maxWait: a.w.opts.MaxWait,
	}, buf)
	switch {
	case errors.Is(err, kgo.OffsetOutOfRange):
		return a.reset(ctx, err)
	case errors.Is(err, ErrCorrupt):
		// It may have been damaged on the way: believe it only after reading it again.
		if a.corrupt++; a.corrupt < corruptAttempts {
			return batch, err
		}
		a.w.log.Error("corrupt record batch skipped", zap.Error(err), zap.Int64("from", a.position), zap.Int64("to", batch.Next))
		return a.skipTo(batch.Next, ReasonCorrupt), nil
	case err == nil:
		a.corrupt = 0
	}
	return batch, err
}

// reset resumes at the oldest record after an offset out of range.
func (a *Assignment) reset(ctx context.Context, cause error) (FetchBatch, error) {
	c := a.w.client
	first, err := c.FirstOffset(ctx, a.Topic, a.Partition)
	if err != nil {
		return FetchBatch{}, err
	}
	last, err := c.LastOffset(ctx, a.Topic, a.Partition)
	if err != nil {
		return FetchBatch{}, err
	}
	if first <= a.position && a.position <= last {
		return FetchBatch{}, cause // in range again: a new leader had not caught up
	}
	a.w.log.Error("offset out of range: resuming at the oldest record", zap.Int64("wanted", a.position), zap.Int64("first", first), zap.Int64("last", last))
	if first < a.position {
		// The log was recreated or truncated: the old commit says nothing about it and must not hold the new ones back.
		a.w.committed.Store(-1)
	}
	return a.skipTo(first, ReasonOffsetRange), nil
}

func (a *Assignment) skipTo(offset int64, reason string) FetchBatch {
	gap := &Gap{From: a.position, To: offset, Reason: reason}
	a.w.metrics.lost.WithLabelValues(a.Topic, reason).Add(float64(max(1, gap.To-gap.From)))
	a.corrupt = 0
	return FetchBatch{Next: offset, HighWatermark: offset, Gap: gap}
}

// failed turns a failed fetch into an empty batch, after a backoff.
func (a *Assignment) failed(ctx context.Context, err error) (FetchBatch, error) {
	empty := FetchBatch{Next: a.position}
	if ctx.Err() != nil {
		return empty, ctx.Err()
	}
	reason := Reason(err)
	a.w.metrics.fetchErrors.WithLabelValues(a.Topic, reason).Inc()
	if reason == ReasonAuth || reason == ReasonUnsupported {
		return empty, err
	}
	if a.failures == 0 {
		a.w.log.Warn("fetch failed, will be repeated", zap.Int64("offset", a.position), zap.String("reason", reason), zap.Error(err))
	}
	if metadataIsStale(err) {
		// Its error would come back from the next fetch.
		_ = a.w.client.refresh(ctx)
	}
	serr := backoff.Sleep(ctx, backoff.Delay(a.failures, 50*time.Millisecond, 2*time.Second))
	a.failures++
	return empty, serr
}

// Commit stores nextOffset, the offset after the last record that is dealt with, as the group's position. It never moves the
// position back: an offset at or below the newest commit is a no-op. It returns ErrFenced when the partition belongs to a
// newer generation: what this worker did since its last commit will be done again by the next owner.
//
// The group's coordinator is given RequestTimeout. ctx is only checked at the start; for the last commit after revocation
// use the context of [Assignment.Drain].
func (a *Assignment) Commit(ctx context.Context, nextOffset int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	a.committing.Lock()
	defer a.committing.Unlock()
	if nextOffset <= a.w.committed.Load() {
		return nil
	}
	err := a.w.gen.CommitOffsets(map[string]map[int]int64{a.Topic: {a.Partition: nextOffset}})
	if err == nil {
		a.w.committed.Store(nextOffset)
	}
	return a.commitError(nextOffset, err)
}

func (a *Assignment) commitError(offset int64, err error) error {
	if err == nil {
		return nil
	}
	if Reason(err) == ReasonFenced {
		err = fmt.Errorf("%w: %w", ErrFenced, err)
	}
	a.w.metrics.commitErrors.WithLabelValues(a.Topic, Reason(err)).Inc()
	return fmt.Errorf("commit %s/%d offset %d: %w", a.Topic, a.Partition, offset, err)
}

// MaxNote is how long a note may be, in bytes: brokers take 4096 (offset.metadata.max.bytes).
const MaxNote = 4000

// CommitNote is Commit with a few words for whoever has the partition next, which [Assignment.Note] returns there. The same
// offset may be committed again with another note. A handler that uses notes must not use Commit, which clears them.
func (a *Assignment) CommitNote(ctx context.Context, nextOffset int64, note string) error {
	a.committing.Lock()
	defer a.committing.Unlock()
	committed := a.w.committed.Load()
	if nextOffset < committed || nextOffset == committed && note == a.note {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.w.client.cfg.RequestTimeout)
	defer cancel()
	res, err := a.w.client.kgo.OffsetCommit(ctx, &kgo.OffsetCommitRequest{
		GroupID: a.w.gen.GroupID, GenerationID: int(a.w.gen.ID), MemberID: a.w.gen.MemberID,
		Topics: map[string][]kgo.OffsetCommit{a.Topic: {{Partition: a.Partition, Offset: nextOffset, Metadata: note}}},
	})
	if err == nil {
		for _, p := range res.Topics[a.Topic] {
			err = errors.Join(err, p.Error)
		}
	}
	if err == nil {
		a.w.committed.Store(nextOffset)
		a.note = note
	}
	return a.commitError(nextOffset, err)
}

// Note returns what the newest commit of the partition has as its note, "" for none.
func (a *Assignment) Note(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, a.w.client.cfg.RequestTimeout)
	defer cancel()
	res, err := a.w.client.kgo.OffsetFetch(ctx, &kgo.OffsetFetchRequest{
		GroupID: a.w.gen.GroupID, Topics: map[string][]int{a.Topic: {a.Partition}},
	})
	if err == nil {
		err = res.Error
	}
	note := ""
	if err == nil {
		for _, p := range res.Topics[a.Topic] {
			err = errors.Join(err, p.Error)
			note = p.Metadata
		}
	}
	if err != nil {
		return "", fmt.Errorf("note of %s on %s/%d: %w", a.w.gen.GroupID, a.Topic, a.Partition, err)
	}
	a.committing.Lock()
	defer a.committing.Unlock()
	a.note = note
	return note, nil
}
