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
// acknowledged. Input is committed only after its outputs: they must be safe
// before the input that caused them is given up.
type outbox struct {
	producer *kafka.Producer

	mu      sync.Mutex
	current *outputCut // what is being sent
	err     error      // the first failure; the worker must not commit past it
	refused []refusedRecord
	matches []recordCount // by partition of tocsin.matches
}

// outputCut is the records that were sent between two cuts.
type outputCut struct {
	pending int
	ended   bool          // nothing is added any more
	done    chan struct{} // closed when it has ended and nothing is pending
}

func newOutputCut() *outputCut { return &outputCut{done: make(chan struct{})} }

// settle is called with the outbox locked, after every change.
func (c *outputCut) settle() {
	if c.ended && c.pending == 0 {
		close(c.done)
	}
}

// recordCount counts the records of one partition. The first acked of those sent
// are acknowledged, but for what was refused because of its size.
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
	return &outbox{producer: p, current: newOutputCut(), matches: make([]recordCount, matches)}
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
	cut := o.current
	cut.pending++
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
		cut.pending--
		cut.settle()
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

// cut returns what was sent since the last cut. The one before must have been
// waited for.
func (o *outbox) cut() *outputCut {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.current
	o.current = newOutputCut()
	c.ended = true
	c.settle()
	return c
}

// wait returns when all of c is acknowledged or refused, and then what failed
// does.
func (o *outbox) wait(ctx context.Context, c *outputCut) error {
	select {
	case <-c.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	return o.failed()
}
