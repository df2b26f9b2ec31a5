package benchmarks

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/correlate"
	"github.com/tocsin-io/tocsin/ingest"
	"github.com/tocsin-io/tocsin/ingest/decode"
	"github.com/tocsin-io/tocsin/ingest/identity"
	"github.com/tocsin-io/tocsin/internal/simulate"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/rules/packs"
	"github.com/tocsin-io/tocsin/schemas"
)

const (
	// So many that 100,000 of them are heard of within the span.
	correlateDevices = 190_000
	// The devices are quieter than real ones, so that the records in memory span
	// minutes: at their own rate the same few seconds would come again and again,
	// and a device that connected once would be one that never stops connecting.
	correlateRate = 2000 // events per second of event time
	correlateSpan = 5 * time.Minute
	// correlateState is the event time after which the windows hold as much as
	// they ever will: the longest timespan of the common rules and the lateness.
	correlateState = 11 * time.Minute
)

// stream is a piece of tocsin.events as it lies in Kafka. It can be read again
// and again as if it went on: every lap has later times and other event IDs.
type stream struct {
	records [][]byte
	events  int
	devices int

	reader schemas.BatchReader
	next   int
	lap    int64
}

// fleetStream takes what a simulated fleet sends through the decoder and keeps
// the events that keep lets pass.
func fleetStream(tb testing.TB, keep func(*schemas.Event) bool) *stream {
	tb.Helper()
	sim, err := simulate.New(simulate.Options{
		Seed: 1, Devices: correlateDevices, Rate: correlateRate, Duration: correlateSpan,
		Start: time.Now().Add(-correlateSpan),
	})
	if err != nil {
		tb.Fatal(err)
	}
	s := &stream{}
	devices := map[string]struct{}{}
	var batch schemas.BatchEncoder
	emit := func(ev *schemas.Event) {
		if !keep(ev) {
			return
		}
		batch.Append(ev, "firehose/logs")
		devices[string(ev.Device)] = struct{}{}
		s.events++
		if batch.Size() >= ingest.DefaultBatchBytes {
			s.records = append(s.records, append([]byte(nil), batch.Bytes()...))
			batch.Reset()
		}
	}
	decoder := decode.New(decode.Options{Bindings: identity.NewBindings(correlateDevices)})
	reject := func(r decode.Rejection) { tb.Fatal(r.Err) }
	sub, err := simulate.NewSubscription(1, simulate.LogOptions{}, func(p simulate.Payload) error {
		decoder.Decode(p.Data, decode.Hints{Received: time.UnixMilli(p.LastTime)}, emit, reject)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	for records := sim.Step(); records != nil; records = sim.Step() {
		for i := range records {
			if err := sub.Add(&records[i]); err != nil {
				tb.Fatal(err)
			}
		}
	}
	if err := sub.Flush(); err != nil {
		tb.Fatal(err)
	}
	if batch.Len() > 0 {
		s.records = append(s.records, batch.Bytes())
	}
	s.devices = len(devices)
	return s
}

// read decodes the next event of the stream.
func (s *stream) read(ev *schemas.Event) error {
	for !s.reader.Next(ev) {
		if err := s.reader.Err(); err != nil {
			return err
		}
		if s.next == len(s.records) {
			s.next = 0
			s.lap++
		}
		s.reader.Reset(s.records[s.next])
		s.next++
	}
	later := s.lap * correlateSpan.Milliseconds()
	ev.Time += later
	ev.IngestTime += later
	id := ev.ID[len(ev.ID)-8:]
	binary.LittleEndian.PutUint64(id, binary.LittleEndian.Uint64(id)^scatter(uint64(s.lap)))
	return nil
}

func packRules(tb testing.TB) *rules.Set {
	tb.Helper()
	sources, err := packs.Sources()
	if err != nil {
		tb.Fatal(err)
	}
	set, diags := rules.Compile(sources, rules.Options{})
	if err := diags.Err(); err != nil {
		tb.Fatal(err)
	}
	return set
}

// BenchmarkCorrelate takes events from the bytes of Kafka records to the windows
// of the built-in rules, on one core. "fleet" is what a healthy fleet sends; of
// it "quiet" is the part that matches no rule. The bars are 300,000 events/cpu-s
// for the fleet, no allocation for what is quiet.
func BenchmarkCorrelate(b *testing.B) {
	set := packRules(b)
	matcher := set.NewMatcher()
	for _, c := range []struct {
		name string
		keep func(*schemas.Event) bool
	}{
		{"fleet", func(*schemas.Event) bool { return true }},
		{"quiet", func(ev *schemas.Event) bool { return len(matcher.Match(ev)) == 0 }},
	} {
		var s *stream // made once, however often the benchmark is repeated
		b.Run(c.name, func(b *testing.B) {
			if s == nil {
				s = fleetStream(b, c.keep)
			}
			benchmarkReplay(b, set, s)
		})
	}
}

func benchmarkReplay(b *testing.B, set *rules.Set, s *stream) {
	found := 0
	replay := correlate.NewReplay(set, correlate.ReplayOptions{}, func(*schemas.Finding) { found++ })
	var ev schemas.Event
	var first int64
	for {
		if err := s.read(&ev); err != nil {
			b.Fatal(err)
		}
		replay.Event(&ev)
		if first == 0 {
			first = ev.Time
		}
		if ev.Time-first > correlateState.Milliseconds() {
			break
		}
	}
	before := replay.Stats()
	b.ReportAllocs()
	b.ResetTimer()
	start := cpuTime(b)
	for range b.N {
		if err := s.read(&ev); err != nil {
			b.Fatal(err)
		}
		replay.Event(&ev)
	}
	used := cpuTime(b) - start
	b.StopTimer()
	after := replay.Stats()
	if after.Windows.EvictedGroups > 0 || after.Windows.Late > 0 {
		b.Fatalf("the stream is not what it should be: %+v", after)
	}
	b.ReportMetric(float64(b.N)/used.Seconds(), "events/cpu-s")
	b.ReportMetric(100*float64(after.Matched-before.Matched)/float64(b.N), "%matching")
	b.ReportMetric(float64(after.Windows.Groups), "groups")
	b.ReportMetric(float64(after.Windows.Events), "held")
	b.ReportMetric(float64(s.devices), "devices")
}
