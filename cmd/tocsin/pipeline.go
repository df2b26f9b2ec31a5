package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/correlate"
	"github.com/tocsin-io/tocsin/ingest/identity"
	"github.com/tocsin-io/tocsin/internal/documents"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/registry"
	"github.com/tocsin-io/tocsin/internal/telemetry"
	"github.com/tocsin-io/tocsin/internal/watermark"
)

// running says where the parts of a process are.
type running struct {
	firehose   string   // URL that Firehose would post to
	events     string   // URL for bare events
	decisions  string   // URL of the decision endpoint
	brokers    []string // Kafka
	clickhouse string   // URL of ClickHouse's HTTP interface, without credentials
	engine     string   // what ClickHouse is, with its version
	store      driver.Conn
	database   string
}

// plant is what the stages of a process share while they are started.
type plant struct {
	*app
	running
	client   *kafka.Client
	producer *kafka.Producer

	// Of tocsin.identities, where a stage needs it.
	certificates *registry.Table
	bindings     *identity.Bindings
}

// startStages starts what want names. Every part goes on a.life in the order
// of dependence, because the last is stopped first: sources before the stages
// that they feed, these before Kafka and the engines. After an error the caller
// stops what was started. ctx bounds the start only.
func startStages(ctx context.Context, a *app, want stages) (*running, error) {
	p := &plant{app: a}
	tuneGC()
	if err := p.startEngines(ctx, want); err != nil {
		return nil, err
	}
	if err := p.connectKafka(ctx); err != nil {
		return nil, err
	}
	if err := p.startSinks(ctx, want.sinks); err != nil {
		return nil, err
	}
	if want.correlate {
		if err := p.startCorrelator(ctx); err != nil {
			return nil, err
		}
		if p.cfg.Behavior.Enabled {
			p.startBehavior()
		}
	}
	if want.identities() {
		if err := p.startIdentities(ctx, want); err != nil {
			return nil, err
		}
	}
	if want.has(sinkDecisions) {
		if err := p.startDecisions(); err != nil {
			return nil, err
		}
	}
	if want.registry {
		if err := p.startRegistry(ctx); err != nil {
			return nil, err
		}
	}
	if want.ingest {
		if err := p.startIngest(ctx, !want.correlate && !want.registry && len(want.sinks) == 0); err != nil {
			return nil, err
		}
	}
	return &p.running, nil
}

// tuneGC lets the heap grow by less than Go's default of 100 % between two
// collections: the windows are large and live long, and collecting them a little
// more often is cheaper than holding their size again in garbage. GOGC and
// GOMEMLIMIT in the environment take precedence.
func tuneGC() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(50)
	}
}

// connectKafka dials Kafka, waits until it answers, and creates the topics.
func (p *plant) connectKafka(ctx context.Context) error {
	p.brokers = p.cfg.Kafka.Brokers
	client, err := kafka.Dial(kafkaConfig(&p.cfg.Kafka), p.log.Named("kafka"))
	if err != nil {
		return &exitError{code: exitConfig, err: err}
	}
	p.client = client
	p.life.PushClose("kafka client", client.Close)
	if err := client.EnsureTopics(ctx, topicSpecs(&p.cfg.Kafka.Topics)); err != nil {
		return fmt.Errorf("%w\nIs Kafka at %v? Set kafka.brokers or TOCSIN_KAFKA_BROKERS, or try: tocsin run --embedded ./tocsin-data", err, p.brokers)
	}
	p.producer, err = kafka.NewProducer(client, kafka.ProducerOptions{Compression: p.cfg.Kafka.Compression, Registerer: p.metrics})
	if err != nil {
		return err
	}
	p.life.Push("kafka producer", p.producer.Close)
	p.checks.Add("kafka", client.Ping)
	return nil
}

// startCorrelator compiles the rules and joins the correlators' group.
func (p *plant) startCorrelator(ctx context.Context) error {
	c := &p.cfg.Correlate
	set, err := p.compileRules()
	if err != nil {
		return &exitError{code: exitConfig, err: err}
	}
	opts := correlate.Options{
		Client: p.client, Producer: p.producer, Rules: set, GroupID: c.GroupID,
		Windows: correlate.WindowOptions{
			Lateness: c.Lateness.Std(), MaxGroups: c.MaxGroups, MaxEvents: c.MaxEvents, UpdateInterval: c.UpdateInterval.Std(),
		},
		Watermark:        watermark.Options{Disorder: c.Disorder.Std(), Idle: c.Idle.Std()},
		SnapshotInterval: c.SnapshotInterval.Std(),
		Version:          telemetry.ReadBuild().Version,
		Logger:           p.log.Named("correlate"),
		Registerer:       p.metrics,
	}
	if bucket, prefix, ok := c.StateBucket(); ok {
		client, err := documents.NewS3Client(ctx, c.StateRegion, c.StateEndpoint)
		if err != nil {
			return &exitError{code: exitConfig, err: fmt.Errorf("correlate.state: %w", err)}
		}
		opts.StateS3 = &correlate.S3State{Client: client, Bucket: bucket, Prefix: prefix}
	} else {
		opts.StateDir = c.State
	}
	correlator := correlate.New(opts)
	p.correlator.Store(correlator)
	p.life.Go("correlator", true, correlator.Run)
	p.checks.Add("correlator", func(context.Context) error {
		for _, s := range correlator.Status() {
			if s.Evicted > 0 {
				// Not a reason to be taken out of service, but what was found may be incomplete.
				p.log.Debug("groups were given up", zap.String("topic", s.Topic), zap.Int("partition", s.Partition), zap.Int64("groups", s.Evicted))
			}
		}
		if !correlator.Joined() {
			return fmt.Errorf("not a member of group %s yet", c.GroupID)
		}
		return nil
	})
	p.reload.OnReload("rules", func(context.Context) error {
		set, err := p.compileRules()
		if err != nil {
			return err
		}
		correlator.SetRules(set)
		return nil
	})
	if len(c.Rules) > 0 && c.WatchInterval > 0 {
		p.life.Go("rule files", false, func(ctx context.Context) error {
			return p.watchRules(ctx, c.Rules, c.WatchInterval.Std())
		})
	}
	return nil
}

// stopTimeout is what a stage may take of the time to stop: what is left has to
// do for the others.
func (p *plant) stopTimeout() time.Duration { return p.cfg.ShutdownTimeout.Std() / 2 }
