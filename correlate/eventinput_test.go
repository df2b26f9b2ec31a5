package correlate

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/watermark"
	"github.com/tocsin-io/tocsin/schemas"
)

// TestRestoredLanesHoldTheWatermark: a lane that was slower than the others when
// the snapshot was made, and has brought nothing since, still counts.
func TestRestoredLanesHoldTheWatermark(t *testing.T) {
	input := func() *eventInput {
		c := &Correlator{metrics: newMetrics(nil), matches: 1, opts: Options{Watermark: watermark.Options{Disorder: time.Millisecond, Idle: time.Hour}}}
		w := &worker{c: c, set: compileRules(t, fleetRules), out: newOutbox(nil, 1)}
		w.windows = newLevels(w.set, true, WindowOptions{})
		return newEventInput(w)
	}
	before := input()
	before.tracker.Lane([]byte("slow")).Observe(1000, 0)
	before.tracker.Lane([]byte("fast")).Observe(900_000, 0)
	if got := before.watermark(0); got != 999 {
		t.Fatalf("watermark %d", got)
	}
	h := new(snapshotHeader)
	before.save(h)
	b, err := encodeSnapshot(h, nil)
	if err != nil {
		t.Fatal(err)
	}
	h, _, err = decodeSnapshot(b)
	if err != nil {
		t.Fatal(err)
	}
	after := input()
	after.load(h)
	after.tracker.Lane([]byte("fast")).Observe(2_000_000, 0)
	if got := after.watermark(0); got != 999 {
		t.Errorf("the watermark is %d: the slow lane was forgotten", got)
	}
	after.tracker.Lane([]byte("slow")).Observe(1_500_000, 0)
	if got := after.watermark(0); got != 1_499_999 {
		t.Errorf("the watermark is %d: the slow lane was not taken for what it is", got)
	}
}

// TestSnapshotFollowsHeldMatches: matches that wait for others to the same
// partition are of events that a snapshot gives up, so they are sent before.
func TestSnapshotFollowsHeldMatches(t *testing.T) {
	t.Parallel()
	k := fakeCluster(t, 1)
	c := New(Options{Client: k.client, Producer: k.producer, Rules: compileRules(t, fleetRules), Logger: zap.NewNop()})
	c.events, c.matches, c.detections, c.deadLetters = 1, 1, 2, 1
	w := newWorker(c, &kafka.Assignment{Topic: schemas.TopicEvents})
	w.next = 7
	in := w.input.(*eventInput)
	in.shuffle[0].Append(&schemas.Match{Offset: 6, Correlation: 1})
	saved, err := w.begin(t.Context(), <-c.presses)
	if err != nil {
		t.Fatal(err)
	}
	<-saved.done
	if saved.err != nil {
		t.Fatal(saved.err)
	}
	if n := w.out.matchesTo(0); n != (recordCount{sent: 1, acked: 1}) {
		t.Errorf("the snapshot is written, and of its matches %+v", n)
	}
	if writers := k.snapshotWriters(schemas.TopicEvents); len(writers) != 1 {
		t.Errorf("snapshots by %v", writers)
	}
}

// TestRefusedMatchesHoldNobodyBack: a record that is too large for Kafka is never
// acknowledged. The partition is told the watermark beyond it all the same.
func TestRefusedMatchesHoldNobodyBack(t *testing.T) {
	t.Parallel()
	k := fakeCluster(t, 1)
	c := New(Options{Client: k.client, Producer: k.producer, Rules: compileRules(t, fleetRules), Logger: zap.NewNop(), HeartbeatInterval: time.Millisecond})
	c.events, c.matches, c.detections, c.deadLetters = 1, 1, 2, 1
	w := newWorker(c, &kafka.Assignment{Topic: schemas.TopicEvents})
	in := w.input.(*eventInput)
	in.tracker.Lane(nil).Observe(1_000_000, 0)
	away := k.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: schemas.TopicMatches, Err: kerr.MessageTooLarge, Count: -1})
	in.shuffle[0].Append(&schemas.Match{Correlation: 1})
	told := func() (mark int64, matches int) {
		mark = watermark.None
		k.read(schemas.TopicMatches, func(_ int, r *kafka.FetchedRecord) {
			var batch schemas.MatchBatchReader
			if err := batch.Reset(r.Value); err != nil {
				t.Fatal(err)
			}
			mark = max(mark, batch.Watermark)
			var m schemas.Match
			for batch.Next(&m) {
				matches++
			}
		})
		return mark, matches
	}
	refused := 0
	await(t, time.Minute, func() string {
		in.tick(t.Context(), time.Now(), true)
		if refused += len(w.out.takeRefused()); refused > 0 {
			away.Remove()
		}
		if mark, _ := told(); mark != 970_000 {
			return fmt.Sprintf("told %d", mark)
		}
		return ""
	})
	if _, matches := told(); matches != 0 {
		t.Errorf("%d matches arrived: none was refused", matches)
	}
}
