package benchmarks

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/correlate"
	"github.com/tocsin-io/tocsin/ingest"
	"github.com/tocsin-io/tocsin/ingest/decode"
	"github.com/tocsin-io/tocsin/ingest/identity"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/simulate"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

const (
	shufflePartitions = 16
	shuffleProcesses  = 2
	shuffleRate       = 8000 // events per second, in real time
	shuffleSeconds    = 8
	// shuffleFlush is how long an ingester gathers events for a partition.
	shuffleFlush = ingest.DefaultBatchLinger
)

const shuffleSelect = `
title: Selected
name: selected
logsource: {product: aws, service: iot}
detection: {s: {SELECTION}, condition: s}
---
`

// shuffleRules are fleet-wide counts: of the addresses of the whole fleet, and of
// the clients of each address.
var shuffleRules = map[string]string{
	"addresses of the fleet": `
title: Addresses
name: addresses
correlation: {type: value_count, rules: [selected], timespan: 1m, condition: {field: tocsin.source_ip, gte: 1000000}}
`,
	"clients of an address": `
title: Clients
name: clients
correlation: {type: value_count, rules: [selected], group-by: [tocsin.source_ip], timespan: 1m, condition: {field: clientId, gte: 1000000}}
`,
}

// BenchmarkShuffle measures what correlations that are not grouped by the device
// cost in Kafka: the bytes of tocsin.matches, as produced, for each of
// tocsin.events, with a fleet that plays in real time. The bar is 10 % for every
// Connect; a rule that every event of the fleet matches is the worst there is.
// One iteration is all the events, whatever b.N.
func BenchmarkShuffle(b *testing.B) {
	for _, which := range []struct{ name, selection string }{
		{"no event", "eventType: Never"},
		{"every Connect", "eventType: Connect"},
		{"every event", `traceId|contains: "-"`},
	} {
		for _, by := range []string{"addresses of the fleet", "clients of an address"} {
			b.Run(which.name+"/"+by, func(b *testing.B) {
				text := strings.Replace(shuffleSelect+shuffleRules[by], "SELECTION", which.selection, 1)
				set, diags := rules.Compile([]rules.Source{{Name: "shuffle.yml", Data: []byte(text)}}, rules.Options{})
				if err := diags.Err(); err != nil {
					b.Fatal(err)
				}
				benchmarkShuffle(b, set)
			})
		}
	}
}

func benchmarkShuffle(b *testing.B, set *rules.Set) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	brokers := testkit.KafkaFake(b).ListenAddrs()
	connect := func(reg prometheus.Registerer) (*kafka.Client, *kafka.Producer) {
		client, err := kafka.Dial(kafka.Config{Brokers: brokers}, zap.NewNop())
		if err != nil {
			b.Fatal(err)
		}
		producer, err := kafka.NewProducer(client, kafka.ProducerOptions{Registerer: reg})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			ended, done := context.WithTimeout(context.Background(), 5*time.Second)
			defer done()
			producer.Close(ended)
			client.Close()
		})
		return client, producer
	}
	reg := prometheus.NewRegistry()
	client, producer := connect(reg)
	specs := []kafka.TopicSpec{correlate.StateTopic(shufflePartitions, -1)}
	for _, topic := range []string{schemas.TopicEvents, schemas.TopicMatches, schemas.TopicDetections, schemas.TopicDeadLetter} {
		specs = append(specs, kafka.TopicSpec{Name: topic, Partitions: shufflePartitions})
	}
	if err := client.EnsureTopics(ctx, specs); err != nil {
		b.Fatal(err)
	}
	registries := []*prometheus.Registry{reg}
	ended := make(chan error, shuffleProcesses)
	for range shuffleProcesses {
		mine := prometheus.NewRegistry()
		registries = append(registries, mine)
		client, producer := connect(mine)
		c := correlate.New(correlate.Options{Client: client, Producer: producer, Rules: set, Logger: zap.NewNop(), Registerer: mine})
		go func() { ended <- c.Run(ctx) }()
	}
	events := playFleet(ctx, b, producer)
	for deadline := time.Now().Add(time.Minute); counterSum(b, registries, "tocsin_correlate_events_total", "") < float64(events); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatal("the correlators do not come to the end")
		}
	}
	time.Sleep(time.Second) // what they have yet to send
	bytes := func(topic string) float64 {
		return counterSum(b, registries, "tocsin_kafka_produced_bytes_total", topic)
	}
	matches := counterSum(b, registries, "tocsin_correlate_shuffled_matches_total", "")
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(100*matches/float64(events), "%matched")
	b.ReportMetric(bytes(schemas.TopicEvents)/float64(events), "B/event")
	if matches > 0 {
		b.ReportMetric(bytes(schemas.TopicMatches)/matches, "B/match")
	}
	b.ReportMetric(100*bytes(schemas.TopicMatches)/bytes(schemas.TopicEvents), "%extra")
	cancel()
	for range shuffleProcesses {
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}
}

// playFleet produces what a fleet sends, in real time, and returns the number of
// events.
func playFleet(ctx context.Context, b *testing.B, producer *kafka.Producer) (events int) {
	b.Helper()
	start := time.Now()
	sim, err := simulate.New(simulate.Options{
		Seed: 1, Devices: 50_000, Rate: shuffleRate, Duration: shuffleSeconds * time.Second, Start: start,
	})
	if err != nil {
		b.Fatal(err)
	}
	var batches [shufflePartitions]schemas.BatchEncoder
	flush := func() {
		for p := range batches {
			if batches[p].Len() == 0 {
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
	}
	emit := func(ev *schemas.Event) {
		batches[schemas.Partition(ev.Device, shufflePartitions)].Append(ev, "firehose/logs")
		events++
	}
	decoder := decode.New(decode.Options{Bindings: identity.NewBindings(50_000)})
	sub, err := simulate.NewSubscription(1, simulate.LogOptions{}, func(p simulate.Payload) error {
		decoder.Decode(p.Data, decode.Hints{Received: time.UnixMilli(p.LastTime)}, emit, func(r decode.Rejection) { b.Error(r.Err) })
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	flushed := start
	for records := sim.Step(); records != nil; records = sim.Step() {
		for i := range records {
			if err := sub.Add(&records[i]); err != nil {
				b.Fatal(err)
			}
		}
		if len(records) == 0 {
			continue
		}
		at := time.UnixMilli(records[len(records)-1].Time)
		if at.Sub(flushed) < shuffleFlush {
			continue
		}
		time.Sleep(time.Until(at))
		flushed = at
		if err := sub.Flush(); err != nil {
			b.Fatal(err)
		}
		flush()
	}
	if err := sub.Flush(); err != nil {
		b.Fatal(err)
	}
	flush()
	return events
}

// counterSum adds up a counter over registries and labels; with a label's value,
// over those that have it.
func counterSum(b *testing.B, registries []*prometheus.Registry, name, label string) (sum float64) {
	b.Helper()
	for _, reg := range registries {
		families, err := reg.Gather()
		if err != nil {
			b.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() != name {
				continue
			}
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if label != "" && l.GetValue() == label {
						sum += m.GetCounter().GetValue()
					}
				}
				if label == "" {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}
