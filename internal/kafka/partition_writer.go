package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	kgo "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/backoff"
)

// pendingRecord is a record on its way. Exactly one of done and call is set.
type pendingRecord struct {
	rec  Record
	size int // upper bound of its encoded size
	done func(offset int64, err error)
	call *produceCall
}

func (r *pendingRecord) finish(offset int64, err error) {
	if r.call != nil {
		r.call.done(err)
	} else {
		r.done(offset, err)
	}
}

// partitionWriter sends the records of one partition. One goroutine (run) owns everything but the queue.
type partitionWriter struct {
	p         *Producer
	topic     string
	partition int
	log       *zap.Logger

	wake   chan struct{} // capacity 1: something was queued
	mu     sync.Mutex
	queue  []pendingRecord
	head   int // the queue proper starts here
	bytes  int // of the queue
	closed bool

	sending   []pendingRecord
	enc       *batchEncoder // while a batch is on its way
	abandoned bool          // a connection may still be reading enc's last batch
	session   producerSession
	hasID     bool
	sequence  int32 // of the next record

	records, sentBytes prometheus.Counter
	duration           prometheus.Observer
}

func newPartitionWriter(p *Producer, key topicPartition) *partitionWriter {
	return &partitionWriter{
		p:         p,
		topic:     key.topic,
		partition: key.partition,
		log:       p.client.log.With(zap.String("topic", key.topic), zap.Int("partition", key.partition)),
		wake:      make(chan struct{}, 1),
		records:   p.metrics.records.WithLabelValues(key.topic),
		sentBytes: p.metrics.bytes.WithLabelValues(key.topic),
		duration:  p.metrics.duration.WithLabelValues(key.topic),
	}
}

// push queues a record; false if the writer has ended.
func (w *partitionWriter) push(r pendingRecord) bool {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return false
	}
	w.queue = append(w.queue, r)
	w.bytes += r.size
	// Only the first record and the one that fills a batch change what run does; waking it for each would cost a context
	// switch per record.
	signal := len(w.queue)-w.head == 1 || w.bytes >= w.p.opts.MaxBatchBytes
	w.mu.Unlock()
	if signal {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	return true
}

func (w *partitionWriter) queued() (n, size int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue) - w.head, w.bytes
}

// run sends batches until the producer closes and the queue is empty, or the producer gives up.
func (w *partitionWriter) run() {
	linger := time.NewTimer(time.Hour)
	linger.Stop()
	defer linger.Stop()
	var lastRoundTrip time.Duration
	for {
		n, size := w.queued()
		if n == 0 {
			select {
			case <-w.wake:
				continue
			case <-w.p.closing:
				// A push that passed the check for closed before Close may still be under way: it either gets its record into the
				// queue before closed is set, or is refused.
				w.mu.Lock()
				w.closed = len(w.queue) == w.head
				done := w.closed
				w.mu.Unlock()
				if done {
					return
				}
				continue
			}
		}
		// While a request was in flight longer than the linger time, the queue has already waited.
		if w.p.opts.Linger > 0 && size < w.p.opts.MaxBatchBytes && lastRoundTrip < w.p.opts.Linger {
			w.linger(linger)
		}
		w.take()
		start := time.Now()
		w.send(w.sending)
		lastRoundTrip = time.Since(start)
		clear(w.sending) // drop references to the callers' memory
		w.sending = w.sending[:0]
	}
}

func (w *partitionWriter) linger(timer *time.Timer) {
	timer.Reset(w.p.opts.Linger)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-w.p.closing:
			return
		case <-w.wake:
			if _, size := w.queued(); size >= w.p.opts.MaxBatchBytes {
				return
			}
		}
	}
}

// take moves the records of the next batch from the queue to w.sending: at least one, and otherwise what MaxBatchBytes holds.
func (w *partitionWriter) take() {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := w.head
	size := 0
	for w.head < len(w.queue) && (w.head == first || size+w.queue[w.head].size <= w.p.opts.MaxBatchBytes) {
		size += w.queue[w.head].size
		w.head++
	}
	w.sending = append(w.sending[:0], w.queue[first:w.head]...)
	clear(w.queue[first:w.head])
	w.bytes -= size
	// Move the rest to the front only when it is the smaller part, so that a long queue is not copied for every batch.
	if rest := len(w.queue) - w.head; rest <= w.head {
		copy(w.queue, w.queue[w.head:])
		clear(w.queue[rest:])
		w.queue, w.head = w.queue[:rest], 0
	}
}

// errSplit says that a batch of several records is too large for the topic.
var errSplit = errors.New("batch too large")

// send delivers the records as one batch, or as several if the broker finds it too large, and finishes every record.
func (w *partitionWriter) send(recs []pendingRecord) {
	start := time.Now()
	// Megabytes each, so they are shared: most partitions have nothing on its way at a given moment.
	w.enc = w.p.encoders.Get().(*batchEncoder)
	release := func() {
		w.detachAbandoned()
		w.p.encoders.Put(w.enc)
		w.enc = nil
	}
	offset, err := w.sendBatch(recs)
	if errors.Is(err, errSplit) {
		release()
		half := len(recs) / 2
		w.send(recs[:half])
		w.send(recs[half:])
		return
	}
	if err == nil {
		w.duration.Observe(time.Since(start).Seconds())
		w.records.Add(float64(len(recs)))
		w.sentBytes.Add(float64(w.enc.out.Len()))
	} else {
		w.p.metrics.errors.WithLabelValues(w.topic, Reason(err)).Add(float64(len(recs)))
		w.log.Error("records not produced", zap.Int("records", len(recs)), zap.String("reason", Reason(err)), zap.Error(err))
		// The batch may have been appended by an attempt whose answer was lost. The next batch must not carry the same sequence
		// numbers, or the broker would take it for a repetition and drop it.
		w.hasID = false
	}
	release()
	weight := int64(0)
	for i := range recs {
		o := offset
		if offset >= 0 {
			o += int64(i)
		}
		recs[i].finish(o, err)
		weight += w.p.weight(recs[i].size)
	}
	w.p.release(weight)
}

// sendBatch sends one batch until it is acknowledged or fails for good, and returns its first offset (-1: not known any more).
func (w *partitionWriter) sendBatch(recs []pendingRecord) (int64, error) {
	w.enc.reset()
	now := time.Now()
	for i := range recs {
		w.enc.append(&recs[i].rec, now)
	}
	fail := func(err error) (int64, error) {
		return -1, fmt.Errorf("produce to %s/%d: %w", w.topic, w.partition, err)
	}
	var set []byte
	var lastLog time.Time
	for attempt := 0; ; attempt++ {
		var offset int64
		err := w.ensureSession(w.p.ctx, &set)
		if err == nil {
			offset, err = w.roundTrip(set)
		}
		switch code := kafkaCode(err); {
		case err == nil, code == kgo.DuplicateSequenceNumber:
			// A duplicate so old that the broker forgot its offset; with one request in flight it is this very batch.
			if err != nil {
				offset = -1
			}
			if attempt > 1 {
				w.log.Info("produce recovered", zap.Int("attempts", attempt+1))
			}
			w.sequence = nextSequence(w.sequence, len(recs))
			return offset, nil
		case w.p.ctx.Err() != nil:
			return fail(fmt.Errorf("%w (last error: %w)", ErrClosed, err))
		case Reason(err) == ReasonTooLarge && len(recs) > 1:
			return -1, errSplit
		case Reason(err) == ReasonTooLarge:
			return fail(fmt.Errorf("%w: %w", ErrTooLarge, err))
		case permanent(err):
			return fail(err)
		case Reason(err) == ReasonProducerState:
			// The leader does not know our sequence (or ID) any more: go on under a new ID.
			w.hasID = false
		}
		w.p.metrics.retries.WithLabelValues(w.topic, Reason(err)).Inc()
		// One failure is the ordinary sign of a leader that moved.
		if now := time.Now(); attempt > 0 && now.Sub(lastLog) > 10*time.Second {
			lastLog = now
			w.log.Warn("produce failed, will be repeated", zap.Int("attempt", attempt+1), zap.Int("records", len(recs)), zap.String("reason", Reason(err)), zap.Error(err))
		}
		if metadataIsStale(err) {
			// Its error would come back from the next attempt.
			_ = w.p.client.refresh(w.p.ctx)
		}
		// When ctx ends during the sleep, the next attempt finds out.
		_ = backoff.Sleep(w.p.ctx, backoff.Delay(attempt, w.p.opts.RetryBackoff, w.p.opts.MaxRetryBackoff))
	}
}

// ensureSession makes sure that set is the encoded batch under a valid producer ID.
func (w *partitionWriter) ensureSession(ctx context.Context, set *[]byte) error {
	if w.hasID && *set != nil {
		return nil
	}
	if !w.hasID {
		session, err := w.p.client.initProducerID(ctx)
		if err != nil {
			return err
		}
		w.session = session
		w.sequence, w.hasID = 0, true
	}
	w.detachAbandoned()
	var err error
	*set, err = w.enc.finish(w.session, w.sequence)
	return err
}

// detachAbandoned leaves the memory of the last batch to a connection that may still be reading it.
func (w *partitionWriter) detachAbandoned() {
	if w.abandoned {
		w.enc.detach()
		w.abandoned = false
	}
}

// roundTrip sends an encoded batch once.
func (w *partitionWriter) roundTrip(set []byte) (int64, error) {
	res, err := w.p.client.kgo.RawProduce(w.p.ctx, &kgo.RawProduceRequest{
		Topic:        w.topic,
		Partition:    w.partition,
		RequiredAcks: kgo.RequireAll,
		RawRecords:   protocol.RawRecordSet{Reader: bytes.NewReader(set)},
	})
	if err != nil {
		w.abandoned = true
		return -1, w.p.client.explain(w.p.ctx, err)
	}
	if res.Error != nil {
		return -1, res.Error
	}
	return res.BaseOffset, nil
}

// kafkaCode returns the broker's error code in err, 0 if there is none.
func kafkaCode(err error) kgo.Error {
	var code kgo.Error
	errors.As(err, &code)
	return code
}
