// Package backtest runs rules over events of the past: files, or the history in
// ClickHouse. It uses the correlator's own engine, so what it finds is what the
// pipeline would have found had no event been late.
package backtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/correlate"
	"github.com/tocsin-io/tocsin/ingest/decode"
	"github.com/tocsin-io/tocsin/internal/jsonscan"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// Source gives events, in any order.
type Source interface {
	// Events calls emit for every event and returns when there are no more, ctx
	// ends or emit fails. The event and its memory need be valid during the call
	// only. It must not call emit from two goroutines at once. SourceStats count
	// what became no event.
	Events(ctx context.Context, emit func(*schemas.Event) error) (SourceStats, error)
}

// SourceStats counts what a Source made of its input.
type SourceStats struct {
	Rejected      int64 // parts that are no events
	FirstRejected string
	Untimed       int64 // events without a time of their own
}

// Options of Run. Set and Source are needed.
type Options struct {
	Set      *rules.Set
	Baseline *rules.Set // nil: nothing to compare with
	Source   Source
	// LogSource is what all events are taken to be of; nil: their own.
	LogSource *rules.LogSource
	// TimeField is the path (a.b.c) of the field in the message that is the
	// event's time; "" for the time that decoding found.
	TimeField string
	// Lateness is how late an event may be once there are more matches than can be
	// put into order. Default 10 min, as in the pipeline.
	Lateness time.Duration
	// MaxMatches bounds the matches that are held in memory to be put into the
	// order of time, at about 300 bytes each. Default 4,000,000.
	MaxMatches int
}

// Report is what Run found.
type Report struct {
	Detections []Detection
	// Changes are the differences to the baseline, if there is one.
	Changes []Detection
	Stats   correlate.ReplayStats
	Source  SourceStats
	// Untimed counts events whose message has no time at Options.TimeField.
	Untimed int64
	Dropped int64 // findings that the bound on detections left out
	Took    time.Duration
}

const (
	defaultMaxMatches = 4_000_000
	batchBytes        = 1 << 20
)

// Run evaluates the rules over all events of the source.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.MaxMatches <= 0 {
		o.MaxMatches = defaultMaxMatches
	}
	start := time.Now()
	runs := []*run{newRun(&o, o.Set)}
	if o.Baseline != nil {
		runs = append(runs, newRun(&o, o.Baseline))
	}
	report := &Report{}
	source, err := o.eachEvent(ctx, &report.Untimed, func(ev *schemas.Event) {
		for _, r := range runs {
			r.replay.Event(ev)
		}
	})
	if err != nil {
		return nil, err
	}
	for _, r := range runs {
		r.replay.Finish()
	}
	report.Detections, report.Stats, report.Source = runs[0].found.Detections(), runs[0].replay.Stats(), source
	report.Dropped = runs[0].found.Dropped
	if o.Baseline != nil {
		report.Changes = Compare(runs[1].found.Detections(), report.Detections)
		report.Dropped += runs[1].found.Dropped
	}
	report.Took = time.Since(start)
	return report, nil
}

// run is one set of rules at work.
type run struct {
	replay *correlate.Replay
	found  Collector
}

func newRun(o *Options, set *rules.Set) *run {
	r := &run{}
	r.replay = correlate.NewReplay(set, correlate.ReplayOptions{
		// Bounds of a whole machine, not of one partition of many.
		Windows:   correlate.WindowOptions{Lateness: o.Lateness, MaxGroups: 4_000_000, MaxEvents: 20_000_000},
		LogSource: o.LogSource, Reorder: o.MaxMatches,
	}, r.found.Add)
	return r
}

// eachEvent calls fn for every event. Reading and decoding go on in another
// goroutine meanwhile, a few batches ahead, in the form that the pipeline carries
// events in.
func (o *Options) eachEvent(ctx context.Context, untimed *int64, fn func(*schemas.Event)) (SourceStats, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	full, empty := make(chan *schemas.BatchEncoder, 2), make(chan *schemas.BatchEncoder, 3)
	for range cap(empty) {
		empty <- new(schemas.BatchEncoder)
	}
	var stats SourceStats
	var failed error
	go func() {
		// stats and failed are written before close, and read after it was seen.
		defer close(full)
		batch := <-empty
		send := func() error {
			select {
			case full <- batch:
			case <-ctx.Done():
				return ctx.Err()
			}
			select {
			case batch = <-empty:
			case <-ctx.Done():
				return ctx.Err()
			}
			batch.Reset()
			return nil
		}
		stats, failed = o.Source.Events(ctx, func(ev *schemas.Event) error {
			batch.Append(ev, "")
			if batch.Size() < batchBytes {
				return nil
			}
			return send()
		})
		if failed == nil && batch.Len() > 0 {
			failed = send()
		}
	}()
	path := strings.Split(o.TimeField, ".")
	var reader schemas.BatchReader
	var ev schemas.Event
	for batch := range full {
		reader.Reset(batch.Bytes())
		for reader.Next(&ev) {
			if o.TimeField != "" && !setTime(&ev, o.TimeField, path) {
				*untimed++
			}
			fn(&ev)
		}
		if err := reader.Err(); err != nil {
			return stats, fmt.Errorf("BUG: a batch that cannot be read back: %w", err)
		}
		// Never blocks: there are as many places as batches.
		empty <- batch
	}
	if failed == nil {
		failed = ctx.Err()
	}
	return stats, failed
}

// setTime takes the event's time from its message.
func setTime(ev *schemas.Event, name string, path []string) bool {
	v, ok := jsonscan.Lookup(ev.Message, path...)
	if !ok {
		// A key may have dots.
		v, ok = jsonscan.Lookup(ev.Message, name)
	}
	if !ok {
		return false
	}
	ms, ok := decode.ParseTime(v)
	if !ok {
		return false
	}
	ev.Time = ms
	ev.IngestTime = max(ev.IngestTime, ms) // no clock but this one counts
	return true
}

// ParseLogSource reads product=...,category=...,service=...
func ParseLogSource(s string) (*rules.LogSource, error) {
	ls := &rules.LogSource{}
	for part := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(part, "=")
		value = strings.ToLower(strings.TrimSpace(value))
		switch strings.TrimSpace(key) {
		case "product":
			ls.Product = value
		case "category":
			ls.Category = value
		case "service":
			ls.Service = value
		default:
			ok = false
		}
		if !ok || value == "" {
			return nil, fmt.Errorf("log source %q: write product=NAME,category=NAME,service=NAME, or some of these", s)
		}
	}
	if *ls == (rules.LogSource{}) {
		return nil, errors.New("the log source is empty")
	}
	return ls, nil
}
