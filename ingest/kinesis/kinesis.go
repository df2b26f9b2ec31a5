// Package kinesis is the source for Amazon Kinesis data streams, by polling with
// GetRecords. It reads all shards of a stream (or this process's part of them),
// follows resharding, and keeps a checkpoint for each shard: the sequence number
// up to which everything is in Kafka. After a crash, what was read beyond the
// checkpoint is read again; the events carry the same IDs and are dropped
// downstream.
//
// Processes do not negotiate who reads which shard. Run one, or give each of n
// its number (Options.Worker and Workers): the shards are divided by a hash of
// their IDs. Two processes with the same number read everything twice, which
// costs money and changes no result.
//
// Records of one shard are published in order, and a shard that came from a
// split or merge is begun when its parents have been published to their end, if
// these belong to the same process.
package kinesis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/tocsin-io/tocsin/ingest"
	"github.com/tocsin-io/tocsin/internal/backoff"
)

// The defaults of Options.
const (
	// DefaultPollInterval is four calls a second, of the five that all readers of a
	// shard have together.
	DefaultPollInterval       = 250 * time.Millisecond
	DefaultRefreshInterval    = 30 * time.Second
	DefaultCheckpointInterval = time.Second
	DefaultStopTimeout        = 10 * time.Second
	DefaultMaxFetchBytes      = 64 << 20

	// leastPollInterval is AWS's limit of five calls a second and shard.
	leastPollInterval = 200 * time.Millisecond
	// maxRecords is AWS's limit for one call.
	maxRecords  = 10_000
	saveTimeout = 5 * time.Second
)

// Where reading begins in shards without a checkpoint.
const (
	StartTrimHorizon = "TRIM_HORIZON" // with the oldest record
	StartLatest      = "LATEST"       // with what comes in from now on
	StartAtTimestamp = "AT_TIMESTAMP" // with Options.StartTime
)

// API is what is used of the Kinesis client; *kinesis.Client is one. It must be
// safe for concurrent use.
type API interface {
	ListShards(context.Context, *kinesis.ListShardsInput, ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error)
	GetShardIterator(context.Context, *kinesis.GetShardIteratorInput, ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error)
	GetRecords(context.Context, *kinesis.GetRecordsInput, ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error)
}

// NewClient returns a client with the credentials of AWS's default chain. Region
// and endpoint may be empty: then they are the chain's. An endpoint is given for
// VPC endpoints and for tests.
func NewClient(ctx context.Context, region, endpoint string, more ...func(*kinesis.Options)) (*kinesis.Client, error) {
	var opts []func(*awsconfig.LoadOptions) error
	if region != "" {
		opts = append(opts, awsconfig.WithRegion(region))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("kinesis source: AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return nil, errors.New("kinesis source: no AWS region; set it in the configuration or AWS_REGION")
	}
	if endpoint != "" {
		more = append(more, func(o *kinesis.Options) { o.BaseEndpoint = aws.String(endpoint) })
	}
	return kinesis.NewFromConfig(cfg, more...), nil
}

// Options of a Source. Stream, Client and Checkpoints are required, the rest has
// defaults.
type Options struct {
	// Stream is the name or the ARN of the stream.
	Stream      string
	Client      API
	Checkpoints CheckpointStore
	// Start is where reading begins in a stream without checkpoints: one of the
	// Start constants. Default StartTrimHorizon.
	Start     string
	StartTime time.Time
	// Worker is the number of this process, from 0, of Workers. Default 0 of 1.
	// When Workers changes, processes whose checkpoints are in files of their own
	// read the shards that are new to them from the beginning.
	Worker, Workers int
	// PollInterval is the time between two calls for one shard; at least 200 ms.
	PollInterval time.Duration
	// RefreshInterval is the time between two looks for new shards. They are
	// looked for at once when a shard has ended.
	RefreshInterval time.Duration
	// CheckpointInterval is the time between two saves of checkpoints.
	CheckpointInterval time.Duration
	// StopTimeout is how long acknowledgements are waited for at the end, so that
	// the last checkpoints are good ones.
	StopTimeout time.Duration
	// MaxFetchBytes bounds the records that were fetched and that the pipeline has
	// not taken yet, over all shards. A response is larger than it was expected to
	// be now and then, so this is exceeded by a few responses at worst.
	MaxFetchBytes int64

	Logger     *zap.Logger           // nil: none
	Registerer prometheus.Registerer // nil: metrics are not exposed
}

func (o *Options) setDefaults() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("kinesis source: "+format, args...)) }
	if o.Stream == "" || o.Client == nil || o.Checkpoints == nil {
		fail("stream (%q), client and checkpoint store must be set", o.Stream)
	}
	switch o.Start {
	case "":
		o.Start = StartTrimHorizon
	case StartTrimHorizon, StartLatest:
	case StartAtTimestamp:
		if o.StartTime.IsZero() {
			fail("start %s needs a time", o.Start)
		}
	default:
		fail("start %q is not one of TRIM_HORIZON, LATEST, AT_TIMESTAMP", o.Start)
	}
	if o.Workers == 0 {
		o.Workers = 1
	}
	if o.Worker < 0 || o.Worker >= o.Workers {
		fail("worker %d is not between 0 and %d", o.Worker, o.Workers-1)
	}
	setDefault := func(d *time.Duration, value, least time.Duration, name string) {
		if *d == 0 {
			*d = value
		}
		if *d < least {
			fail("%s %v is less than %v", name, *d, least)
		}
	}
	setDefault(&o.PollInterval, DefaultPollInterval, leastPollInterval, "poll interval")
	setDefault(&o.RefreshInterval, DefaultRefreshInterval, time.Second, "refresh interval")
	setDefault(&o.CheckpointInterval, DefaultCheckpointInterval, 10*time.Millisecond, "checkpoint interval")
	setDefault(&o.StopTimeout, DefaultStopTimeout, 0, "stop timeout")
	if o.MaxFetchBytes <= 0 {
		o.MaxFetchBytes = DefaultMaxFetchBytes
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	return errors.Join(errs...)
}

// Source reads a stream; see the package comment.
type Source struct {
	opts    Options
	name    string // of the stream, without the rest of its ARN
	account string // "" when Stream is not an ARN
	region  string
	log     *zap.Logger
	metrics *metrics
	fetched *semaphore.Weighted
	saver   saver
}

var _ ingest.Source = (*Source)(nil)

// New checks the options and returns a source. It calls nobody.
func New(opts Options) (*Source, error) {
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	s := &Source{opts: opts, name: opts.Stream, fetched: semaphore.NewWeighted(opts.MaxFetchBytes)}
	if parts := strings.SplitN(opts.Stream, ":", 6); len(parts) == 6 && parts[0] == "arn" {
		s.region, s.account = parts[3], parts[4]
		s.name = strings.TrimPrefix(parts[5], "stream/")
	}
	s.log = opts.Logger.With(zap.String("stream", s.name))
	s.metrics = newMetrics(opts.Registerer, s.name)
	s.saver = saver{store: opts.Checkpoints, stream: opts.Stream, log: s.log, metrics: s.metrics, dirty: map[string]Checkpoint{}}
	return s, nil
}

// streamName and streamARN are how a call names the stream: one of the two.
func (s *Source) streamName() *string {
	if s.region == "" {
		return &s.opts.Stream
	}
	return nil
}

func (s *Source) streamARN() *string {
	if s.region == "" {
		return nil
	}
	return &s.opts.Stream
}

// mine reports whether this process reads the shard.
func (s *Source) mine(shard string) bool {
	return xxhash.Sum64String(shard)%uint64(s.opts.Workers) == uint64(s.opts.Worker)
}

// Run reads until ctx ends. It fails at once when the checkpoints cannot be read
// or the stream is not there or not allowed; later, it waits for things to get
// better.
func (s *Source) Run(ctx context.Context, hand func(context.Context, *ingest.Delivery) error) error {
	checkpoints, err := s.opts.Checkpoints.Load(ctx, s.opts.Stream)
	if err != nil {
		return fmt.Errorf("kinesis source: %s: %w", s.name, err)
	}
	shards, err := s.firstList(ctx)
	if err != nil {
		return fmt.Errorf("kinesis source: %s: %w", s.name, err)
	}
	// Checkpoints are saved for as long as readers wait for acknowledgements,
	// which is longer than they read.
	saving, stopSaving := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSaving()
	var background sync.WaitGroup
	background.Go(func() { s.saver.run(saving, s.opts.CheckpointInterval) })
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()

	l := newLineage(s, checkpoints, shards)
	ended := make(chan shardEnd)
	running := map[string]bool{}
	start := func() {
		for _, sh := range l.startable(running) {
			running[sh.id] = true
			s.metrics.shards.Inc()
			s.log.Info("reading shard", zap.String("shard", sh.id), zap.String("after", sh.from.Sequence), zap.Bool("latest", sh.latest))
			r := &reader{source: s, hand: hand, shard: sh.id, from: sh.from, latest: sh.latest}
			go func() {
				done, err := r.run(reading)
				ended <- shardEnd{r, done, err}
			}()
		}
	}
	start()
	refresh := time.NewTicker(s.opts.RefreshInterval)
	defer refresh.Stop()
	var fatal error
	for {
		look := false
		select {
		case e := <-ended:
			id := e.reader.shard
			delete(running, id)
			s.metrics.shards.Dec()
			s.metrics.behind.DeleteLabelValues(id)
			switch {
			case ctx.Err() != nil:
			case e.done:
				s.log.Info("shard is closed and all of it published", zap.String("shard", id))
				l.stopped(id, e.reader.from, true)
				look = true
			case errors.Is(e.err, errShardGone):
				// The next list tells whether it is to be tried again.
				s.log.Warn("shard is not found", zap.Error(e.err))
				l.stopped(id, e.reader.from, false)
			default:
				// The pipeline takes nothing any more.
				fatal = e.err
			}
		case <-refresh.C:
			look = true
		case <-ctx.Done():
		}
		if ctx.Err() != nil || fatal != nil {
			break
		}
		if look {
			if shards, err := s.list(ctx); err != nil {
				s.log.Warn("cannot list shards; trying again", zap.Error(err), zap.Duration("after", s.opts.RefreshInterval))
			} else {
				l.update(shards)
			}
			start()
		}
	}
	// The readers wait for their acknowledgements, StopTimeout at most.
	stopReading()
	for range running {
		<-ended
		s.metrics.shards.Dec()
	}
	stopSaving()
	background.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	s.saver.save(last)
	return fatal
}

// shardEnd is how a reader ended.
type shardEnd struct {
	reader *reader
	done   bool
	err    error
}

// firstList tells a stream that is not there from one that cannot be reached.
func (s *Source) firstList(ctx context.Context) ([]types.Shard, error) {
	for attempt := 0; ; attempt++ {
		shards, err := s.list(ctx)
		if err == nil {
			return shards, nil
		}
		if result := classify(err); result == resultGone || result == resultDenied || ctx.Err() != nil {
			return nil, fmt.Errorf("list shards: %w", err)
		}
		s.log.Warn("cannot list shards; trying again", zap.Error(err))
		if err := backoff.Sleep(ctx, backoff.Delay(attempt, firstBackoff, maxBackoff)); err != nil {
			return nil, err
		}
	}
}

func (s *Source) list(ctx context.Context) ([]types.Shard, error) {
	var all []types.Shard
	in := &kinesis.ListShardsInput{StreamName: s.streamName(), StreamARN: s.streamARN()}
	for {
		out, err := s.opts.Client.ListShards(ctx, in)
		if err != nil {
			return nil, err
		}
		all = append(all, out.Shards...)
		if out.NextToken == nil {
			return all, nil
		}
		// The token stands for the stream and may not be given together with it.
		in = &kinesis.ListShardsInput{NextToken: out.NextToken}
	}
}
