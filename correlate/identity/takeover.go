package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// takeOver waits until all records are in memory and makes this instance the
// active one.
func (s *Service) takeOver(ctx context.Context) (*term, error) {
	began := time.Now()
	ends := make([]int64, s.partitions)
	for p := range ends {
		var err error
		if ends[p], err = s.opts.Client.LastOffset(ctx, schemas.TopicIdentities, p); err != nil {
			return nil, fmt.Errorf("registry: take over: %w", err)
		}
	}
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		s.moved.Broadcast()
		s.mu.Unlock()
	})
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range ends {
		for s.next[p] < ends[p] {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			s.moved.Wait()
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var done factsState
	if sync, ok := s.syncs[syncFacts]; ok {
		// A state that cannot be read is one that says nothing.
		_ = json.Unmarshal(sync.State, &done)
	}
	t := &term{
		Service: s, facts: make([]int64, s.partitions), dirty: true,
		newPrivateCA: make(chan struct{}, 1), merged: make(map[string]string),
	}
	var err error
	if t.privateCAs, err = restorePrivateCAs(s.syncs[syncPrivateCAs].State); err != nil {
		s.log.Warn("what is remembered of the CAs of AWS Private CA cannot be read; they have to be found again", zap.Error(err))
	}
	s.metrics.waiting.Set(float64(t.privateCAs.waiting))
	copy(t.facts, done.Offsets)
	s.term = t
	s.log.Info("active", zap.Int("certificates", s.certs.Len()), zap.Int("cas", len(s.cas)), zap.Int("revoked", s.revoked.n), zap.Duration("took", time.Since(began)))
	return t, nil
}

// catchUp merges the facts that came after the last checkpoint, one partition
// after the other, up to where follow is. Until then follow leaves the partition's
// facts alone: a fact that is merged before an older one of the same certificate
// would hide what that one changed.
func (t *term) catchUp(ctx context.Context) error {
	var buf kafka.FetchBuffer
	for p := range t.facts {
		for !t.caughtUp(p) {
			from := t.facts[p] // written here alone
			batch, err := t.opts.Client.FetchFrom(ctx, schemas.TopicIdentities, p, from, &buf)
			if errors.Is(err, kafka.ErrOffsetOutOfRange) {
				first, ferr := t.opts.Client.FirstOffset(ctx, schemas.TopicIdentities, p)
				if ferr != nil {
					return fmt.Errorf("registry: %w", ferr)
				}
				t.mu.Lock()
				if first <= from {
					first = t.next[p] // nothing is there that could be read
				}
				t.facts[p] = first
				t.mu.Unlock()
				continue
			}
			if err != nil && !errors.Is(err, kafka.ErrCorrupt) {
				return fmt.Errorf("registry: %w", err)
			}
			t.mu.Lock()
			// What follow has not come to yet is for it, or for the next round.
			end := t.next[p]
			for i := range batch.Records {
				if r := &batch.Records[i]; r.Offset < end {
					t.catchUpRecord(r)
				}
			}
			t.facts[p] = min(batch.Next, end)
			t.mu.Unlock()
			if err := t.flushWhenFull(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// caughtUp reports whether all facts of a partition that follow has passed are
// merged, and hands the partition's facts to follow when they are. Both happen
// under mu, which follow holds while it takes a batch: no fact is between them.
func (t *term) caughtUp(partition int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.facts[partition] < t.next[partition] {
		return false
	}
	t.facts[partition] = followed
	return true
}

// followed stands in term.facts for a partition whose facts follow takes.
const followed = -1

func (t *term) catchUpRecord(r *kafka.FetchedRecord) {
	kind, name, _ := strings.Cut(string(r.Key), "/")
	if err := t.takeFact(kind+"/", name, r.Value); err != nil {
		t.metrics.malformed.WithLabelValues(kind).Inc()
	}
}
