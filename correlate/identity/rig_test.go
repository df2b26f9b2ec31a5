package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
)

// rig is a broker with the topics of the registry.
type rig struct {
	t        *testing.T
	client   *kafka.Client
	producer *kafka.Producer
	brokers  []string
}

const rigPartitions = 3

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, brokers: testkit.KafkaFake(t).ListenAddrs()}
	r.client, r.producer = r.connect()
	err := r.client.EnsureTopics(t.Context(), []kafka.TopicSpec{
		{Name: schemas.TopicEvents, Partitions: rigPartitions},
		// Not compacted: a fact that another one replaces before it has been merged
		// makes no event, and tests count events.
		{Name: schemas.TopicIdentities, Partitions: rigPartitions},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// connect returns what an instance has of its own.
func (r *rig) connect() (*kafka.Client, *kafka.Producer) {
	r.t.Helper()
	client, err := kafka.Dial(kafka.Config{Brokers: r.brokers}, zap.NewNop())
	if err != nil {
		r.t.Fatal(err)
	}
	producer, err := kafka.NewProducer(client, kafka.ProducerOptions{Linger: -1})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = producer.Close(ctx)
		client.Close()
	})
	return client, producer
}

// instance is a running Service.
type instance struct {
	*Service
	stop func()
}

// start runs an instance until stop, or the end of the test.
func (r *rig) start(opts Options) *instance {
	r.t.Helper()
	opts.Client, opts.Producer = r.connect()
	opts.Logger = zaptest.NewLogger(r.t, zaptest.Level(zap.WarnLevel))
	opts.Group = kafka.GroupOptions{
		SessionTimeout: 6 * time.Second, HeartbeatInterval: 100 * time.Millisecond, RebalanceTimeout: 3 * time.Second, JoinBackoff: 50 * time.Millisecond,
		MaxWait: 50 * time.Millisecond,
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := New(opts)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			r.t.Errorf("registry: %v", err)
		}
	}()
	stop := func() {
		cancel()
		<-done
	}
	r.t.Cleanup(stop)
	return &instance{s, stop}
}

// put writes a fact as others do.
func (r *rig) put(key string, v any) {
	r.t.Helper()
	value, err := json.Marshal(v)
	if err != nil {
		r.t.Fatal(err)
	}
	_, name, _ := strings.Cut(key, "/")
	id, _, _ := strings.Cut(name, "/")
	err = r.producer.Produce(r.t.Context(), schemas.TopicIdentities, schemas.Partition([]byte(id), rigPartitions), kafka.Record{Key: []byte(key), Value: value})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) observe(o schemas.Observation) {
	r.t.Helper()
	r.put(schemas.KeyObserved+o.CertificateID+"/0", o)
}

func (r *rig) change(c schemas.StatusChange) {
	r.t.Helper()
	r.put(schemas.KeyChange+c.CertificateID+"/0", c)
}

// records returns the newest value of every key with the prefix.
func (r *rig) records(prefix string) map[string][]byte {
	r.t.Helper()
	out := make(map[string][]byte)
	for p := range rigPartitions {
		err := r.client.ReadAll(r.t.Context(), schemas.TopicIdentities, p, func(rec *kafka.FetchedRecord) error {
			if name, ok := strings.CutPrefix(string(rec.Key), prefix); ok {
				if delete(out, name); rec.Value != nil {
					out[name] = append([]byte{}, rec.Value...)
				}
			}
			return nil
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	return out
}

// certificates returns the records of certificates by ID.
func (r *rig) certificates() map[string]schemas.Certificate {
	r.t.Helper()
	out := make(map[string]schemas.Certificate)
	for id, value := range r.records(schemas.KeyCertificate) {
		var c schemas.Certificate
		if err := json.Unmarshal(value, &c); err != nil {
			r.t.Fatalf("%s: %v", id, err)
		}
		out[id] = c
	}
	return out
}

// event is an event of the registry as a rule sees it.
type event struct {
	schemas.Event
	message map[string]any
}

// events returns the distinct events of a type.
func (r *rig) events(eventType string) []event {
	r.t.Helper()
	var out []event
	seen := make(map[schemas.EventID]bool)
	for p := range rigPartitions {
		err := r.client.ReadAll(r.t.Context(), schemas.TopicEvents, p, func(rec *kafka.FetchedRecord) error {
			var reader schemas.BatchReader
			var ev schemas.Event
			reader.Reset(rec.Value)
			for reader.Next(&ev) {
				if string(ev.Type) != eventType || seen[ev.ID] {
					continue
				}
				seen[ev.ID] = true
				if want := schemas.Partition(ev.Device, rigPartitions); want != p || string(ev.Source) != schemas.SourceRegistry {
					r.t.Errorf("%s of %s %s is in partition %d, want %d", ev.Type, ev.Source, ev.Device, p, want)
				}
				e := event{Event: *ev.Clone(), message: map[string]any{}}
				if err := json.Unmarshal(ev.Message, &e.message); err != nil {
					r.t.Errorf("message %s: %v", ev.Message, err)
				}
				out = append(out, e)
			}
			return reader.Err()
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	return out
}

// eventually waits until check returns "", and fails with what it returned last.
func eventually(t *testing.T, what string, check func() string) {
	t.Helper()
	problem := ""
	for deadline := time.Now().Add(40 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if problem = check(); problem == "" {
			return
		}
	}
	t.Fatalf("%s: %s", what, problem)
}

// someID returns a certificate ID.
func someID(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

// weakCertificate returns a certificate with a key on P-224.
func weakCertificate(t *testing.T, ca *testkit.CA) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return ca.Issue(t, &x509.Certificate{}, key.Public())
}
