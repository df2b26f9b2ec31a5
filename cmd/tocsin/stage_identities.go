package main

import (
	"context"
	"errors"

	"github.com/tocsin-io/tocsin/internal/identities"
	"github.com/tocsin-io/tocsin/internal/registry"
)

// openIdentities prepares what the process keeps of tocsin.identities: whoever
// wants records of it says so before loadIdentities.
func (p *plant) openIdentities(ctx context.Context, opts registry.Options) error {
	follower, err := identities.Open(ctx, p.client, p.log.Named("identities"))
	if err != nil {
		return err
	}
	p.identities, p.certificates = follower, registry.New(opts)
	registry.Follow(follower, p.certificates, p.log.Named("identities"), p.metrics)
	p.checks.Add("identities", func(context.Context) error {
		if !follower.Loaded() {
			return errors.New("tocsin.identities is still being read")
		}
		return nil
	})
	return nil
}

// loadIdentities reads the topic, and follows it from then on.
func (p *plant) loadIdentities(ctx context.Context) error {
	if err := p.identities.Load(ctx); err != nil {
		return err
	}
	p.life.Go("identities", true, p.identities.Run)
	return nil
}
