package ingest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/tocsin-io/tocsin/ingest/decode"
	"github.com/tocsin-io/tocsin/internal/kafka"
)

// The defaults of Options.
const (
	DefaultBatchBytes       = 512 << 10
	DefaultBatchLinger      = 20 * time.Millisecond
	DefaultMaxInFlightBytes = 64 << 20
	DefaultStopTimeout      = 20 * time.Second

	// deliveryOverhead is what a delivery counts besides its data, so that empty
	// ones are bounded too.
	deliveryOverhead = 512
	// queueLength of each queue is enough to keep the decoders busy; the bound
	// that matters is in bytes.
	queueLength = 256
	// sourceGrace is how long sources may take to return once every delivery of
	// theirs has been given back.
	sourceGrace = 5 * time.Second
)

// ErrStopped is what deliveries are given back with, and hand fails with, when
// the pipeline stops.
var ErrStopped = errors.New("ingest pipeline is stopping")

// Producer appends records to Kafka; *kafka.Producer is one.
type Producer interface {
	// ProduceAsync takes the record, blocking while too much is in flight, and
	// must call done exactly once: with nil when the record is acknowledged by
	// all in-sync replicas, with an error when it will not be. The record's memory
	// is left alone until then. Records that one caller gives for one partition
	// must keep their order. When ctx ends while it blocks, it gives up.
	ProduceAsync(ctx context.Context, topic string, partition int, rec kafka.Record, done func(offset int64, err error))
}

// Options of a Pipeline. Partitions, Producer and NewDecoder are required, the
// rest has defaults.
type Options struct {
	// Decoders is the number of goroutines that decode. Default GOMAXPROCS.
	Decoders int
	// Partitions of tocsin.events, and of tocsin.deadletter (default 1).
	Partitions, DeadLetterPartitions int
	Producer                         Producer
	// NewDecoder is called once for each decoding goroutine.
	NewDecoder func() *decode.Decoder
	// BatchBytes is the encoded size at which a batch of events is sent;
	// BatchLinger how long a smaller one waits for more.
	BatchBytes  int
	BatchLinger time.Duration
	// MaxInFlightBytes bounds the deliveries that were handed over and are not yet
	// acknowledged. Past it, hand blocks. Encoded events are bounded by the
	// producer.
	MaxInFlightBytes int64
	// StopTimeout is how long Run, once its context ended, waits for what is under
	// way, before it gives it back to the sources.
	StopTimeout time.Duration

	Logger     *zap.Logger           // nil: none
	Registerer prometheus.Registerer // nil: metrics are not exposed
}

func (o *Options) setDefaults() error {
	if o.Partitions < 1 || o.Producer == nil || o.NewDecoder == nil {
		return fmt.Errorf("ingest pipeline: partitions (%d), producer and decoder must be set", o.Partitions)
	}
	if o.Decoders <= 0 {
		o.Decoders = runtime.GOMAXPROCS(0)
	}
	if o.DeadLetterPartitions <= 0 {
		o.DeadLetterPartitions = 1
	}
	if o.BatchBytes <= 0 {
		o.BatchBytes = DefaultBatchBytes
	}
	if o.BatchLinger <= 0 {
		o.BatchLinger = DefaultBatchLinger
	}
	if o.MaxInFlightBytes <= 0 {
		o.MaxInFlightBytes = DefaultMaxInFlightBytes
	}
	if o.StopTimeout <= 0 {
		o.StopTimeout = DefaultStopTimeout
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	return nil
}

// Pipeline carries deliveries from sources to Kafka: each is decoded by one
// goroutine, its events join those of other deliveries in one batch per
// partition, and it is acknowledged when the last batch that holds an event of
// it is. Events of one delivery that go to one partition keep their order; see
// Delivery.Ordered for those of several.
type Pipeline struct {
	opts    Options
	log     *zap.Logger
	metrics *metrics
	budget  *semaphore.Weighted
	queue   chan *tracker   // of all workers
	ordered []chan *tracker // of one worker each
	open    trackers
	batches sync.Pool // *batch

	// hard ends when stopping has taken too long: whatever blocks gives up.
	hard       context.Context
	cancelHard context.CancelFunc

	// mu is held for reading while a delivery is put into the queue. Whoever has
	// it for writing knows that nobody is about to: the queues can be closed.
	mu      sync.RWMutex
	stopped bool
}

// New returns a pipeline that is ready for Run.
func New(opts Options) (*Pipeline, error) {
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	p := &Pipeline{
		opts:    opts,
		log:     opts.Logger,
		metrics: newMetrics(opts.Registerer),
		budget:  semaphore.NewWeighted(opts.MaxInFlightBytes),
		queue:   make(chan *tracker, queueLength),
	}
	p.ordered = make([]chan *tracker, opts.Decoders)
	for i := range p.ordered {
		p.ordered[i] = make(chan *tracker, queueLength)
	}
	p.metrics.limit.Set(float64(opts.MaxInFlightBytes))
	p.batches.New = func() any { return newBatch(p) }
	p.hard, p.cancelHard = context.WithCancel(context.Background())
	return p, nil
}

// Run reads the sources until ctx ends, one of them fails, or all have come to
// their end. Then it stops the sources, publishes what they handed over, and
// returns when everything is acknowledged or StopTimeout is over, in which case
// the rest is given back with ErrStopped. The error is that of the sources; nil
// when ctx ended them. It must be called only once.
func (p *Pipeline) Run(ctx context.Context, sources ...Source) error {
	defer p.cancelHard()
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	unarm := context.AfterFunc(reading, func() {
		timer := time.AfterFunc(p.opts.StopTimeout, p.cancelHard)
		context.AfterFunc(p.hard, func() { timer.Stop() })
	})
	defer unarm()

	var workers sync.WaitGroup
	for _, ordered := range p.ordered {
		workers.Go(newWorker(p, ordered).run)
	}
	ended := make(chan error, len(sources))
	for _, s := range sources {
		go func() { ended <- s.Run(reading, p.hand) }()
	}
	var errs []error
	running := len(sources)
	collect := func(giveUp <-chan struct{}) {
		for running > 0 {
			select {
			case err := <-ended:
				running--
				if err != nil && (reading.Err() == nil || !errors.Is(err, context.Canceled)) {
					errs = append(errs, err)
					p.log.Error("source failed; stopping", zap.Error(err))
					stopReading()
				}
			case <-giveUp:
				return
			}
		}
	}
	collect(p.hard.Done())

	p.mu.Lock()
	p.stopped = true
	close(p.queue)
	for _, q := range p.ordered {
		close(q)
	}
	p.mu.Unlock()

	// The workers read the data of deliveries: these can be given back only after
	// the workers ended, which they do at the latest when hard ends.
	workers.Wait()
	if !p.open.wait(p.hard) {
		n := p.open.giveUp(ErrStopped)
		p.log.Warn("stop timeout is over; deliveries without an acknowledgement are given back to their sources",
			zap.Int("deliveries", n), zap.Duration("timeout", p.opts.StopTimeout))
	}
	grace, cancel := context.WithTimeout(context.Background(), sourceGrace)
	defer cancel()
	if collect(grace.Done()); running > 0 {
		errs = append(errs, fmt.Errorf("ingest pipeline: %d sources did not return within %v", running, sourceGrace))
	}
	return errors.Join(errs...)
}

// hand takes a delivery from a source; see Source.
func (p *Pipeline) hand(ctx context.Context, d *Delivery) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.stopped {
		return ErrStopped
	}
	weight := min(int64(len(d.Data)+deliveryOverhead), p.opts.MaxInFlightBytes)
	if !p.budget.TryAcquire(weight) {
		if err := p.acquire(ctx, weight); err != nil {
			return err
		}
	}
	queue := p.queue
	if d.Ordered {
		// Within one worker order keeps itself: it decodes one delivery after the
		// other, and the producer keeps the order of its batches.
		queue = p.ordered[xxhash.Sum64String(d.Lane)%uint64(len(p.ordered))]
	}
	t := p.open.add(p, d, weight)
	select {
	case queue <- t:
		return nil
	default:
	}
	select {
	case queue <- t:
		return nil
	case <-ctx.Done():
		t.forget()
		return ctx.Err()
	case <-p.hard.Done():
		t.forget()
		return ErrStopped
	}
}

// acquire waits for room, until ctx or hard ends.
func (p *Pipeline) acquire(ctx context.Context, weight int64) error {
	either, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.hard, cancel)()
	p.metrics.blocked.Inc()
	if err := p.budget.Acquire(either, weight); err != nil {
		if p.hard.Err() != nil {
			return ErrStopped
		}
		return ctx.Err()
	}
	return nil
}
