package sinks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

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
	return &deadLetterTopic{producer: p, partitions: partitions}
}

type deadLetterTopic struct {
	producer   Producer
	partitions int
}

func (d *deadLetterTopic) Reject(ctx context.Context, sink string, rec *Record, why *Rejected) error {
	origin := fmt.Sprintf("%s/%d@%d", rec.Topic, rec.Partition, rec.Offset)
	letter := schemas.NewDeadLetter("sink:"+sink, origin, why.Reason, why.Err, rec.Value)
	key := []byte(letter.Source)
	for {
		value, err := json.Marshal(letter)
		if err != nil {
			return fmt.Errorf("dead letter for %s: %w", origin, err)
		}
		err = d.producer.Produce(ctx, schemas.TopicDeadLetter, schemas.Partition(key, d.partitions), kafka.Record{Key: key, Value: value})
		// The topic may be an old one that accepts less. A part is better than a
		// partition that never gets past this record.
		if !errors.Is(err, kafka.ErrTooLarge) || !letter.Shorten() {
			return err
		}
	}
}
