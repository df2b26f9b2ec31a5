// Package identities reads the topic tocsin.identities, once for all parts of a
// process that want records of it: the bindings of certificates to devices, the
// certificates themselves, how far the registry is.
package identities

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/tail"
	"github.com/tocsin-io/tocsin/schemas"
)

// Handler is given the records under a prefix: the key without it, and the value,
// nil for a record that was deleted. It may be called from several goroutines at
// once, for one key in the order of the topic. Records may come twice. The memory
// is valid only during the call. What it cannot read it must count and pass over:
// one bad record must not keep a process from starting.
type Handler func(key, value []byte)

// Follower reads the topic and hands the records out.
type Follower struct {
	topic    *tail.Topic
	handlers []handler
	loaded   atomic.Bool
}

type handler struct {
	prefix string
	fn     Handler
}

// Open returns a follower of the topic.
func Open(ctx context.Context, client *kafka.Client, log *zap.Logger) (*Follower, error) {
	topic, err := tail.Open(ctx, client, schemas.TopicIdentities, log)
	if err != nil {
		return nil, err
	}
	return &Follower{topic: topic}, nil
}

// Handle has fn given the records whose key begins with prefix. It must be called
// before Load.
func (f *Follower) Handle(prefix string, fn Handler) {
	f.handlers = append(f.handlers, handler{prefix, fn})
}

// Partitions returns how many partitions the topic has.
func (f *Follower) Partitions() int { return f.topic.Partitions() }

// Load hands out what the topic holds by now.
func (f *Follower) Load(ctx context.Context) error {
	err := f.topic.Load(ctx, func(r *kafka.FetchedRecord) error {
		f.hand(r)
		return nil
	})
	if err != nil {
		return fmt.Errorf("identities: %w", err)
	}
	f.loaded.Store(true)
	return nil
}

// Loaded reports whether Load is done.
func (f *Follower) Loaded() bool { return f.loaded.Load() }

// Run hands out what is appended after Load, until ctx ends.
func (f *Follower) Run(ctx context.Context) error {
	f.topic.Follow(ctx, f.hand)
	return nil
}

func (f *Follower) hand(r *kafka.FetchedRecord) {
	for i := range f.handlers {
		if prefix := f.handlers[i].prefix; bytes.HasPrefix(r.Key, []byte(prefix)) {
			f.handlers[i].fn(r.Key[len(prefix):], r.Value)
			return
		}
	}
}
