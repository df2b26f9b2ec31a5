package benchmarks

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/correlate"
	"github.com/tocsin-io/tocsin/rules"
)

const (
	windowsLateness = 10 * time.Minute
	windowsStart    = int64(1_700_000_000_000)
)

// windowsLoad is what a windows benchmark adds: the n-th match of a stream whose
// event time runs with perSecond events a second.
type windowsLoad struct {
	rules     []*rules.Correlation
	perSecond int64
	match     func(m *correlate.Match, n uint64)
}

func windowsRule(kind rules.CorrelationType, timespan time.Duration, steps int, gte float64) *rules.Correlation {
	c := &rules.Correlation{
		Type: kind, Timespan: timespan, GroupBy: []string{"tocsin.device"}, Local: true, Alerts: true, Evidence: 20,
		Steps: make([]rules.Step, steps),
	}
	for i := range c.Steps {
		c.Steps[i] = rules.Step{Rule: i, Correlation: -1}
	}
	if kind != rules.Temporal && kind != rules.TemporalOrdered {
		c.Condition.Bounds = []rules.Bound{{Op: rules.GTE, Value: gte}}
	}
	return c
}

// windowsOf compiles the rules by hand. Of every rule with steps there are as
// many detection rules, which nothing here reads.
func windowsOf(cs []*rules.Correlation, opts correlate.WindowOptions) *correlate.Windows {
	set := &rules.Set{Correlations: cs}
	most := 0
	for i, c := range cs {
		c.Name, c.Hash = fmt.Sprintf("correlation-%d", i), uint64(i)+1
		most = max(most, len(c.Steps))
	}
	for i := range most {
		set.Rules = append(set.Rules, &rules.Rule{Meta: rules.Meta{Name: fmt.Sprintf("rule-%d", i), Hash: uint64(i) + 1000}})
	}
	opts.Lateness = windowsLateness
	return correlate.NewWindows(set, func(*rules.Correlation) bool { return true }, opts)
}

// scatter spreads consecutive numbers evenly (the finalizer of SplitMix64).
func scatter(n uint64) uint64 {
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}

// windowsDevice is the group of a device; it reuses m.Group.
func windowsDevice(m *correlate.Match, device uint64) {
	var name [14]byte
	copy(name[:], "pump-")
	for i := len(name) - 1; i >= 5; i-- {
		name[i] = byte('0' + device%10)
		device /= 10
	}
	m.Group = correlate.AppendTuple(m.Group[:0], name[:])
}

var windowsEvidence = correlate.AppendTuple(nil, []byte("aws_iot"), []byte("Connect"), []byte("pump-000001"), []byte("pump-000001"),
	[]byte("4a1f9b"), []byte("198.51.100.7"), []byte("failure"))

func windowsLoads() map[string]windowsLoad {
	byDevice := func(devices uint64) func(*correlate.Match, uint64) {
		return func(m *correlate.Match, n uint64) { windowsDevice(m, scatter(n)%devices) }
	}
	steps := func(devices, steps uint64) func(*correlate.Match, uint64) {
		return func(m *correlate.Match, n uint64) {
			windowsDevice(m, scatter(n)%devices)
			m.Step = int32(scatter(n+1<<40) % steps)
		}
	}
	// Ten groups of 180 events in a window, each with a value of its own.
	values := func(m *correlate.Match, n uint64) {
		windowsDevice(m, n%10)
		m.Value = binary.LittleEndian.AppendUint64(append(m.Value[:0], 8), n/10%1800)
	}
	return map[string]windowsLoad{
		"event_count": {
			rules:     []*rules.Correlation{windowsRule(rules.EventCount, time.Minute, 1, 10)},
			perSecond: 2000, match: byDevice(100_000),
		},
		"temporal": {
			rules:     []*rules.Correlation{windowsRule(rules.Temporal, time.Minute, 3, 0)},
			perSecond: 2000, match: steps(100_000, 3),
		},
		"temporal_ordered": {
			rules:     []*rules.Correlation{windowsRule(rules.TemporalOrdered, time.Minute, 5, 0)},
			perSecond: 2000, match: steps(100_000, 5),
		},
		"value_count": {
			rules: []*rules.Correlation{windowsRule(rules.ValueCount, time.Minute, 1, 2000)},
			// 1,800 distinct values in each group's minute.
			perSecond: 300, match: values,
		},
		"mixed": {
			rules: []*rules.Correlation{
				windowsRule(rules.EventCount, time.Minute, 1, 10), windowsRule(rules.Temporal, 5*time.Minute, 3, 0),
				windowsRule(rules.TemporalOrdered, 5*time.Minute, 5, 0), windowsRule(rules.ValueCount, time.Minute, 1, 20),
			},
			perSecond: 1000,
			match: func(m *correlate.Match, n uint64) {
				m.Correlation = int32(n % 4)
				windowsDevice(m, scatter(n)%100_000)
				m.Step = int32(scatter(n+1<<40) % []uint64{1, 3, 5, 1}[n%4])
				m.Value = binary.LittleEndian.AppendUint64(append(m.Value[:0], 8), scatter(n+1<<41)%1800)
			},
		},
	}
}

// BenchmarkWindows adds events as they come, and 20 % of them up to the allowed
// lateness behind; the watermark moves every 1,000 events.
func BenchmarkWindows(b *testing.B) {
	loads := windowsLoads()
	for _, name := range []string{"event_count", "temporal", "temporal_ordered", "value_count", "mixed"} {
		for _, order := range []string{"in_order", "out_of_order"} {
			b.Run(name+"/"+order, func(b *testing.B) {
				load := loads[name]
				w := windowsOf(load.rules, correlate.WindowOptions{MaxGroups: 1 << 30, MaxEvents: 1 << 30})
				rng := rand.New(rand.NewPCG(1, 2))
				m := correlate.Match{Evidence: windowsEvidence}
				n, episodes := uint64(0), 0
				drain := func(*correlate.Episode) { episodes++ }
				add := func() {
					now := windowsStart + int64(n)*1000/load.perSecond
					load.match(&m, n)
					m.Time = now
					if order == "out_of_order" && rng.IntN(5) == 0 {
						m.Time -= rng.Int64N(windowsLateness.Milliseconds() - 30_000)
					}
					binary.LittleEndian.PutUint64(m.ID[:], scatter(n))
					binary.LittleEndian.PutUint64(m.ID[8:], n)
					w.Add(&m)
					if n++; n%1000 == 0 {
						w.Advance(now - 30_000)
						w.Drain(drain)
					}
				}
				// As much as the windows ever hold, so that what is measured is
				// the steady state.
				for range min(load.perSecond*900, 900_000) {
					add()
				}
				b.ReportAllocs()
				b.ResetTimer()
				start := cpuTime(b)
				for range b.N {
					add()
				}
				b.ReportMetric(float64(b.N)/(cpuTime(b)-start).Seconds(), "events/cpu-s")
				b.ReportMetric(float64(w.Stats().Events), "held")
			})
		}
	}
}

// BenchmarkWindowsDayLate is groups with very many events: with an allowed lateness
// of 24 hours, ten of them hold a day of ten events a second. One event in five is
// up to 24 hours behind.
func BenchmarkWindowsDayLate(b *testing.B) {
	const day = 24 * time.Hour
	for name, kind := range map[string]rules.CorrelationType{
		"event_count": rules.EventCount, "value_count": rules.ValueCount, "temporal": rules.Temporal,
	} {
		b.Run(name, func(b *testing.B) {
			steps, least := 1, 1000.0
			if kind == rules.Temporal {
				steps = 3
			}
			set := &rules.Set{Correlations: []*rules.Correlation{windowsRule(kind, time.Hour, steps, least)}}
			set.Correlations[0].Hash = 1
			w := correlate.NewWindows(set, func(*rules.Correlation) bool { return true },
				correlate.WindowOptions{Lateness: day, MaxEvents: 1 << 21})
			rng := rand.New(rand.NewPCG(1, 2))
			m := correlate.Match{Evidence: windowsEvidence}
			n := uint64(0)
			add := func() {
				now := windowsStart + int64(n)*100
				windowsDevice(&m, n%10)
				m.Time = now
				if rng.IntN(5) == 0 {
					m.Time -= rng.Int64N(min(day.Milliseconds(), now-windowsStart+1))
				}
				m.Value = binary.LittleEndian.AppendUint64(append(m.Value[:0], 8), scatter(n)%500)
				m.Step = int32(rng.IntN(steps))
				binary.LittleEndian.PutUint64(m.ID[:], scatter(n))
				w.Add(&m)
				if n++; n%1000 == 0 {
					w.Advance(now - 30_000)
					w.Drain(func(*correlate.Episode) {})
				}
			}
			for range 950_000 {
				add()
			}
			b.ReportAllocs()
			b.ResetTimer()
			start := cpuTime(b)
			for range b.N {
				add()
			}
			b.ReportMetric(float64(b.N)/(cpuTime(b)-start).Seconds(), "events/cpu-s")
			b.ReportMetric(float64(w.Stats().Events), "held")
		})
	}
}

// fillGroups puts one event into each of n groups.
func fillGroups(w *correlate.Windows, n int) {
	m := correlate.Match{Evidence: windowsEvidence}
	for i := range uint64(n) {
		windowsDevice(&m, i)
		m.Time = windowsStart + int64(i)/100
		binary.LittleEndian.PutUint64(m.ID[:], scatter(i))
		w.Add(&m)
	}
}

const manyGroups = 1_000_000

func manyWindows() *correlate.Windows {
	return windowsOf([]*rules.Correlation{windowsRule(rules.EventCount, time.Minute, 1, 10)},
		correlate.WindowOptions{MaxGroups: manyGroups, MaxEvents: 10 * manyGroups})
}

// BenchmarkWindowsGroupBytes reports the heap that a live group of an
// event_count with one event takes.
func BenchmarkWindowsGroupBytes(b *testing.B) {
	for range b.N {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		w := manyWindows()
		fillGroups(w, manyGroups)
		runtime.GC()
		runtime.ReadMemStats(&after)
		s := w.Stats()
		if s.Groups != manyGroups {
			b.Fatalf("%d groups", s.Groups)
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/manyGroups, "B/group")
		b.ReportMetric(float64(s.Bytes)/manyGroups, "claimed-B/group")
		runtime.KeepAlive(w)
	}
}

// BenchmarkWindowsSnapshot saves and restores windows of many groups.
func BenchmarkWindowsSnapshot(b *testing.B) {
	w := manyWindows()
	fillGroups(w, manyGroups)
	snapshot := w.AppendSnapshot(nil)
	b.Run("save", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(snapshot)))
		for range b.N {
			snapshot = w.AppendSnapshot(snapshot[:0])
		}
		b.ReportMetric(float64(len(snapshot))/manyGroups, "B/group")
	})
	b.Run("restore", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(snapshot)))
		for range b.N {
			if err := manyWindows().Restore(snapshot); err != nil {
				b.Fatal(err)
			}
		}
	})
}
