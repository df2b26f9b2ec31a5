package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/internal/kafka"
)

// chaos fails and delays records at random, before and after they were really
// produced.
type chaos struct {
	Producer
	mu  sync.Mutex
	rng *rand.Rand
}

func (c *chaos) ProduceAsync(ctx context.Context, topic string, part int, rec kafka.Record, done func(int64, error)) {
	c.mu.Lock()
	what, wait := c.rng.IntN(25), time.Duration(c.rng.IntN(5))*time.Millisecond
	c.mu.Unlock()
	switch what {
	case 0: // at once, from the caller's goroutine
		done(-1, errors.New("not even tried"))
	case 1: // later
		time.AfterFunc(wait, func() { done(-1, errors.New("lost")) })
	case 2: // published, and nobody will believe it
		c.Producer.ProduceAsync(ctx, topic, part, rec, func(int64, error) { done(-1, errors.New("acknowledgement lost")) })
	case 3:
		c.Producer.ProduceAsync(ctx, topic, part, rec, func(o int64, err error) { time.AfterFunc(wait, func() { done(o, err) }) })
	case 4:
		done(-1, fmt.Errorf("chaos: %w", kafka.ErrTooLarge))
	default:
		c.Producer.ProduceAsync(ctx, topic, part, rec, done)
	}
}

// Whatever the producer does, every delivery is acknowledged exactly once, and
// what was acknowledged without an error is in Kafka: as an event or, when the
// producer said that it is too large, as a dead letter.
func TestChaos(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("TOCSIN_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("TOCSIN_TEST_SEED=%d", seed)
	b := newBroker(t, kafka.ProducerOptions{})
	rng := rand.New(rand.NewPCG(seed, 0))
	p := newTestPipeline(t, Options{
		Producer: &chaos{Producer: b.producer, rng: rand.New(rand.NewPCG(seed, 1))},
		Decoders: 3, BatchBytes: 2 << 10, BatchLinger: time.Millisecond, MaxInFlightBytes: 64 << 10,
	})
	var sources []Source
	total := 0
	for s := range 3 {
		src := &script{name: "lane-" + strconv.Itoa(s)}
		for range 60 {
			n := rng.IntN(20)
			src.payloads = append(src.payloads, append([]byte("{\"broken\":\n"), lines(total, n)...))
			total += n
		}
		sources = append(sources, src)
	}
	if err := p.Run(t.Context(), sources...); err != nil {
		t.Fatal(err)
	}
	for _, s := range sources {
		src := s.(*script)
		if src.bad != nil {
			t.Error(src.bad)
		}
		for i, n := range src.acks {
			if n != 1 {
				t.Errorf("%s/%d acknowledged %d times", src.name, i, n)
			}
		}
	}
	seen := map[int]bool{}
	for _, e := range b.events(t) {
		seen[e.number] = true
	}
	broken := map[string]bool{}
	for _, l := range b.deadLetters(t) {
		switch l.Reason {
		case "not_json":
			broken[strings.SplitN(l.Origin, ",", 2)[0]] = true
		case reasonKafkaTooLarge:
			var line struct{ N int }
			if err := json.Unmarshal(l.Raw, &line); err != nil {
				t.Error(err)
			}
			seen[line.N] = true
		default:
			t.Errorf("%+v", l)
		}
	}
	if len(seen) != total {
		t.Errorf("%d of %d events arrived", len(seen), total)
	}
	if len(broken) != 180 {
		t.Errorf("%d of 180 broken lines arrived", len(broken))
	}
}
