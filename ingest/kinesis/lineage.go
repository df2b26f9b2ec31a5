package kinesis

import (
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"go.uber.org/zap"
)

// lineage knows the shards of a stream, which of them came from which, and which
// have been published to their end.
type lineage struct {
	source *Source
	shards map[string]types.Shard // as listed last
	points map[string]Checkpoint  // of this process's shards
	// begun holds the shards that were there when the stream was read for the very
	// first time. They begin where the configuration says; those that come later
	// were split from others that were read, and begin at their beginning.
	begun map[string]bool
}

// startShard is a shard that can be read now.
type startShard struct {
	id     string
	from   Checkpoint
	latest bool // begin with LATEST the first time; from.Since stands for it later
}

func newLineage(s *Source, points map[string]Checkpoint, shards []types.Shard) *lineage {
	l := &lineage{source: s, points: map[string]Checkpoint{}, begun: map[string]bool{}}
	for id, cp := range points {
		if s.mine(id) {
			l.points[id] = cp
		}
	}
	first := len(l.points) == 0
	l.update(shards)
	if !first {
		return l
	}
	// A little earlier than now: the clocks differ, and an event too many is
	// recognised by its ID.
	since := time.Now().Add(-time.Minute)
	for id, sh := range l.shards {
		if !s.mine(id) {
			continue
		}
		l.begun[id] = true
		var cp Checkpoint
		switch s.opts.Start {
		case StartLatest:
			// What is closed holds nothing that is new.
			cp = Checkpoint{Since: since, Done: closed(sh)}
		case StartAtTimestamp:
			cp = Checkpoint{Since: s.opts.StartTime}
		default:
			continue
		}
		l.points[id] = cp
		s.saver.set(id, cp)
	}
	return l
}

func closed(sh types.Shard) bool {
	return sh.SequenceNumberRange != nil && sh.SequenceNumberRange.EndingSequenceNumber != nil
}

// update takes a new list. Shards that retention has removed are forgotten.
func (l *lineage) update(shards []types.Shard) {
	l.shards = make(map[string]types.Shard, len(shards))
	for _, sh := range shards {
		l.shards[*sh.ShardId] = sh
	}
	for id := range l.points {
		if _, ok := l.shards[id]; !ok {
			delete(l.points, id)
			delete(l.begun, id)
			l.source.saver.set(id, Checkpoint{})
			l.source.log.Info("shard is not listed any more; its checkpoint is forgotten", zap.String("shard", id))
		}
	}
}

// stopped takes note of where the reader of a shard ended, and whether that was
// the end of the shard.
func (l *lineage) stopped(shard string, at Checkpoint, done bool) {
	at.Done = done
	l.points[shard] = at
}

// startable returns the shards that wait for nothing, in the order of their IDs.
func (l *lineage) startable(running map[string]bool) []startShard {
	var out []startShard
	for id, sh := range l.shards {
		cp := l.points[id]
		if !l.source.mine(id) || running[id] || cp.Done || !l.published(sh.ParentShardId) || !l.published(sh.AdjacentParentShardId) {
			continue
		}
		latest := l.source.opts.Start == StartLatest && l.begun[id] && cp.Sequence == ""
		delete(l.begun, id)
		out = append(out, startShard{id, cp, latest})
	}
	slices.SortFunc(out, func(a, b startShard) int { return strings.Compare(a.id, b.id) })
	return out
}

// published reports whether a parent need not be waited for: there is none, it
// is gone, it is another process's, or all of it is in Kafka.
func (l *lineage) published(parent *string) bool {
	if parent == nil {
		return true
	}
	_, listed := l.shards[*parent]
	return !listed || !l.source.mine(*parent) || l.points[*parent].Done
}
