package correlate

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/watermark"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// shuffleBatch is the size at which matches for a partition are sent before the
// end of a fetch.
const shuffleBatch = 256 << 10

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
	}
	in.useRules(w.set)
	return in
}

func (in *eventInput) useRules(set *rules.Set) {
	in.feeder = newFeeder(set, func(reason string) { in.w.c.metrics.ignored.WithLabelValues(reason).Inc() })
}

func (in *eventInput) watermark() int64 { return in.tracker.Watermark() }

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
		in.event(ctx, &ev, rec.Offset)
		n++
	}
	in.w.c.metrics.events.Add(float64(n))
	if err := in.reader.Err(); err != nil {
		// The events before the damage were taken; the record as a whole goes where
		// it can be looked at.
		in.w.deadLetter(ctx, rec, reasonMalformed, err)
	}
}

func (in *eventInput) event(ctx context.Context, ev *schemas.Event, offset int64) {
	for len(in.lanes) <= int(ev.Lane) && len(in.lanes) < schemas.MaxLanes {
		in.lanes = append(in.lanes, nil)
	}
	lane := in.lanes[min(int(ev.Lane), len(in.lanes)-1)]
	if lane == nil {
		lane = in.tracker.Lane(in.reader.Lane(ev.Lane))
		in.lanes[min(int(ev.Lane), len(in.lanes)-1)] = lane
	}
	sane := lane.Observe(ev.Time, ev.IngestTime)
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
		in.route(ctx, &matches[i], offset)
	}
}

func (in *eventInput) route(ctx context.Context, m *Match, offset int64) {
	c := in.w.set.Correlations[m.Correlation]
	if c.Local {
		in.w.windows.Add(m)
		return
	}
	p := matchPartition(c.Hash, m.Group, len(in.shuffle))
	in.shuffle[p].Append(&schemas.Match{
		Offset: offset, Correlation: c.Hash, Step: uint32(m.Step), Time: m.Time, ID: m.ID,
		Group: m.Group, Value: m.Value, HasNumber: m.HasNumber, Number: m.Number, Evidence: m.Evidence,
	})
	if in.shuffle[p].Size() >= shuffleBatch {
		in.sendMatches(ctx, p, time.Now())
	}
}

// tick sends the matches of this fetch. A partition without any is still told
// the watermark once in a while: its windows wait for the slowest source.
func (in *eventInput) tick(ctx context.Context, now time.Time, caughtUp bool) {
	in.tracker.Tick(now, caughtUp)
	mark, idle := in.tracker.Watermark(), in.tracker.Idle()
	for p := range in.shuffle {
		due := (mark != in.sentMark[p] || idle != in.sentIdle[p] || in.heartbeat[p].IsZero()) &&
			now.Sub(in.heartbeat[p]) >= in.w.c.opts.HeartbeatInterval
		if in.shuffle[p].Len() > 0 || due {
			in.sendMatches(ctx, p, now)
		}
	}
}

func (in *eventInput) sendMatches(ctx context.Context, p int, now time.Time) {
	enc := &in.shuffle[p]
	mark, idle := in.tracker.Watermark(), in.tracker.Idle()
	value := enc.AppendTo(make([]byte, 0, enc.Size()+64), in.w.key.partition, mark, idle)
	in.w.c.metrics.shuffled.Add(float64(enc.Len()))
	in.w.c.metrics.shuffledBytes.Add(float64(len(value)))
	enc.Reset()
	in.heartbeat[p], in.sentMark[p], in.sentIdle[p] = now, mark, idle
	in.w.out.send(ctx, schemas.TopicMatches, p, kafka.Record{Value: value})
}

// matchPartition is where the windows of a group live.
func matchPartition(correlation uint64, group []byte, partitions int) int {
	var buf [256]byte
	key := append(strconv.AppendUint(buf[:0], correlation, 16), group...)
	return schemas.Partition(key, partitions)
}

// deadLetter keeps a record that could not be read.
func (w *worker) deadLetter(ctx context.Context, rec *kafka.FetchedRecord, reason string, cause error) {
	origin := fmt.Sprintf("%s/%d@%d", w.key.topic, w.key.partition, rec.Offset)
	w.log.Warn("record goes to the dead letter topic", zap.Int64("offset", rec.Offset), zap.String("reason", reason), zap.Error(cause))
	w.c.metrics.deadLetters.WithLabelValues(reason).Inc()
	raw := rec.Value[:min(len(rec.Value), schemas.MaxDeadLetterRaw)]
	value, err := json.Marshal(schemas.DeadLetter{
		Time: time.Now().UTC(), Source: "correlate", Origin: origin, Reason: reason, Error: cause.Error(),
		Raw: raw, RawSize: len(rec.Value), Truncated: len(raw) < len(rec.Value),
	})
	if err != nil {
		w.log.Error("BUG: a dead letter that cannot be encoded", zap.Error(err))
		return
	}
	w.out.send(ctx, schemas.TopicDeadLetter, 0, kafka.Record{Key: []byte("correlate"), Value: value})
}
