package correlate

import (
	"context"
	"fmt"
	"sync"

	"github.com/tocsin-io/tocsin/internal/kafka"
)

// outbox counts the records that a worker has sent and that Kafka has not yet
// acknowledged. Input is committed only after flush: an output must be safe
// before the input that caused it is given up.
type outbox struct {
	producer *kafka.Producer

	mu      sync.Mutex
	pending int
	err     error         // the first failure; the worker must not commit past it
	idle    chan struct{} // closed when pending is 0; nil while nobody waits
}

func newOutbox(p *kafka.Producer) *outbox { return &outbox{producer: p} }

// send hands a record to the producer and blocks while that is full. The
// record's memory belongs to the producer from here on.
func (o *outbox) send(ctx context.Context, topic string, partition int, rec kafka.Record) {
	o.mu.Lock()
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

// flush waits until all that was sent is acknowledged, and returns the first
// error since the outbox was made. After an error the worker starts over from
// its last snapshot.
func (o *outbox) flush(ctx context.Context) error {
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
	// pending may reach 0 between the unlock and the select: the last callback
	// closes the channel that we hold, so nothing is missed.
	select {
	case <-idle:
	case <-ctx.Done():
		return ctx.Err()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}
