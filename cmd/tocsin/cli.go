package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/tocsin-io/tocsin/internal/config"
)

// The exit codes. EX_CONFIG (78, sysexits.h) is what Vector uses, too: a
// supervisor can tell what a restart cannot mend.
const (
	exitOK     = 0
	exitFailed = 1 // it failed while running; for demo also: an attack missed, a benign device accused
	exitUsage  = 2 // the command line is wrong
	exitConfig = 78
)

// cli is the command line.
type cli struct {
	Run                runCmd                `cmd:"" help:"Run all stages in one process."`
	Ingest             ingestCmd             `cmd:"" help:"Run the first stage: sources to Kafka."`
	Correlate          correlateCmd          `cmd:"" help:"Run the second stage: rules over the events in Kafka."`
	Registry           registryCmd           `cmd:"" help:"Run the registry of certificates and CAs."`
	Sink               sinkCmd               `cmd:"" help:"Run the third stage: ClickHouse, webhooks and responses in AWS IoT."`
	Demo               demoCmd               `cmd:"" help:"Show the whole pipeline on a simulated fleet under attack."`
	Migrate            migrateCmd            `cmd:"" help:"Create or update the tables in ClickHouse."`
	Validate           validateCmd           `cmd:"" help:"Check a configuration and its rules."`
	Rules              rulesCmd              `cmd:"" help:"Check, list, test and explain rules."`
	Backtest           backtestCmd           `cmd:"" help:"Run rules over events of the past."`
	State              stateCmd              `cmd:"" help:"Show what the partitions of a running correlator hold."`
	Identities         identitiesCmd         `cmd:"" help:"Look up, list, import and export certificates."`
	Actions            actionsCmd            `cmd:"" help:"List, approve and reject automated responses."`
	Tap                tapCmd                `cmd:"" help:"Print a Kafka topic as JSON lines."`
	Generate           generateCmd           `cmd:"" help:"Simulate the logs of a fleet."`
	Version            versionCmd            `cmd:"" help:"Print the version."`
	EmbeddedClickhouse embeddedClickhouseCmd `cmd:"" hidden:"" help:"Serve the embedded ClickHouse engine (started by other commands)."`
}

const description = `Finds misuse in the logs of AWS IoT fleets.

Exit codes: 0 fine, 1 failed, 2 wrong command line, 78 wrong configuration or rules.`

func newParser(std streams, exit func(int)) (*kong.Kong, error) {
	return kong.New(&cli{},
		kong.Name("tocsin"),
		kong.Description(description),
		kong.Writers(std.out, std.err),
		kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Bind(std),
	)
}

// exitError is an error with the exit code that it deserves and the command
// that helps.
type exitError struct {
	code int
	err  error
	try  string // the next command, or ""
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// report prints err and returns its exit code.
func report(w io.Writer, err error) int {
	if err == nil || errors.Is(err, context.Canceled) {
		return exitOK
	}
	var e *exitError
	if !errors.As(err, &e) {
		e = &exitError{code: exitFailed, err: err}
	}
	text := err.Error()
	if strings.Contains(text, "\n") {
		fmt.Fprintln(w, text) // a list of problems, each with its place
	} else if text != "" {
		fmt.Fprintf(w, "tocsin: %s\n", text)
	}
	if e.try != "" {
		fmt.Fprintf(w, "Try: %s\n", e.try)
	}
	return e.code
}

// configFlags are the flags of every command that reads the configuration.
type configFlags struct {
	Config   string `short:"c" env:"TOCSIN_CONFIG" placeholder:"FILE" help:"YAML configuration; without one the defaults, TOCSIN_KAFKA_BROKERS and TOCSIN_CLICKHOUSE_URL apply."`
	LogLevel string `placeholder:"LEVEL" enum:"debug,info,warn,error," default:"" help:"Override log.level: debug, info, warn or error."`
}

// stageFlags are the flags of the commands that run stages.
type stageFlags struct {
	configFlags
	Embedded string `placeholder:"DIR" help:"Use a Kafka broker and a ClickHouse engine inside the program, which keep their data in DIR."`
}

// load returns the configuration with the flags applied.
func (f *configFlags) load() (*config.Config, error) {
	cfg, err := config.LoadFile(f.Config)
	var problems *config.Error
	switch {
	case errors.As(err, &problems):
		return nil, &exitError{code: exitConfig, err: err, try: strings.TrimSpace("tocsin validate " + f.Config)}
	case err != nil:
		return nil, &exitError{code: exitConfig, err: err}
	}
	if f.LogLevel != "" {
		cfg.Log.Level = f.LogLevel
	}
	return cfg, nil
}

func (f *stageFlags) load() (*config.Config, error) {
	cfg, err := f.configFlags.load()
	if err == nil && f.Embedded != "" {
		cfg.Embedded.Dir = f.Embedded
	}
	return cfg, err
}
