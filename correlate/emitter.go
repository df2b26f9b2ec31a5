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
	w *worker
	// nested are matches for correlations of this worker, held until Drain has
	// returned: the windows must not change under it.
	nested []Match
}

func newEmitter(w *worker) *emitter { return &emitter{w: w} }

// episode reports a change of an episode.
func (e *emitter) episode(ctx context.Context, ep *Episode) {
	c := e.w.set.Correlations[ep.Correlation]
	if len(c.Uses) > 0 && ep.Kind == EpisodeOpened {
		e.refer(ctx, ep)
	}
	if !c.Alerts {
		return
	}
	f := episodeFinding(c, ep)
	e.send(ctx, &f)
}

// match reports a detection rule that alerts by itself.
func (e *emitter) match(ctx context.Context, r *rules.Rule, ev *schemas.Event) {
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
	for _, m := range w.windows.OuterMatches(ep) {
		outer := w.set.Correlations[m.Correlation]
		if outer.Local == (w.key.topic == schemas.TopicEvents) && outer.Local {
			e.nested = append(e.nested, m)
			continue
		}
		var enc schemas.MatchBatchEncoder
		enc.Append(&schemas.Match{
			Offset: w.next, Correlation: outer.Hash, Step: uint32(m.Step), Time: m.Time,
			ID: m.ID, Group: m.Group, Evidence: m.Evidence,
		})
		// maxSources stands for "no source partition": a result must neither hold
		// the watermark back nor be fenced against the matches of an input.
		value := enc.AppendTo(nil, maxSources, 0, true)
		w.out.send(ctx, schemas.TopicMatches, matchPartition(outer.Hash, m.Group, w.c.matches), kafka.Record{Value: value})
	}
}

// feed adds the matches that refer held back, and reports whether there were any.
func (e *emitter) feed() bool {
	for i := range e.nested {
		e.w.windows.Add(&e.nested[i])
	}
	n := len(e.nested)
	clear(e.nested)
	e.nested = e.nested[:0]
	return n > 0
}
