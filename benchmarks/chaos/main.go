// Command chaos runs the whole pipeline on three Kafka brokers, kills and freezes
// its parts under load, and compares what came out with what went in:
//
//	go run ./benchmarks/chaos [-seed N] [-minutes 20] [-kills 110] [-json FILE]
//
// It exits with 1 unless nothing was lost and nothing is there twice. What it
// does, and what it compares, is described in package internal/chaos.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tocsin-io/tocsin/internal/chaos"
)

// settings are the flags.
type settings struct {
	opts    chaos.Options
	minutes float64
	json    string
	program string
	targets string
	keep    bool
}

func main() {
	var s settings
	flag.Uint64Var(&s.opts.Seed, "seed", 0, "of load and faults; 0 draws one, which is printed")
	flag.Float64Var(&s.minutes, "minutes", 20, "time over which the kills are spread")
	flag.IntVar(&s.opts.Kills, "kills", 110, "kill -9, over all parts")
	flag.IntVar(&s.opts.Rate, "rate", 200, "events a second")
	flag.IntVar(&s.opts.Takeovers, "takeovers", 2, "measurements of the time from a correlator's crash to the first detection by another")
	flag.StringVar(&s.targets, "targets", "", "keep the faults to these: broker,ingest,correlate,clickhouse,sink")
	flag.StringVar(&s.json, "json", "", "write the report to this file, too")
	flag.StringVar(&s.program, "tocsin", "", "use this program instead of building one")
	flag.BoolVar(&s.keep, "keep", false, "keep logs and data; they are kept anyway when something is wrong")
	flag.Parse()
	if flag.NArg() > 0 || s.minutes <= 0 || s.opts.Kills < 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ok, err := s.run(ctx)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	if !ok {
		os.Exit(1)
	}
}

func (s *settings) run(ctx context.Context) (ok bool, err error) {
	for s.opts.Seed == 0 {
		s.opts.Seed = rand.Uint64() >> 16
	}
	s.opts.Within = time.Duration(s.minutes * float64(time.Minute))
	if s.targets != "" {
		s.opts.Targets = strings.Split(s.targets, ",")
	}
	began := time.Now()
	s.opts.Log = func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%6.1f  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	if s.opts.Dir, err = os.MkdirTemp("", "tocsin-chaos-"); err != nil {
		return false, err
	}
	defer func() {
		if ok && !s.keep || errors.Is(err, context.Canceled) {
			err = errors.Join(err, os.RemoveAll(s.opts.Dir))
		} else {
			fmt.Fprintln(os.Stderr, "logs and data are in", s.opts.Dir)
		}
	}()
	s.opts.Log("seed %d", s.opts.Seed)
	if s.program == "" {
		s.program = filepath.Join(s.opts.Dir, "tocsin")
		s.opts.Log("building tocsin")
		if output, err := exec.CommandContext(ctx, "go", "build", "-o", s.program, "./cmd/tocsin").CombinedOutput(); err != nil {
			return false, fmt.Errorf("build tocsin; run this inside the repository: %w\n%s", err, output)
		}
	}
	s.opts.Program = []string{s.program}
	report, err := chaos.Run(ctx, s.opts)
	if err != nil {
		return false, err
	}
	if s.json != "" {
		b, err := json.MarshalIndent(report, "", "  ")
		if err == nil {
			err = os.WriteFile(s.json, append(b, '\n'), 0o644)
		}
		if err != nil {
			return false, err
		}
	}
	return report.OK(), write(os.Stdout, report)
}

// write prints the report for a person.
func write(w io.Writer, r *chaos.Report) error {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-28s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("seed", "%d", r.Seed)
	row("minutes of faults", "%.1f", r.Minutes)
	row("kills", "%d: %s", r.Kills, byKind(r.KillsOf))
	row("stalls", "%d: %s", r.Stalls, byKind(r.StallsOf))
	row("webhooks failed on purpose", "%d", r.BadHooks)
	row("events", "%d acknowledged of %d, %d requests, %d of them repetitions", r.Acknowledged, r.Events, r.Requests, r.Retries)
	row("events in ClickHouse", "%d, %d of them late", r.Stored, r.Late)
	row("detections", "%d", r.Detections)
	row("webhooks", "%d messages; taken again: %d times after no answer, %d times after a kill", r.Messages, r.Provoked, r.Repeated)
	for _, s := range r.Takeovers {
		row("crash to first detection", "%.1f s", s)
	}
	row("settled", "%.0f s after the last event", r.Settled)
	row("lost", "%d (events %d, detections %d, webhooks %d)", r.Lost, r.EventsLost, r.DetectionsLost, r.MessagesLost)
	row("duplicated", "%d (events %d, detections %d, webhooks %d)", r.Duplicated, r.EventsExtra, r.DetectionsExtra, r.MessagesExtra)
	if len(r.Exits) > 0 {
		row("ended by themselves", "%d, and were started again", len(r.Exits))
	}
	if r.DeadLetters > 0 {
		row("dead letters", "%d", r.DeadLetters)
	}
	for _, d := range slices.Concat(r.Exits, r.Complaints, r.Differences) {
		fmt.Fprintf(&b, "  %s\n", d)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func byKind(counts map[string]int) string {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", kind, counts[kind]))
	}
	return strings.Join(parts, ", ")
}
