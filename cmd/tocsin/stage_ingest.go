package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/ingest"
	"github.com/tocsin-io/tocsin/ingest/decode"
	"github.com/tocsin-io/tocsin/ingest/file"
	"github.com/tocsin-io/tocsin/ingest/firehose"
	"github.com/tocsin-io/tocsin/ingest/kinesis"
	"github.com/tocsin-io/tocsin/internal/config"
	"github.com/tocsin-io/tocsin/schemas"
)

// startIngest opens the sources and starts the pipeline that they feed. With
// alone the process has nothing else to do and ends when its sources do.
func (p *plant) startIngest(ctx context.Context, alone bool) error {
	c := &p.cfg.Ingest
	partitions, err := p.client.Partitions(ctx, schemas.TopicEvents)
	if err != nil {
		return err
	}
	deadLetters, err := p.client.Partitions(ctx, schemas.TopicDeadLetter)
	if err != nil {
		return err
	}
	pipeline, err := ingest.New(ingest.Options{
		Decoders: c.Decoders, Partitions: partitions, DeadLetterPartitions: deadLetters,
		Producer: p.producer,
		NewDecoder: func() *decode.Decoder {
			return decode.New(decode.Options{
				MaxInflated: int64(c.MaxInflated), MaxMessage: int(c.MaxMessage), MaxFuture: c.MaxFuture.Std(),
				Bindings: p.bindings, Certificates: p.certificates, Account: c.Account, Region: c.Region,
			})
		},
		BatchBytes: int(c.Batch.Bytes), BatchLinger: c.Batch.Linger.Std(),
		MaxInFlightBytes: int64(c.MaxInFlight),
		StopTimeout:      p.stopTimeout(),
		Logger:           p.log.Named("ingest"), Registerer: p.metrics,
	})
	if err != nil {
		return err
	}
	sources, err := p.openSources(ctx)
	if err != nil {
		return err
	}
	if len(sources) == 0 {
		p.log.Warn("no source is configured; nothing will come in")
		return nil
	}
	p.life.Go("ingest", false, func(ctx context.Context) error {
		err := pipeline.Run(ctx, sources...)
		if err == nil && ctx.Err() == nil && alone {
			p.life.Finish()
		}
		return err
	})
	return nil
}

func (p *plant) openSources(ctx context.Context) ([]ingest.Source, error) {
	c := &p.cfg.Ingest
	var sources []ingest.Source
	if c.Firehose.Enabled {
		s, err := p.openFirehose(&c.Firehose)
		if err != nil {
			return nil, err
		}
		sources = append(sources, s)
	}
	for i := range c.Kinesis {
		s, err := p.openKinesis(ctx, &c.Kinesis[i])
		if err != nil {
			return nil, fmt.Errorf("kinesis %s: %w", c.Kinesis[i].Stream, err)
		}
		sources = append(sources, s)
	}
	if f := &c.File; len(f.Paths) > 0 {
		s, err := file.New(file.Options{
			Paths: f.Paths, LinesPerSecond: f.LinesPerSecond, BytesPerSecond: int(f.BytesPerSecond),
			Logger: p.log.Named("file"), Registerer: p.metrics,
		})
		if err != nil {
			return nil, &exitError{code: exitConfig, err: err}
		}
		sources = append(sources, s)
	}
	return sources, nil
}

func (p *plant) openFirehose(c *config.Firehose) (ingest.Source, error) {
	keys := make([]string, len(c.AccessKeys))
	for i, k := range c.AccessKeys {
		keys[i] = k.Reveal()
	}
	scheme := "http"
	tlsConfig, err := p.serverTLS("firehose certificate", &c.TLS)
	if err != nil {
		return nil, &exitError{code: exitConfig, err: fmt.Errorf("firehose endpoint: %w", err)}
	}
	if tlsConfig != nil {
		scheme = "https"
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("firehose endpoint: %w", err)
	}
	// Without a key whoever reaches the port is let in; the configuration accepts
	// that on a loopback address only.
	s, err := firehose.New(firehose.Options{
		Listener: listener, TLS: tlsConfig, Path: c.Path, EventsPath: c.EventsPath,
		AccessKeys: keys, Anonymous: len(keys) == 0,
		MaxBodyBytes: int64(c.MaxBody), MaxInFlightBytes: int64(c.MaxInFlight), MaxRequests: c.MaxRequests,
		BodyTimeout: c.BodyTimeout.Std(), AckTimeout: c.AckTimeout.Std(), StopTimeout: p.stopTimeout() / 2,
		CompletedIDs: c.CompletedIDs, MaxLanes: c.MaxLanes,
		Logger: p.log.Named("firehose"), Registerer: p.metrics,
	})
	if err != nil {
		return nil, &exitError{code: exitConfig, err: errors.Join(err, listener.Close())}
	}
	base := scheme + "://" + listener.Addr().String()
	p.firehose, p.events = base+c.Path, base+c.EventsPath
	p.log.Info("firehose endpoint", zap.String("firehose", p.firehose), zap.String("events", p.events), zap.Bool("anonymous", len(keys) == 0))
	return s, nil
}

// serverTLS returns nil when no certificate is configured. The files are read
// again at a reload, so that a renewed certificate needs no restart.
func (p *plant) serverTLS(name string, c *config.ServerTLS) (*tls.Config, error) {
	if c.CertFile == "" {
		return nil, nil
	}
	var current atomic.Pointer[tls.Certificate]
	load := func(context.Context) error {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err == nil {
			current.Store(&cert)
		}
		return err
	}
	if err := load(context.Background()); err != nil {
		return nil, err
	}
	p.reload.OnReload(name, load)
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current.Load(), nil },
	}, nil
}

func (p *plant) openKinesis(ctx context.Context, c *config.Kinesis) (ingest.Source, error) {
	client, err := kinesis.NewClient(ctx, c.Region, c.Endpoint)
	if err != nil {
		return nil, err
	}
	var store kinesis.CheckpointStore
	if c.CheckpointDir != "" {
		store, err = kinesis.NewFileStore(c.CheckpointDir)
	} else {
		var partitions int
		if partitions, err = p.client.Partitions(ctx, schemas.TopicState); err == nil {
			store, err = kinesis.NewKafkaStore(p.client, p.producer, schemas.TopicState, partitions)
		}
	}
	if err != nil {
		return nil, err
	}
	opts := kinesis.Options{
		Stream: c.Stream, Client: client, Checkpoints: store,
		Worker: c.Worker, Workers: c.Workers, PollInterval: c.PollInterval.Std(),
		// Before the pipeline gives up, so that the last checkpoints are good ones.
		StopTimeout: p.stopTimeout() / 2, Logger: p.log.Named("kinesis"), Registerer: p.metrics,
	}
	switch at, isTime := c.StartTime(); {
	case isTime:
		opts.Start, opts.StartTime = kinesis.StartAtTimestamp, at
	case c.Start == config.StartLatest:
		opts.Start = kinesis.StartLatest
	}
	return kinesis.New(opts)
}
