// Package kafka is Tocsin's only way to Kafka: an idempotent producer, consumer groups with one worker per partition, and
// plain reads, over the low-level client of github.com/segmentio/kafka-go.
//
// kafka-go's Writer and Reader are not used. The Writer appends a batch twice when an acknowledgement is lost, and the
// group Reader can deliver records of a revoked generation after those of the new one. The low-level client has neither
// problem and costs about a third less CPU.
package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	kgo "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/backoff"
)

const (
	// metadataTTL is the longest time for which the cached cluster layout is used without asking again. Failures that smell
	// of a stale layout refresh it at once (see refresh).
	metadataTTL = 10 * time.Second
	// minRefreshInterval keeps a hundred partition workers that lose their leader together from asking a hundred times.
	minRefreshInterval = 200 * time.Millisecond
	// idleTimeout is above the longest poll interval, so that idle partitions do not reconnect for every fetch.
	idleTimeout = time.Minute
)

// Client is a connection pool to one Kafka cluster. It is safe for concurrent use. Producers and groups made from it must be
// closed first.
type Client struct {
	cfg       Config
	log       *zap.Logger
	addr      net.Addr
	dialer    *kgo.Dialer // the group coordinator protocol of kafka-go does not use the transport
	transport *kgo.Transport
	kgo       *kgo.Client

	mu          sync.Mutex
	lastRefresh time.Time
}

// Dial checks the configuration, reads the certificate files and returns a client. It opens no connection: a broker that is
// away at start is no different from one that goes away later. Use [Client.Ping] to find out.
func Dial(cfg Config, log *zap.Logger) (*Client, error) {
	if problems := cfg.Validate(); len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	cfg = cfg.withDefaults()
	var tlsConfig *tls.Config // nil when TLS is off
	if cfg.TLS.Enabled {
		var err error
		if tlsConfig, err = cfg.TLS.Config(); err != nil {
			return nil, fmt.Errorf("kafka tls: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), cfg.DialTimeout)
	defer cancel()
	mechanism, err := cfg.SASL.mechanism(ctx)
	if err != nil {
		return nil, err
	}
	netDialer := &net.Dialer{Timeout: cfg.DialTimeout, KeepAlive: 15 * time.Second}
	c := &Client{
		cfg:  cfg,
		log:  log,
		addr: kgo.TCP(cfg.Brokers...),
		dialer: &kgo.Dialer{
			ClientID:      cfg.ClientID,
			DialFunc:      netDialer.DialContext,
			Timeout:       cfg.DialTimeout,
			TLS:           tlsConfig,
			SASLMechanism: mechanism,
		},
		transport: &kgo.Transport{
			Dial:        netDialer.DialContext,
			DialTimeout: cfg.DialTimeout,
			IdleTimeout: idleTimeout,
			MetadataTTL: metadataTTL,
			ClientID:    cfg.ClientID,
			TLS:         tlsConfig,
			SASL:        mechanism,
		},
	}
	c.kgo = &kgo.Client{Addr: c.addr, Timeout: cfg.RequestTimeout, Transport: c.transport}
	return c, nil
}

// Close closes idle connections. Requests still in flight finish first.
func (c *Client) Close() error {
	c.transport.CloseIdleConnections()
	return nil
}

// Ping reports whether a broker answers and accepts the client's credentials.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.metadata(ctx)
	if err != nil {
		return fmt.Errorf("kafka at %s: %w", strings.Join(c.cfg.Brokers, ","), err)
	}
	return nil
}

// metadata returns the cached layout of the cluster, or the reason why there is none yet.
func (c *Client) metadata(ctx context.Context, topics ...string) (*metadata.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	m, err := c.transport.RoundTrip(ctx, c.addr, &metadata.Request{TopicNames: topics})
	if err != nil {
		if c.refreshDue() {
			c.transport.CloseIdleConnections() // see refresh
		}
		return nil, err
	}
	return m.(*metadata.Response), nil
}

// refreshDue reports whether the caller may refresh now, and if so takes the turn.
func (c *Client) refreshDue() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.lastRefresh) < minRefreshInterval {
		return false
	}
	c.lastRefresh = time.Now()
	return true
}

// refresh makes the transport learn the cluster's layout anew, at most once per minRefreshInterval over all callers. The
// error is that of reaching any broker at all.
//
// The transport refreshes by itself only every metadataTTL or after a request that might create a topic. Asking for a topic
// whose name is not legal is such a request and can create nothing; it goes to any broker, so it works while the leader or
// the controller is away.
func (c *Client) refresh(ctx context.Context) error {
	if !c.refreshDue() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	_, err := c.transport.RoundTrip(ctx, c.addr, &metadata.Request{TopicNames: []string{"."}, AllowAutoTopicCreation: true})
	if err != nil && c.neverConnected(ctx) != nil {
		// A pool that never reached the cluster repeats its first error for up to metadataTTL; a new one tries at once. One that
		// did keeps its layout and tries again by itself.
		c.transport.CloseIdleConnections()
	}
	return err
}

// neverConnected returns the error of reaching the cluster if it never succeeded. It costs no round trip.
func (c *Client) neverConnected(ctx context.Context) error {
	_, err := c.transport.RoundTrip(ctx, c.addr, &metadata.Request{TopicNames: []string{}})
	return err
}

// explain replaces the "topic not found" that the transport finds in an empty layout by the reason why it is empty.
func (c *Client) explain(ctx context.Context, err error) error {
	if !errors.Is(err, protocol.ErrNoTopic) {
		return err
	}
	if cause := c.neverConnected(ctx); cause != nil && ctx.Err() == nil {
		return cause
	}
	return err
}

// Partitions returns the number of partitions of a topic.
func (c *Client) Partitions(ctx context.Context, topic string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	for attempt := 0; ; attempt++ {
		m, err := c.metadata(ctx, topic)
		if err == nil {
			if m.Topics[0].ErrorCode == 0 {
				return len(m.Topics[0].Partitions), nil
			}
			err = kgo.Error(m.Topics[0].ErrorCode)
			if attempt > 0 && Reason(err) == ReasonUnknownTopic || !metadataIsStale(err) {
				return 0, fmt.Errorf("topic %s: %w", topic, err)
			}
			err = errors.Join(err, c.refresh(ctx))
		}
		// A broker that goes away while it is asked is not the end of whoever asks; but
		// a person who asks a cluster that is not there should soon know.
		if attempt == 4 || permanent(err) || backoff.Sleep(ctx, backoff.Delay(attempt, minRefreshInterval, time.Second)) != nil {
			return 0, fmt.Errorf("topic %s: %w", topic, err)
		}
	}
}

// FirstOffset returns the offset of the oldest record that the partition still has (its next one, if it is empty).
func (c *Client) FirstOffset(ctx context.Context, topic string, partition int) (int64, error) {
	return c.listOffset(ctx, topic, partition, kgo.FirstOffset)
}

// LastOffset returns the offset after the newest committed record, which is where the next one will go unless a
// transaction is open.
func (c *Client) LastOffset(ctx context.Context, topic string, partition int) (int64, error) {
	return c.listOffset(ctx, topic, partition, kgo.LastOffset)
}

func (c *Client) listOffset(ctx context.Context, topic string, partition int, timestamp int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	var answer error // the last that says more than that the time is over
	fail := func(err error) (int64, error) {
		if answer != nil && Reason(err) == ReasonTimeout {
			err = answer
		}
		return 0, fmt.Errorf("list offsets of %s/%d: %w", topic, partition, err)
	}
	for attempt := 0; ; attempt++ {
		m, err := c.transport.RoundTrip(ctx, c.addr, &listoffsets.Request{
			ReplicaID:      -1,
			IsolationLevel: int8(kgo.ReadCommitted),
			Topics: []listoffsets.RequestTopic{{
				Topic:      topic,
				Partitions: []listoffsets.RequestPartition{{Partition: int32(partition), CurrentLeaderEpoch: -1, Timestamp: timestamp}},
			}},
		})
		var offset int64
		if err == nil {
			res := m.(*listoffsets.Response)
			if len(res.Topics) != 1 || len(res.Topics[0].Partitions) != 1 {
				return fail(errors.New("broker answered about other partitions"))
			}
			p := res.Topics[0].Partitions[0]
			offset = p.Offset
			if p.ErrorCode != 0 {
				err = kgo.Error(p.ErrorCode)
			}
		}
		if err == nil {
			return offset, nil
		}
		err = c.explain(ctx, err)
		if !metadataIsStale(err) || ctx.Err() != nil {
			return fail(err)
		}
		if Reason(err) != ReasonTimeout {
			answer = err
		}
		// A leader election is in progress, or the layout is stale: both pass within the request timeout or not at all.
		if rerr := c.refresh(ctx); rerr != nil && (permanent(rerr) || ctx.Err() != nil) {
			return fail(rerr)
		}
		if serr := backoff.Sleep(ctx, backoff.Delay(attempt, 50*time.Millisecond, time.Second)); serr != nil {
			return fail(err)
		}
	}
}
