package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"runtime"
	"time"

	"github.com/tocsin-io/tocsin/internal/config"
	"github.com/tocsin-io/tocsin/internal/simulate"
)

type demoCmd struct {
	Devices  int           `default:"2000" help:"Devices in the fleet."`
	Duration time.Duration `default:"20m" help:"Event time to play; the attacks need 10m."`
	Within   time.Duration `default:"20s" help:"Real time to play it in, where the machine can."`
	Seed     uint64        `default:"1" help:"The same seed gives the same fleet and the same attacks."`
	Dir      string        `placeholder:"DIR" help:"Keep the data here; without it in a temporary directory that is removed at the end."`
	Keep     bool          `help:"Leave everything running at the end, and print where it is."`
	JSON     bool          `help:"Print the result as JSON."`
	LogLevel string        `default:"warn" enum:"debug,info,warn,error" help:"What is logged: debug, info, warn or error."`
}

// Help returns what --help prints below the usage.
func (demoCmd) Help() string {
	return `Starts an embedded Kafka broker and ClickHouse engine, all stages, and a receiver for webhooks, and plays a fleet into the real
front doors: CloudWatch Logs payloads in Firehose requests, GuardDuty and CloudTrail by EventBridge. Six attacks are hidden in
the traffic. TOCSIN_KAFKA_BROKERS and TOCSIN_CLICKHOUSE_URL name servers to use instead of the embedded ones; use empty ones.
Exits with 0 when every attack was found and nobody else accused, with 1 otherwise.

Examples:

    tocsin demo
    tocsin demo --seed 7 --json
    tocsin demo --keep`
}

const (
	demoDatabase = "tocsin_demo"
	// settleTime bounds the wait for the last detections and rows.
	settleTime = 15 * time.Second
	// dialTimeout bounds the look whether a server is there.
	dialTimeout = 5 * time.Second
	// quietTime is how long nothing more must come before the result is taken.
	quietTime = time.Second
)

// Run runs the command.
func (c *demoCmd) Run(std streams) (err error) {
	dir := c.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "tocsin-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	hook, err := newReceiver()
	if err != nil {
		return err
	}
	defer hook.close()
	key, err := newAccessKey()
	if err != nil {
		return err
	}
	cfg, err := c.config(dir, key, hook)
	if err != nil {
		return err
	}
	a, err := newApp(std, cfg, "")
	if err != nil {
		return err
	}
	ctx, cancel := a.signals()
	defer cancel()
	defer func() { err = errors.Join(err, a.stop()) }()
	return c.show(ctx, a, hook, key)
}

func newAccessKey() (string, error) {
	var b [32]byte
	_, err := rand.Read(b[:])
	return hex.EncodeToString(b[:]), err
}

// config is the demo's configuration: everything on loopback ports that the
// system gives.
func (c *demoCmd) config(dir, key string, hook *receiver) (*config.Config, error) {
	cfg, err := config.LoadFile("") // the environment may name servers
	if err != nil {
		return nil, &exitError{code: exitConfig, err: err}
	}
	cfg.Embedded.Dir = dir
	cfg.ClickHouse.Database = demoDatabase
	cfg.Kafka.Topics.Partitions = 4
	cfg.Ingest.Firehose.Listen = "127.0.0.1:0"
	cfg.Ingest.Firehose.AccessKeys = []config.Secret{config.Secret(key)}
	// What is played is up to Duration old when it comes in; none of it is late.
	cfg.Correlate.Lateness = config.Duration(c.Duration + 10*time.Minute)
	cfg.Sinks.Webhooks = []config.Webhook{{
		Name: "demo", URL: hook.url(), Secrets: []config.Secret{config.Secret(hook.secret())}, MinLevel: "low",
		Activities: []string{"created"}, AllowPrivate: true, Timeout: config.Duration(5 * time.Second),
		GiveUpAfter: config.Duration(time.Minute), RefusedAttempts: 3, Concurrency: 4,
	}}
	cfg.Admin.Listen = "127.0.0.1:0"
	cfg.Log.Level = c.LogLevel
	cfg.ShutdownTimeout = config.Duration(10 * time.Second)
	return cfg, nil
}

// show starts the pipeline, plays the fleet and reports.
func (c *demoCmd) show(ctx context.Context, a *app, hook *receiver, key string) error {
	line := newProgress(a.std.err)
	line.show("starting Kafka, ClickHouse and the stages ...")
	if err := a.startAdmin(); err != nil {
		return err
	}
	if !a.cfg.EmbedKafka() {
		if err := anyAnswers(ctx, a.cfg.Kafka.Brokers); err != nil {
			return fmt.Errorf("kafka: %w\nStart it, or unset %s for the embedded broker", err, config.EnvKafkaBrokers)
		}
	}
	parts, err := startStages(ctx, a, stages{ingest: true, correlate: true, sinks: allSinks(a.cfg)})
	if err != nil {
		return err
	}
	if parts.engine == "" {
		return fmt.Errorf("ClickHouse cannot be reached at %s\nStart it, or unset %s for the embedded engine", parts.clickhouse, config.EnvClickHouseURL)
	}
	report, err := c.play(ctx, a, parts, hook, key, line)
	if err != nil {
		return err
	}
	if report.answers, err = askStore(ctx, parts.store, a.cfg.ClickHouse.Database); err != nil {
		return err
	}
	if c.JSON {
		err = report.writeJSON(a.std.out)
	} else {
		err = errors.Join(report.write(a.std.out), c.goOn(a, parts, key))
	}
	if err != nil {
		return err
	}
	if c.Keep {
		fmt.Fprintln(a.std.err, "\nStill running; Ctrl-C ends it.")
		if err := a.life.Wait(ctx); err != nil {
			return err
		}
	}
	if !report.ok() {
		return &exitError{code: exitFailed, err: fmt.Errorf("%d attacks missed, %d false alarms", report.score.Missed(), len(report.score.False))}
	}
	return nil
}

// anyAnswers fails when none of the addresses takes a connection. The stages
// would wait for a server to come up, which is right for a service; whoever
// looks at a demo wants to be told.
func anyAnswers(ctx context.Context, addresses []string) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var problems []error
	for _, address := range addresses {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// play sends the fleet's records and waits for the detections.
func (c *demoCmd) play(ctx context.Context, a *app, parts *running, hook *receiver, key string, line *progress) (*demoReport, error) {
	sim, err := simulate.New(simulate.Options{Seed: c.Seed, Devices: c.Devices, Duration: c.Duration, Attacks: true, Start: time.Now().Add(c.Within - c.Duration)})
	if err != nil {
		return nil, &exitError{code: exitUsage, err: err, try: "tocsin demo --help"}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		// A stage that fails must not leave the demo waiting for detections.
		if err := a.life.Wait(ctx); err != nil {
			cancel(err)
		}
	}()
	var ledger simulate.Ledger
	began := time.Now()
	status := func(at time.Time) {
		t := ledger.Totals()
		line.show(fmt.Sprintf("%s  %s of %s played, %s events, %s/s, %d detections", at.UTC().Format("15:04:05"),
			at.Sub(sim.Start()).Round(time.Second), minutes(c.Duration), grouped(t.Distinct),
			grouped(int64(float64(t.Distinct)/max(time.Since(began).Seconds(), 0.1))), len(hook.received())))
	}
	err = simulate.Play(ctx, sim, simulate.PlayOptions{
		Target: simulate.Target{FirehoseURL: parts.firehose, EventsURL: parts.events, AccessKey: key},
		Speed:  c.Duration.Seconds() / c.Within.Seconds(), Log: a.log, Progress: status,
	}, &ledger)
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	report := &demoReport{totals: ledger.Totals(), devices: c.Devices, span: c.Duration, playing: time.Since(began)}
	err = c.settle(ctx, parts, report, func() *simulate.Score {
		return simulate.NewScore(sim.Labels(), hook.received(), &ledger)
	})
	line.end(fmt.Sprintf("%s events played, %d detections", grouped(report.totals.Distinct), len(hook.received())))
	return report, err
}

// settle waits until every event is in the store, every attack is found and
// nothing more has come for a moment, or until it has waited long enough.
func (c *demoCmd) settle(ctx context.Context, parts *running, report *demoReport, score func() *simulate.Score) error {
	deadline := time.Now().Add(settleTime)
	last, since := "", time.Now()
	for {
		var err error
		if report.stored, err = parts.countEvents(ctx); err != nil {
			return err
		}
		report.score = score()
		state := fmt.Sprint(report.stored, report.score.Missed(), len(report.score.False))
		if state != last {
			last, since = state, time.Now()
		}
		complete := report.stored >= uint64(report.totals.Distinct) && report.score.Missed() == 0
		if complete && time.Since(since) >= quietTime || time.Now().After(deadline) {
			return nil
		}
		timer := time.NewTimer(200 * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
}

// goOn says what to try next.
func (c *demoCmd) goOn(a *app, parts *running, key string) error {
	w := a.std.out
	fmt.Fprintf(w, "\n%s, %s\n", parts.engine, runtime.Version())
	if !c.Keep {
		_, err := fmt.Fprintf(w, `
How to go on:
  tocsin demo --keep                     leave it running, with its addresses
  tocsin demo --seed 2                   another fleet, other victims
  tocsin run --embedded ./tocsin-data    your own, without servers
  tocsin generate --help                 the simulator by itself
`)
		return err
	}
	brokers := parts.brokers[0]
	_, err := fmt.Fprintf(w, `
It is left running:
  detections   TOCSIN_KAFKA_BROKERS=%[1]s tocsin tap detections
  events       TOCSIN_KAFKA_BROKERS=%[1]s tocsin tap events --follow
  SQL          curl '%[2]s/?database=%[3]s' --data 'SELECT * FROM detections_open FORMAT Pretty'
  more events  tocsin generate --to %[4]s --access-key %[5]s --speed 1
  metrics      curl http://%[6]s/metrics
`, brokers, parts.clickhouse, a.cfg.ClickHouse.Database, parts.base(), key, a.adminAddr)
	return err
}

// countEvents returns the distinct events in the store.
func (r *running) countEvents(ctx context.Context) (n uint64, err error) {
	err = r.store.QueryRow(ctx, "SELECT uniqExact(id) FROM "+r.database+".events WHERE source NOT IN ('behavior', 'registry')").Scan(&n)
	return n, err
}

// base returns the URL of the ingest listener.
func (r *running) base() string {
	u, err := url.Parse(r.firehose)
	if err != nil {
		return r.firehose
	}
	return u.Scheme + "://" + u.Host
}
