package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/pprof/profile"
)

const (
	barSustained = 50_000 // events per second
	// flat: from the first third of the time to the last, the consumers may fall
	// behind by this many seconds' worth of events, which is noise: blocks for
	// ClickHouse are gathered for a second.
	flat = 0.5
)

// attempt is one rate, held for a while.
type attempt struct {
	offered  float64 // events per second
	accepted float64
	growth   float64 // of the lag, in seconds' worth of events
	lag      float64 // its mean over the last third, in the same unit
	used     cpuUsed
	events   float64 // ingested meanwhile
	shares   map[string]float64
	memory   memory
}

func (a *attempt) sustained() bool {
	return a.accepted >= 0.98*a.offered && a.growth <= flat
}

// sustained finds the rate at which the consumers keep up, with all stages and
// both engines on two cores.
func (b *bench) sustained(ctx context.Context) (s *section, err error) {
	hold, burst, attempts := 60*time.Second, 20*time.Second, 5
	if b.quick {
		hold, burst, attempts = 15*time.Second, 6*time.Second, 3
	}
	t, err := b.startTocsin(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.stop()) }()
	// Event time stays behind the clock, however fast it is played.
	l, err := b.newLoad(t, barSustained, time.Now().Add(-30*time.Minute))
	if err != nil {
		return nil, err
	}
	capacity, err := b.capacity(ctx, l, burst)
	if err != nil {
		return nil, err
	}
	b.log("in a burst it does %.0f events/s", capacity)

	s = &section{Name: "sustained", Title: fmt.Sprintf("End to end: one process, embedded engines, %d cores, %s devices", measuredCores, number(float64(b.devices)))}
	rate := 0.95 * capacity
	var best *attempt
	for range attempts {
		a, err := b.hold(ctx, l, rate, hold)
		if err != nil {
			return s, err
		}
		b.log("%.0f events/s offered, %.0f accepted, lag %.2f s, grew by %.2f s", a.offered, a.accepted, a.lag, a.growth)
		s.note("%s events/s for %s: %s accepted, mean lag at the end %.2f s, grew by %.2f s: %s", number(a.offered), hold,
			number(a.accepted), a.lag, a.growth, map[bool]string{true: "sustained", false: "not sustained"}[a.sustained()])
		best = a
		if a.sustained() {
			break
		}
		rate *= 0.88
	}
	if best.sustained() {
		s.add(measured("rate sustained, lag flat for "+hold.String(), best.accepted, "events/s", atLeast(barSustained), ""))
	} else {
		s.add(row{
			What: "rate sustained, lag flat for " + hold.String(), Unit: "events/s", Bar: atLeast(barSustained),
			Note: fmt.Sprintf("less than %s, the lowest rate tried", number(best.offered)),
		})
	}
	s.add(measured("a burst, from its first event until the consumers have caught up", capacity, "events/s", nil, ""))
	s.add(best.rows()...)
	s.note("lag: events ingested less events that the slower of correlator and ClickHouse sink is done with, in seconds at the offered rate")
	s.note("CPU time of the stages: the process's from /proc, divided by a CPU profile of the same time, by the stage that the stack begins in; the engine is a process of its own")
	s.note("the load generator is this benchmark; on a machine with %d cores it shares them", measuredCores)
	if err := l.check(ctx, 0); err != nil {
		return s, err
	}
	s.note("%s distinct events were accepted, and as many are in ClickHouse", number(float64(l.ledger.Totals().Distinct)))
	b.warnings(s, t)
	return s, nil
}

// capacity plays a burst as fast as it is taken and returns the rate at which
// all of it went through. No higher rate can be sustained.
func (b *bench) capacity(ctx context.Context, l *load, burst time.Duration) (float64, error) {
	const first = 100_000 // caches, connections, tables
	if err := l.fill(first); err != nil {
		return 0, err
	}
	if err := l.play(ctx, 0); err != nil {
		return 0, err
	}
	if _, err := l.drain(ctx); err != nil {
		return 0, err
	}
	if err := l.fill(int(barSustained * burst.Seconds())); err != nil {
		return 0, err
	}
	n, began := l.prepared.Events(), time.Now()
	b.log("a burst of %d events", n)
	if err := l.play(ctx, 0); err != nil {
		return 0, err
	}
	done, err := l.drain(ctx)
	return float64(n) / done.Sub(began).Seconds(), err
}

// hold plays at a rate and watches the lag. The first seconds, in which a lag
// builds up that stays, are not counted.
func (b *bench) hold(ctx context.Context, l *load, rate float64, d time.Duration) (*attempt, error) {
	const settle = 5 * time.Second
	if _, err := l.drain(ctx); err != nil {
		return nil, err
	}
	if err := l.fill(int(rate * (settle + d + time.Second).Seconds())); err != nil {
		return nil, err
	}
	a := &attempt{offered: rate}
	var (
		began     = time.Now()
		positions []position
		before    cpuUsed
		last      cpuUsed
		cpu       = make(chan error, 1)
	)
	profiled := false
	watch := func() error {
		since := time.Since(began)
		if since < settle || since > settle+d {
			return nil
		}
		p, err := l.position(ctx)
		if err != nil {
			return err
		}
		positions = append(positions, p)
		if last, err = l.t.cpu(); err != nil {
			return err
		}
		m, err := l.t.memory()
		if err != nil {
			return err
		}
		a.memory = memory{
			tocsin: max(a.memory.tocsin, m.tocsin), tocsinPeak: m.tocsinPeak,
			engine: max(a.memory.engine, m.engine), enginePeak: m.enginePeak,
		}
		if !profiled {
			profiled, before = true, last
			go func() {
				var p *profile.Profile
				p, err := b.profileCPU(ctx, l.t, d-2*time.Second, "sustained")
				if err == nil {
					a.shares = stageShares(p)
				}
				cpu <- err
			}()
		}
		return nil
	}
	if err := during(ctx, func(ctx context.Context) error { return l.play(ctx, rate) }, watch); err != nil {
		return nil, err
	}
	if err := b.profileHeap(ctx, l.t, "sustained"); err != nil {
		return nil, err
	}
	if len(positions) < 3 {
		return nil, fmt.Errorf("only %d measurements in %s: the machine is too busy", len(positions), d)
	}
	if err := <-cpu; err != nil {
		return nil, fmt.Errorf("CPU profile: %w", err)
	}
	third := len(positions) / 3
	a.lag = meanLag(positions[len(positions)-third:]) / rate
	a.growth = a.lag - meanLag(positions[:third])/rate
	from, to := positions[0], positions[len(positions)-1]
	a.events = to.ingested - from.ingested
	a.accepted = a.events / to.at.Sub(from.at).Seconds()
	a.used = last.since(before)
	return a, nil
}

func meanLag(positions []position) float64 {
	sum := 0.0
	for _, p := range positions {
		sum += p.lag()
	}
	return sum / float64(len(positions))
}

// rows are what the attempt cost, by stage.
func (a *attempt) rows() []row {
	perMillion := func(d time.Duration) float64 { return d.Seconds() / (a.events / 1e6) }
	const unit = "CPU-s per million events"
	rows := []row{
		measured("tocsin and engine", perMillion(a.used.tocsin+a.used.engine), unit, nil, ""),
	}
	stages := slices.SortedFunc(maps.Keys(a.shares), func(x, y string) int { return cmp.Compare(a.shares[y], a.shares[x]) })
	for _, stage := range stages {
		rows = append(rows, measured("  "+stage, a.shares[stage]*perMillion(a.used.tocsin), unit, nil, fmt.Sprintf("%.1f %% of tocsin", 100*a.shares[stage])))
	}
	return append(rows,
		measured("  ClickHouse engine (child process)", perMillion(a.used.engine), unit, nil, ""),
		measured("load generator", perMillion(a.used.loader), unit, nil, "not part of tocsin"),
		measured("memory of tocsin at this rate", float64(a.memory.tocsin)/(1<<20), "MiB", nil, "resident, highest seen"),
		measured("memory of the engine at this rate", float64(a.memory.engine)/(1<<20), "MiB", nil, "resident, highest seen"),
	)
}

// warnings notes what tocsin complained of.
func (b *bench) warnings(s *section, t *tocsin) {
	if w := t.logs.warnings(); len(w) > 0 {
		s.note("tocsin logged %d warnings; the first: %.300s", len(w), w[0])
	}
}
