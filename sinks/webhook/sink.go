package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks"
)

// queued is how many messages wait before each worker. More wait in Kafka.
const queued = 8

// Sink sends detections to one receiver. It is a sinks.Sink.
type Sink struct {
	opts    Options
	signer  *signer
	client  *http.Client
	minRank int
	queues  []chan *message

	mu    sync.Mutex
	pause time.Time // no request before: the receiver asked for it
	gone  bool      // the receiver answered 410
}

// message is one notification under way.
type message struct {
	id, detection string
	body          []byte
	rec           sinks.Record // for a dead letter; its memory is the message's
	from          *partition
	slot          *slot
}

// New checks the options and returns a sink.
func New(o Options) (*Sink, error) { return newSink(o, nil) }

func newSink(o Options, resolver *net.Resolver) (*Sink, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	signer, err := newSigner(o.Secrets)
	if err != nil {
		return nil, fmt.Errorf("webhook %s: %w", o.Name, err)
	}
	o.Secrets = nil // the signer has them
	client, err := o.client(resolver)
	if err != nil {
		return nil, err
	}
	s := &Sink{opts: o, signer: signer, client: client, minRank: slices.Index(levels, o.MinLevel)}
	for range o.Concurrency {
		s.queues = append(s.queues, make(chan *message, queued))
	}
	return s, nil
}

// Run sends messages until ctx ends.
func (s *Sink) Run(ctx context.Context) error {
	defer s.client.CloseIdleConnections()
	var workers sync.WaitGroup
	for _, queue := range s.queues {
		workers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case m := <-queue:
					s.deliver(ctx, m)
				}
			}
		})
	}
	workers.Wait()
	return nil
}

// Open begins with a partition: it learns what was sent from it before.
func (s *Sink) Open(ctx context.Context, topic string, number int, next int64) (sinks.Partition, error) {
	p := newPartition(s)
	if next <= 0 {
		return p, nil
	}
	err := s.opts.History.Before(ctx, topic, number, next, rememberedIDs, func(rec *sinks.Record) {
		if f, err := parse(rec.Value); err == nil && s.wants(f) {
			p.sent.add(messageID(f))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("webhook %s: read back what was sent from %s/%d: %w", s.opts.Name, topic, number, err)
	}
	return p, nil
}

func parse(value []byte) (*schemas.Finding, error) {
	var f schemas.Finding
	if err := json.Unmarshal(value, &f); err != nil {
		return nil, fmt.Errorf("not a detection finding: %w", err)
	}
	if f.FindingInfo.UID == "" || f.ClassUID != schemas.FindingClassUID || activityOf(&f) == "" {
		return nil, fmt.Errorf("not a detection finding: class_uid %d, activity_id %d, finding_info.uid %q",
			f.ClassUID, f.ActivityID, f.FindingInfo.UID)
	}
	return &f, nil
}

// wants reports whether the receiver is to be told. A level that is none of
// Sigma's counts as critical: better one message too many.
func (s *Sink) wants(f *schemas.Finding) bool {
	rank := slices.Index(levels, f.Unmapped.RuleLevel)
	if rank >= 0 && rank < s.minRank {
		return false
	}
	return slices.Contains(s.opts.Activities, activityOf(f))
}

// deliver sends a message until the receiver has it, it is given up, or its
// partition is.
func (s *Sink) deliver(ctx context.Context, m *message) {
	started := time.Now()
	refusals := 0
	for n := 0; ; n++ {
		if !s.await(ctx, m.from) || !m.from.begin() {
			return
		}
		start := time.Now()
		f := s.attempt(ctx, m)
		if f == nil {
			s.opts.Metrics.Notified(s.opts.Name, "", time.Since(start))
			s.opts.Status.OK()
			m.from.done(m.slot)
			m.from.end()
			return
		}
		if ctx.Err() != nil {
			m.from.end()
			return
		}
		s.opts.Metrics.Notified(s.opts.Name, f.reason, time.Since(start))
		if f.gone {
			s.stop(f)
			m.from.end()
			continue
		}
		s.opts.Status.Failed(f.reason, f)
		if f.refused {
			refusals++
		}
		switch {
		case refusals >= s.opts.RefusedAttempts:
			s.reject(ctx, m, sinks.ReasonRefused, f)
			m.from.end()
			return
		case time.Since(started) >= s.opts.GiveUpAfter:
			s.reject(ctx, m, sinks.ReasonExpired, f)
			m.from.end()
			return
		}
		m.from.end()
		pause := s.opts.Backoff.Delay(n)
		if f.retryAfter > 0 {
			pause = f.retryAfter
		}
		if f.reason == reasonThrottle {
			s.slowDown(pause)
		}
		if !m.from.sleep(ctx, pause) {
			return
		}
	}
}

// reject gives a message up. When even the dead letter topic cannot be reached
// the message stays undone, and comes again with the next owner of the partition.
func (s *Sink) reject(ctx context.Context, m *message, why string, f *failure) {
	s.opts.Logger.Error("notification given up", zap.String("webhook", s.opts.Name), zap.String("detection", m.detection),
		zap.String("webhook-id", m.id), zap.String("reason", why), zap.Error(f))
	if err := s.opts.DeadLetters.Reject(ctx, s.opts.Name, &m.rec, &sinks.Rejected{Reason: why, Err: f}); err != nil {
		s.opts.Logger.Error("notification could not be dead-lettered", zap.String("webhook", s.opts.Name), zap.Error(err))
		return
	}
	s.opts.Metrics.Rejected(s.opts.Name, why)
	m.from.done(m.slot)
}

// await waits while the receiver wants no requests. It reports whether the
// message is still ours to send.
func (s *Sink) await(ctx context.Context, p *partition) bool {
	for {
		s.mu.Lock()
		wait, gone := time.Until(s.pause), s.gone
		s.mu.Unlock()
		if gone {
			// Until the next start. The records stay in Kafka.
			select {
			case <-ctx.Done():
			case <-p.stop:
			}
			return false
		}
		if wait <= 0 {
			return ctx.Err() == nil
		}
		if !p.sleep(ctx, wait) {
			return false
		}
	}
}

func (s *Sink) slowDown(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if until := time.Now().Add(d); until.After(s.pause) {
		s.pause = until
	}
}

func (s *Sink) stop(f *failure) {
	s.mu.Lock()
	s.gone = true
	s.mu.Unlock()
	s.opts.Status.Disable(f.err.Error())
}

// queue returns the queue of all messages about one detection.
func (s *Sink) queue(detection string) chan *message {
	return s.queues[xxhash.Sum64String(detection)%uint64(len(s.queues))]
}
