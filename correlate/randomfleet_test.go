package correlate

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tocsin-io/tocsin/schemas"
)

// TestRandomFleets: random events, numbers of partitions and of correlators,
// sent at once or bit by bit, with workers that fall over where Kafka refuses
// some record and correlators that are replaced; the final detections must be
// those of one process that sees all in order. TOCSIN_SEED replays one case,
// TOCSIN_FLEETS says how many are tried.
func TestRandomFleets(t *testing.T) {
	t.Parallel()
	seed, cases := rand.Uint64()>>16, envInt(t, "TOCSIN_FLEETS", 3)
	if s := envInt(t, "TOCSIN_SEED", 0); s != 0 {
		seed, cases = s, 1
	}
	for i := range cases {
		if !randomFleet(t, seed+i) {
			t.Fatalf("TOCSIN_SEED=%d", seed+i)
		}
	}
}

func randomFleet(t *testing.T, seed uint64) bool {
	return t.Run("", func(t *testing.T) {
		set := compileRules(t, fleetRules)
		rng := rand.New(rand.NewPCG(seed, 11))
		const over = 20 * time.Minute
		events := fleetEvents(seed, 300+rng.IntN(1500), over)
		k := fakeCluster(t, 1+rng.IntN(4))
		k.open()
		running := []*runningCorrelator{k.start(set)}
		if rng.IntN(2) == 0 {
			running = append(running, k.start(set))
		}
		topics := []string{schemas.TopicMatches, schemas.TopicDetections, schemas.TopicState}
		cut := rng.IntN(len(events) + 1)
		for part, some := range [][]*schemas.Event{events[:cut], events[cut:]} {
			if n := rng.IntN(4); n > 0 {
				k.fake.Fault(kfake.Fault{
					Keys: []kmsg.Key{kmsg.Produce}, Topic: topics[rng.IntN(len(topics))], Err: kerr.TopicAuthorizationFailed, Count: n,
				})
			}
			if rng.IntN(2) == 0 {
				k.send(seed, some)
			} else {
				<-k.feed(seed, some, time.Duration(rng.IntN(1000))*time.Millisecond)
			}
			if part == 0 && rng.IntN(2) == 0 {
				running[0].stop(t)
				running[0] = k.start(set)
			}
		}
		k.close(fleetStart + over.Milliseconds())
		k.quiet()
		k.check(expected(t, set, events))
	})
}
