package benchmarks

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/correlate"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

const (
	snapshotGroups     = 1_000_000
	snapshotPartitions = 8
	snapshotInterval   = 2 * time.Second
	snapshotEvents     = 2 * snapshotGroups
)

// BenchmarkSnapshots measures how long workers stand still for their snapshots
// with a million groups in the process, all of them changing, and what part of
// the time making them takes. The bars are 100 ms and 5 %. One iteration is all
// the events, whatever b.N.
func BenchmarkSnapshots(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	client, err := kafka.Dial(kafka.Config{Brokers: testkit.KafkaFake(b).ListenAddrs()}, zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	producer, err := kafka.NewProducer(client, kafka.ProducerOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer producer.Close(context.Background())
	specs := []kafka.TopicSpec{correlate.StateTopic(snapshotPartitions, -1)}
	for _, topic := range []string{schemas.TopicEvents, schemas.TopicMatches, schemas.TopicDetections, schemas.TopicDeadLetter} {
		specs = append(specs, kafka.TopicSpec{Name: topic, Partitions: snapshotPartitions})
	}
	if err := client.EnsureTopics(ctx, specs); err != nil {
		b.Fatal(err)
	}
	set, diags := rules.Compile([]rules.Source{{Name: "snapshots.yml", Data: []byte(strings.Replace(shuffleSelect, "SELECTION", "eventType: Connect", 1) + `
title: Often
name: often
correlation: {type: event_count, rules: [selected], group-by: [tocsin.device], timespan: 1h, condition: {gte: 10}}
`)}}, rules.Options{})
	if err := diags.Err(); err != nil {
		b.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	c := correlate.New(correlate.Options{
		Client: client, Producer: producer, Rules: set, Logger: zap.NewNop(), Registerer: reg,
		Windows:          correlate.WindowOptions{MaxGroups: snapshotGroups},
		SnapshotInterval: snapshotInterval,
	})
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	start := time.Now()
	produceConnects(ctx, b, producer)
	for counterSum(b, []*prometheus.Registry{reg}, "tocsin_correlate_events_total", "") < snapshotEvents {
		time.Sleep(50 * time.Millisecond)
		if time.Since(start) > 5*time.Minute {
			b.Fatal("the correlator does not come to the end")
		}
	}
	// All of the state once more, at rest.
	time.Sleep(2 * snapshotInterval)
	groups := 0
	for _, s := range c.Status() {
		groups += s.Groups
	}
	if groups != snapshotGroups {
		b.Fatalf("%d groups", groups)
	}
	pauses, paused, longest := histogram(b, reg, "tocsin_correlate_snapshot_pause_seconds")
	_, cost, _ := histogram(b, reg, "tocsin_correlate_snapshot_duration_seconds")
	_, size, _ := histogram(b, reg, "tocsin_correlate_snapshot_bytes")
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(pauses, "snapshots")
	b.ReportMetric(1000*paused/pauses, "ms/pause")
	b.ReportMetric(1000*longest, "ms/longest-at-most")
	b.ReportMetric(100*cost/(time.Since(start).Seconds()*float64(runtime.GOMAXPROCS(0))), "%time")
	b.ReportMetric(size/pauses/1e6, "MB/snapshot")
	cancel()
	if err := <-ended; err != nil {
		b.Error(err)
	}
}

// produceConnects sends events of as many devices as there are to be groups.
func produceConnects(ctx context.Context, b *testing.B, producer *kafka.Producer) {
	var batches [snapshotPartitions]schemas.BatchEncoder
	message := []byte(`{"eventType":"Connect","status":"Success"}`)
	now := time.Now().UnixMilli()
	for i := range snapshotEvents {
		device := fmt.Appendf(nil, "pump-%07d", i%snapshotGroups)
		p := schemas.Partition(device, snapshotPartitions)
		batches[p].Append(&schemas.Event{
			ID: schemas.NewEventID(fmt.Appendf(nil, "%d", i)), Time: now + int64(i/1000), IngestTime: now + int64(i/1000),
			Source: []byte(schemas.SourceIoT), Type: []byte("Connect"), Device: device, ClientID: device, Message: message,
		}, "lane")
		if batches[p].Size() < 100_000 {
			continue
		}
		value := append([]byte(nil), batches[p].Bytes()...)
		batches[p].Reset()
		producer.ProduceAsync(ctx, schemas.TopicEvents, p, kafka.Record{Value: value}, func(_ int64, err error) {
			if err != nil && ctx.Err() == nil {
				b.Error(err)
			}
		})
	}
	for p := range batches {
		if batches[p].Len() == 0 {
			continue
		}
		if err := producer.Produce(ctx, schemas.TopicEvents, p, kafka.Record{Value: batches[p].Bytes()}); err != nil {
			b.Fatal(err)
		}
	}
}

// histogram returns the count and the sum of a histogram, and the upper bound of
// the highest bucket that has something.
func histogram(b *testing.B, reg *prometheus.Registry, name string) (count, sum, highest float64) {
	b.Helper()
	families, err := reg.Gather()
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			h := m.GetHistogram()
			count += float64(h.GetSampleCount())
			sum += h.GetSampleSum()
			before := uint64(0)
			for _, bucket := range h.GetBucket() {
				if bucket.GetCumulativeCount() > before {
					highest = max(highest, bucket.GetUpperBound())
				}
				before = bucket.GetCumulativeCount()
			}
		}
	}
	return count, sum, highest
}
