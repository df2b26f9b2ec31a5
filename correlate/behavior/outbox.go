package behavior

import (
	"context"
	"fmt"
	"sync"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// batchBytes is the size at which a record of derived events is closed.
const batchBytes = 256 << 10

// outbox sends what a worker derives, and counts what is not acknowledged: input is
// committed only after flush.
type outbox struct {
	producer   Sender
	lane       string
	partitions int                           // of tocsin.events
	identities int                           // partitions of tocsin.identities
	batches    map[int]*schemas.BatchEncoder // by partition of tocsin.events

	mu      sync.Mutex
	pending int
	err     error         // the first; the worker must not commit past it
	idle    chan struct{} // closed when pending is 0; nil while nobody waits
}

func newOutbox(p Sender, lane string, events, identities int) *outbox {
	return &outbox{producer: p, lane: lane, partitions: events, identities: identities, batches: make(map[int]*schemas.BatchEncoder)}
}

// event sends an event, with others.
func (o *outbox) event(ctx context.Context, ev *schemas.Event) {
	p := schemas.Partition(ev.Device, o.partitions)
	b := o.batches[p]
	if b == nil {
		b = &schemas.BatchEncoder{}
		o.batches[p] = b
	}
	b.Append(ev, o.lane)
	if b.Size() >= batchBytes {
		o.sendBatch(ctx, p, b)
	}
}

// sendBatches sends the events that still wait for others.
func (o *outbox) sendBatches(ctx context.Context) {
	for p, b := range o.batches {
		if b.Len() > 0 {
			o.sendBatch(ctx, p, b)
		}
	}
}

func (o *outbox) sendBatch(ctx context.Context, p int, b *schemas.BatchEncoder) {
	o.send(ctx, schemas.TopicEvents, p, kafka.Record{Value: append([]byte(nil), b.Bytes()...)})
	b.Reset()
}

// identity sends a record of tocsin.identities to the partition of by.
func (o *outbox) identity(ctx context.Context, by, key string, value []byte) {
	p := schemas.Partition([]byte(by), o.identities)
	o.send(ctx, schemas.TopicIdentities, p, kafka.Record{Key: []byte(key), Value: value})
}

// send hands a record to the producer, which owns its memory from here on, and blocks
// while that is full. After a failure nothing more is sent: the worker starts over.
func (o *outbox) send(ctx context.Context, topic string, partition int, rec kafka.Record) {
	o.mu.Lock()
	if o.err != nil {
		o.mu.Unlock()
		return
	}
	o.pending++
	o.mu.Unlock()
	o.producer.ProduceAsync(ctx, topic, partition, rec, func(_ int64, err error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.pending--
		if err != nil && o.err == nil {
			o.err = fmt.Errorf("%s/%d: %w", topic, partition, err)
		}
		if o.pending == 0 && o.idle != nil {
			close(o.idle)
			o.idle = nil
		}
	})
}

func (o *outbox) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// flush waits until all that was sent is acknowledged, and returns what failed does.
func (o *outbox) flush(ctx context.Context) error {
	o.sendBatches(ctx)
	o.mu.Lock()
	if o.pending == 0 {
		defer o.mu.Unlock()
		return o.err
	}
	if o.idle == nil {
		o.idle = make(chan struct{})
	}
	idle := o.idle
	o.mu.Unlock()
	// pending may reach 0 between the unlock and the select: the last callback closes
	// the channel that we hold.
	select {
	case <-idle:
	case <-ctx.Done():
		return ctx.Err()
	}
	return o.failed()
}
