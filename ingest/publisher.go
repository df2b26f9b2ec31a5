package ingest

import (
	"encoding/json"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// reasonKafkaTooLarge is the reason of events that the topic does not accept.
const reasonKafkaTooLarge = "kafka_too_large"

// batch is the value of one tocsin.events record while it is filled and on its
// way, and the deliveries that it carries a part of.
type batch struct {
	p         *Pipeline
	partition int
	events    schemas.BatchEncoder
	carries   []*tracker
	done      func(int64, error) // acked, bound once
}

func newBatch(p *Pipeline) *batch {
	b := &batch{p: p}
	b.done = b.acked
	return b
}

// carry notes that an event of t is in the batch. Deliveries are decoded one
// after the other, so t is the newest or it is not there yet.
func (b *batch) carry(t *tracker) {
	if n := len(b.carries); n > 0 && b.carries[n-1] == t {
		return
	}
	t.hold()
	b.carries = append(b.carries, t)
}

// publish sends the batch, which belongs to the producer from here on.
func (p *Pipeline) publish(b *batch) {
	p.metrics.batchBytes.Observe(float64(b.events.Size()))
	p.opts.Producer.ProduceAsync(p.hard, schemas.TopicEvents, b.partition, kafka.Record{Value: b.events.Bytes()}, b.done)
}

// acked is called by the producer, which must not be blocked.
func (b *batch) acked(_ int64, err error) {
	if errors.Is(err, kafka.ErrTooLarge) {
		// Sending something else in its place blocks when the producer is full, and
		// the producer cannot get less full while it waits for this call. There are
		// no more of these goroutines than batches in flight.
		go b.p.replace(b, err)
		return
	}
	b.free(err)
}

// free ends the batch.
func (b *batch) free(err error) {
	for i, t := range b.carries {
		b.carries[i] = nil
		t.release(err)
	}
	b.carries = b.carries[:0]
	// Memory that one huge event asked for is not kept for ever.
	if b.events.Size() > 2*b.p.opts.BatchBytes {
		return
	}
	b.events.Reset()
	b.p.batches.Put(b)
}

// replace publishes a batch that the topic does not accept as two of half the
// size, and a single event as a dead letter.
func (p *Pipeline) replace(b *batch, cause error) {
	var r schemas.BatchReader
	var ev schemas.Event
	r.Reset(b.events.Bytes())
	n := b.events.Len()
	if n == 1 {
		if r.Next(&ev) {
			t := b.carries[0]
			err := fmt.Errorf("event %s: %w", ev.ID, cause)
			p.deadLetter(t, reasonKafkaTooLarge, err, t.d.Origin, ev.Message, len(ev.Message))
		}
		b.free(r.Err())
		return
	}
	var half *batch
	for i := 0; r.Next(&ev); i++ {
		if half == nil {
			half = p.batches.Get().(*batch)
			half.partition = b.partition
			// Which event is of which delivery is not known any more: the halves carry
			// all of them.
			for _, t := range b.carries {
				half.carry(t)
			}
		}
		half.events.Append(&ev, string(r.Lane(ev.Lane)))
		if i == n/2-1 {
			p.publish(half)
			half = nil
		}
	}
	if half != nil {
		p.publish(half)
	}
	b.free(r.Err())
}

// deadLetter publishes input of t that could not be made events of. raw is
// copied.
func (p *Pipeline) deadLetter(t *tracker, reason string, cause error, origin string, raw []byte, size int) {
	t.m.deadLetter(reason)
	p.log.Debug("dead letter", zap.String("reason", reason), zap.String("origin", origin), zap.Error(cause))
	letter := schemas.NewDeadLetter(t.d.Source, origin, reason, cause, raw)
	if size > len(raw) {
		letter.RawSize, letter.Truncated = size, true
	}
	t.hold()
	p.sendDeadLetter(t, letter)
}

// sendDeadLetter has one hold of t to release.
func (p *Pipeline) sendDeadLetter(t *tracker, letter *schemas.DeadLetter) {
	value, err := json.Marshal(letter)
	if err != nil {
		t.release(fmt.Errorf("encode dead letter: %w", err))
		return
	}
	key := []byte(letter.Source)
	part := schemas.Partition(key, p.opts.DeadLetterPartitions)
	p.opts.Producer.ProduceAsync(p.hard, schemas.TopicDeadLetter, part, kafka.Record{Key: key, Value: value}, func(_ int64, err error) {
		if !errors.Is(err, kafka.ErrTooLarge) {
			t.release(err)
			return
		}
		go p.shorten(t, value, err) // see acked
	})
}

// shorten sends a dead letter again that its topic does not accept, with a
// quarter of the raw input.
func (p *Pipeline) shorten(t *tracker, value []byte, cause error) {
	var letter schemas.DeadLetter
	if err := json.Unmarshal(value, &letter); err != nil {
		t.release(fmt.Errorf("shorten dead letter: %w", err))
		return
	}
	if !letter.Shorten() {
		t.release(cause)
		return
	}
	p.sendDeadLetter(t, &letter)
}
