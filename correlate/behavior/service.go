package behavior

import (
	"context"
	"fmt"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// Service is a member of the consumer group that reads tocsin.events for what devices
// do. Each partition has a worker: one goroutine that owns all of its state.
type Service struct {
	opts    Options
	log     *zap.Logger
	metrics *metrics
	fleet   *fleet
	joined  atomic.Bool

	// The partition counts of the topics, read when Run starts. They must not change
	// while the service runs.
	events, identities int
}

// New returns a Service that has not joined yet.
func New(opts Options) *Service {
	opts = opts.withDefaults()
	return &Service{opts: opts, log: opts.Logger, metrics: newMetrics(opts.Registerer)}
}

// Joined reports whether the service has been assigned a partition. It may be called
// at any time.
func (s *Service) Joined() bool { return s.joined.Load() }

// Run joins the group and works until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	for topic, n := range map[string]*int{schemas.TopicEvents: &s.events, schemas.TopicIdentities: &s.identities} {
		count, err := s.opts.Client.Partitions(ctx, topic)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was not to start any more
		}
		if err != nil {
			return fmt.Errorf("behavior: %w", err)
		}
		*n = count
	}
	s.fleet = newFleet(s.opts.Client, s.identities, s.opts.Interval, s.opts.LeastFleet, s.log)
	following, stop := context.WithCancel(ctx)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		s.fleet.follow(following)
	}()
	defer func() {
		stop()
		<-followed
	}()
	group := s.opts.Group
	group.GroupID = s.opts.GroupID
	group.Topics = []string{schemas.TopicEvents}
	group.Registerer = s.opts.Registerer
	group.Logger = s.log
	return kafka.RunGroup(ctx, s.opts.Client, group, func(ctx context.Context, a *kafka.Assignment) error {
		s.joined.Store(true)
		w := newWorker(s, a, a.Partition)
		if err := w.restore(ctx); err != nil {
			return fmt.Errorf("restore %s/%d: %w", a.Topic, a.Partition, err)
		}
		return w.run(ctx)
	})
}
