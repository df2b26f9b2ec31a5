package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/internal/config"
)

type sinkCmd struct {
	stageFlags
	Names []string `arg:"" optional:"" name:"sink" help:"clickhouse, decisions, webhook:NAME or awsiot:NAME; all configured ones when left out."`
}

// Help returns what --help prints below the usage.
func (sinkCmd) Help() string {
	return `Each sink reads Kafka with a consumer group of its own, so that one that is down delays nothing but itself.

Examples:

    tocsin sink --config tocsin.yaml
    tocsin sink --config tocsin.yaml clickhouse
    tocsin sink --config tocsin.yaml webhook:soc awsiot:prod`
}

// Run runs the command.
func (c *sinkCmd) Run(std streams) error {
	return runStages(std, &c.stageFlags, func(cfg *config.Config) (stages, error) {
		names, err := chooseSinks(cfg, c.Names)
		return stages{sinks: names}, err
	})
}

func chooseSinks(cfg *config.Config, names []string) ([]string, error) {
	configured := allSinks(cfg)
	if len(configured) == 0 {
		return nil, &exitError{code: exitConfig, err: errors.New("no sink is configured; set sinks.clickhouse.enabled, sinks.webhooks, sinks.awsiot or decisions.enabled")}
	}
	if len(names) == 0 {
		return configured, nil
	}
	for _, name := range names {
		if !slices.Contains(configured, name) {
			return nil, &exitError{code: exitUsage, err: fmt.Errorf("sink %q is not configured; there are: %s", name, strings.Join(configured, ", "))}
		}
	}
	return names, nil
}
