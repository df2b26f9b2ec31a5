package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/correlate"
	"github.com/tocsin-io/tocsin/correlate/identity"
	"github.com/tocsin-io/tocsin/internal/config"
	"github.com/tocsin-io/tocsin/internal/lifecycle"
	"github.com/tocsin-io/tocsin/internal/telemetry"
)

// app is what every long-running command stands on.
type app struct {
	std        streams
	configFile string // "" when there is none; read again at a reload
	cfg        *config.Config
	log        *zap.Logger
	metrics    *prometheus.Registry
	checks     *telemetry.Checks
	reload     *telemetry.Reloader
	life       *lifecycle.Stack
	adminAddr  net.Addr // nil without an admin listener
	// correlator of the process, nil until it is started; the admin listener shows
	// what it holds.
	correlator atomic.Pointer[correlate.Correlator]
	// registry of the process, likewise.
	registry atomic.Pointer[identity.Service]
}

func newApp(std streams, cfg *config.Config, configFile string) (*app, error) {
	log, err := telemetry.NewLogger(std.err, cfg.Log.Level, cfg.Log.Format)
	if err != nil {
		return nil, &exitError{code: exitConfig, err: err}
	}
	metrics := telemetry.NewRegistry(telemetry.ReadBuild())
	return &app{
		std:        std,
		configFile: configFile,
		cfg:        cfg,
		log:        log,
		metrics:    metrics,
		checks:     &telemetry.Checks{},
		reload:     telemetry.NewReloader(metrics),
		life:       lifecycle.New(log),
	}, nil
}

// signals returns a context that ends at the first SIGINT or SIGTERM; the
// second one ends the process.
func (a *app) signals() (context.Context, context.CancelFunc) {
	return lifecycle.Signals(context.Background(), func(s os.Signal) {
		fmt.Fprintf(a.std.err, "tocsin: second %s, leaving at once\n", s)
		os.Exit(128 + int(s.(syscall.Signal)))
	})
}

// startAdmin starts the admin listener, first of all parts, so that a probe
// gets an answer during a slow start; being the first it is the last to stop.
func (a *app) startAdmin() error {
	if a.cfg.Admin.Listen == "" {
		return nil
	}
	admin := &telemetry.Admin{
		Log: a.log, Metrics: a.metrics, Checks: a.checks, Reload: a.reload, State: a.state, Pprof: a.cfg.Admin.Pprof,
		Routes: map[string]http.HandlerFunc{
			"GET /v1/identities/summary": a.registrySummary,
			"POST /v1/identities/sync":   a.registrySync,
		},
	}
	addr, stop, err := admin.Listen(a.cfg.Admin.Listen)
	if err != nil {
		return err
	}
	a.adminAddr = addr
	a.life.Push("admin listener", stop)
	a.log.Info("admin listener", zap.Stringer("address", addr))
	return nil
}

// onHangup reloads at SIGHUP. Signals that come during a reload become one.
func (a *app) onHangup() {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	a.life.Go("reload on SIGHUP", false, func(ctx context.Context) error {
		defer signal.Stop(hup)
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-hup:
			}
			if err := a.reload.Reload(ctx); err != nil {
				a.log.Error("reload failed; what was in force stays", zap.Error(err))
			} else {
				a.log.Info("reloaded")
			}
		}
	})
}

// stop ends everything within the configured time.
func (a *app) stop() error {
	a.checks.Stopping()
	err := a.life.Stop(a.cfg.ShutdownTimeout.Std())
	_ = a.log.Sync() // fails on a terminal, which needs none
	return err
}

// stages says what a process runs.
type stages struct {
	ingest    bool
	correlate bool
	registry  bool
	sinks     []string // "clickhouse", "webhook:<name>", "awsiot:<name>"
}

// has reports whether a sink is wanted.
func (s stages) has(sink string) bool { return slices.Contains(s.sinks, sink) }

// identities reports whether a stage needs what tocsin.identities holds.
func (s stages) identities() bool { return s.ingest || s.has(sinkDecisions) }

func (s stages) String() string {
	var names []string
	if s.ingest {
		names = append(names, "ingest")
	}
	if s.correlate {
		names = append(names, "correlate")
	}
	if s.registry {
		names = append(names, "registry")
	}
	for _, sink := range s.sinks {
		names = append(names, "sink "+sink)
	}
	return strings.Join(names, ", ")
}

// allSinks are the sinks that the configuration has.
func allSinks(cfg *config.Config) []string {
	var sinks []string
	if cfg.Sinks.ClickHouse.Enabled {
		sinks = append(sinks, sinkClickHouse)
	}
	for _, w := range cfg.Sinks.Webhooks {
		sinks = append(sinks, sinkWebhook+w.Name)
	}
	for _, a := range cfg.Sinks.AWSIoT {
		sinks = append(sinks, sinkAWSIoT+a.Name)
	}
	if cfg.Decisions.Enabled {
		sinks = append(sinks, sinkDecisions)
	}
	return sinks
}

const (
	sinkClickHouse = "clickhouse"
	sinkDecisions  = "decisions"
	sinkWebhook    = "webhook:"
)

// runStages runs stages until a signal comes or one of them fails.
func runStages(std streams, flags *stageFlags, choose func(*config.Config) (stages, error)) error {
	cfg, err := flags.load()
	if err != nil {
		return err
	}
	want, err := choose(cfg)
	if err != nil {
		return err
	}
	a, err := newApp(std, cfg, flags.Config)
	if err != nil {
		return err
	}
	ctx, cancel := a.signals()
	defer cancel()
	// The parts add their own checks as they start: until then there would be none to
	// fail.
	var started atomic.Bool
	a.checks.Add("started", func(context.Context) error {
		if !started.Load() {
			return errors.New("the stages are being started")
		}
		return nil
	})
	if err := a.startAdmin(); err != nil {
		return err
	}
	a.onHangup()
	a.log.Info("starting", zap.Stringer("stages", want))
	_, err = startStages(ctx, a, want)
	if err == nil {
		started.Store(true)
		a.log.Info("running", zap.Stringer("stages", want))
		err = a.life.Wait(ctx)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		a.log.Error("stopping", zap.Error(err))
	} else {
		a.log.Info("stopping; a second signal leaves at once")
	}
	return errors.Join(err, a.stop())
}
