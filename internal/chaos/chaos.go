package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	embedded "github.com/tocsin-io/tocsin/internal/embedded/clickhouse"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
)

// Options of Run. Program is needed.
type Options struct {
	// Program is the command of the tocsin binary, Env what its processes have in
	// their environment besides this process's.
	Program []string
	Env     []string
	// Seed of the load, the faults and the receiver.
	Seed uint64
	// Minutes and Kills: so many kills, spread over so much time.
	Kills  int
	Within time.Duration
	// Rate is the events a second. Default 200.
	Rate int
	// Takeovers is how often the time is measured from the kill -9 of a correlator
	// to the first detection from its partitions by another.
	Takeovers int
	// Targets keeps the faults to these kinds (broker, ingest, correlate, clickhouse,
	// sink) or these parts (broker-1, correlate-2, sink-webhook, ...). Default: all.
	Targets []string
	// SnapshotInterval of the correlators. Default: the program's.
	SnapshotInterval time.Duration
	// Settle is how long the pipeline may take to come to rest when all faults are
	// over. Default 5 min.
	Settle time.Duration
	// Dir is where the parts keep data and logs. It is left alone at the end.
	Dir string
	// Log takes a line of progress.
	Log func(format string, args ...any)
}

// Report is what Run did and found.
type Report struct {
	Seed     uint64         `json:"seed"`
	Minutes  float64        `json:"minutes"` // of faults
	Kills    int            `json:"kills"`
	KillsOf  map[string]int `json:"kills_by_kind"`
	Stalls   int            `json:"stalls"`
	StallsOf map[string]int `json:"stalls_by_kind"`
	Requests int64          `json:"requests"`
	Retries  int64          `json:"requests_repeated"`
	BadHooks int            `json:"webhooks_failed_on_purpose"`
	// Messages that were taken more than once, under the same ID: because the receiver
	// did not answer, and because the sink was killed between the answer and its
	// next commit.
	Provoked  int       `json:"webhooks_repeated_without_an_answer"`
	Repeated  int       `json:"webhooks_repeated_after_an_answer"`
	Takeovers []float64 `json:"crash_to_first_detection_seconds"`
	Settled   float64   `json:"settled_seconds"` // after the last event
	Result
	// Complaints are panics, data races and the like in the logs of the processes.
	Complaints []string `json:"complaints,omitempty"`
	// Exits are processes that ended by themselves and were started again.
	Exits  []string `json:"exits,omitempty"`
	Faults []Fault  `json:"faults"`
}

// OK reports whether what must be true is.
func (r *Report) OK() bool { return r.clean() && len(r.Complaints) == 0 }

// partitions of every topic that has a choice.
const partitions = 6

// cluster is the pipeline.
type cluster struct {
	opts     Options
	kafka    *testkit.Kafka
	engine   *engine
	receiver *receiver
	client   *kafka.Client
	stages   map[string]*program
	targets  []*target
	ingest   []string // URLs
}

const nodes = 3

// Run starts everything, does faults to it under load and compares. The error
// says that it could not be done; what was found wrong is in the report.
func Run(ctx context.Context, opts Options) (report *Report, err error) {
	if opts.Rate == 0 {
		opts.Rate = 200
	}
	if opts.Settle == 0 {
		opts.Settle = 5 * time.Minute
	}
	c := &cluster{opts: opts, stages: map[string]*program{}}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.start(ctx); err != nil {
		return nil, err
	}
	supervising, stopSupervising := context.WithCancel(ctx)
	var supervisor sync.WaitGroup
	supervisor.Go(func() { c.supervise(supervising) })
	// Before close, or it would revive what that has ended.
	defer supervisor.Wait()
	defer stopSupervising()
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	report = &Report{Seed: opts.Seed}

	loading, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	load := newLoad(c.ingest, opts.Rate, opts.Seed)
	loaded := make(chan error, 1)
	go func() { loaded <- load.run(loading, ctx) }()

	for n := range opts.Takeovers {
		took, err := c.takeover(ctx, load, n%correlators)
		if err != nil {
			return nil, fmt.Errorf("crash to first detection: %w", err)
		}
		report.Takeovers = append(report.Takeovers, took.Seconds())
		opts.Log("crash to first detection: %.1f s", took.Seconds())
	}

	faults := newInjector(c.targets, opts.Seed, opts.Log)
	watching, stopWatching := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		c.watch(watching, faults, load)
	}()
	err = faults.run(ctx, opts.Kills, opts.Within)
	stopWatching()
	<-watched
	report.count(faults)
	if err != nil {
		return nil, err
	}

	c.receiver.calmDown()
	stopLoad()
	opts.Log("faults are over; waiting for everything to be acknowledged")
	if err := <-loaded; err != nil {
		return nil, err
	}
	began := time.Now()
	if err := load.letTimePass(ctx, partitions); err != nil {
		return nil, err
	}
	result, err := c.settle(ctx, load)
	if err != nil {
		return nil, err
	}
	report.Settled, report.Result = time.Since(began).Seconds(), *result
	hooks := c.receiver.counts()
	report.Requests, report.Retries = load.requests.Load(), load.retries.Load()
	report.BadHooks, report.Provoked, report.Repeated = hooks.refused, hooks.provoked, hooks.repeated
	report.Differences = append(report.Differences, hooks.forged...)
	for _, p := range c.stages {
		report.Complaints = append(report.Complaints, complaints(p.log)...)
		report.Exits = append(report.Exits, p.endings()...)
	}
	return report, nil
}

func (r *Report) count(in *injector) {
	r.KillsOf, r.StallsOf = map[string]int{}, map[string]int{}
	kinds := map[string]string{}
	for _, t := range in.targets {
		kinds[t.name] = t.kind
	}
	r.Faults = in.list()
	for _, f := range r.Faults {
		if f.Action == "kill" {
			r.Kills++
			r.KillsOf[kinds[f.Target]]++
		} else {
			r.Stalls++
			r.StallsOf[kinds[f.Target]]++
		}
	}
	r.Minutes = time.Since(in.began).Minutes()
}

const (
	ingesters   = 2
	correlators = 2
)

// start starts Kafka, the engine and the stages.
func (c *cluster) start(ctx context.Context) (err error) {
	c.opts.Log("starting three Kafka brokers, the ClickHouse engine and %d stages", ingesters+correlators+2)
	if c.kafka, err = testkit.NewKafka(testkit.KafkaOptions{Nodes: nodes}); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	server, err := embedded.Start(ctx, embedded.Options{
		DataDir: filepath.Join(c.opts.Dir, "clickhouse"), Command: append(append([]string{}, c.opts.Program...), embedded.Command),
	})
	if err != nil {
		return err
	}
	c.engine = &engine{server: server}
	if c.receiver, err = newReceiver(c.opts.Seed); err != nil {
		return err
	}
	if c.client, err = kafka.Dial(kafka.Config{Brokers: c.kafka.Brokers()}, zap.NewNop()); err != nil {
		return err
	}
	all := brokerTargets(c.kafka, nodes)
	all = append(all, c.engine.target())
	stage := func(name, kind string, command ...string) error {
		p, err := c.stage(name, command)
		if err != nil {
			return err
		}
		c.stages[name] = p
		all = append(all, stageTarget(name, kind, p))
		return p.start(ctx)
	}
	for i := range ingesters {
		if err := stage(fmt.Sprintf("ingest-%d", i+1), kindIngest, "ingest"); err != nil {
			return err
		}
	}
	for i := range correlators {
		if err := stage(fmt.Sprintf("correlate-%d", i+1), kindCorrelate, "correlate"); err != nil {
			return err
		}
	}
	for name, sink := range map[string]string{"sink-clickhouse": "clickhouse", "sink-webhook": "webhook:chaos"} {
		if err := stage(name, kindSink, "sink", sink); err != nil {
			return err
		}
	}
	for _, t := range all {
		if len(c.opts.Targets) == 0 || slices.Contains(c.opts.Targets, t.kind) || slices.Contains(c.opts.Targets, t.name) {
			c.targets = append(c.targets, t)
		}
	}
	if len(c.targets) == 0 {
		return fmt.Errorf("there is nothing to kill among %q", c.opts.Targets)
	}
	return nil
}

// stage prepares a process: its ports, rules and configuration.
func (c *cluster) stage(name string, command []string) (*program, error) {
	ports, err := testkit.FreePorts(2)
	if err != nil {
		return nil, err
	}
	admin, listen := loopback(ports[0]), loopback(ports[1])
	rules := filepath.Join(c.opts.Dir, "rules.yml")
	if err := os.WriteFile(rules, []byte(sigmaRules), 0o600); err != nil {
		return nil, err
	}
	snapshots := ""
	if c.opts.SnapshotInterval > 0 {
		snapshots = fmt.Sprintf("snapshot_interval: %s", c.opts.SnapshotInterval)
	}
	config := filepath.Join(c.opts.Dir, name+".yaml")
	text := fmt.Sprintf(`
kafka: {topics: {partitions: %d}}
ingest: {firehose: {listen: %q}}
correlate: {rules: [%q], builtin: false, %s}
sinks:
  webhooks:
    - {name: chaos, url: %q, secrets: [%q], min_level: informational, activities: [created, closed], allow_private: true, timeout: %s}
admin: {listen: %q}
log: {format: json}
`, partitions, listen, rules, snapshots, c.receiver.url(), c.receiver.secret(), webhookTimeout, admin)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	if command[0] == "ingest" {
		c.ingest = append(c.ingest, "http://"+listen+"/firehose")
	}
	args := append(append([]string{}, c.opts.Program...), command[0], "--config", config)
	return &program{
		command: append(args, command[1:]...), log: filepath.Join(c.opts.Dir, name+".log"), admin: admin,
		env: append([]string{
			"TOCSIN_KAFKA_BROKERS=" + strings.Join(c.kafka.Brokers(), ","), "TOCSIN_CLICKHOUSE_URL=" + c.engine.server.URL(),
		}, c.opts.Env...),
	}, nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// supervise starts processes that end by themselves again, as systemd or Kubernetes
// would: one that finds no Kafka when it starts gives up after a while.
func (c *cluster) supervise(ctx context.Context) {
	for ; ctx.Err() == nil; sleep(ctx, time.Second) {
		for name, p := range c.stages {
			if err := p.revive(); err != nil {
				c.opts.Log("%s does not start: %v", name, err)
			}
		}
	}
}

// startWithin is how long the stages may take to be ready.
const startWithin = 2 * time.Minute

func (c *cluster) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for name, p := range c.stages {
		for {
			err := p.ready(ctx)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("%s is not ready: %w; its log is %s", name, err, p.log)
			}
			sleep(ctx, 100*time.Millisecond)
		}
	}
	return nil
}

// watch prints a line now and then.
func (c *cluster) watch(ctx context.Context, in *injector, l *load) {
	for {
		sleep(ctx, 5*time.Second)
		if ctx.Err() != nil {
			return
		}
		events, pending := l.counts()
		hooks := c.receiver.counts()
		faults := in.list()
		kills, down := in.kills(), strings.Join(in.down(), ", ")
		if down == "" {
			down = "nothing"
		}
		c.opts.Log("%4.0f s: %d kills, %d stalls; %d events, %d not acknowledged; %d webhooks; out of order: %s",
			time.Since(in.began).Seconds(), kills, len(faults)-kills, events, pending, hooks.messages, down)
	}
}

// settle waits until everything has been read and what came out is what must, or
// the time for it is over.
func (c *cluster) settle(ctx context.Context, l *load) (*Result, error) {
	deadline := time.Now().Add(c.opts.Settle)
	v := newVerifier(c.client, c.kafka.Brokers(), c.engine.server.URL(), l.entries())
	var last *Result
	for quiet := 0; ; sleep(ctx, time.Second) {
		over := time.Now().After(deadline)
		lag, where, err := v.lag(ctx)
		if err == nil && (lag == 0 || over) {
			last, err = v.verify(ctx, c.receiver.messages(), len(c.receiver.counts().forged))
			if err == nil && last.clean() && lag == 0 {
				// Once more: what is still on its way would be too much.
				if quiet++; quiet == 2 {
					return last, nil
				}
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case over && err != nil:
			return nil, err
		case over:
			if lag > 0 {
				last.differ("%d records have not been read: %s", lag, where)
			}
			return last, nil
		case err != nil:
			c.opts.Log("settling: %v", err)
		case lag > 0:
			c.opts.Log("settling: %d records to go; %s", lag, where)
		case last != nil && !last.clean():
			c.opts.Log("settling: lost %d, duplicated %d", last.Lost, last.Duplicated)
		}
	}
}

// close ends everything that was started.
func (c *cluster) close() error {
	var err error
	for _, p := range c.stages {
		p.kill()
	}
	if c.client != nil {
		err = c.client.Close()
	}
	if c.engine != nil {
		_ = c.engine.signal(syscall.SIGCONT) // one that is frozen would not end
		err = errors.Join(err, c.engine.server.Close())
	}
	if c.receiver != nil {
		err = errors.Join(err, c.receiver.close())
	}
	if c.kafka != nil {
		err = errors.Join(err, c.kafka.Close())
	}
	return err
}
