package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/embedded/broker"
	embedded "github.com/tocsin-io/tocsin/internal/embedded/clickhouse"
)

// startEngines starts the broker and the ClickHouse engine inside the program,
// where they are wanted, and points the configuration at them: from there on
// embedded is no different from any other server.
func (p *plant) startEngines(ctx context.Context, want stages) error {
	dir := p.cfg.Embedded.Dir
	if p.cfg.EmbedKafka() {
		b, err := broker.Start(broker.Options{Dir: filepath.Join(dir, "kafka"), Logger: p.log.Named("broker")})
		if err != nil {
			return fmt.Errorf("embedded broker: %w", err)
		}
		p.life.PushClose("embedded broker", b.Close)
		p.cfg.Kafka.Brokers = b.Addrs()
		p.metrics.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "tocsin_embedded_broker_storage_refusals_total",
			Help: "Requests that the embedded broker refused for want of disk space.",
		}, func() float64 { return float64(b.StorageRefusals()) }))
		p.log.Info("embedded broker", zap.Strings("addresses", b.Addrs()))
	}
	if p.cfg.EmbedClickHouse() && slices.Contains(want.sinks, sinkClickHouse) {
		s, err := p.startEmbeddedClickHouse(ctx, dir)
		if err != nil {
			return err
		}
		p.metrics.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "tocsin_embedded_clickhouse_restarts_total",
			Help: "Times that the embedded ClickHouse engine was started again.",
		}, func() float64 { return float64(s.Restarts()) }))
	}
	return nil
}

func (a *app) startEmbeddedClickHouse(ctx context.Context, dir string) (*embedded.Server, error) {
	s, err := embedded.Start(ctx, embedded.Options{
		DataDir: filepath.Join(dir, "clickhouse"), LibPath: a.cfg.Embedded.Library, Logger: a.log.Named("clickhouse"),
	})
	if err != nil {
		return nil, fmt.Errorf("embedded ClickHouse: %w", err)
	}
	a.life.PushClose("embedded ClickHouse", s.Close)
	a.cfg.ClickHouse.URL = s.URL()
	a.log.Info("embedded ClickHouse", zap.String("url", s.URL()), zap.String("version", s.Version()))
	return s, nil
}

// serveEmbeddedClickHouse is the child process that holds the engine. It
// answers on file descriptors of its own, and nothing else may be written to
// them.
func serveEmbeddedClickHouse(streams, []string) error {
	if code := embedded.ServeMain(); code != 0 {
		return &exitError{code: code}
	}
	return nil
}
