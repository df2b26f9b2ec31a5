package main

import "github.com/tocsin-io/tocsin/internal/config"

type correlateCmd struct{ stageFlags }

// Help returns what --help prints below the usage.
func (correlateCmd) Help() string {
	return `Runs the rules over tocsin.events and publishes detections to tocsin.detections. Processes with the same
correlate.group_id share the partitions; one that dies is replaced by the others, which go on from its last snapshot.

Example:

    tocsin correlate --config tocsin.yaml`
}

// Run runs the command.
func (c *correlateCmd) Run(std streams) error {
	return runStages(std, &c.stageFlags, func(*config.Config) (stages, error) {
		return stages{correlate: true}, nil
	})
}
