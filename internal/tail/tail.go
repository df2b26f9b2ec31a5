// Package tail reads a topic from its beginning and goes on with what is appended
// to it, without a consumer group: for topics that are a table or a journal, which
// every reader needs whole.
package tail

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/tocsin-io/tocsin/internal/backoff"
	"github.com/tocsin-io/tocsin/internal/kafka"
)

// loaders is how many partitions are loaded at the same time.
const loaders = 4

// Topic is a topic that is being read.
type Topic struct {
	client *kafka.Client
	name   string
	log    *zap.Logger
	next   []int64 // by partition: where Follow goes on
}

// Open returns a reader of a topic.
func Open(ctx context.Context, client *kafka.Client, name string, log *zap.Logger) (*Topic, error) {
	n, err := client.Partitions(ctx, name)
	if err != nil {
		return nil, err
	}
	return &Topic{client: client, name: name, log: log, next: make([]int64, n)}, nil
}

// Partitions returns how many there are.
func (t *Topic) Partitions() int { return len(t.next) }

// Load calls fn for everything that the topic holds by now, in the order of each
// partition, for several partitions at the same time. The record's memory is valid
// only during the call. An error of fn ends the reading and is returned.
func (t *Topic) Load(ctx context.Context, fn func(*kafka.FetchedRecord) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(loaders)
	for p := range t.next {
		g.Go(func() error {
			// The end before reading, for a partition of which nothing is left; and then
			// what was read, so that Follow repeats nothing.
			end, err := t.client.LastOffset(ctx, t.name, p)
			if err != nil {
				return err
			}
			t.next[p] = end
			err = t.client.ReadAll(ctx, t.name, p, func(rec *kafka.FetchedRecord) error {
				t.next[p] = max(t.next[p], rec.Offset+1)
				return fn(rec)
			})
			if err != nil {
				return fmt.Errorf("read %s/%d: %w", t.name, p, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// Follow calls fn for everything that is appended after Load, until ctx ends.
// Records of one partition come in their order, those of different partitions at
// the same time. What retention took before it was read is passed over and logged.
func (t *Topic) Follow(ctx context.Context, fn func(*kafka.FetchedRecord)) {
	var g errgroup.Group
	for p := range t.next {
		g.Go(func() error { t.follow(ctx, p, fn); return nil })
	}
	_ = g.Wait() // of nil errors
}

func (t *Topic) follow(ctx context.Context, partition int, fn func(*kafka.FetchedRecord)) {
	var buf kafka.FetchBuffer
	for attempt := 0; ctx.Err() == nil; {
		batch, err := t.client.FetchFrom(ctx, t.name, partition, t.next[partition], &buf)
		if err == nil {
			attempt = 0
			for i := range batch.Records {
				fn(&batch.Records[i])
			}
			t.next[partition] = batch.Next
			continue
		}
		if ctx.Err() != nil {
			return
		}
		t.log.Error("cannot follow a topic", zap.String("topic", t.name), zap.Int("partition", partition),
			zap.Int64("offset", t.next[partition]), zap.Error(err))
		switch {
		case errors.Is(err, kafka.ErrCorrupt):
			t.next[partition] = batch.Next
		case errors.Is(err, kafka.ErrOffsetOutOfRange):
			first, ferr := t.client.FirstOffset(ctx, t.name, partition)
			if ferr == nil {
				t.next[partition] = first
			}
		}
		_ = backoff.Sleep(ctx, backoff.Delay(attempt, 100*time.Millisecond, 10*time.Second)) // the loop looks at ctx
		attempt++
	}
}
