package sinks

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/tocsin-io/tocsin/internal/kafka"
)

// Options of a Runner. Name, Topic, Client and DeadLetters are needed.
type Options struct {
	// Name of the sink, in metrics and logs.
	Name string
	// Topic that the sink reads, GroupID its consumer group ("tocsin-" and Name
	// by default).
	Topic, GroupID string
	// Client reaches Kafka. The runner does not close it.
	Client *kafka.Client
	// DeadLetters takes what the sink rejects.
	DeadLetters DeadLetters
	// CommitInterval is the least time between two commits of a partition.
	// Default 1 s.
	CommitInterval time.Duration
	// FetchMaxBytes bounds what one fetch returns. Default: kafka's.
	FetchMaxBytes int
	// MaxWait is how long a fetch waits for records, and so how often a quiet
	// partition is looked at. Default: kafka's.
	MaxWait time.Duration
	// SessionTimeout of the consumer group. Default: kafka's.
	SessionTimeout time.Duration
	Metrics        *Metrics
	Registerer     prometheus.Registerer
	Logger         *zap.Logger
}

// Runner feeds one sink from its consumer group.
type Runner struct {
	sink Sink
	opts Options
	log  *zap.Logger
}

// NewRunner returns a runner that has not begun.
func NewRunner(sink Sink, opts Options) *Runner {
	if opts.GroupID == "" {
		opts.GroupID = "tocsin-" + opts.Name
	}
	if opts.CommitInterval <= 0 {
		opts.CommitInterval = time.Second
	}
	if opts.Logger == nil {
		opts.Logger = zap.NewNop()
	}
	if opts.Metrics == nil {
		opts.Metrics = NewMetrics(opts.Registerer)
	}
	return &Runner{sink: sink, opts: opts, log: opts.Logger.With(zap.String("sink", opts.Name))}
}

// Run feeds the sink until ctx ends, and then until what it took is stored and
// committed, for as long as the group gives its members to do so. It returns
// nil, or the error with which the sink gave up.
func (r *Runner) Run(ctx context.Context) error {
	// The sink outlives ctx: partitions are closed, which stores their last
	// records, after ctx has ended.
	sinkCtx, stopSink := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSink()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := r.sink.Run(sinkCtx); err != nil && sinkCtx.Err() == nil {
			return fmt.Errorf("sink %s: %w", r.opts.Name, err)
		}
		return nil
	})
	group.Go(func() error {
		defer stopSink()
		return kafka.RunGroup(ctx, r.opts.Client, kafka.GroupOptions{
			GroupID:        r.opts.GroupID,
			Topics:         []string{r.opts.Topic},
			FetchMaxBytes:  r.opts.FetchMaxBytes,
			MaxWait:        r.opts.MaxWait,
			SessionTimeout: r.opts.SessionTimeout,
			Registerer:     r.opts.Registerer,
			Logger:         r.log,
		}, r.partition)
	})
	return group.Wait()
}

// partition is the handler of one partition for one generation.
func (r *Runner) partition(ctx context.Context, a *kafka.Assignment) error {
	p, err := r.sink.Open(ctx, a.Topic, a.Partition, a.Committed)
	if err != nil {
		return fmt.Errorf("sink %s: open %s/%d: %w", r.opts.Name, a.Topic, a.Partition, err)
	}
	w := partitionWorker{runner: r, assignment: a, partition: p}
	w.next.Store(a.Committed)
	if w.memory, _ = p.(Rememberer); w.memory != nil {
		note, err := a.Note(ctx)
		if err != nil {
			return endOfContext(ctx, errors.Join(err, p.Close(ctx)))
		}
		w.memory.Recall(note)
	}
	// Beside the writing: that may wait for a receiver for as long as it likes, and
	// what others of the sink have delivered meanwhile must not be forgotten.
	running, stop := context.WithCancel(ctx)
	fenced := make(chan error, 1)
	go func() {
		defer stop() // a worker whose partition is another's goes no further
		fenced <- w.commitNowAndThen(running)
	}()
	err = w.run(running)
	stop()
	err = errors.Join(err, <-fenced)

	drain, cancel := a.Drain(ctx)
	defer cancel()
	if cerr := p.Close(drain); cerr != nil && err == nil {
		err = fmt.Errorf("sink %s: %s/%d: records on their way when the partition was given up: %w",
			r.opts.Name, a.Topic, a.Partition, cerr)
	}
	if cerr := w.commit(drain); cerr != nil && err == nil {
		err = cerr
	}
	return err
}

// partitionWorker moves records from an assignment to a partition of the sink.
type partitionWorker struct {
	runner     *Runner
	assignment *kafka.Assignment
	partition  Partition
	memory     Rememberer   // the partition, if it is one; nil otherwise
	next       atomic.Int64 // offset after the last record dealt with: written, or rejected
}

func (w *partitionWorker) run(ctx context.Context) error {
	r, a := w.runner, w.assignment
	handled := r.opts.Metrics.records.WithLabelValues(r.opts.Name)
	var buf kafka.FetchBuffer
	for ctx.Err() == nil {
		batch, err := a.Fetch(ctx, &buf)
		if err != nil {
			return endOfContext(ctx, err)
		}
		if batch.Gap != nil {
			r.log.Error("records were lost before the sink read them",
				zap.String("topic", a.Topic), zap.Int("partition", a.Partition), zap.String("reason", batch.Gap.Reason),
				zap.Int64("from", batch.Gap.From), zap.Int64("to", batch.Gap.To))
		}
		for i := range batch.Records {
			f := &batch.Records[i]
			rec := Record{
				Topic: a.Topic, Partition: a.Partition,
				Offset: f.Offset, Time: f.Time, Key: f.Key, Value: f.Value,
			}
			if err := w.write(ctx, &rec); err != nil {
				return endOfContext(ctx, err)
			}
			handled.Inc()
			w.next.Store(f.Offset + 1)
		}
		w.next.Store(batch.Next)
	}
	return nil
}

// commitNowAndThen commits until ctx ends or the partition is another member's.
func (w *partitionWorker) commitNowAndThen(ctx context.Context) error {
	every := time.NewTicker(w.runner.opts.CommitInterval)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
		if err := w.commit(ctx); err != nil {
			return endOfContext(ctx, err)
		}
	}
}

// write hands one record over, to the sink or to the dead letters.
func (w *partitionWorker) write(ctx context.Context, rec *Record) error {
	r := w.runner
	err := w.partition.Write(ctx, rec)
	var why *Rejected
	if !errors.As(err, &why) {
		return err
	}
	r.opts.Metrics.Rejected(r.opts.Name, why.Reason)
	r.log.Warn("record goes to the dead letter topic", zap.String("topic", rec.Topic), zap.Int("partition", rec.Partition),
		zap.Int64("offset", rec.Offset), zap.String("reason", why.Reason), zap.Error(why.Err))
	if err := r.opts.DeadLetters.Reject(ctx, r.opts.Name, rec, why); err != nil {
		return fmt.Errorf("sink %s: dead letter for %s/%d@%d: %w", r.opts.Name, rec.Topic, rec.Partition, rec.Offset, err)
	}
	return nil
}

// commit stores how far the sink has got. A record that was rejected, or left
// out by the sink, counts once all before it have arrived.
func (w *partitionWorker) commit(ctx context.Context) error {
	// next before Stored: a record that is written in between is counted by
	// neither. The other way round, Stored could say idle, the record be written,
	// and next be beyond it though it has not arrived.
	next := w.next.Load()
	stored, idle := w.partition.Stored()
	if idle {
		stored = next
	}
	if stored < 0 {
		return nil
	}
	var err error
	if w.memory != nil {
		err = w.assignment.CommitNote(ctx, stored, w.memory.Memory(stored))
	} else {
		err = w.assignment.Commit(ctx, stored)
	}
	if err != nil && !errors.Is(err, kafka.ErrFenced) {
		// The next commit covers this one: to give the partition up would only
		// make the sink take records twice.
		w.runner.log.Warn("commit failed, will be repeated", zap.Error(err))
		return nil
	}
	return err
}

// endOfContext turns the error of an ended context into nil: that is how a
// partition is given up.
func endOfContext(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return nil
	}
	return err
}
