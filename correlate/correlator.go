package correlate

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/watermark"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// Options of a Correlator. Client, Producer, Rules and Logger are needed.
type Options struct {
	Client   *kafka.Client
	Producer *kafka.Producer
	Rules    *rules.Set
	// GroupID is the consumer group. Default "tocsin-correlate".
	GroupID string
	// Windows bounds what each partition remembers.
	Windows WindowOptions
	// Watermark says how late and how idle inputs may be.
	Watermark watermark.Options
	// SnapshotInterval is the time between two snapshots of a partition. Default
	// 10 s. What was read since the last one is read again after a crash.
	SnapshotInterval time.Duration
	// StateDir is a directory for the snapshots, in place of tocsin.state. All
	// correlators of the group must share it.
	StateDir string
	// StateS3 is a place in S3 for the snapshots, in place of both. It is the group's
	// alone.
	StateS3 *S3State
	// HeartbeatInterval is the longest time between two records to a partition
	// of tocsin.matches while event time moves. Default 1 s.
	HeartbeatInterval time.Duration
	// Version of the program, for detections.
	Version    string
	Logger     *zap.Logger
	Registerer prometheus.Registerer
	// Group tunes the membership; topics and ID are set here.
	Group kafka.GroupOptions
}

// Correlator is a member of the correlators' consumer group. Each partition of
// tocsin.events and of tocsin.matches that it is assigned has a worker: one
// goroutine that owns all of the partition's state.
type Correlator struct {
	opts    Options
	log     *zap.Logger
	metrics *metrics
	store   snapshotStore
	writer  string // names this process in its snapshots
	rules   atomic.Pointer[rules.Set]

	// The partition counts of the topics, read when Run starts. They must not
	// change while correlators run: keys would move away from their windows.
	events, matches, detections, deadLetters int
	patience                                 time.Duration // of detections for their evidence
	workers                                  workerList
	// presses bounds the snapshots that are made at the same time. All partitions
	// begin together, and would all stand still together every interval.
	presses chan *snapshotPress
	joined  atomic.Bool
}

// maxSnapshots is how many snapshots a process makes at the same time.
const maxSnapshots = 2

// New returns a Correlator that has not joined yet.
func New(opts Options) *Correlator {
	if opts.GroupID == "" {
		opts.GroupID = "tocsin-correlate"
	}
	if opts.SnapshotInterval <= 0 {
		opts.SnapshotInterval = 10 * time.Second
	}
	if opts.HeartbeatInterval <= 0 {
		opts.HeartbeatInterval = time.Second
	}
	var id [8]byte
	// crypto/rand.Read never fails (Go 1.24).
	_, _ = rand.Read(id[:])
	c := &Correlator{
		opts:     opts,
		log:      opts.Logger,
		metrics:  newMetrics(opts.Registerer),
		store:    &stateStore{client: opts.Client, producer: opts.Producer, topic: schemas.TopicState},
		writer:   hex.EncodeToString(id[:]),
		presses:  make(chan *snapshotPress, maxSnapshots),
		patience: evidencePatience,
	}
	c.rules.Store(opts.Rules)
	for range maxSnapshots {
		c.presses <- newSnapshotPress()
	}
	return c
}

// SetRules makes all workers use set from their next record on. Windows of
// rules that did not change are kept. It may be called at any time.
func (c *Correlator) SetRules(set *rules.Set) { c.rules.Store(set) }

// Rules returns the rules in use.
func (c *Correlator) Rules() *rules.Set { return c.rules.Load() }

// Run joins the group and works until ctx ends.
func (c *Correlator) Run(ctx context.Context) error {
	if err := c.prepare(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // stopped before it began
		}
		return fmt.Errorf("correlate: %w", err)
	}
	group := c.opts.Group
	group.GroupID = c.opts.GroupID
	group.Topics = []string{schemas.TopicEvents, schemas.TopicMatches}
	group.Registerer = c.opts.Registerer
	group.Logger = c.log
	return kafka.RunGroup(ctx, c.opts.Client, group, c.work)
}

// prepare opens the store of snapshots and learns how many partitions there are.
func (c *Correlator) prepare(ctx context.Context) error {
	if err := c.openStore(ctx); err != nil {
		return err
	}
	for topic, n := range map[string]*int{
		schemas.TopicEvents:     &c.events,
		schemas.TopicMatches:    &c.matches,
		schemas.TopicDetections: &c.detections,
		schemas.TopicDeadLetter: &c.deadLetters,
	} {
		count, err := c.opts.Client.Partitions(ctx, topic)
		if err != nil {
			return err
		}
		*n = count
	}
	return nil
}

// openStore makes the store of snapshots another than tocsin.state, if one is set.
func (c *Correlator) openStore(ctx context.Context) error {
	switch {
	case c.opts.StateS3 != nil:
		store, err := newStateS3(ctx, *c.opts.StateS3)
		if err != nil {
			return err
		}
		c.store = store
	case c.opts.StateDir != "":
		store, err := newStateDir(c.opts.StateDir)
		if err != nil {
			return err
		}
		c.store = store
	}
	return nil
}

// work is the handler of one assigned partition.
func (c *Correlator) work(ctx context.Context, a *kafka.Assignment) error {
	c.joined.Store(true)
	w := newWorker(c, a)
	if err := w.restore(ctx); err != nil {
		return fmt.Errorf("restore %s/%d: %w", a.Topic, a.Partition, err)
	}
	defer c.workers.add(w)()
	return w.run(ctx)
}
