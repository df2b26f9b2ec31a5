package benchmarks

import (
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/internal/simulate"
)

// The load generator must cost less than what it loads.

func newFleet(b *testing.B) *simulate.Simulator {
	b.Helper()
	s, err := simulate.New(simulate.Options{Seed: 1, Devices: 100_000, Duration: 1000 * time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkSimulateLines is per log line, of a fleet of 100,000.
func BenchmarkSimulateLines(b *testing.B) {
	s := newFleet(b)
	b.ReportAllocs()
	b.ResetTimer()
	bytes := 0
	for n := 0; n < b.N; {
		for _, r := range s.Step() {
			bytes += len(r.Data)
			n++
		}
	}
	b.SetBytes(int64(bytes / max(b.N, 1)))
}

// BenchmarkSimulatePayloads is per log line, gzipped as CloudWatch delivers it.
func BenchmarkSimulatePayloads(b *testing.B) {
	s := newFleet(b)
	b.ReportAllocs()
	size := 0
	sub, err := simulate.NewSubscription(1, simulate.LogOptions{}, func(p simulate.Payload) error {
		size += len(p.Data)
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for n := 0; n < b.N; {
		records := s.Step()
		for i := range records {
			if err := sub.Add(&records[i]); err != nil {
				b.Fatal(err)
			}
		}
		n += len(records)
	}
	b.ReportMetric(float64(size)/float64(b.N), "gz-B/event")
}
