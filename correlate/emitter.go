package correlate

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// emitter turns what a worker found into records of tocsin.detections, and
// episodes that other correlations refer to into matches.
type emitter struct {
	w        *worker
	evidence evidenceReader
	recent   recentIDs
}

func newEmitter(w *worker) *emitter {
	return &emitter{w: w, evidence: evidenceReader{client: w.c.opts.Client, looks: w.c.metrics.evidence, patience: w.c.patience}}
}

// episode reports a change of an episode.
func (e *emitter) episode(ctx context.Context, ep *Episode) {
	c := e.w.set.Correlations[ep.Correlation]
	refer := len(c.Uses) > 0 && ep.Kind == EpisodeOpened
	if !refer && !c.Alerts {
		return
	}
	told := *ep // the windows' own may not be changed
	told.Evidence = e.evidence.resolve(ctx, ep.Evidence)
	if refer {
		e.refer(ctx, &told)
	}
	if !c.Alerts {
		return
	}
	f := episodeFinding(c, &told)
	f.revision = revision(e.w.next, ep.Kind)
	e.send(ctx, &f)
}

// match reports a detection rule that alerts by itself, once for each event.
func (e *emitter) match(ctx context.Context, r *rules.Rule, ev *schemas.Event) {
	lateness := e.w.c.opts.Windows.withDefaults().Lateness
	if !e.recent.add(singleID(r.ID, ev.ID), max(0, e.w.windows.mark(0)), lateness.Milliseconds()) {
		e.w.c.metrics.duplicates.WithLabelValues(duplicateDetection).Inc()
		return
	}
	f := matchFinding(r, ev)
	e.send(ctx, &f)
}

func (e *emitter) send(ctx context.Context, f *findingOf) {
	w := e.w
	value, err := encodeFinding(f.finding(w.c.opts.Version))
	if err != nil {
		// Only a value that JSON has no form for can fail, and there is none.
		w.log.Error("BUG: a finding that cannot be encoded", zap.String("rule", f.meta.ID), zap.Error(err))
		return
	}
	w.c.metrics.detections.WithLabelValues(f.meta.Name, f.kind.String()).Inc()
	// Rule and group, so that all that is said of one detection stays in order.
	key := fmt.Appendf(nil, "%s|%x", f.meta.ID, f.groupKey)
	partition := schemas.Partition(key, w.c.detections)
	w.out.send(ctx, schemas.TopicDetections, partition, kafka.Record{Key: key, Value: value})
}

// refer feeds an opened episode to the correlations that refer to it.
func (e *emitter) refer(ctx context.Context, ep *Episode) {
	w := e.w
	matches := w.windows.outerMatches(ep)
	for i := range matches {
		m := &matches[i]
		outer := w.set.Correlations[m.Correlation]
		if outer.Local {
			// Its windows are here, a level above those that are being drained.
			w.windows.add(m)
			continue
		}
		var enc schemas.MatchBatchEncoder
		enc.Append(&schemas.Match{
			Offset: w.next, Correlation: outer.Hash, Step: uint32(m.Step), Time: m.Time,
			ID: m.ID, Group: m.Group, Evidence: m.Evidence,
		})
		value := enc.AppendTo(nil, noSource, 0, true)
		w.out.send(ctx, schemas.TopicMatches, matchPartition(outer.Hash, m.Group, w.c.matches), kafka.Record{Value: value})
	}
}

// revision numbers the records about one detection so that the greatest is the
// newest state, whatever crashed and was done again: by how much of the input
// the state knows of, then by what follows from time alone, in its order. A count
// of the records would not do: after a crash the same input may give fewer of
// them, and the newest state would have a smaller number than an older one. The
// offset of a state is below 2^50, so that JSON readers with doubles see the
// number as it is.
func revision(next int64, kind EpisodeKind) int64 { return max(next, 0)<<3 + int64(kind) + 1 }
