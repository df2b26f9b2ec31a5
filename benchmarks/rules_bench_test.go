package benchmarks

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/benchmarks/peers/workload"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/rules/packs"
	"github.com/tocsin-io/tocsin/schemas"
)

// sigmaCorpus reads the SigmaHQ rules, which are not part of the repository.
func sigmaCorpus(b *testing.B) ([]rules.Source, rules.Options) {
	sources, opts, err := workload.Corpus("..")
	if errors.Is(err, os.ErrNotExist) {
		b.Skipf("left out: %v", err)
	}
	if err != nil {
		b.Fatal(err)
	}
	return sources, opts
}

// cpuTime is what the process has used. Rates per second of it are those of one
// core that nobody else uses.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRulesCorpus matches mixed events against 1,000, and all, of the
// SigmaHQ rules on one core.
//
// A sample is every n-th of the rules, sorted by path, so that the mix of log
// sources and modifiers is that of the whole. A few rules cost much by themselves
// (a keyword rule for all of Windows makes every message be searched), and one
// sample has them or not; so the 1,000 are four samples, which have every rule
// once or twice, and what is measured is their mean. The events are the same for all.
//
// Matchers learn which texts are rare from the first events of each log source;
// they have seen that many before the time is taken.
func BenchmarkRulesCorpus(b *testing.B) {
	all, opts := sigmaCorpus(b)
	events := workload.Mixed(5000)
	for _, c := range []struct{ rules, samples int }{{1000, 4}, {len(all), 1}} {
		b.Run(fmt.Sprintf("rules=%d", c.rules), func(b *testing.B) {
			var matchers []*rules.Matcher
			matched := 0
			for sample := range c.samples {
				m := compileSample(b, all, opts, c.rules, sample, c.samples).NewMatcher()
				for i := range 10 * len(events) {
					e := &events[i%len(events)]
					if len(m.MatchAs(e.LogSource, &e.Event)) > 0 && i < len(events) {
						matched++
					}
				}
				matchers = append(matchers, m)
			}
			b.ReportAllocs()
			b.ResetTimer()
			start := cpuTime(b)
			for i := range b.N {
				e := &events[i%len(events)]
				matchers[i/len(events)%len(matchers)].MatchAs(e.LogSource, &e.Event)
			}
			b.ReportMetric(float64(b.N)/(cpuTime(b)-start).Seconds(), "events/cpu-s")
			b.ReportMetric(100*float64(matched)/float64(c.samples*len(events)), "%matching")
		})
	}
}

// BenchmarkRulesGrowth compares the cost of all SigmaHQ rules with that of 1,000
// (see BenchmarkRulesCorpus) in turns, so that what else the machine does is the
// same for both.
func BenchmarkRulesGrowth(b *testing.B) {
	all, opts := sigmaCorpus(b)
	events := workload.Mixed(5000)
	const samples = 4
	matchers := []*rules.Matcher{compileSample(b, all, opts, len(all), 0, 1).NewMatcher()}
	for sample := range samples {
		matchers = append(matchers, compileSample(b, all, opts, 1000, sample, samples).NewMatcher())
	}
	round := func(m *rules.Matcher) time.Duration {
		start := cpuTime(b)
		for i := range events {
			m.MatchAs(events[i].LogSource, &events[i].Event)
		}
		return cpuTime(b) - start
	}
	for range 10 {
		for _, m := range matchers {
			round(m)
		}
	}
	var every, some time.Duration
	n := 0
	for b.Loop() {
		for _, m := range matchers[1:] {
			every += round(matchers[0])
			some += round(m)
		}
		n += samples * len(events)
	}
	b.ReportMetric(float64(every)/float64(n), "all-ns/event")
	b.ReportMetric(float64(some)/float64(n), "1000-ns/event")
	b.ReportMetric(float64(every)/float64(some), "ratio")
}

// compileSample compiles n of all rules, evenly spread, as the given one of
// several samples.
func compileSample(b *testing.B, all []rules.Source, opts rules.Options, n, sample, samples int) *rules.Set {
	var some []rules.Source
	for i := range n {
		some = append(some, all[(i*samples+sample)*len(all)/(n*samples)])
	}
	set, diags := rules.Compile(some, opts)
	if err := diags.Err(); err != nil {
		b.Fatal(err)
	}
	return set
}

// BenchmarkRulesCompile compiles all SigmaHQ rules.
func BenchmarkRulesCompile(b *testing.B) {
	all, opts := sigmaCorpus(b)
	start, n := cpuTime(b), 0
	for b.Loop() {
		set, _ := rules.Compile(all, opts)
		m := set.NewMatcher()
		m.MatchAs(rules.AnyLogSource, &schemas.Event{})
		n++
	}
	b.ReportMetric((cpuTime(b)-start).Seconds()/float64(n), "cpu-s/op")
}

// BenchmarkRulesIoT matches the built-in packs against IoT Core logs on one core.
func BenchmarkRulesIoT(b *testing.B) {
	sources, err := packs.Sources()
	if err != nil {
		b.Fatal(err)
	}
	set, diags := rules.Compile(sources, rules.Options{})
	if err := diags.Err(); err != nil {
		b.Fatal(err)
	}
	events := workload.IoT(5000)
	m := set.NewMatcher()
	matched, bytes := 0, 0
	for i := range events {
		bytes += len(events[i].Message)
		if len(m.Match(&events[i])) > 0 {
			matched++
		}
	}
	b.SetBytes(int64(bytes / len(events)))
	b.ReportAllocs()
	b.ResetTimer()
	start := cpuTime(b)
	for i := range b.N {
		m.Match(&events[i%len(events)])
	}
	b.ReportMetric(float64(b.N)/(cpuTime(b)-start).Seconds(), "events/cpu-s")
	b.ReportMetric(100*float64(matched)/float64(len(events)), "%matching")
}
