package registry

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zaptest"

	"github.com/tocsin-io/tocsin/internal/identities"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
)

// topic is tocsin.identities on a broker.
type topic struct {
	t        *testing.T
	client   *kafka.Client
	producer *kafka.Producer
}

func newTopic(t *testing.T) *topic {
	t.Helper()
	client, err := kafka.Dial(kafka.Config{Brokers: testkit.KafkaFake(t).ListenAddrs()}, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	spec := kafka.TopicSpec{Name: schemas.TopicIdentities, Partitions: 3, Compacted: true}
	if err := client.EnsureTopics(t.Context(), []kafka.TopicSpec{spec}); err != nil {
		t.Fatal(err)
	}
	producer, err := kafka.NewProducer(client, kafka.ProducerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = producer.Close(context.Background()) })
	return &topic{t, client, producer}
}

func (p *topic) put(key string, value any) {
	p.t.Helper()
	b, ok := value.([]byte)
	if !ok && value != nil {
		var err error
		if b, err = json.Marshal(value); err != nil {
			p.t.Fatal(err)
		}
	}
	partition := schemas.Partition([]byte(key), 3)
	if err := p.producer.Produce(p.t.Context(), schemas.TopicIdentities, partition, kafka.Record{Key: []byte(key), Value: b}); err != nil {
		p.t.Fatal(err)
	}
}

// follow returns a table that follows the topic, loaded.
func (p *topic) follow(reg prometheus.Registerer) *Table {
	p.t.Helper()
	log := zaptest.NewLogger(p.t)
	f, err := identities.Open(p.t.Context(), p.client, log)
	if err != nil {
		p.t.Fatal(err)
	}
	table := New(Options{})
	Follow(f, table, log, reg)
	if err := f.Load(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	p.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Error(err)
		}
	})
	return table
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

func TestFollow(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	p := newTopic(t)
	early, gone, late := typical(rng, 1), typical(rng, 2), typical(rng, 3)
	p.put(schemas.KeyCertificate+early.ID, early)
	p.put(schemas.KeyCertificate+gone.ID, gone)
	p.put(schemas.KeyBinding+early.ID, []byte(`{"device":"x"}`))
	p.put(schemas.KeyCertificate+gone.ID, nil)
	p.put(schemas.KeyCertificate+randomHex(rng, 32), []byte("{"))
	p.put(schemas.KeyCertificate+randomHex(rng, 32), early)
	p.put(schemas.KeyCertificate+"abc", schemas.Certificate{ID: "abc"})

	reg := prometheus.NewRegistry()
	table := p.follow(reg)
	if got, ok := table.Get(early.ID); !ok || cmp.Diff(early, got) != "" {
		t.Error(ok, cmp.Diff(early, got))
	}
	if table.Len() != 1 || table.Complete(time.Now()) {
		t.Errorf("%d certificates, complete: %v", table.Len(), table.Complete(time.Now()))
	}
	refused := map[string]float64{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == "tocsin_certificates_refused_total" {
				refused[m.Label[0].GetValue()] = m.Counter.GetValue()
			}
		}
	}
	if diff := cmp.Diff(map[string]float64{reasonNotJSON: 1, reasonKey: 2, reasonTooLarge: 0, reasonFull: 0}, refused); diff != "" {
		t.Error(diff)
	}

	p.put(schemas.KeyCertificate+late.ID, late)
	await(t, "a certificate that came later", func() bool { _, ok := table.Get(late.ID); return ok })
	early.Status = schemas.CertRevoked
	p.put(schemas.KeyCertificate+early.ID, early)
	await(t, "a changed state", func() bool {
		ev := schemas.Event{CertificateID: []byte(early.ID), Time: epoch.UnixMilli()}
		table.Stamp(&ev)
		return ev.CertificateStatus == schemas.CertRevoked
	})
	p.put(schemas.KeyCertificate+late.ID, nil)
	await(t, "a certificate deleted", func() bool { _, ok := table.Get(late.ID); return !ok })

	p.put(schemas.KeySync+"crl", schemas.Sync{Source: "crl", Updated: epoch})
	p.put(schemas.KeySync+"inventory", schemas.Sync{Source: "inventory", FirstComplete: epoch, Updated: epoch})
	soon := time.Now().Add(2 * settle)
	await(t, "complete", func() bool { return table.Complete(soon) })
	if table.Complete(time.Now()) {
		t.Error("complete before the other partitions can have been read")
	}

	// Who reads the topic from its beginning knows at once.
	if again := p.follow(nil); !again.Complete(time.Now()) || again.Len() != 1 {
		t.Errorf("complete: %v, %d certificates", again.Complete(time.Now()), again.Len())
	}
	p.put(schemas.KeySync+"inventory", nil)
	await(t, "not complete any more", func() bool { return !table.Complete(soon) })
}
