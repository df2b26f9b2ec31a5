package correlate

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// TestOnApacheKafka: correlators join, leave and are killed while events flow; a
// snapshot is restored from a topic that has been compacted. One test, because
// the names of the topics are fixed and the broker is shared.
func TestOnApacheKafka(t *testing.T) {
	realKafka.Options.Properties = map[string]string{"log.initial.task.delay.ms": "0"}
	k := newCluster(t, realKafka.Cluster(t).Brokers(), 4)
	k.open()
	t.Run("rebalance", func(t *testing.T) { testRebalance(t, k.in(t)) })
	t.Run("compaction", func(t *testing.T) { testCompactedState(t, k.in(t)) })
}

// in is the cluster for a subtest.
func (c *cluster) in(t *testing.T) *cluster {
	sub := *c
	sub.t = t
	return &sub
}

func testRebalance(t *testing.T, k *cluster) {
	set := compileRules(t, fleetRules)
	events := fleetEvents(12, 4000, 30*time.Minute)
	want := expected(t, set, events)
	done := k.feed(12, events, 6*time.Second)
	joined := func(c *runningCorrelator, partitions int) {
		t.Helper()
		await(t, 30*time.Second, func() string {
			if n := len(c.Status()); n != partitions {
				return fmt.Sprintf("%d partitions, not %d", n, partitions)
			}
			return ""
		})
	}
	first := k.start(set)
	joined(first, 8)
	second := k.start(set)
	joined(second, 4)
	joined(first, 4)
	third := k.spawn()
	time.Sleep(time.Second)
	third.kill() // its partitions come back when its session is over
	joined(second, 4)
	first.stop(t)
	joined(second, 8)
	again := k.start(set)
	joined(again, 4)
	<-done
	k.close(fleetStart + (30 * time.Minute).Milliseconds())
	k.quiet(60 * time.Second)
	k.check(want)
	if n := second.metric(t, "tocsin_correlate_restores_total", "ok"); n == 0 {
		t.Error("no partition was restored")
	}
	if n := second.metric(t, "tocsin_correlate_restores_total", "missing"); n != 0 {
		t.Errorf("%v partitions had no snapshot", n)
	}
	second.stop(t)
	again.stop(t)
}

// testCompactedState writes many snapshots of two workers, waits until Kafka has
// compacted the topic, and loads the newest of each.
func testCompactedState(t *testing.T, k *cluster) {
	const snapshots, topic = 40, "compacted.state"
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	spec := StateTopic(1, -1)
	spec.Name = topic
	spec.Extra = map[string]string{"segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.01"}
	if err := k.client.EnsureTopics(ctx, []kafka.TopicSpec{spec}); err != nil {
		t.Fatal(err)
	}
	s := &stateStore{client: k.client, producer: k.producer, topic: topic}
	busy, idle := snapshotKey{schemas.TopicEvents, 0}, snapshotKey{schemas.TopicMatches, 0}
	old := randomBytes(1000, 700_000)
	if err := s.save(ctx, idle, 1, "v", old); err != nil {
		t.Fatal(err)
	}
	var newest []byte
	for i := range uint64(snapshots) {
		newest = randomBytes(i, 600_000)
		if err := s.save(ctx, busy, i, "w", newest); err != nil {
			t.Fatal(err)
		}
	}
	await(t, 30*time.Second, func() string {
		left := 0
		k.read(topic, func(int, *kafka.FetchedRecord) { left++ })
		if left > snapshots {
			return fmt.Sprintf("%d records are left", left)
		}
		return ""
	})
	if got, sequence := loaded(t, s, busy); !bytes.Equal(got, newest) || sequence != snapshots-1 {
		t.Errorf("%d bytes of sequence %d", len(got), sequence)
	}
	if got, sequence := loaded(t, s, idle); !bytes.Equal(got, old) || sequence != 1 {
		t.Errorf("of the worker that wrote once: %d bytes of sequence %d", len(got), sequence)
	}
}
