package kafka

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go/compress"
	"golang.org/x/sync/semaphore"
)

// ProducerOptions tune a [Producer]. The zero value is usable.
type ProducerOptions struct {
	// Compression is none, gzip, snappy, lz4 or zstd. Default lz4.
	Compression string
	// MaxBatchBytes bounds a record batch before compression; a single larger record travels alone. Default 1,000,000, which
	// stays below Kafka's default message.max.bytes whatever the compression achieves.
	MaxBatchBytes int
	// MaxMessageBytes is the largest record accepted, before compression; a larger one fails with ErrTooLarge at once. What
	// the topic accepts after compression (max.message.bytes) is the broker's decision and gives the same error. Default 8 MiB.
	MaxMessageBytes int
	// Linger is how long a partition without a request in flight waits for more records. Default 5 ms; negative for none.
	Linger time.Duration
	// MaxInFlightBytes bounds the records accepted and not yet acknowledged, over all partitions. Reaching it blocks callers:
	// that is the backpressure. Default 64 MiB.
	MaxInFlightBytes int
	// RetryBackoff is the first delay before sending a batch again (default 50 ms), doubling up to MaxRetryBackoff (default
	// 2 s). There is no last attempt.
	RetryBackoff, MaxRetryBackoff time.Duration
	// Registerer receives the metrics; nil for none.
	Registerer prometheus.Registerer
}

func (o ProducerOptions) withDefaults() ProducerOptions {
	setDefault := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	if o.Compression == "" {
		o.Compression = "lz4"
	}
	setDefault(&o.MaxBatchBytes, 1_000_000)
	setDefault(&o.MaxMessageBytes, 8<<20)
	setDefault(&o.MaxInFlightBytes, 64<<20)
	if o.Linger == 0 {
		o.Linger = 5 * time.Millisecond
	}
	if o.RetryBackoff <= 0 {
		o.RetryBackoff = 50 * time.Millisecond
	}
	if o.MaxRetryBackoff <= 0 {
		o.MaxRetryBackoff = 2 * time.Second
	}
	return o
}

// Producer appends records to partitions with acks=all. Per partition there is one request in flight, carrying one record
// batch under an idempotent producer ID and a sequence number, and a batch is sent until it is acknowledged: so records keep
// their order, and an acknowledgement lost on the way does not append a batch twice. Only when brokers lose the producer's
// state (an unclean leader election, or a batch given up) can a batch whose fate is unknown appear twice; that is counted as
// a retry with reason producer_state.
//
// A broker that is away delays its partitions for as long as it takes. Only errors that sending again cannot cure fail a
// record: too large, not authorised, rejected as invalid.
//
// All methods are safe for concurrent use.
type Producer struct {
	client   *Client
	opts     ProducerOptions
	codec    compress.Codec
	metrics  *producerMetrics
	budget   *semaphore.Weighted
	calls    sync.Pool // *produceCall
	encoders sync.Pool // *batchEncoder

	ctx     context.Context // of the writers; ends when Close gives up
	cancel  context.CancelFunc
	closing chan struct{}
	wg      sync.WaitGroup

	mu      sync.RWMutex
	closed  bool
	writers map[topicPartition]*partitionWriter
}

type topicPartition struct {
	topic     string
	partition int
}

// NewProducer returns a producer that uses c, which must outlive it. It fails only for an unknown compression.
func NewProducer(c *Client, opts ProducerOptions) (*Producer, error) {
	opts = opts.withDefaults()
	var compression compress.Compression
	if err := compression.UnmarshalText([]byte(opts.Compression)); err != nil {
		return nil, fmt.Errorf("kafka producer: %w", err)
	}
	p := &Producer{
		client:  c,
		opts:    opts,
		codec:   compression.Codec(),
		metrics: newProducerMetrics(opts.Registerer),
		budget:  semaphore.NewWeighted(int64(opts.MaxInFlightBytes)),
		closing: make(chan struct{}),
		writers: make(map[topicPartition]*partitionWriter),
	}
	p.metrics.limit.Set(float64(opts.MaxInFlightBytes))
	p.calls.New = func() any { return &produceCall{finished: make(chan struct{}, 1)} }
	p.encoders.New = func() any { return &batchEncoder{codec: p.codec} }
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// produceCall gathers the acknowledgements of one Produce.
type produceCall struct {
	remaining atomic.Int64
	mu        sync.Mutex
	err       error // the first
	finished  chan struct{}
}

func (c *produceCall) done(err error) {
	if err != nil {
		c.mu.Lock()
		if c.err == nil {
			c.err = err
		}
		c.mu.Unlock()
	}
	if c.remaining.Add(-1) == 0 {
		c.finished <- struct{}{}
	}
}

// Produce appends records to a partition, in order, and returns when all are acknowledged by all in-sync replicas, or with
// the first error. Callers that produce to the same partition at the same time share requests.
//
// If ctx ends first, its error is returned and the records may or may not be appended, later too: their memory must then not
// be changed any more. If any record is too large (ErrTooLarge), none is sent.
func (p *Producer) Produce(ctx context.Context, topic string, partition int, recs ...Record) error {
	if len(recs) == 0 {
		return nil
	}
	for i := range recs {
		if err := p.checkSize(topic, partition, &recs[i]); err != nil {
			p.metrics.errors.WithLabelValues(topic, ReasonTooLarge).Add(float64(len(recs)))
			return err
		}
	}
	w, err := p.writer(topic, partition)
	if err != nil {
		return err
	}
	call := p.calls.Get().(*produceCall)
	call.err = nil
	// One more than there are records, so that the call cannot finish while they are still being enqueued.
	call.remaining.Store(int64(len(recs)) + 1)
	for i := range recs {
		pending := pendingRecord{rec: recs[i], call: call}
		if err := p.enqueue(ctx, w, pending); err != nil {
			// Those enqueued are on their way and hold the call.
			return err
		}
	}
	call.done(nil)
	select {
	case <-call.finished:
		err := call.err
		p.calls.Put(call)
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ProduceAsync enqueues a record and returns; it blocks while MaxInFlightBytes are in flight. Records of one caller to one
// partition keep their order. done is called exactly once, with the record's offset (-1 if the broker no longer knows it) or
// an error, from another goroutine or, for errors found at once, from this one. It must not block, and until it is called the
// record's memory must not be changed.
func (p *Producer) ProduceAsync(ctx context.Context, topic string, partition int, rec Record, done func(offset int64, err error)) {
	if err := p.checkSize(topic, partition, &rec); err != nil {
		p.metrics.errors.WithLabelValues(topic, ReasonTooLarge).Inc()
		done(-1, err)
		return
	}
	w, err := p.writer(topic, partition)
	if err == nil {
		err = p.enqueue(ctx, w, pendingRecord{rec: rec, done: done})
	}
	if err != nil {
		done(-1, err)
	}
}

func (p *Producer) checkSize(topic string, partition int, r *Record) error {
	if size := len(r.Key) + len(r.Value); size > p.opts.MaxMessageBytes {
		return fmt.Errorf("produce to %s/%d: %w: %d bytes, the limit is %d", topic, partition, ErrTooLarge, size, p.opts.MaxMessageBytes)
	}
	return nil
}

// enqueue takes ownership of the pending record unless it returns an error.
func (p *Producer) enqueue(ctx context.Context, w *partitionWriter, r pendingRecord) error {
	r.size = recordSizeLimit(&r.rec)
	weight := p.weight(r.size)
	if err := p.budget.Acquire(ctx, weight); err != nil {
		return err
	}
	p.metrics.inFlight.Add(float64(weight))
	if !w.push(r) {
		p.release(weight)
		return fmt.Errorf("produce to %s/%d: %w", w.topic, w.partition, ErrClosed)
	}
	return nil
}

// weight is what a record counts against the budget: one that is larger than all of it must be able to pass alone.
func (p *Producer) weight(size int) int64 { return int64(min(size, p.opts.MaxInFlightBytes)) }

func (p *Producer) release(weight int64) {
	p.metrics.inFlight.Sub(float64(weight))
	p.budget.Release(weight)
}

// writer returns the partition's writer, starting it at first use.
func (p *Producer) writer(topic string, partition int) (*partitionWriter, error) {
	key := topicPartition{topic, partition}
	p.mu.RLock()
	w, closed := p.writers[key], p.closed
	p.mu.RUnlock()
	if w != nil && !closed {
		return w, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fmt.Errorf("produce to %s/%d: %w", topic, partition, ErrClosed)
	}
	if w = p.writers[key]; w == nil {
		w = newPartitionWriter(p, key)
		p.writers[key] = w
		p.wg.Go(w.run)
	}
	return w, nil
}

// Close refuses new records, sends what is queued and waits for the acknowledgements. When ctx ends first, the records left
// fail with ErrClosed and the error of ctx is returned.
func (p *Producer) Close(ctx context.Context) error {
	p.mu.Lock()
	first := !p.closed
	p.closed = true
	p.mu.Unlock()
	if first {
		close(p.closing)
	}
	drained := make(chan struct{})
	go func() {
		p.wg.Wait()
		close(drained)
	}()
	select {
	case <-drained:
		p.cancel()
		return nil
	case <-ctx.Done():
		p.cancel()
		<-drained
		return fmt.Errorf("close kafka producer: %w", ctx.Err())
	}
}
