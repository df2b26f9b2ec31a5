package main

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/ingest/bindings"
	"github.com/tocsin-io/tocsin/ingest/identity"
	"github.com/tocsin-io/tocsin/internal/identities"
	"github.com/tocsin-io/tocsin/internal/registry"
)

// maxBindings bounds what an ingester remembers of which client used which
// certificate: about 200 bytes each.
const maxBindings = 1_000_000

// startIdentities reads tocsin.identities, once for all stages that want records
// of it, and follows it from then on.
func (p *plant) startIdentities(ctx context.Context, want stages) error {
	log := p.log.Named("identities")
	topic, err := identities.Open(ctx, p.client, log)
	if err != nil {
		return err
	}
	p.checks.Add("identities", func(context.Context) error {
		if !topic.Loaded() {
			return errors.New("tocsin.identities is still being read")
		}
		return nil
	})
	p.certificates = registry.New(registry.Options{ByName: want.has(sinkDecisions)})
	registry.Follow(topic, p.certificates, log, p.metrics)
	var known *bindings.Topic
	if want.ingest {
		p.bindings = identity.NewBindings(maxBindings)
		known = bindings.New(topic, p.producer, p.bindings, log)
	}
	start := time.Now()
	if err := topic.Load(ctx); err != nil {
		return err
	}
	log.Info("identities", zap.Int("certificates", p.certificates.Len()), zap.Bool("complete", p.certificates.Complete(time.Now())), zap.Duration("took", time.Since(start)))
	p.life.Go("identities", true, topic.Run)
	if known != nil {
		p.life.Go("bindings", true, known.Run)
	}
	return nil
}
