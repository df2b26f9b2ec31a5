package correlate

import (
	"context"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/watermark"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// matchInput takes matches from all partitions of tocsin.events and puts them
// into the windows of the groups that live in this partition.
//
// A source partition that is read again, after a crash or by a process that
// does not know yet that it was superseded, sends its matches again. The windows
// are sets of events and keep each as long as it would be accepted, so a second
// one changes nothing. A high-water mark of source offsets could save some of
// the work, but would drop what was never taken when an earlier record failed
// where a later one did not, or when tocsin.events was made anew.
type matchInput struct {
	w      *worker
	marks  *sourceMarks
	byHash map[uint64]int32 // correlation by hash
	reader schemas.MatchBatchReader
	told   [][]toldResults // by level and partition of tocsin.matches
	place  []byte
}

// toldResults is what a partition of tocsin.matches knows of the results here.
type toldResults struct {
	barrier markBarrier
	mark    int64
	at      time.Time
}

func newMatchInput(w *worker) *matchInput {
	in := &matchInput{w: w, marks: newSourceMarks(w.c.events, w.c.matches)}
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
	in.told = make([][]toldResults, len(in.w.windows.windows))
	for level := range in.told {
		in.told[level] = slices.Repeat([]toldResults{{barrier: newMarkBarrier(), mark: watermark.None}}, in.w.c.matches)
	}
}

func (in *matchInput) watermark(level int) int64 {
	return in.marks.watermark(level, &in.w.windows.plan)
}

// tick tells all partitions how far the results of this one are, where there are
// correlations that wait for them.
func (in *matchInput) tick(ctx context.Context, now time.Time, _ bool) {
	for level, shuffled := range in.w.windows.plan.shuffled {
		if !shuffled {
			continue
		}
		for p := range in.told[level] {
			told := &in.told[level][p]
			count := in.w.out.matchesTo(p)
			told.barrier.raise(count.sent, count.acked, in.w.windows.mark(level))
			mark := told.barrier.pass(count.acked)
			news := mark != told.mark || mark != in.w.windows.mark(level)
			if !news || now.Sub(told.at) < in.w.c.opts.HeartbeatInterval {
				continue
			}
			told.mark, told.at = mark, now
			var enc schemas.MatchBatchEncoder
			value := enc.AppendTo(nil, resultSource(level, in.w.key.partition), mark, false)
			in.w.out.send(ctx, schemas.TopicMatches, p, kafka.Record{Value: value})
		}
	}
}

func (in *matchInput) drain(context.Context) {}

func (in *matchInput) save(h *snapshotHeader) {
	h.Mark = in.marks.mark
	for _, s := range in.marks.sources {
		h.Sources = append(h.Sources, snapshotSource{Heard: s.heard, Idle: s.idle, Watermark: s.watermark})
	}
	h.Results = in.marks.results
}

// load takes every source for busy: one that had nothing to read when the
// snapshot was made may have a long way to catch up now. It says so itself when
// it is still idle.
func (in *matchInput) load(h *snapshotHeader) {
	in.marks.mark = h.Mark
	for i, s := range h.Sources {
		if i < len(in.marks.sources) {
			in.marks.sources[i] = sourceMark{heard: s.Heard, watermark: s.Watermark}
		}
	}
	for level, marks := range h.Results {
		if level < maxLevels {
			copy(in.marks.level(level), marks)
		}
	}
}

func (in *matchInput) process(ctx context.Context, rec *kafka.FetchedRecord) {
	if err := in.reader.Reset(rec.Value); err != nil {
		in.w.badRecord(ctx, rec, err)
		return
	}
	metrics := in.w.c.metrics
	var m schemas.Match
	for in.reader.Next(&m) {
		index, ok := in.byHash[m.Correlation]
		if !ok || int(m.Step) >= len(in.w.set.Correlations[index].Steps) {
			metrics.ignored.WithLabelValues(ignoredUnknownRule).Inc()
			continue
		}
		evidence := m.Evidence
		if len(evidence) == 0 && in.reader.SourcePartition < maxSources {
			in.place = appendPlace(in.place[:0], eventPlace{in.reader.SourcePartition, m.Offset, m.Index})
			evidence = in.place
		}
		in.w.windows.add(&Match{
			Correlation: index, Step: int32(m.Step), Time: m.Time, ID: m.ID,
			Group: m.Group, Value: m.Value, Number: m.Number, HasNumber: m.HasNumber, Evidence: evidence,
		})
	}
	if err := in.reader.Err(); err != nil {
		in.w.badRecord(ctx, rec, err)
	}
	// The watermark came with the last match of the batch, so it holds only now.
	in.marks.hear(in.reader.SourcePartition, in.reader.Watermark, in.reader.Idle)
}
