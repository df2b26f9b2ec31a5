package main

import "github.com/tocsin-io/tocsin/internal/config"

type ingestCmd struct{ stageFlags }

// Help returns what --help prints below the usage.
func (ingestCmd) Help() string {
	return `Reads the configured sources, turns what they deliver into events and publishes these to tocsin.events. Run as many as the
load needs behind one load balancer.

Example:

    tocsin ingest --config tocsin.yaml`
}

// Run runs the command.
func (c *ingestCmd) Run(std streams) error {
	return runStages(std, &c.stageFlags, func(*config.Config) (stages, error) {
		return stages{ingest: true}, nil
	})
}
