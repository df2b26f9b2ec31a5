package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/tocsin-io/tocsin/internal/config"
	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks"
	"github.com/tocsin-io/tocsin/sinks/clickhouse"
	"github.com/tocsin-io/tocsin/sinks/webhook"
)

// sinkStarter holds what the sinks of a process share.
type sinkStarter struct {
	*plant
	metrics *sinks.Metrics
	dead    sinks.DeadLetters
}

func (p *plant) startSinks(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	partitions, err := p.client.Partitions(ctx, schemas.TopicDeadLetter)
	if err != nil {
		return err
	}
	s := &sinkStarter{plant: p, metrics: sinks.NewMetrics(p.app.metrics), dead: sinks.NewDeadLetters(p.producer, partitions)}
	for _, name := range names {
		if name == sinkClickHouse {
			err = s.startClickHouse(ctx)
		} else {
			err = s.startWebhook(strings.TrimPrefix(name, sinkWebhook))
		}
		if err != nil {
			return fmt.Errorf("sink %s: %w", name, err)
		}
	}
	return nil
}

func clickhouseOptions(c *config.ClickHouse) clickhouse.Options {
	return clickhouse.Options{
		URL: c.URL, Database: c.Database, Username: c.Username, Password: c.Password.Reveal(),
		Compression: compression(c.Compression), MaxConns: c.MaxConns,
		DialTimeout: c.DialTimeout.Std(), ReadTimeout: c.ReadTimeout.Std(),
		TLS: clickhouse.TLS{
			Enabled: c.TLS.Enabled, CAFile: c.TLS.CAFile, CertFile: c.TLS.CertFile, KeyFile: c.TLS.KeyFile,
			ServerName: c.TLS.ServerName, InsecureSkipVerify: c.TLS.InsecureSkipVerify,
		},
	}
}

// compression turns "auto" into the sink's own choice.
func compression(name string) string {
	if name == "auto" {
		return ""
	}
	return name
}

func (a *app) migrator(conn *clickhouse.Conn) *clickhouse.Migrator {
	c := &a.cfg.ClickHouse
	return &clickhouse.Migrator{
		Conn: conn, Database: c.Database, Cluster: c.Cluster, Logger: a.log.Named("migrate"),
		Retention: clickhouse.Retention{
			EventsDays: c.TTL.EventsDays, DetectionsDays: c.TTL.DetectionsDays,
			DeadLettersDays: c.TTL.DeadLettersDays, EventCountsDays: c.TTL.EventCountsDays,
		},
	}
}

// startClickHouse migrates the database and starts a sink for each table, each
// with a consumer group of its own.
func (s *sinkStarter) startClickHouse(ctx context.Context) error {
	c := &s.cfg.ClickHouse
	s.clickhouse, s.database = c.URL, c.Database
	conn, err := clickhouse.Open(clickhouseOptions(c))
	if err != nil {
		return &exitError{code: exitConfig, err: err}
	}
	s.life.PushClose("clickhouse connections", conn.Close)
	s.store = conn
	if _, err := s.migrator(conn).Up(ctx); err != nil {
		return fmt.Errorf("%w\nIs ClickHouse at %s? Set clickhouse.url or TOCSIN_CLICKHOUSE_URL, or try: tocsin run --embedded ./tocsin-data", err, c.URL)
	}
	version, err := conn.ServerVersion()
	if err != nil {
		return err
	}
	s.engine = "ClickHouse " + version.Version.String()
	for _, table := range []struct {
		name, topic string
		open        func(clickhouse.SinkOptions) *clickhouse.Sink
	}{
		{"clickhouse", schemas.TopicEvents, clickhouse.NewEvents},
		{"clickhouse-detections", schemas.TopicDetections, clickhouse.NewDetections},
		{"clickhouse-deadletters", schemas.TopicDeadLetter, clickhouse.NewDeadLetters},
	} {
		status := sinks.NewStatus(table.name, s.metrics, s.log)
		sink := table.open(clickhouse.SinkOptions{
			Conn: conn, Database: c.Database,
			Rows: c.Batch.Rows, Bytes: int(c.Batch.Bytes), Interval: c.Batch.Interval.Std(),
			AllowedLateness: s.cfg.Correlate.Lateness.Std(),
			Name:            table.name, Metrics: s.metrics, Status: status, Logger: s.log.Named(table.name),
		})
		group := s.cfg.Sinks.ClickHouse.GroupID + strings.TrimPrefix(table.name, "clickhouse")
		s.run(sink, table.name, table.topic, group, status)
	}
	return nil
}

func (s *sinkStarter) startWebhook(name string) error {
	var c *config.Webhook
	for i := range s.cfg.Sinks.Webhooks {
		if s.cfg.Sinks.Webhooks[i].Name == name {
			c = &s.cfg.Sinks.Webhooks[i]
		}
	}
	if c == nil {
		return fmt.Errorf("no webhook of this name in the configuration")
	}
	integration := "webhook-" + name
	status := sinks.NewStatus(integration, s.metrics, s.log)
	secrets := make([]string, len(c.Secrets))
	for i, secret := range c.Secrets {
		secrets[i] = secret.Reveal()
	}
	headers := make(map[string]string, len(c.Headers))
	for k, v := range c.Headers {
		headers[k] = v.Reveal()
	}
	sink, err := webhook.New(webhook.Options{
		Name: integration, URL: c.URL, Secrets: secrets, Headers: headers,
		MinLevel: c.MinLevel, Activities: c.Activities, AllowPrivate: c.AllowPrivate, ProxyURL: c.ProxyURL, CAFile: c.CAFile,
		Timeout: c.Timeout.Std(), GiveUpAfter: c.GiveUpAfter.Std(),
		RefusedAttempts: c.RefusedAttempts, Concurrency: c.Concurrency,
		History: webhook.TopicHistory{Client: s.client}, DeadLetters: s.dead,
		Metrics: s.metrics, Status: status, Logger: s.log.Named(integration),
	})
	if err != nil {
		return &exitError{code: exitConfig, err: err}
	}
	s.run(sink, integration, schemas.TopicDetections, "tocsin-"+integration, status)
	return nil
}

func (s *sinkStarter) run(sink sinks.Sink, name, topic, group string, status *sinks.Status) {
	runner := sinks.NewRunner(sink, sinks.Options{
		Name: name, Topic: topic, GroupID: group, Client: s.client, DeadLetters: s.dead,
		Metrics: s.metrics, Registerer: s.app.metrics, Logger: s.log.Named(name),
	})
	s.life.Go("sink "+name, true, runner.Run)
	s.checks.Add("sink "+name, func(context.Context) error { return status.Err() })
}

// migrateStore brings the tables up to date, or shows what is missing.
func migrateStore(ctx context.Context, a *app, dryRun bool) error {
	if a.cfg.EmbedClickHouse() {
		if _, err := a.startEmbeddedClickHouse(ctx, a.cfg.Embedded.Dir); err != nil {
			return err
		}
	}
	conn, err := clickhouse.Open(clickhouseOptions(&a.cfg.ClickHouse))
	if err != nil {
		return &exitError{code: exitConfig, err: err}
	}
	a.life.PushClose("clickhouse connections", conn.Close)
	m := a.migrator(conn)
	if !dryRun {
		if _, err := m.Up(ctx); err != nil {
			return err
		}
	}
	status, err := m.Status(ctx)
	if err != nil {
		return err
	}
	for _, s := range status {
		state := "pending"
		switch {
		case s.Changed:
			state = "CHANGED after it was applied"
		case s.Unknown:
			state = "of a newer tocsin"
		case !s.Applied.IsZero():
			state = "applied " + s.Applied.UTC().Format("2006-01-02 15:04:05")
		}
		fmt.Fprintf(a.std.out, "%04d %-24s %s\n", s.Version, s.Name, state)
	}
	return nil
}
