package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	kgo "github.com/segmentio/kafka-go"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/backoff"
)

// Offsets with a meaning, for [GroupOptions].StartOffset and [Assignment.SeekTo].
const (
	OffsetFirst = kgo.FirstOffset // the oldest record
	OffsetLast  = kgo.LastOffset  // only what is produced from now on
)

// GroupOptions configure membership in a consumer group. GroupID and Topics are needed.
type GroupOptions struct {
	GroupID string
	// Topics to consume, the same for all members. Partitions are assigned by range over each topic: among topics with the same
	// number of partitions, a member gets the same partition numbers of all of them. Co-partitioned topics rely on it, so no
	// other assignor is offered.
	Topics []string
	// StartOffset is where partitions without a committed offset start: OffsetFirst (default) or OffsetLast.
	StartOffset int64
	// SessionTimeout is how long a silent member keeps its partitions (default 10 s); HeartbeatInterval how often a member
	// speaks up and learns of a rebalance (default 2 s).
	SessionTimeout, HeartbeatInterval time.Duration
	// RebalanceTimeout is how long a rebalance waits for members to give their partitions up (default 30 s).
	RebalanceTimeout time.Duration
	// JoinBackoff is the wait after a failed attempt to join. Default 500 ms.
	JoinBackoff time.Duration
	// FetchMaxBytes bounds what one fetch returns before decompression, unless a single batch is larger. Default 1 MiB.
	FetchMaxBytes int
	// MaxWait is how long a fetch waits for records. Default 500 ms.
	MaxWait time.Duration
	// Registerer receives the metrics; nil for none.
	Registerer prometheus.Registerer
	// Logger defaults to the client's.
	Logger *zap.Logger
}

const (
	partitionWatchInterval = 5 * time.Second
	handlerBackoff         = time.Second
	maxHandlerBackoff      = 30 * time.Second
	leaveTimeout           = time.Second
)

func (o GroupOptions) withDefaults(c *Client) GroupOptions {
	setDefault := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	setDefault(&o.SessionTimeout, 10*time.Second)
	setDefault(&o.HeartbeatInterval, min(2*time.Second, o.SessionTimeout/3))
	setDefault(&o.RebalanceTimeout, 30*time.Second)
	setDefault(&o.JoinBackoff, 500*time.Millisecond)
	setDefault(&o.MaxWait, defaultMaxWait)
	if o.FetchMaxBytes <= 0 {
		o.FetchMaxBytes = defaultFetchMaxBytes
	}
	if o.StartOffset != OffsetLast {
		o.StartOffset = OffsetFirst
	}
	if o.Logger == nil {
		o.Logger = c.log
	}
	return o
}

// drainTimeout is the time a handler has after its revocation. Heartbeats have stopped by then, so the member must have
// rejoined before its session ends, or its final commits are refused.
func (o GroupOptions) drainTimeout() time.Duration {
	return min(o.SessionTimeout, o.RebalanceTimeout) * 2 / 3
}

// Handler works on one partition. It is called in its own goroutine for every partition of every generation of the group.
//
// ctx ends when the partition is revoked or the group is left. The handler must then return within the time that
// [Assignment.Drain] grants; until it does, this member cannot rejoin. There is never more than one handler for a partition
// in a process, and none in another process before this one's drain time is over.
//
// A handler that returns nil before ctx ends is done with the partition until the next generation. One that returns an error
// is logged, counted and called again after a backoff, with a new Assignment that starts at the newest committed offset; the
// other partitions do not notice.
type Handler func(ctx context.Context, a *Assignment) error

// RunGroup is a member of a consumer group until ctx ends; it then ends the handlers, leaves the group and returns nil.
// Everything that fails meanwhile (joining, the coordinator, a broker) is logged, counted and tried again.
func RunGroup(ctx context.Context, c *Client, opts GroupOptions, h Handler) error {
	opts = opts.withDefaults(c)
	log := opts.Logger.With(zap.String("group", opts.GroupID))
	m := newGroupMetrics(opts.Registerer, opts.GroupID)
	// A member that joins before its topics exist gets nothing assigned, and nothing tells it when they appear.
	if err := awaitTopics(ctx, c, opts, m, log); err != nil {
		return nil //nolint:nilerr // ctx ended
	}
	dialer := *c.dialer
	conns := newGroupConns(dialer.DialFunc)
	dialer.DialFunc = conns.dialContext
	group, err := kgo.NewConsumerGroup(kgo.ConsumerGroupConfig{
		ID:                opts.GroupID,
		Brokers:           c.cfg.Brokers,
		Dialer:            &dialer,
		Topics:            opts.Topics,
		GroupBalancers:    []kgo.GroupBalancer{coPartitioned{}},
		HeartbeatInterval: opts.HeartbeatInterval,
		SessionTimeout:    opts.SessionTimeout,
		RebalanceTimeout:  opts.RebalanceTimeout,
		JoinGroupBackoff:  opts.JoinBackoff,
		StartOffset:       opts.StartOffset,
		Timeout:           c.cfg.RequestTimeout,
	})
	if err != nil {
		return fmt.Errorf("consumer group %s: %w", opts.GroupID, err)
	}
	var workers sync.WaitGroup // of all generations
	defer func() {
		closed := make(chan struct{})
		go func() {
			// Ends the running generation, waits for its handlers and leaves the group.
			_ = group.Close()
			close(closed)
		}()
		workers.Wait()
		leave(closed, conns)
		m.partitions.Set(0)
	}()
	var lastLog time.Time
	for {
		gen, err := group.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, kgo.ErrGroupClosed):
			return fmt.Errorf("consumer group %s: %w", opts.GroupID, err)
		case errors.Is(err, kgo.RebalanceInProgress):
			// Another member came or went while this one was joining; it joins again at once.
		case err != nil:
			m.groupErrors.WithLabelValues(Reason(err)).Inc()
			if time.Since(lastLog) > 10*time.Second {
				lastLog = time.Now()
				log.Warn("joining the consumer group failed, will be repeated", zap.String("reason", Reason(err)), zap.Error(err))
			}
		default:
			startGeneration(c, opts, m, log, gen, &workers, h)
		}
	}
}

// leave waits until the group is closed, once its handlers have ended. What may still be under way then is a request to join
// and the one to leave: neither may take longer than an orderly broker needs for it. A member that could not say that it
// leaves is missed after its session timeout.
func leave(closed <-chan struct{}, conns *groupConns) {
	ticker := time.NewTicker(leaveTimeout)
	defer ticker.Stop()
	for {
		select {
		case <-closed:
			return
		case <-ticker.C:
			conns.cut()
		}
	}
}

func awaitTopics(ctx context.Context, c *Client, opts GroupOptions, m *groupMetrics, log *zap.Logger) error {
	for _, topic := range opts.Topics {
		for attempt := 0; ; attempt++ {
			_, err := c.Partitions(ctx, topic)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			m.groupErrors.WithLabelValues(Reason(err)).Inc()
			log.Warn("topic to consume is not there yet", zap.String("topic", topic), zap.Error(err))
			if err := backoff.Sleep(ctx, backoff.Delay(attempt, opts.JoinBackoff, 5*time.Second)); err != nil {
				return err
			}
		}
	}
	return nil
}

func startGeneration(c *Client, opts GroupOptions, m *groupMetrics, log *zap.Logger, gen *kgo.Generation, workers *sync.WaitGroup, h Handler) {
	log = log.With(zap.Int32("generation", gen.ID))
	m.rebalances.Inc()
	count := 0
	for topic, assigned := range gen.Assignments {
		count += len(assigned)
		for _, pa := range assigned {
			w := &groupWorker{
				client: c, opts: opts, metrics: m, gen: gen, handler: h, topic: topic, partition: pa.ID,
				log: log.With(zap.String("topic", topic), zap.Int("partition", pa.ID)),
			}
			w.committed.Store(max(pa.Offset, -1))
			workers.Add(1)
			gen.Start(func(ctx context.Context) {
				defer workers.Done()
				w.run(ctx)
			})
		}
	}
	m.assigned.Add(float64(count))
	m.partitions.Set(float64(count))
	log.Info("consumer group generation started", zap.Int("partitions", count), zap.String("member", gen.MemberID))
	gen.Start(func(ctx context.Context) { watchPartitions(ctx, c, opts, log) })
}

// watchPartitions ends the generation by returning when a topic has got more partitions, so that they are assigned.
func watchPartitions(ctx context.Context, c *Client, opts GroupOptions, log *zap.Logger) {
	known := make(map[string]int, len(opts.Topics))
	for {
		for _, topic := range opts.Topics {
			n, err := c.Partitions(ctx, topic) // from the client's cache
			if err != nil {
				continue
			}
			if before, ok := known[topic]; ok && n > before {
				log.Info("topic has got more partitions: rebalancing", zap.String("topic", topic), zap.Int("before", before), zap.Int("now", n))
				return
			}
			known[topic] = n
		}
		if backoff.Sleep(ctx, partitionWatchInterval) != nil {
			return
		}
	}
}

// groupWorker runs the handler of one partition for one generation.
type groupWorker struct {
	client    *Client
	opts      GroupOptions
	metrics   *groupMetrics
	log       *zap.Logger
	gen       *kgo.Generation
	handler   Handler
	topic     string
	partition int
	committed atomic.Int64 // newest committed offset, -1 for none
}

// run returns only when the generation has ended: kafka-go ends the generation, for all partitions, when any of its
// functions returns.
func (w *groupWorker) run(ctx context.Context) {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		a := newAssignment(ctx, w)
		started := time.Now()
		err := w.handler(ctx, a)
		a.end()
		if ctx.Err() != nil {
			if err != nil && !errors.Is(err, ctx.Err()) && !errors.Is(err, context.Canceled) {
				w.log.Warn("partition worker ended its generation with an error", zap.Error(err))
			}
			return
		}
		if err == nil {
			<-ctx.Done()
			return
		}
		if time.Since(started) > maxHandlerBackoff {
			attempt = 0
		}
		w.metrics.handlerErr.WithLabelValues(w.topic).Inc()
		delay := backoff.Delay(attempt, handlerBackoff, maxHandlerBackoff)
		w.log.Error("partition worker failed, will be started again", zap.Error(err), zap.Duration("in", delay))
		if backoff.Sleep(ctx, delay) != nil {
			return
		}
	}
}
