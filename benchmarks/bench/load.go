package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/internal/simulate"
)

// load is the simulated fleet that is played into a tocsin. Payloads are
// encoded before they are needed.
type load struct {
	t        *tocsin
	prepared *simulate.Prepared
	ledger   simulate.Ledger
}

// newLoad returns a fleet of which rate is the number of log lines per second
// of event time, which begins at start.
func (b *bench) newLoad(t *tocsin, rate float64, start time.Time) (*load, error) {
	sim, err := simulate.New(simulate.Options{
		Seed: uint64(time.Now().UnixNano()), Devices: b.devices, Rate: rate, Start: start,
		Duration: 24 * time.Hour, // it is played as far as it is needed
	})
	if err != nil {
		return nil, err
	}
	prepared, err := simulate.NewPrepared(sim, simulate.LogOptions{})
	if err != nil {
		return nil, err
	}
	return &load{t: t, prepared: prepared}, nil
}

// fill prepares the next n events.
func (l *load) fill(n int) error { return l.prepared.Fill(n) }

// play sends what is prepared at a rate, 0 as fast as it is taken.
func (l *load) play(ctx context.Context, rate float64) error {
	lost := l.ledger.Totals().Lost
	err := l.prepared.Play(ctx, simulate.PlayOptions{
		Target: simulate.Target{FirehoseURL: l.t.firehose, EventsURL: l.t.events, AccessKey: l.t.key},
		Rate:   rate, Connections: 8,
	}, &l.ledger)
	if err == nil && l.ledger.Totals().Lost > lost {
		err = fmt.Errorf("%d events were not accepted", l.ledger.Totals().Lost-lost)
	}
	return err
}

// position is how far each stage has come, in events.
type position struct {
	at                           time.Time
	ingested, correlated, stored float64
	// What workers of the correlator stood still for, and how often.
	snapshotSeconds, snapshots float64
}

func (l *load) position(ctx context.Context) (position, error) {
	m, err := l.t.metrics(ctx)
	return position{
		at: time.Now(), ingested: m["tocsin_ingest_events_total"], correlated: m["tocsin_correlate_events_total"],
		stored:          m["tocsin_sink_rows_total{clickhouse}"],
		snapshotSeconds: m["tocsin_correlate_snapshot_duration_seconds_sum"], snapshots: m["tocsin_correlate_snapshot_duration_seconds_count"],
	}, err
}

// lag is how many events the slower of the two consumers is behind.
func (p position) lag() float64 { return p.ingested - min(p.correlated, p.stored) }

const drainTimeout = 5 * time.Minute

// drain waits until the consumers have caught up and returns when they had.
func (l *load) drain(ctx context.Context) (time.Time, error) {
	deadline := time.Now().Add(drainTimeout)
	for {
		p, err := l.position(ctx)
		if err != nil {
			return p.at, err
		}
		if p.lag() <= 0 {
			return p.at, nil
		}
		if time.Now().After(deadline) {
			return p.at, fmt.Errorf("still %.0f events behind after %s (correlator %.0f, store %.0f of %.0f)",
				p.lag(), drainTimeout, p.correlated, p.stored, p.ingested)
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return p.at, err
		}
	}
}

// check compares what was accepted with what is in the store: figures of a
// pipeline that loses events are worth nothing.
func (l *load) check(ctx context.Context, others int64) error {
	if _, err := l.drain(ctx); err != nil {
		return err
	}
	want := float64(l.ledger.Totals().Distinct + others)
	got, err := l.t.query(ctx, "SELECT uniqExact(id) FROM events")
	if err == nil && got != want {
		err = fmt.Errorf("%.0f distinct events were accepted and %.0f are in ClickHouse", want, got)
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// during runs watch every second while work goes on, and returns what work does.
func during(ctx context.Context, work func(context.Context) error, watch func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- work(ctx) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			if err := watch(); err != nil {
				cancel()
				return errors.Join(err, <-done)
			}
		}
	}
}
