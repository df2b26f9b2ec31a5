package correlate

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// TestOnApacheKafka: correlators join, leave and die by kill -9 while events flow,
// and all detections are there, each once and in its final state; a snapshot is
// restored from a topic that has been compacted. One test, because the names of
// the topics are fixed and the broker is shared. TOCSIN_SEED gives the events and
// kills of an earlier run, TOCSIN_KILLS more of these.
func TestOnApacheKafka(t *testing.T) {
	realKafka.Options.Properties = map[string]string{"log.initial.task.delay.ms": "0"}
	k := newCluster(t, realKafka.Cluster(t).Brokers(), 4)
	k.open()
	t.Run("members", func(t *testing.T) { testMembers(t, k.in(t)) })
	t.Run("compaction", func(t *testing.T) { testCompactedState(t, k.in(t)) })
}

// in is the cluster for a subtest.
func (c *cluster) in(t *testing.T) *cluster {
	sub := *c
	sub.t = t
	return &sub
}

func testMembers(t *testing.T, k *cluster) {
	seed := envInt(t, "TOCSIN_SEED", rand.Uint64()>>16)
	t.Logf("TOCSIN_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	kills := int(envInt(t, "TOCSIN_KILLS", 5))
	dying := time.Duration(kills) * time.Second

	set := compileRules(t, fleetRules)
	events := fleetEvents(seed, 4000, 30*time.Minute)
	want := expected(t, set, events)
	half := len(events) / 2
	joined := func(c *runningCorrelator, partitions int) {
		t.Helper()
		await(t, time.Minute, func() string {
			if n := len(c.Status()); n != partitions {
				return fmt.Sprintf("%d partitions, not %d", n, partitions)
			}
			return ""
		})
	}

	sent := k.feed(seed, events[:half], 4*time.Second)
	first := k.start(set)
	joined(first, 8)
	second := k.start(set)
	joined(second, 4)
	joined(first, 4)
	first.stop(t)
	joined(second, 8)
	third := k.start(set)
	joined(third, 4)
	<-sent
	second.stop(t)
	third.stop(t)
	restored, missing := 0.0, 0.0
	for _, c := range []*runningCorrelator{first, second, third} {
		restored += c.metric(t, "tocsin_correlate_restores_total", "ok")
		missing += c.metric(t, "tocsin_correlate_restores_total", "missing")
	}
	if restored < 8 || missing > 0 {
		t.Errorf("%v partitions restored, %v without a snapshot", restored, missing)
	}

	k.killSome(rng, kills, dying, k.feed(seed, events[half:], dying))
	k.close(fleetStart + (30 * time.Minute).Milliseconds())
	k.quiet()
	k.check(want)
	if writers := k.snapshotWriters(""); len(writers) < 4 {
		t.Errorf("only %d processes wrote snapshots: %v", len(writers), writers)
	}
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
	await(t, time.Minute, func() string {
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
