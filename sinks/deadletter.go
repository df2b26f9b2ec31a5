package sinks

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// Producer is the part of kafka.Producer that dead letters need. Produce must
// return only when the records are acknowledged or can never be.
type Producer interface {
	Produce(ctx context.Context, topic string, partition int, recs ...kafka.Record) error
}

// NewDeadLetters returns DeadLetters that write to tocsin.deadletter, which
// has the given number of partitions.
func NewDeadLetters(p Producer, partitions int) DeadLetters {
	return &deadLetterTopic{producer: p, partitions: partitions, now: time.Now}
}

type deadLetterTopic struct {
	producer   Producer
	partitions int
	now        func() time.Time
}

func (d *deadLetterTopic) Reject(ctx context.Context, sink string, rec *Record, why *Rejected) error {
	letter := schemas.DeadLetter{
		Time:    d.now().UTC(),
		Source:  "sink:" + sink,
		Origin:  fmt.Sprintf("%s/%d@%d", rec.Topic, rec.Partition, rec.Offset),
		Reason:  why.Reason,
		Error:   why.Err.Error(),
		Raw:     rec.Value,
		RawSize: len(rec.Value),
	}
	if len(letter.Raw) > schemas.MaxDeadLetterRaw {
		letter.Raw, letter.Truncated = letter.Raw[:schemas.MaxDeadLetterRaw], true
	}
	value, err := json.Marshal(letter)
	if err != nil {
		return fmt.Errorf("dead letter for %s: %w", letter.Origin, err)
	}
	key := []byte(letter.Source)
	return d.producer.Produce(ctx, schemas.TopicDeadLetter, schemas.Partition(key, d.partitions),
		kafka.Record{Key: key, Value: value})
}
