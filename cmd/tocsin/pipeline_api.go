package main

// What the commands need of pipeline.go, which alone knows the stages:
//
//	startStages(ctx, a, want) (*running, error)
//
// starts what want names with a.cfg, a.log and a.metrics, and the embedded
// engines before them when a.cfg.Embedded.Dir is set. It must push every part
// on a.life in the order of dependence (engines, Kafka client, sinks,
// correlator, ingest pipeline, sources), because they are stopped from the last
// to the first; add readiness conditions to a.checks; hang the reload of rules
// on a.reload. It returns when all parts run. After an error the caller stops
// what was pushed. ctx bounds the start only.
//
//	migrateStore(ctx, a, dryRun) error
//
// brings the tables up to date, or prints the statements to a.std.out.
//
//	serveEmbeddedClickHouse(std, args) error
//
// is the child process of the embedded engine.

// running says where the parts of a process are.
type running struct {
	firehose   string   // URL that Firehose would post to
	events     string   // URL for bare events
	brokers    []string // Kafka
	clickhouse string   // URL of ClickHouse's HTTP interface, without credentials
	engine     string   // what ClickHouse is: version of the server or of the embedded engine
}
