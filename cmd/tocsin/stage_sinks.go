package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

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
	s := &sinkStarter{plant: p, metrics: sinks.NewMetrics(p.metrics), dead: sinks.NewDeadLetters(p.producer, partitions)}
	for _, name := range names {
		if name == sinkDecisions {
			continue // it is started when the certificates are there
		}
		kind, own, _ := strings.Cut(name, ":")
		switch kind + ":" {
		case sinkWebhook:
			err = s.startWebhook(own)
		case sinkAWSIoT:
			err = s.startAWSIoT(ctx, own)
		default:
			err = s.startClickHouse(ctx)
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
			ActionsDays: c.TTL.ActionsDays,
		},
	}
}

// startClickHouse migrates the database and starts a sink for each table, each
// with a consumer group of its own. A server that is away holds up these sinks
// and nothing else: they begin when it has been reached.
func (s *sinkStarter) startClickHouse(ctx context.Context) error {
	c := &s.cfg.ClickHouse
	s.clickhouse, s.database = c.URL, c.Database
	conn, err := clickhouse.Open(clickhouseOptions(c))
	if err != nil {
		return &exitError{code: exitConfig, err: err}
	}
	s.life.PushClose("clickhouse connections", conn.Close)
	s.store = conn
	migrated := make(chan struct{})
	first, cancel := context.WithTimeout(ctx, firstMigration)
	err = s.migrate(first, conn)
	cancel()
	switch {
	case err == nil:
		close(migrated)
		if version, err := conn.ServerVersion(); err == nil {
			s.engine = "ClickHouse " + version.Version.String()
		}
	case ctx.Err() != nil || errors.Is(err, clickhouse.ErrChanged) || errors.Is(err, clickhouse.ErrNewer):
		return err
	default:
		s.migrateLater(conn, migrated, err)
	}
	for _, table := range []struct {
		name, topic string
		open        func(clickhouse.SinkOptions) *clickhouse.Sink
	}{
		{"clickhouse", schemas.TopicEvents, clickhouse.NewEvents},
		{"clickhouse-detections", schemas.TopicDetections, clickhouse.NewDetections},
		{"clickhouse-certificates", schemas.TopicIdentities, clickhouse.NewCertificates},
		{"clickhouse-actions", schemas.TopicActions, clickhouse.NewActions},
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
		s.run(sink, table.name, table.topic, group, status.Err, migrated)
	}
	return nil
}

// firstMigration is how long the start waits for ClickHouse.
const firstMigration = 10 * time.Second

func (s *sinkStarter) migrate(ctx context.Context, conn *clickhouse.Conn) error {
	_, err := s.migrator(conn).Up(ctx)
	return err
}

// migrateLater tries until ClickHouse can be reached, then closes migrated.
func (s *sinkStarter) migrateLater(conn *clickhouse.Conn, migrated chan struct{}, why error) {
	s.checks.Add("clickhouse tables", func(context.Context) error {
		select {
		case <-migrated:
			return nil
		default:
			return errors.New("not up to date: ClickHouse cannot be reached")
		}
	})
	s.life.Go("migrations", false, func(ctx context.Context) error {
		for {
			s.log.Warn("ClickHouse cannot be reached; its sinks wait. Set clickhouse.url or TOCSIN_CLICKHOUSE_URL",
				zap.String("url", s.clickhouse), zap.Error(why))
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(firstMigration / 2):
			}
			if why = s.migrate(ctx, conn); why == nil {
				close(migrated)
				return nil
			}
			if errors.Is(why, clickhouse.ErrChanged) || errors.Is(why, clickhouse.ErrNewer) {
				return why
			}
		}
	})
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
	ready := make(chan struct{})
	close(ready)
	s.run(sink, integration, schemas.TopicDetections, "tocsin-"+integration, status.Err, ready)
	return nil
}

// run feeds a sink from its topic, once ready is closed. works says why the sink
// does not work.
func (s *sinkStarter) run(sink sinks.Sink, name, topic, group string, works func() error, ready <-chan struct{}) {
	runner := sinks.NewRunner(sink, sinks.Options{
		Name: name, Topic: topic, GroupID: group, Client: s.client, DeadLetters: s.dead,
		Metrics: s.metrics, Registerer: s.app.metrics, Logger: s.log.Named(name),
	})
	s.life.Go("sink "+name, true, func(ctx context.Context) error {
		select {
		case <-ready:
			return runner.Run(ctx)
		case <-ctx.Done():
			return nil
		}
	})
	s.checks.Add("sink "+name, func(context.Context) error { return works() })
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
