package correlate

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// TestNothingIsCommittedBeforeItsOutputs: as long as one of the topics that are
// written takes nothing, neither a snapshot nor a commit gives the input up.
func TestNothingIsCommittedBeforeItsOutputs(t *testing.T) {
	t.Parallel()
	for _, topic := range []string{schemas.TopicDetections, schemas.TopicMatches, schemas.TopicDeadLetter, schemas.TopicState} {
		t.Run(topic, func(t *testing.T) {
			t.Parallel()
			set := compileRules(t, fleetRules)
			events := fleetEvents(3, 600, 30*time.Minute)
			k := fakeCluster(t, 3)
			k.open()
			k.send(3, events)
			for p := range k.partitions {
				k.produce(schemas.TopicEvents, p, []byte("no batch"))
			}
			away := k.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.NotEnoughReplicas, Count: -1})
			first := k.start(set)
			await(t, time.Minute, func() string {
				if first.metric(t, "tocsin_correlate_events_total") < float64(len(events)) || away.Hits() < 3 {
					return "not all events are read"
				}
				return ""
			})
			time.Sleep(500 * time.Millisecond) // five snapshots
			if committed := k.committed(schemas.TopicEvents); slices.Max(committed) >= 0 {
				t.Errorf("committed %v", committed)
			}
			if writers := k.snapshotWriters(schemas.TopicEvents); len(writers) != 0 {
				t.Errorf("snapshots were written: %v", writers)
			}
			// Ending does not wait for ever, and gives nothing up either.
			first.stop(t)
			if committed := k.committed(schemas.TopicEvents); slices.Max(committed) >= 0 {
				t.Errorf("committed %v at the end", committed)
			}
			away.Remove()
			k.start(set)
			k.close(fleetStart + (30 * time.Minute).Milliseconds())
			k.quiet()
			// The first one's producer still had records, and may have sent them last: the
			// revisions tell what is newest.
			if diff := difference(expected(t, set, events), outcomes(newest(k.detections()))); diff != "" {
				t.Error(diff)
			}
			if letters := k.deadLetters(); len(letters) < k.partitions {
				t.Errorf("%d dead letters, %d bad records", len(letters), k.partitions)
			}
		})
	}
}

// TestFailedOutputIsSentAgain: what Kafka refuses for good makes the worker start
// over from its last snapshot. What was sent after the refused record, to the same
// partition, must not hide it from those who read there.
func TestFailedOutputIsSentAgain(t *testing.T) {
	t.Parallel()
	for _, topic := range []string{schemas.TopicDetections, schemas.TopicMatches, schemas.TopicState} {
		t.Run(topic, func(t *testing.T) {
			t.Parallel()
			set := compileRules(t, fleetRules)
			events := fleetEvents(4, 1500, 30*time.Minute)
			k := fakeCluster(t, 3)
			k.open()
			away := k.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.TopicAuthorizationFailed, Count: 4})
			c := k.start(set)
			<-k.feed(4, events, time.Second)
			k.close(fleetStart + (30 * time.Minute).Milliseconds())
			k.quiet()
			if away.Hits() != 4 {
				t.Errorf("%d records were refused", away.Hits())
			}
			k.check(expected(t, set, events))
			if n := c.metric(t, "tocsin_correlate_snapshot_failures_total"); (n > 0) != (topic == schemas.TopicState) && topic != schemas.TopicMatches {
				t.Errorf("%v snapshots failed", n)
			}
		})
	}
}

// TestTooLargeOutputBecomesADeadLetter: sending it again would stop the partition
// for ever.
func TestTooLargeOutputBecomesADeadLetter(t *testing.T) {
	t.Parallel()
	set := compileRules(t, fleetRules)
	k := fakeCluster(t, 1)
	k.open()
	c := k.start(set)
	// Random, so that compression does not help; as hex it is twice as long.
	name := strings.Repeat("x", 400_000)
	random := []byte(name)
	state := uint64(88172645463325252)
	for i := range random {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		random[i] = 'A' + byte(state>>32)%58
	}
	k.send(1, []*schemas.Event{
		{ID: schemas.EventID{1}, Time: fleetStart, IngestTime: fleetStart, Source: []byte("cloudtrail"), Device: random, Message: []byte(`{"eventName":"SetV2LoggingOptions"}`)},
		{ID: schemas.EventID{2}, Time: fleetStart, IngestTime: fleetStart, Source: []byte("cloudtrail"), Device: []byte("small"), Message: []byte(`{"eventName":"SetV2LoggingOptions"}`)},
	})
	k.quiet()
	letters := k.deadLetters()
	if len(letters) != 1 || letters[0].Reason != reasonTooLarge || !letters[0].Truncated || !strings.Contains(letters[0].Origin, schemas.TopicDetections) {
		t.Fatalf("dead letters: %.300v", letters)
	}
	if n := c.metric(t, "tocsin_correlate_dead_letters_total", reasonTooLarge); n != 1 {
		t.Errorf("%v counted", n)
	}
	if found := k.detections(); len(found) != 1 || found[0].Device.UID != "small" {
		t.Errorf("%d detections", len(found))
	}
}

func TestOutbox(t *testing.T) {
	t.Parallel()
	k := fakeCluster(t, 1)
	away := k.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: schemas.TopicMatches, Err: kerr.NotEnoughReplicas, Count: -1})
	o := newOutbox(k.producer, 1)
	flush := func() error { return o.wait(t.Context(), o.cut()) }
	if err := flush(); err != nil {
		t.Errorf("flush of nothing: %v", err)
	}
	o.send(t.Context(), schemas.TopicMatches, 0, kafka.Record{Value: []byte("1")})
	o.send(t.Context(), schemas.TopicDetections, 0, kafka.Record{Value: []byte("2")})
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	cut := o.cut()
	if err := o.wait(short, cut); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("flush while Kafka takes nothing: %v", err)
	}
	if n := o.matchesTo(0); n != (recordCount{sent: 1}) {
		t.Errorf("while Kafka takes nothing: %+v", n)
	}
	// What comes after the cut is not waited for.
	o.send(t.Context(), schemas.TopicMatches, 0, kafka.Record{Value: []byte("later")})
	away.Remove()
	if err := o.wait(t.Context(), cut); err != nil {
		t.Errorf("flush: %v", err)
	}
	if n := o.matchesTo(0); n.acked < 1 {
		t.Errorf("acknowledged: %+v", n)
	}
	if err := flush(); err != nil {
		t.Errorf("flush of the rest: %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	o.send(ended, schemas.TopicMatches, 0, kafka.Record{Value: []byte("3")})
	if err := flush(); !errors.Is(err, context.Canceled) {
		t.Errorf("flush after a failure: %v", err)
	}
	// Nothing follows a gap.
	o.send(t.Context(), schemas.TopicMatches, 0, kafka.Record{Value: []byte("4")})
	if err := flush(); !errors.Is(err, context.Canceled) {
		t.Errorf("second flush after a failure: %v", err)
	}
	if n := o.matchesTo(0); n != (recordCount{sent: 3, acked: 2}) {
		t.Errorf("after a failure: %+v", n)
	}
	var got []string
	k.read(schemas.TopicMatches, func(_ int, r *kafka.FetchedRecord) { got = append(got, string(r.Value)) })
	if !slices.Equal(got, []string{"1", "later"}) {
		t.Errorf("Kafka has %q", got)
	}
}
