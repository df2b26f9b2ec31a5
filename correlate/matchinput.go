package correlate

import (
	"context"
	"time"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// matchInput takes matches from all partitions of tocsin.events and puts them
// into the windows of the groups that live in this partition.
//
// A source partition that is read again, after a crash or by a process that
// does not know yet that it was superseded, sends its matches again. They come
// in the order of their offsets, so whatever is before the highest offset taken
// from that partition has been taken. Those of the very offset may have been cut
// in two; the windows, which are sets of events, tell these apart.
type matchInput struct {
	w      *worker
	marks  *sourceMarks
	byHash map[uint64]int32 // correlation by hash
	reader schemas.MatchBatchReader
}

func newMatchInput(w *worker) *matchInput {
	in := &matchInput{w: w, marks: newSourceMarks(w.c.events)}
	in.useRules(w.set)
	return in
}

func (in *matchInput) useRules(set *rules.Set) {
	in.byHash = make(map[uint64]int32)
	for i, c := range set.Correlations {
		if !c.Local {
			in.byHash[c.Hash] = int32(i)
		}
	}
}

func (in *matchInput) watermark() int64 { return in.marks.watermark() }

func (in *matchInput) tick(context.Context, time.Time, bool) {}

func (in *matchInput) save(h *snapshotHeader) {
	h.Mark = in.marks.mark
	for _, s := range in.marks.sources {
		h.Sources = append(h.Sources, snapshotSource{Heard: s.heard, Idle: s.idle, Watermark: s.watermark, Offset: s.offset})
	}
}

func (in *matchInput) load(h *snapshotHeader) {
	in.marks.mark = h.Mark
	for i, s := range h.Sources {
		if m := in.marks.source(i); m != nil {
			*m = sourceMark{heard: s.Heard, idle: s.Idle, watermark: s.Watermark, offset: s.Offset}
		}
	}
}

func (in *matchInput) process(ctx context.Context, rec *kafka.FetchedRecord) {
	if err := in.reader.Reset(rec.Value); err != nil {
		in.w.deadLetter(ctx, rec, reasonMalformed, err)
		return
	}
	source := in.marks.source(in.reader.SourcePartition)
	fence, highest := int64(-1), int64(-1)
	if source != nil {
		fence, highest = source.offset, source.offset
	}
	metrics := in.w.c.metrics
	var m schemas.Match
	for in.reader.Next(&m) {
		if source != nil && m.Offset < fence {
			metrics.ignored.WithLabelValues(ignoredRepeated).Inc()
			continue
		}
		highest = max(highest, m.Offset)
		index, ok := in.byHash[m.Correlation]
		if !ok || int(m.Step) >= len(in.w.set.Correlations[index].Steps) {
			metrics.ignored.WithLabelValues(ignoredUnknownRule).Inc()
			continue
		}
		in.w.windows.Add(&Match{
			Correlation: index, Step: int32(m.Step), Time: m.Time, ID: m.ID,
			Group: m.Group, Value: m.Value, Number: m.Number, HasNumber: m.HasNumber, Evidence: m.Evidence,
		})
	}
	if err := in.reader.Err(); err != nil {
		in.w.deadLetter(ctx, rec, reasonMalformed, err)
	}
	if source == nil {
		return
	}
	// The watermark came with the last match of the batch, so it holds only now.
	source.heard, source.idle, source.offset = true, in.reader.Idle, highest
	source.watermark = max(source.watermark, in.reader.Watermark)
}
