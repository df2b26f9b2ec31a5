package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/pprof/profile"
)

func TestParseBenchmarks(t *testing.T) {
	out := `goos: linux
BenchmarkCorrelate/fleet-2   507625   2531 ns/op   31.83 %matching   561104 events/cpu-s   40 B/op   0 allocs/op
BenchmarkCorrelate/fleet-2   507625   2533 ns/op   31.83 %matching   561106 events/cpu-s   40 B/op   0 allocs/op
BenchmarkRulesCorpus/rules=3780   1   9 ns/op
BenchmarkBroken	some text
PASS
`
	want := map[string]map[string][]float64{
		"Correlate/fleet": {
			"ns/op": {2531, 2533}, "%matching": {31.83, 31.83}, "events/cpu-s": {561104, 561106}, "B/op": {40, 40}, "allocs/op": {0, 0},
		},
		"RulesCorpus/rules=3780": {"ns/op": {9}},
	}
	if diff := cmp.Diff(want, parseBenchmarks([]byte(out))); diff != "" {
		t.Error(diff)
	}
}

func TestMicroRow(t *testing.T) {
	results := map[string]map[string][]float64{"a": {"m": {9, 1, 3}}, "b": {"m": {2}}}
	for name, c := range map[string]struct {
		bar  microBar
		want string
	}{
		"median":       {microBar{bench: "a", metric: "m", bar: atLeast(3)}, "3 >= 3 met"},
		"ratio":        {microBar{bench: "a", metric: "m", over: "b", unit: "x", bar: atMost(1.3)}, "1.5 x <= 1.3 MISSED"},
		"scaled":       {microBar{bench: "b", metric: "m", scale: 0.5, unit: "s"}, "1 s"},
		"not there":    {microBar{bench: "c", metric: "m", bar: atLeast(1)}, "- >= 1 not measured no result of Benchmarkc"},
		"no base":      {microBar{bench: "a", metric: "m", over: "c", bar: atLeast(1)}, "- >= 1 not measured no result of Benchmarkc"},
		"other metric": {microBar{bench: "a", metric: "n", bar: atLeast(1)}, "- >= 1 not measured no result of Benchmarka"},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.bar.row(results)
			cells := r.cells()
			if got := strings.Join(strings.Fields(strings.Join(cells[:], " ")), " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{561104.4: "561,104", 1234567: "1,234,567", -1234: "-1,234", 999: "999", 0.1234: "0.123", 1.726: "1.73", 0: "0"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestPercentile(t *testing.T) {
	values := make([]time.Duration, 200)
	for i := range values {
		values[len(values)-1-i] = time.Duration(i + 1)
	}
	for p, want := range map[float64]time.Duration{0.5: 100, 0.99: 198, 1: 200} {
		if got := percentile(values, p); got != want {
			t.Errorf("percentile(1..200, %v) = %d, want %d", p, got, want)
		}
	}
	if got := percentile(nil, 0.99); got != 0 {
		t.Errorf("of nothing: %d", got)
	}
}

func TestStageOfStack(t *testing.T) {
	const module = "github.com/tocsin-io/tocsin/"
	for name, c := range map[string]struct {
		stack []string // innermost first
		want  string
	}{
		"a stage on a goroutine of the group": {[]string{"runtime.memmove", module + "schemas.decodeEvent", module + "correlate.(*worker).run", module + "internal/kafka.(*groupWorker).run"}, "correlate"},
		"the sink, run by the runner":         {[]string{module + "sinks/clickhouse.(*block).add", module + "sinks.(*Runner).partition", module + "internal/kafka.(*groupWorker).run"}, "sink: ClickHouse"},
		"the runner itself":                   {[]string{"syscall.Read", module + "internal/kafka.(*Client).fetchOnce", module + "sinks.(*Runner).partition"}, "sinks: reading"},
		"a batch being sent":                  {[]string{"lz4.CompressBlock", module + "internal/kafka.(*partitionWriter).run"}, "Kafka client"},
		"the broker":                          {[]string{"syscall.write", "github.com/twmb/franz-go/pkg/kfake.(*Cluster).run"}, "broker (embedded)"},
		"the garbage collector":               {[]string{"runtime.scanobject", "runtime.gcBgMarkWorker"}, "garbage collector"},
		"nobody's":                            {[]string{"os/signal.loop"}, "other"},
	} {
		t.Run(name, func(t *testing.T) {
			var stack []*profile.Location
			for _, f := range c.stack {
				stack = append(stack, &profile.Location{Line: []profile.Line{{Function: &profile.Function{Name: f}}}})
			}
			if got := stageOfStack(stack); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestMachineShort(t *testing.T) {
	m := machine{CPU: "Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz", Cores: 2}
	if got, want := m.short(), "intel-xeon-e5-2686-v4-2c"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
