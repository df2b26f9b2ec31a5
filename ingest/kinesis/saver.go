package kinesis

import (
	"context"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"
)

// saver writes checkpoints that changed to the store, all together and not more
// often than the interval.
type saver struct {
	store   CheckpointStore
	stream  string
	log     *zap.Logger
	metrics *metrics

	mu    sync.Mutex
	dirty map[string]Checkpoint
}

func (s *saver) set(shard string, cp Checkpoint) {
	s.mu.Lock()
	s.dirty[shard] = cp
	s.mu.Unlock()
}

// run saves at every interval until ctx ends; the last save is the caller's.
func (s *saver) run(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.save(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// save writes what changed. What cannot be written stays changed: a store that
// is away costs repeated reading after a crash, and nothing now.
func (s *saver) save(ctx context.Context) {
	s.mu.Lock()
	changed := s.dirty
	s.dirty = map[string]Checkpoint{}
	s.mu.Unlock()
	if len(changed) == 0 {
		return
	}
	err := s.store.Save(ctx, s.stream, changed)
	if err == nil {
		return
	}
	s.metrics.saveFailures.Inc()
	s.log.Error("checkpoints not saved; trying again", zap.String("stream", s.stream), zap.Int("shards", len(changed)), zap.Error(err))
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(changed, s.dirty) // what changed meanwhile is newer
	s.dirty = changed
}
