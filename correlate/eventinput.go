package correlate

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/watermark"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// shuffleBatch is the size at which matches for a partition are sent before the
// end of a fetch.
const shuffleBatch = 256 << 10

// shuffleLinger is the longest that matches wait for others to the same
// partition, while more is being read.
const shuffleLinger = 100 * time.Millisecond

// eventInput matches events against the rules. Matches whose group contains
// the device key go into this worker's windows; the others are re-keyed by
// rule and group through tocsin.matches.
type eventInput struct {
	w       *worker
	tracker *watermark.Tracker
	feeder  *feeder
	reader  schemas.BatchReader
	lanes   []*watermark.Lane // by lane index of the record at hand

	shuffle   []schemas.MatchBatchEncoder // by partition of tocsin.matches
	heartbeat []time.Time                 // when each was last sent to
	sentMark  []int64                     // the watermark it was told then
	sentIdle  []bool
	barriers  []markBarrier
	queuedAt  []time.Time // when the first match of those that wait came
	ticked    time.Time
	caughtUp  bool // has ever been
}

func newEventInput(w *worker) *eventInput {
	n := w.c.matches
	in := &eventInput{
		w:         w,
		tracker:   watermark.New(w.c.opts.Watermark),
		shuffle:   make([]schemas.MatchBatchEncoder, n),
		heartbeat: make([]time.Time, n),
		sentMark:  make([]int64, n),
		sentIdle:  make([]bool, n),
		queuedAt:  make([]time.Time, n),
		barriers:  slices.Repeat([]markBarrier{newMarkBarrier()}, n),
	}
	in.useRules(w.set)
	return in
}

func (in *eventInput) useRules(set *rules.Set) {
	in.feeder = newFeeder(set, func(reason string) { in.w.c.metrics.ignored.WithLabelValues(reason).Inc() })
}

func (in *eventInput) watermark(level int) int64 {
	mark := in.tracker.Watermark()
	for below := range level {
		mark = in.w.windows.plan.behind(mark, below)
	}
	return mark
}

func (in *eventInput) save(h *snapshotHeader) {
	state := in.tracker.State()
	h.Lanes = &state
}

func (in *eventInput) load(h *snapshotHeader) {
	if h.Lanes != nil {
		in.tracker.Restore(*h.Lanes)
	}
}

func (in *eventInput) process(ctx context.Context, rec *kafka.FetchedRecord) {
	in.reader.Reset(rec.Value)
	in.lanes = in.lanes[:0]
	var ev schemas.Event
	n := 0
	for in.reader.Next(&ev) {
		in.event(ctx, &ev, rec, uint32(n))
		n++
	}
	in.w.c.metrics.events.Add(float64(n))
	if err := in.reader.Err(); err != nil {
		// The events before the damage were taken; the record as a whole goes where
		// it can be looked at.
		in.w.badRecord(ctx, rec, err)
	}
}

func (in *eventInput) event(ctx context.Context, ev *schemas.Event, rec *kafka.FetchedRecord, index uint32) {
	for len(in.lanes) <= int(ev.Lane) && len(in.lanes) < schemas.MaxLanes {
		in.lanes = append(in.lanes, nil)
	}
	lane := in.lanes[min(int(ev.Lane), len(in.lanes)-1)]
	if lane == nil {
		lane = in.tracker.Lane(in.reader.Lane(ev.Lane))
		in.lanes[min(int(ev.Lane), len(in.lanes)-1)] = lane
	}
	ingested := ev.IngestTime
	if ingested == 0 {
		ingested = rec.Time.UnixMilli() // of a producer that does not say
	}
	sane := lane.Observe(ev.Time, ingested)
	matched, matches := in.feeder.match(ev, sane)
	if len(matched) == 0 {
		return
	}
	in.w.c.metrics.matched.Inc()
	for _, r := range matched {
		if rule := in.w.set.Rules[r]; rule.Alerts {
			in.w.emit.match(ctx, rule, ev)
		}
	}
	for i := range matches {
		in.route(ctx, &matches[i], rec.Offset, index)
	}
}

func (in *eventInput) route(ctx context.Context, m *Match, offset int64, index uint32) {
	c := in.w.set.Correlations[m.Correlation]
	if c.Local {
		in.w.windows.add(m)
		return
	}
	p := matchPartition(c.Hash, m.Group, len(in.shuffle))
	out := schemas.Match{
		Offset: offset, Index: index, Correlation: c.Hash, Step: uint32(m.Step), Time: m.Time, ID: m.ID,
		Group: m.Group, Evidence: m.Evidence,
	}
	// Only value_count looks at values, and only the others at numbers.
	if c.Type == rules.ValueCount {
		out.Value = m.Value
	} else {
		out.HasNumber, out.Number = m.HasNumber, m.Number
	}
	in.shuffle[p].Append(&out)
	if in.shuffle[p].Size() >= shuffleBatch {
		in.sendMatches(ctx, p, time.Now())
	}
}

// tick sends the matches of this fetch, or keeps them for a moment while fetches
// follow each other closely: a few at a time are several times as many bytes. A
// partition without any is still told the watermark once in a while: its windows
// wait for the slowest source.
func (in *eventInput) tick(ctx context.Context, now time.Time, caughtUp bool) {
	in.tracker.Tick(now, caughtUp)
	in.caughtUp = in.caughtUp || caughtUp
	in.w.advance(ctx)
	dense := now.Sub(in.ticked) < shuffleLinger/2
	in.ticked = now
	for p := range in.shuffle {
		mark, idle := in.tell(p)
		// While the partition may not be told all, the next record pushes the barrier on:
		// one that is refused because of its size is never acknowledged itself.
		news := mark != in.sentMark[p] || idle != in.sentIdle[p] || mark != in.w.windows.mark(0)
		due := (news || in.heartbeat[p].IsZero()) &&
			now.Sub(in.heartbeat[p]) >= in.w.c.opts.HeartbeatInterval
		if n := in.shuffle[p].Len(); n > 0 || due {
			if in.queuedAt[p].IsZero() {
				in.queuedAt[p] = now
			}
			if n > 0 && dense && now.Sub(in.queuedAt[p]) < shuffleLinger {
				continue
			}
			in.sendMatches(ctx, p, now)
		}
	}
}

func (in *eventInput) drain(ctx context.Context) {
	now := time.Now()
	for p := range in.shuffle {
		if in.shuffle[p].Len() > 0 {
			in.sendMatches(ctx, p, now)
		}
	}
}

// tell returns what a partition of tocsin.matches may be told of event time here.
// That is how far the windows have come, not the events at hand, because results
// that are events of other correlations must be there before. A partition that
// has no events is idle only once it is known to have none, and while nothing of
// it is on its way.
func (in *eventInput) tell(p int) (mark int64, idle bool) {
	count, now := in.w.out.matchesTo(p), in.w.windows.mark(0)
	if in.shuffle[p].Len() == 0 {
		in.barriers[p].raise(count.sent, count.acked, now)
	}
	mark = in.barriers[p].pass(count.acked)
	return mark, mark == now && in.tracker.Idle() && in.caughtUp
}

func (in *eventInput) sendMatches(ctx context.Context, p int, now time.Time) {
	enc := &in.shuffle[p]
	mark, idle := in.tell(p)
	value := enc.AppendTo(make([]byte, 0, enc.Size()+64), in.w.key.partition, mark, idle)
	in.w.c.metrics.shuffled.Add(float64(enc.Len()))
	in.w.c.metrics.shuffledBytes.Add(float64(len(value)))
	enc.Reset()
	in.queuedAt[p] = time.Time{}
	in.heartbeat[p], in.sentMark[p], in.sentIdle[p] = now, mark, idle
	in.w.out.send(ctx, schemas.TopicMatches, p, kafka.Record{Value: value})
	in.tell(p) // a barrier behind what was just sent, unless there is one
}

// matchPartition is where the windows of a group live.
func matchPartition(correlation uint64, group []byte, partitions int) int {
	var buf [256]byte
	key := append(strconv.AppendUint(buf[:0], correlation, 16), group...)
	return schemas.Partition(key, partitions)
}
