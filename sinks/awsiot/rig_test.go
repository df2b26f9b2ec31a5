package awsiot

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/tocsin-io/tocsin/internal/actionlog"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks"
)

const (
	account    = "123456789012"
	partitions = 3
)

// rig is a broker with the topics, and a fake of AWS.
type rig struct {
	t        *testing.T
	client   *kafka.Client
	producer *kafka.Producer
	aws      *fakeAWS
	log      *actionlog.Log
	metrics  *prometheus.Registry
}

func newRig(t *testing.T) *rig {
	t.Helper()
	cluster := testkit.KafkaFake(t, kfake.SeedTopics(partitions, schemas.TopicDetections, schemas.TopicActions,
		schemas.TopicIdentities, schemas.TopicEvents, schemas.TopicDeadLetter))
	client, err := kafka.Dial(kafka.Config{Brokers: cluster.ListenAddrs()}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	producer, err := kafka.NewProducer(client, kafka.ProducerOptions{Linger: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		producer.Close(ctx)
		client.Close()
	})
	return &rig{
		t: t, client: client, producer: producer, aws: newFakeAWS(t),
		log: actionlog.New(producer, partitions), metrics: prometheus.NewRegistry(),
	}
}

// options are those of a sink that revokes the certificate of every detection.
func (r *rig) options() Options {
	control, connections := r.aws.clients(r.t)
	rates := map[string]float64{}
	for op := range Operations {
		rates[op] = 1000
	}
	metrics := sinks.NewMetrics(r.metrics)
	log := zaptest.NewLogger(r.t, zaptest.Level(zap.ErrorLevel))
	return Options{
		Name: "prod", Account: account, Region: "eu-west-1", Control: control, Connections: connections,
		Bindings:        []Binding{{Rules: []string{"level>=low"}, Actions: []string{schemas.KindRevoke}}},
		QuarantineGroup: "quarantine", Rotation: Rotation{Document: `{"operation":"rotate"}`},
		Rates: rates,
		Kafka: r.client, Producer: r.producer, Metrics: NewMetrics(r.metrics),
		Status: sinks.NewStatus("awsiot-prod", metrics, log), Logger: log,
	}
}

// running is a sink that is fed.
type running struct {
	*Sink
	stop func()
}

func (r *rig) start(o Options) *running {
	r.t.Helper()
	sink, err := New(r.t.Context(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	runner := sinks.NewRunner(sink, sinks.Options{
		Name: "awsiot-prod", Topic: schemas.TopicDetections, Client: r.client, DeadLetters: sinks.NewDeadLetters(r.producer, partitions),
		CommitInterval: time.Millisecond, MaxWait: 20 * time.Millisecond, Registerer: r.metrics,
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				r.t.Error(err)
			}
		case <-time.After(20 * time.Second):
			r.t.Error("the sink does not stop")
		}
	}
	r.t.Cleanup(stop)
	return &running{sink, stop}
}

// finding is a detection about client n, whose certificate is cert(n).
func finding(n int) *schemas.Finding {
	client := fmt.Sprint("pump-", n)
	return &schemas.Finding{
		ClassUID: schemas.FindingClassUID, ActivityID: schemas.ActivityCreate, Time: time.Now().UnixMilli(),
		Message:     "a certificate is shared",
		FindingInfo: schemas.FindingInfo{UID: fmt.Sprint("detection-", n), Title: "Shared certificate", Analytic: schemas.Analytic{UID: "rule-1"}},
		Device:      &schemas.FindingDevice{UID: client},
		Evidences: []schemas.Evidence{{Data: schemas.EvidenceData{
			Source: schemas.SourceIoT, EventType: "Connect", Device: client, ClientID: client, CertificateID: cert(n),
			SourceIP: "198.51.100.7", Outcome: "success",
		}}},
		Unmapped: schemas.FindingExtension{
			RuleLevel: "high", RuleTags: []string{"attack.initial-access"}, CertificateID: cert(n),
			Group: map[string]string{"tocsin.certificate_id": cert(n)}, EvidenceComplete: true,
		},
	}
}

func (r *rig) detect(findings ...*schemas.Finding) {
	r.t.Helper()
	for _, f := range findings {
		value, err := json.Marshal(f)
		if err != nil {
			r.t.Fatal(err)
		}
		p := schemas.Partition([]byte(f.FindingInfo.UID), partitions)
		if err := r.producer.Produce(r.t.Context(), schemas.TopicDetections, p, kafka.Record{Value: value}); err != nil {
			r.t.Fatal(err)
		}
	}
}

// register makes certificates known to AWS, active and attached to their thing.
func (r *rig) register(n int) {
	for i := 1; i <= n; i++ {
		r.aws.certs[cert(i)] = &fakeCert{status: "ACTIVE", things: []string{fmt.Sprint("pump-", i)}}
		r.aws.online[fmt.Sprint("pump-", i)] = true
	}
}

// identity writes a record of tocsin.identities.
func (r *rig) identity(key string, value any) {
	r.t.Helper()
	b, err := json.Marshal(value)
	if err != nil {
		r.t.Fatal(err)
	}
	p := schemas.Partition([]byte(key), partitions)
	if err := r.producer.Produce(r.t.Context(), schemas.TopicIdentities, p, kafka.Record{Key: []byte(key), Value: b}); err != nil {
		r.t.Fatal(err)
	}
}

// steps returns all that is in tocsin.actions, by partition.
func (r *rig) steps() []schemas.Action {
	r.t.Helper()
	var all []schemas.Action
	for p := range partitions {
		err := r.client.ReadAll(r.t.Context(), schemas.TopicActions, p, func(rec *kafka.FetchedRecord) error {
			a, err := actionlog.Parse(rec.Value)
			if err == nil {
				all = append(all, *a)
			}
			return err
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	return all
}

// await waits until n actions have reached the state, and returns them.
func (r *rig) await(state string, n int) []schemas.Action {
	r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		var found []schemas.Action
		all := r.steps()
		for _, a := range all {
			if a.State == state {
				found = append(found, a)
			}
		}
		if len(found) >= n {
			return found
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%d actions are %s, want %d; there are:\n%s", len(found), state, n, show(all))
		}
		time.Sleep(10 * time.Millisecond) // the topic is read again
	}
}

func show(all []schemas.Action) (text string) {
	for _, a := range all {
		text += fmt.Sprintf("%s %s %s %s %s %s %s\n", a.ID[:8], a.Kind, a.State, a.Code, target(&a), a.Reason, a.Error)
	}
	return text
}
