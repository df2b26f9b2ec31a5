package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Fault is one thing that was done.
type Fault struct {
	At     float64 `json:"at"` // seconds since the first
	Target string  `json:"target"`
	Action string  `json:"action"`  // kill or stall
	For    float64 `json:"seconds"` // until it was started again or went on
}

// injector does faults to targets. Which, and for how long, is drawn from the
// seed; a target that has not recovered from the last one is passed over.
type injector struct {
	targets []*target
	longest time.Duration // that a target is away or frozen
	rng     *rand.Rand
	began   time.Time
	log     func(format string, args ...any)

	mu     sync.Mutex
	deck   []*target // still to be drawn before all are again
	busy   map[*target]string
	faults []Fault
	failed error // a target that could not be started again
	work   sync.WaitGroup
}

func newInjector(targets []*target, seed uint64, log func(string, ...any)) *injector {
	return &injector{
		targets: targets, longest: maxAway, rng: rand.New(rand.NewPCG(seed, 2)), began: time.Now(), busy: map[*target]string{}, log: log,
	}
}

// recoverWithin is how long a target may take until it is whole again.
const recoverWithin = 3 * time.Minute

// maxAway is the longest that a target is away or frozen.
const maxAway = 20 * time.Second

// stallShare is how many faults of a hundred are stalls.
const stallShare = 30

// run does faults until kills have been done or the time is over, evenly spread.
// It returns when everything runs again.
func (in *injector) run(ctx context.Context, kills int, within time.Duration) error {
	// Not so long that a short run is over before everything has been away and back.
	in.longest = min(maxAway, max(within/5, 2*time.Second))
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	defer in.work.Wait()
	pace := time.NewTicker(within / time.Duration(kills+1))
	defer pace.Stop()
	// A kill that had no target when it was due is made up for.
	for due := 0; in.kills() < kills && in.err() == nil; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return in.err()
		case <-pace.C:
			due++
			if in.rng.IntN(100) < stallShare*100/(100-stallShare) {
				in.stall(ctx)
			}
		case <-time.After(200 * time.Millisecond):
		}
		if in.kills() < due {
			in.kill(ctx)
		}
	}
	return in.err()
}

// draw returns a target that is whole, and marks it: every target comes up once
// before one comes up again, as long as it is whole then.
func (in *injector) draw(what string) *target {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.deck) == 0 {
		in.deck = slices.Clone(in.targets)
		in.rng.Shuffle(len(in.deck), func(i, j int) { in.deck[i], in.deck[j] = in.deck[j], in.deck[i] })
	}
	brokers := 0
	for t := range in.busy {
		if t.kind == kindBroker {
			brokers++
		}
	}
	for i, t := range in.deck {
		if in.busy[t] != "" || t.kind == kindBroker && brokers > 0 {
			continue
		}
		in.deck = slices.Delete(in.deck, i, i+1)
		in.busy[t] = what
		return t
	}
	return nil
}

// done records a fault and waits until the target is whole. It stays busy that
// long.
func (in *injector) done(ctx context.Context, t *target, f Fault, err error) {
	for since := time.Now(); err == nil && ctx.Err() == nil; sleep(ctx, 200*time.Millisecond) {
		why := t.whole(ctx)
		if why == nil {
			break
		}
		if time.Since(since) > recoverWithin {
			err = fmt.Errorf("not whole again after %s: %w", recoverWithin, why)
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.busy, t)
	if err != nil && ctx.Err() == nil && in.failed == nil {
		in.failed = fmt.Errorf("%s after a %s: %w", t.name, f.Action, err)
	}
}

func (in *injector) note(f Fault) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.faults = append(in.faults, f)
}

func (in *injector) kill(ctx context.Context) {
	t := in.draw("killed")
	if t == nil {
		return
	}
	// Mostly at once, as a supervisor does; sometimes after a while.
	pause := time.Duration(in.rng.IntN(1500)) * time.Millisecond
	if in.rng.IntN(6) == 0 {
		pause = min(time.Duration(5+in.rng.IntN(15))*time.Second, in.longest)
	}
	f := Fault{At: time.Since(in.began).Seconds(), Target: t.name, Action: "kill", For: pause.Seconds()}
	t.kill()
	in.note(f)
	in.work.Go(func() {
		sleep(ctx, pause)
		in.done(ctx, t, f, t.start(ctx))
	})
}

func (in *injector) stall(ctx context.Context) {
	t := in.draw("frozen")
	if t == nil {
		return
	}
	pause := time.Second + time.Duration(in.rng.Int64N(int64(in.longest-time.Second)))
	f := Fault{At: time.Since(in.began).Seconds(), Target: t.name, Action: "stall", For: pause.Seconds()}
	if err := t.freeze(); err != nil {
		in.done(ctx, t, f, err)
		return
	}
	in.note(f)
	in.work.Go(func() {
		sleep(ctx, pause)
		in.done(ctx, t, f, t.thaw())
	})
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (in *injector) err() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.failed
}

func (in *injector) kills() (n int) {
	for _, f := range in.list() {
		if f.Action == "kill" {
			n++
		}
	}
	return n
}

func (in *injector) list() []Fault {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Clone(in.faults)
}

// down names the targets that are not whole, for the line of progress.
func (in *injector) down() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	var out []string
	for t, what := range in.busy {
		out = append(out, t.name+" "+what)
	}
	slices.Sort(out)
	return out
}
