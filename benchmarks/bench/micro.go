package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// microBar is a row that comes from Go benchmarks: the metric of one of them,
// or its ratio to the same metric of another.
type microBar struct {
	what   string
	bench  string // name without "Benchmark" and without the suffix for GOMAXPROCS
	metric string
	over   string // divide by this benchmark's
	scale  float64
	unit   string
	bar    *bar
}

var microBars = []microBar{
	{what: "ingest: gzip payload to Kafka-ready batch, over the floor (gunzip and one JSON pass)", bench: "Ingest/ratio", metric: "ratio", unit: "x", bar: atMost(2.5)},
	{what: "ingest: per event", bench: "Ingest/ratio", metric: "ns/event", unit: "ns"},
	{what: "ingest: the floor, per event", bench: "Ingest/ratio", metric: "floor-ns/event", unit: "ns"},

	{what: "correlate: Kafka bytes to windows, first pack, what a fleet sends", bench: "Correlate/fleet", metric: "events/cpu-s", unit: "events/s of one core", bar: atLeast(300_000)},
	{what: "correlate: the same, devices heard of", bench: "Correlate/fleet", metric: "devices", bar: atLeast(100_000)},
	{what: "correlate: the same, part that matches a rule", bench: "Correlate/fleet", metric: "%matching", unit: "%"},
	{what: "correlate: events that match nothing", bench: "Correlate/quiet", metric: "events/cpu-s", unit: "events/s of one core", bar: atLeast(300_000)},
	{what: "correlate: allocations for an event that matches nothing", bench: "Correlate/quiet", metric: "allocs/op", bar: atMost(0)},

	{what: "rules: all SigmaHQ rules, mixed events", bench: "RulesCorpus/rules=3780", metric: "events/cpu-s", unit: "events/s of one core", bar: atLeast(20_000)},
	{what: "rules: cost of 3,780 rules over that of 1,000", bench: "RulesCorpus/rules=1000", metric: "events/cpu-s", over: "RulesCorpus/rules=3780", unit: "x", bar: atMost(1.3)},
	{what: "rules: allocations for an event, all SigmaHQ rules", bench: "RulesCorpus/rules=3780", metric: "allocs/op", bar: atMost(0)},
	{what: "rules: own packs, IoT logs", bench: "RulesIoT", metric: "events/cpu-s", unit: "events/s of one core", bar: atLeast(500_000)},
	{what: "rules: compile 3,780 rules", bench: "RulesCompile", metric: "ns/op", scale: 1e-9, unit: "s", bar: atMost(2)},

	{what: "windows: event_count, in order", bench: "Windows/event_count/in_order", metric: "events/cpu-s", unit: "events/s of one core", bar: atLeast(1_000_000)},
	{what: "windows: temporal, in order", bench: "Windows/temporal/in_order", metric: "events/cpu-s", unit: "events/s of one core", bar: atLeast(1_000_000)},
	{what: "windows: mixed, in order", bench: "Windows/mixed/in_order", metric: "events/cpu-s", unit: "events/s of one core", bar: atLeast(700_000)},
	{what: "windows: value_count, 1,800 distinct", bench: "Windows/value_count/in_order", metric: "events/cpu-s", unit: "events/s of one core", bar: atLeast(500_000)},
	{what: "windows: temporal_ordered, 5 steps", bench: "Windows/temporal_ordered/in_order", metric: "events/cpu-s", unit: "events/s of one core", bar: atLeast(500_000)},
	outOfOrder("event_count"), outOfOrder("temporal"), outOfOrder("temporal_ordered"), outOfOrder("value_count"), outOfOrder("mixed"),
	{what: "windows: memory of an event_count group, 1,000,000 of them", bench: "WindowsGroupBytes", metric: "B/group", unit: "B", bar: atMost(256)},
	{what: "windows: restore 1,000,000 groups", bench: "WindowsSnapshot/restore", metric: "ns/op", scale: 1e-9, unit: "s", bar: atMost(10)},

	{what: "identities: memory of a certificate, 10,000,000 of them", bench: "Registry/memory", metric: "B/certificate", unit: "B", bar: atMost(200)},
	{what: "identities: stamp an event, 10,000,000 certificates at random", bench: "Registry/stamp/all", metric: "burst-ns/event", unit: "ns", bar: atMost(50)},
	{what: "identities: the same, allocations", bench: "Registry/stamp/all", metric: "allocs/op", bar: atMost(0)},
	{what: "identities: stamp an event, 4,096 certificates that talk", bench: "Registry/stamp/few", metric: "burst-ns/event", unit: "ns", bar: atMost(50)},
	{what: "identities: decisions at 5,000/s on one core, 99th percentile", bench: "Decisions", metric: "p99-ms", unit: "ms", bar: atMost(2)},
	{what: "identities: the same, median", bench: "Decisions", metric: "p50-ms", unit: "ms"},

	{what: "identities: read and verify a revocation list of 1,000,000 entries, DER", bench: "CRL/DER/entries=1000000", metric: "s/list", unit: "s", bar: atMost(5)},
	{what: "identities: the same, memory", bench: "CRL/DER/entries=1000000", metric: "peak-MiB", unit: "MiB", bar: atMost(300)},
	{what: "identities: the same, PEM", bench: "CRL/PEM/entries=1000000", metric: "s/list", unit: "s", bar: atMost(5)},
	{what: "identities: the same, memory", bench: "CRL/PEM/entries=1000000", metric: "peak-MiB", unit: "MiB", bar: atMost(300)},
}

func outOfOrder(kind string) microBar {
	return microBar{
		what:  "windows: " + kind + ", 20 % out of order, over in order",
		bench: "Windows/" + kind + "/out_of_order", metric: "events/cpu-s", over: "Windows/" + kind + "/in_order", unit: "x", bar: atLeast(0.6),
	}
}

// micro runs the Go benchmarks.
func (b *bench) micro(ctx context.Context) (*section, error) {
	count, benchtime := 3, "1s"
	if b.quick {
		count, benchtime = 1, "200ms"
	}
	b.log("go test -bench, %d times %s each", count, benchtime)
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", ".", "-benchmem",
		"-benchtime", benchtime, "-count", strconv.Itoa(count), "-timeout", "30m", "./benchmarks")
	cmd.Dir = b.root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("go test -bench: %w\n%s", err, out)
	}
	results := parseBenchmarks(out)
	s := &section{Name: "micro", Title: "Go benchmarks"}
	s.note("medians of %d runs of %s; events/s of one core: per second of CPU time that the process used, whatever else the machine did", count, benchtime)
	for _, m := range microBars {
		s.add(m.row(results))
	}
	return s, err
}

func (m *microBar) row(results map[string]map[string][]float64) row {
	r := row{What: m.what, Unit: m.unit, Bar: m.bar}
	value, ok := median(results[m.bench][m.metric])
	if !ok {
		r.Note = "no result of Benchmark" + m.bench
		return r
	}
	if m.over != "" {
		base, ok := median(results[m.over][m.metric])
		if !ok || base == 0 {
			r.Note = "no result of Benchmark" + m.over
			return r
		}
		value /= base
	}
	if m.scale != 0 {
		value *= m.scale
	}
	r.Value = &value
	return r
}

func median(values []float64) (float64, bool) {
	if len(values) == 0 {
		return 0, false
	}
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2], true
}

// parseBenchmarks reads what go test prints: the values of each benchmark by
// metric. https://go.dev/design/14313-benchmark-format
func parseBenchmarks(out []byte) map[string]map[string][]float64 {
	results := map[string]map[string][]float64{}
	scan := bufio.NewScanner(bytes.NewReader(out))
	for scan.Scan() {
		f := strings.Fields(scan.Text())
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		if _, err := strconv.Atoi(f[1]); err != nil {
			continue
		}
		name := strings.TrimPrefix(f[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			if _, err := strconv.Atoi(name[i+1:]); err == nil {
				name = name[:i]
			}
		}
		if results[name] == nil {
			results[name] = map[string][]float64{}
		}
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				results[name][f[i+1]] = append(results[name][f[i+1]], v)
			}
		}
	}
	return results
}
