package webhook

import (
	"context"
	"errors"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/sinks"
)

// History reads records that were dealt with before.
type History interface {
	// Before calls fn for up to n records of the partition right before the given
	// offset, in order; fewer if they are not there any more. The record's memory
	// is valid only during the call.
	Before(ctx context.Context, topic string, partition int, offset int64, n int, fn func(*sinks.Record)) error
}

// TopicHistory is the History that Kafka has.
type TopicHistory struct {
	Client *kafka.Client
}

// Before reads the topic itself.
func (h TopicHistory) Before(ctx context.Context, topic string, partition int, offset int64, n int, fn func(*sinks.Record)) error {
	if offset <= 0 {
		return nil
	}
	first, err := h.Client.FirstOffset(ctx, topic, partition)
	if err != nil {
		return err
	}
	last, err := h.Client.LastOffset(ctx, topic, partition)
	if err != nil {
		return err
	}
	offset = min(offset, last) // beyond it if the topic was created again
	var buf kafka.FetchBuffer
	for at := max(first, offset-int64(n)); at < offset; {
		batch, err := h.Client.FetchFrom(ctx, topic, partition, at, &buf)
		if errors.Is(err, kafka.ErrOffsetOutOfRange) {
			return nil // retention took them while we were reading
		}
		if err != nil && !errors.Is(err, kafka.ErrCorrupt) {
			return err
		}
		for i := range batch.Records {
			f := &batch.Records[i]
			if f.Offset >= offset {
				return nil
			}
			fn(&sinks.Record{Topic: topic, Partition: partition, Offset: f.Offset, Time: f.Time, Key: f.Key, Value: f.Value})
		}
		at = batch.Next
	}
	return nil
}
