package clickhouse

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"

	embedded "github.com/tocsin-io/tocsin/internal/embedded/clickhouse"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks"
	"github.com/tocsin-io/tocsin/sinks/webhook"
)

const recoveryPartitions = 4

// pipeline is a broker, an engine of its own that may be killed, and runners.
type pipeline struct {
	client   *kafka.Client
	producer *kafka.Producer
	engine   *embedded.Server
	conn     *Conn
	db       string
}

func newPipeline(t *testing.T) *pipeline {
	t.Helper()
	cluster := testkit.KafkaFake(t, kfake.SeedTopics(recoveryPartitions, schemas.TopicEvents), kfake.SeedTopics(1, schemas.TopicDetections, schemas.TopicDeadLetter))
	client, err := kafka.Dial(kafka.Config{Brokers: cluster.ListenAddrs()}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	producer, err := kafka.NewProducer(client, kafka.ProducerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	server, err := embedded.Start(ctx, embedded.Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		producer.Close(ctx)
		client.Close()
	})
	p := &pipeline{client: client, producer: producer, engine: server, conn: connect(t, server.URL()), db: "tocsin"}
	m := &Migrator{Conn: p.conn, Database: p.db}
	if _, err := m.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// start runs a sink from its consumer group; stop ends it.
func (p *pipeline) start(t *testing.T, name, topic string, build func(*sinks.Metrics, *sinks.Status) sinks.Sink) (stop func(), status *sinks.Status) {
	t.Helper()
	metrics := sinks.NewMetrics(prometheus.NewRegistry())
	status = sinks.NewStatus(name, metrics, zap.NewNop())
	r := sinks.NewRunner(build(metrics, status), sinks.Options{
		Name: name, Topic: topic, Client: p.client, DeadLetters: sinks.NewDeadLetters(p.producer, 1),
		CommitInterval: 20 * time.Millisecond, MaxWait: 50 * time.Millisecond, Metrics: metrics,
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	var done atomic.Bool
	stop = func() {
		cancel()
		if done.Swap(true) {
			return
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("runner %s: %v", name, err)
			}
		case <-time.After(30 * time.Second):
			t.Errorf("runner %s does not end", name)
		}
	}
	t.Cleanup(stop)
	return stop, status
}

func (p *pipeline) startEvents(t *testing.T) (stop func(), status *sinks.Status) {
	return p.start(t, "events", schemas.TopicEvents, func(m *sinks.Metrics, s *sinks.Status) sinks.Sink {
		return NewEvents(SinkOptions{
			Conn: p.conn, Database: p.db, Name: "events", Rows: 500, Interval: 10 * time.Millisecond,
			Backoff: sinks.Backoff{First: 5 * time.Millisecond, Max: 100 * time.Millisecond}, Metrics: m, Status: s,
		})
	})
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func (p *pipeline) rows() uint64 {
	var n uint64
	if err := p.conn.QueryRow(context.Background(), "SELECT count() FROM "+p.db+".events_distinct").Scan(&n); err != nil {
		return 0 // the engine is away
	}
	return n
}

func TestNothingIsLostOrDoubledWhenTheEngineDies(t *testing.T) {
	p := newPipeline(t)
	var notified atomic.Int32
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { notified.Add(1) }))
	defer receiver.Close()
	p.start(t, "hook", schemas.TopicDetections, func(m *sinks.Metrics, s *sinks.Status) sinks.Sink {
		hook, err := webhook.New(webhook.Options{
			Name: "hook", URL: receiver.URL, Secrets: []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, AllowPrivate: true,
			History: webhook.TopicHistory{Client: p.client}, DeadLetters: sinks.NewDeadLetters(p.producer, 1), Metrics: m, Status: s,
		})
		if err != nil {
			t.Fatal(err)
		}
		return hook
	})
	stop, status := p.startEvents(t)

	const perRecord, records = 20, 120
	total := 0
	produce := func(n int) {
		for range n {
			rec := eventRecord(0, 0, total, perRecord)
			total += perRecord
			if err := p.producer.Produce(t.Context(), schemas.TopicEvents, total/perRecord%recoveryPartitions, kafka.Record{Value: rec.Value}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for round := range 3 {
		produce(records)
		// Somewhere in the middle of it.
		waitFor(t, "some rows", func() bool { return p.rows() > uint64(total-records*perRecord) })
		restarts := p.engine.Restarts()
		if err := syscall.Kill(p.engine.PID(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		produce(records) // while it is away
		if round == 0 {
			waitFor(t, "readiness to show it", func() bool { return status.Err() != nil || p.engine.Restarts() > restarts })
		}
		// The other sink does not notice.
		before := notified.Load()
		f := testFinding(fmt.Sprint("d", round), 1, "New")
		if err := p.producer.Produce(t.Context(), schemas.TopicDetections, 0, kafka.Record{Value: jsonRecord(t, "", 0, f).Value}); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the notification", func() bool { return notified.Load() == before+1 })
		if round == 1 { // the sink dies as well
			stop()
			stop, status = p.startEvents(t)
		}
		waitFor(t, "all rows", func() bool { return p.rows() == uint64(total) })
	}
	if p.engine.Restarts() != 3 {
		t.Errorf("the engine was started again %d times, want 3", p.engine.Restarts())
	}
	expectEvents(t, p.conn, p.db, total)
	stop()
	if n := notified.Load(); n != 3 {
		t.Errorf("%d notifications, want 3", n)
	}
}

func TestRunnersComeAndGo(t *testing.T) {
	p := newPipeline(t)
	total := 0
	for range 5 {
		first, _ := p.startEvents(t)
		for range 40 {
			rec := eventRecord(0, 0, total, 10)
			total += 10
			if err := p.producer.Produce(t.Context(), schemas.TopicEvents, total/10%recoveryPartitions, kafka.Record{Value: rec.Value}); err != nil {
				t.Fatal(err)
			}
		}
		second, _ := p.startEvents(t) // takes half of the partitions over
		waitFor(t, "some rows", func() bool { return p.rows() > uint64(total-400) })
		first()
		second()
	}
	p.startEvents(t)
	waitFor(t, "all rows", func() bool { return p.rows() == uint64(total) })
	expectEvents(t, p.conn, p.db, total)
}
