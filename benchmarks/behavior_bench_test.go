package benchmarks

import (
	"context"
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tocsin-io/tocsin/correlate/behavior"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// swallow acknowledges everything at once.
type swallow struct{}

func (swallow) ProduceAsync(_ context.Context, _ string, _ int, _ kafka.Record, done func(int64, error)) {
	done(0, nil)
}

// BenchmarkBehavior is what the worker of a partition does with the events of a
// fleet: decode, count, and the datapoints of every interval, which is one pass over
// the stream. The fleet is as large as for BenchmarkCorrelate, and as quiet, so that
// an event is nearly always of another device than the one before.
func BenchmarkBehavior(b *testing.B) {
	s := fleetStream(b, func(*schemas.Event) bool { return true })
	ctx := context.Background()
	before := heapBytes()
	r := behavior.NewReplay(behavior.Options{Producer: swallow{}, Logger: zap.NewNop(), MaxDevices: 2 * s.devices}, 0, 1, 1)
	offset := int64(0)
	pass := func() {
		for _, value := range s.records {
			r.Record(ctx, &kafka.FetchedRecord{Offset: offset, Value: value})
			offset++
		}
	}
	later := func() {
		for _, value := range s.records {
			shiftTimes(b, value, correlateSpan.Milliseconds())
		}
	}
	for range 2 { // all devices are known, and all slots made
		pass()
		later()
	}
	perDevice := float64(heapBytes()-before) / float64(r.Devices())
	b.ReportAllocs()
	b.ResetTimer()
	var spent time.Duration
	for range b.N {
		start := cpuTime(b)
		pass()
		spent += cpuTime(b) - start
		b.StopTimer()
		later()
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N*s.events)/spent.Seconds(), "events/cpu-s")
	b.ReportMetric(float64(s.events), "events/op")
	b.ReportMetric(perDevice, "B/device")
	runtime.KeepAlive(r)
}

// shiftTimes moves the times of all events of a batch, in place: at any time of this
// century they are varints of six bytes.
func shiftTimes(b *testing.B, batch []byte, by int64) {
	eachField(b, batch, func(num protowire.Number, value []byte) {
		if num != 1 {
			return
		}
		eachField(b, value, func(num protowire.Number, value []byte) {
			if num == 2 || num == 3 {
				t, n := binary.Uvarint(value)
				if n != 6 || binary.PutUvarint(value[:n:n], t+uint64(by)) != n {
					b.Fatalf("a time of %d bytes", n)
				}
			}
		})
	})
}

// eachField calls fn with the contents of each field of a message.
func eachField(b *testing.B, msg []byte, fn func(protowire.Number, []byte)) {
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			b.Fatal(protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(num, typ, msg[n:])
		if size < 0 {
			b.Fatal(protowire.ParseError(size))
		}
		value := msg[n : n+size]
		if typ == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(value)
		}
		fn(num, value)
		msg = msg[n+size:]
	}
}

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
