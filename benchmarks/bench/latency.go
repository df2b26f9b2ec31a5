package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	latencyRate = 10_000 // events per second
	barLatency  = 1.0    // seconds, 99th percentile
	barMemory   = 1024.0 // MiB
	markerRate  = 20     // per second
)

// latency measures how long it takes from an event that is posted to the
// webhook that tells of it, and what memory is held, while a fleet goes on.
func (b *bench) latency(ctx context.Context) (s *section, err error) {
	// The longest timespan of the common rules and the lateness: after that much
	// event time the windows hold what they will always hold.
	history, fast, hold := 12*time.Minute, 40_000.0, 60*time.Second
	if b.quick {
		history, hold = time.Minute, 15*time.Second
	}
	m, err := newMarkers()
	if err != nil {
		return nil, err
	}
	defer m.close()
	rulesFile := filepath.Join(b.dir, "markers.yml")
	if err := os.WriteFile(rulesFile, []byte(markerRules), 0o600); err != nil {
		return nil, err
	}
	t, err := b.startTocsin(ctx, map[string]any{
		"correlate": map[string]any{"rules": []string{rulesFile}},
		"sinks":     map[string]any{"webhooks": []any{webhookOf(m.url())}},
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.stop()) }()
	l, err := b.newLoad(t, latencyRate, time.Now().Add(-history))
	if err != nil {
		return nil, err
	}
	b.log("%s of event time at %.0f events/s, so that the windows are full", history, fast)
	const portion = 500_000
	for left := int(latencyRate * history.Seconds()); left > 0; left -= portion {
		if err := l.fill(min(left, portion)); err != nil {
			return nil, err
		}
		if err := l.play(ctx, fast); err != nil {
			return nil, err
		}
		// Not faster than it is consumed: the markers must not wait for what is
		// left of it.
		if _, err := l.drain(ctx); err != nil {
			return nil, err
		}
	}
	if err := l.fill(int(latencyRate * (hold + 2*time.Second).Seconds())); err != nil {
		return nil, err
	}
	b.log("%s at %d events/s with %d markers/s", hold, latencyRate, markerRate)
	var most memory
	watch := func() error {
		now, err := t.memory()
		most = memory{
			tocsin: max(most.tocsin, now.tocsin), tocsinPeak: now.tocsinPeak,
			engine: max(most.engine, now.engine), enginePeak: now.enginePeak,
		}
		return err
	}
	before, err := t.cpu()
	if err != nil {
		return nil, err
	}
	was, err := l.position(ctx)
	if err != nil {
		return nil, err
	}
	marking, stopMarking := context.WithCancel(ctx)
	marked := make(chan error, 1)
	go func() { marked <- m.send(marking, t, markerRate) }()
	err = during(ctx, func(ctx context.Context) error { return l.play(ctx, latencyRate) }, watch)
	stopMarking()
	err = errors.Join(err, <-marked)
	if err != nil {
		return nil, err
	}
	if err := b.profileHeap(ctx, t, "latency"); err != nil {
		return nil, err
	}
	after, err := t.cpu()
	if err != nil {
		return nil, err
	}
	is, err := l.position(ctx)
	if err != nil {
		return nil, err
	}
	sent, found := m.wait(ctx, 30*time.Second)

	s = &section{Name: "latency", Title: fmt.Sprintf("Event in to webhook out, at %s events/s, %s devices", number(latencyRate), number(float64(b.devices)))}
	all := slices.Concat(found[markerMatch], found[markerWindow], found[markerShuffle])
	s.add(measured("latency, 99th percentile", percentile(all, 0.99).Seconds(), "s", atMost(barLatency), fmt.Sprintf("%d alerts", len(all))))
	s.add(measured("latency, median", percentile(all, 0.5).Seconds(), "s", nil, ""),
		measured("latency, worst", percentile(all, 1).Seconds(), "s", nil, ""))
	for _, kind := range markerKinds {
		s.add(measured("  99th percentile, "+kind.title, percentile(found[kind.name], 0.99).Seconds(), "s", nil, ""))
	}
	s.add(measured("alerts that never came", float64(sent-len(all)), "", atMost(0), fmt.Sprintf("of %d", sent)))
	used := after.since(before)
	span := used.at.Sub(before.at).Seconds()
	s.add(
		measured("memory of the tocsin process", float64(most.tocsin)/(1<<20), "MiB", atMost(barMemory), "resident, highest seen at this rate"),
		measured("memory of the tocsin process while the windows were filled", float64(most.tocsinPeak)/(1<<20), "MiB", nil, fmt.Sprintf("highest since the start, at up to %s events/s", number(fast))),
		measured("memory of the engine's process", float64(most.engine)/(1<<20), "MiB", nil, "resident, highest seen at this rate"),
		measured("a correlator worker's pause for a snapshot, mean", (is.snapshotSeconds-was.snapshotSeconds)/max(is.snapshots-was.snapshots, 1), "s", nil,
			fmt.Sprintf("%.0f snapshots", is.snapshots-was.snapshots)),
		measured("background load", (is.ingested-was.ingested)/is.at.Sub(was.at).Seconds(), "events/s", nil, ""),
		measured("cores used by tocsin", used.tocsin.Seconds()/span, "", nil, ""),
		measured("cores used by the engine", used.engine.Seconds()/span, "", nil, ""),
		measured("cores used by the load generator", used.loader.Seconds()/span, "", nil, ""),
	)
	s.note("from the moment at which a marker is due to be posted to the arrival of its webhook, a third each: a rule over one event, a window of the device, and a window that is shuffled to another partition")
	s.note("before that, %s of the fleet's event time were played, so that the windows hold what they hold for good", history)
	if err := l.check(ctx, int64(m.events)); err != nil {
		return s, err
	}
	b.warnings(s, t)
	return s, nil
}

// percentile is by nearest rank; 0 of nothing.
func percentile(values []time.Duration, p float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	values = slices.Sorted(slices.Values(values))
	return values[max(int(math.Ceil(p*float64(len(values))))-1, 0)]
}
