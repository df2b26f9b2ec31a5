package main

import "github.com/tocsin-io/tocsin/internal/config"

type runCmd struct{ stageFlags }

// Help returns what --help prints below the usage.
func (runCmd) Help() string {
	return `Runs ingest, correlate, the registry and every configured sink until SIGINT or SIGTERM. Kafka topics and ClickHouse tables are created
when they are missing. SIGHUP and POST /-/reload on the admin listener reload the rules.

Examples:

    tocsin run --config tocsin.yaml
    tocsin run --embedded ./tocsin-data
    TOCSIN_KAFKA_BROKERS=kafka:9092 TOCSIN_CLICKHOUSE_URL=http://clickhouse:8123 tocsin run`
}

// Run runs the command.
func (c *runCmd) Run(std streams) error {
	return runStages(std, &c.stageFlags, func(cfg *config.Config) (stages, error) {
		return stages{ingest: true, correlate: true, registry: cfg.Registry.Enabled, sinks: allSinks(cfg)}, nil
	})
}
