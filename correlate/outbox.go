package correlate

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
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
	refused []refusedRecord
	matches []recordCount // by partition of tocsin.matches
}

// recordCount counts the records of one partition. The first acked of those sent
// are acknowledged, or can never be because of their size.
type recordCount struct{ sent, acked uint64 }

// refusedRecord is one that Kafka will never take because of its size.
type refusedRecord struct {
	topic string
	rec   kafka.Record
	err   error
}

// maxRefused bounds the refused records that wait for the worker to see them.
const maxRefused = 64

// newOutbox returns an empty one; matches is the number of partitions of
// tocsin.matches.
func newOutbox(p *kafka.Producer, matches int) *outbox {
	return &outbox{producer: p, matches: make([]recordCount, matches)}
}

// send hands a record to the producer and blocks while that is full. The
// record's memory belongs to the producer from here on.
//
// After a failure nothing more is sent: the worker will start over, and what
// comes after a gap, a watermark above all, would tell of things that are not
// there.
func (o *outbox) send(ctx context.Context, topic string, partition int, rec kafka.Record) {
	o.mu.Lock()
	if o.err != nil {
		o.mu.Unlock()
		return
	}
	o.pending++
	var count *recordCount
	number := uint64(0)
	if topic == schemas.TopicMatches {
		count = &o.matches[partition]
		count.sent++
		number = count.sent
	}
	o.mu.Unlock()
	o.producer.ProduceAsync(ctx, topic, partition, rec, func(_ int64, err error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.pending--
		switch {
		case errors.Is(err, kafka.ErrTooLarge) && len(o.refused) < maxRefused:
			// Sending it again after a restart would stop the partition for ever.
			o.refused = append(o.refused, refusedRecord{topic, rec, err})
		case err != nil && o.err == nil:
			o.err = fmt.Errorf("%s/%d: %w", topic, partition, err)
		case err == nil && o.err == nil && count != nil:
			// Acknowledgements of a partition come in the order of its records, and none
			// before this one has failed.
			count.acked = number
		}
		if o.pending == 0 && o.idle != nil {
			close(o.idle)
			o.idle = nil
		}
	})
}

// failed returns the first error since the outbox was made. After an error the
// worker starts over from its last snapshot.
func (o *outbox) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// matchesTo returns the count of the records to a partition of tocsin.matches.
func (o *outbox) matchesTo(partition int) recordCount {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.matches[partition]
}

// takeRefused returns the records refused since the last call. The input must
// not be committed before each of them is dealt with.
func (o *outbox) takeRefused() []refusedRecord {
	o.mu.Lock()
	defer o.mu.Unlock()
	refused := o.refused
	o.refused = nil
	return refused
}

// flush waits until all that was sent is acknowledged or refused, and returns
// what failed does.
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
	return o.failed()
}
