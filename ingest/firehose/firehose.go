// Package firehose is the HTTP source: the endpoint of an Amazon Data Firehose
// stream, and a plain path for whoever else can push (EventBridge API
// destinations, IoT rules with an HTTPS action, scripts).
//
// The contract with Firehose is AWS's "HTTP endpoint delivery request and
// response specifications". Three of its points shape this package: only a 200
// with a well-formed body counts as delivered; a request is delivered as a whole
// or not at all; and a 413 makes Firehose drop the data for good, so it is never
// answered, to nobody.
//
// A request is answered with 200 when Kafka has acknowledged all of its records.
// A repetition of a request that was completed is answered with 200 and not
// published again; a repetition of one still in flight waits for that one's
// outcome, because publishing both would do the work twice just when the pipeline
// is slow. What was published before a request failed is published again with
// the repetition; the events carry the same IDs and are dropped downstream.
package firehose

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/tocsin-io/tocsin/ingest"
	"github.com/tocsin-io/tocsin/internal/accesskey"
)

// The defaults of Options.
const (
	DefaultPath       = "/firehose"
	DefaultEventsPath = "/v1/events"
	// DefaultMaxBodyBytes leaves room for 64 MiB of records in base64: AWS's page
	// does not say whether its 64 MiB are counted before or after that.
	DefaultMaxBodyBytes     = 96 << 20
	DefaultMaxInFlightBytes = 256 << 20
	DefaultMaxRequests      = 256
	DefaultBodyTimeout      = time.Minute
	// DefaultAckTimeout is below the three minutes after which Firehose gives up,
	// together with DefaultBodyTimeout too.
	DefaultAckTimeout    = 100 * time.Second
	DefaultStopTimeout   = 10 * time.Second
	DefaultCompletedIDs  = 16384
	DefaultMaxLanes      = 64
	readHeaderTimeout    = 10 * time.Second
	writeTimeout         = 10 * time.Second
	drainTimeout         = time.Second
	idleTimeout          = 2 * time.Minute
	firehoseGivesUpAfter = 3 * time.Minute
)

// Options of a Source. AccessKeys (or Anonymous) and Listener are required, the
// rest has defaults.
type Options struct {
	// Listener accepts the connections; Run closes it. Handler does not need it.
	Listener net.Listener
	// TLS, when set, makes the listener speak TLS. Firehose itself only speaks
	// https to port 443: leave TLS nil only behind a proxy that ends it.
	TLS *tls.Config
	// Path takes Firehose requests, EventsPath plain pushes.
	Path, EventsPath string
	// AccessKeys are let in. Several, so that a key can be replaced without a gap.
	AccessKeys []string
	// Anonymous lets everybody in. It must not be set together with AccessKeys.
	Anonymous bool
	// MaxBodyBytes bounds one request's body, before and after decompression.
	MaxBodyBytes int64
	// MaxInFlightBytes bounds the bodies of all requests that are being read or
	// wait for Kafka. Past it, requests are answered 503. At least MaxBodyBytes.
	MaxInFlightBytes int64
	// MaxRequests bounds the requests served at once, in the same way.
	MaxRequests int
	// BodyTimeout bounds the time in which a body must arrive; AckTimeout that
	// in which Kafka must acknowledge it, past which the answer is 503. Together
	// they must stay below three minutes.
	BodyTimeout, AckTimeout time.Duration
	// StopTimeout bounds how long requests in flight are waited for at the end.
	StopTimeout time.Duration
	// CompletedIDs bounds the memory of requests that were completed.
	CompletedIDs int
	// MaxLanes bounds the delivery streams that get a lane of their own; the ones
	// after that share "firehose/other".
	MaxLanes int

	Logger     *zap.Logger           // nil: none
	Registerer prometheus.Registerer // nil: metrics are not exposed
}

func (o *Options) setDefaults() {
	o.Path = or(o.Path, DefaultPath)
	o.EventsPath = or(o.EventsPath, DefaultEventsPath)
	o.MaxBodyBytes = or(o.MaxBodyBytes, DefaultMaxBodyBytes)
	o.MaxInFlightBytes = or(o.MaxInFlightBytes, DefaultMaxInFlightBytes)
	o.MaxRequests = or(o.MaxRequests, DefaultMaxRequests)
	o.BodyTimeout = or(o.BodyTimeout, DefaultBodyTimeout)
	o.AckTimeout = or(o.AckTimeout, DefaultAckTimeout)
	o.StopTimeout = or(o.StopTimeout, DefaultStopTimeout)
	o.CompletedIDs = or(o.CompletedIDs, DefaultCompletedIDs)
	o.MaxLanes = or(o.MaxLanes, DefaultMaxLanes)
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
}

// or returns v, or the default d when v is the zero value.
func or[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

func (o *Options) validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("firehose source: "+format, args...)) }
	switch {
	case len(o.AccessKeys) == 0 && !o.Anonymous:
		fail("no access key is configured; set one, the same as in the delivery stream's HTTP endpoint settings")
	case len(o.AccessKeys) > 0 && o.Anonymous:
		fail("access keys are configured and anonymous access is allowed: it must be one or the other")
	}
	for _, p := range []string{o.Path, o.EventsPath} {
		if !strings.HasPrefix(p, "/") || strings.ContainsAny(p, "{} ") {
			fail("path %q does not begin with / or holds a space or a brace", p)
		}
	}
	if o.Path == o.EventsPath {
		fail("path and events path are both %q", o.Path)
	}
	if o.MaxBodyBytes < 0 || o.MaxInFlightBytes < o.MaxBodyBytes {
		fail("max in-flight bytes (%d) must be at least max body bytes (%d)", o.MaxInFlightBytes, o.MaxBodyBytes)
	}
	if o.BodyTimeout < 0 || o.AckTimeout < 0 || o.BodyTimeout+o.AckTimeout >= firehoseGivesUpAfter {
		fail("body timeout (%v) and ack timeout (%v) together must be less than 3m, after which Firehose gives up", o.BodyTimeout, o.AckTimeout)
	}
	return errors.Join(errs...)
}

// Source serves both paths. It is safe for concurrent use.
type Source struct {
	opts    Options
	keys    accesskey.Keys
	log     *zap.Logger
	metrics *metrics
	budget  budget
	slots   chan struct{}
	lanes   lanes
	recent  *flights
	noted   *idSet    // malformed requests that have a dead letter
	unzips  sync.Pool // *gzip.Reader
	warn    rate.Sometimes

	confirmations rate.Sometimes
}

var _ ingest.Source = (*Source)(nil)

// New checks the options, all of them, and returns a source.
func New(opts Options) (*Source, error) {
	opts.setDefaults()
	keys, err := accesskey.New(opts.AccessKeys)
	if err != nil {
		err = fmt.Errorf("firehose source: %w", err)
	}
	if err = errors.Join(err, opts.validate()); err != nil {
		return nil, err
	}
	s := &Source{
		opts:   opts,
		keys:   keys,
		log:    opts.Logger,
		slots:  make(chan struct{}, opts.MaxRequests),
		budget: budget{limit: opts.MaxInFlightBytes},
		lanes:  lanes{limit: opts.MaxLanes, known: map[string]string{}},
		recent: newFlights(opts.CompletedIDs),
		noted:  newIDSet(opts.CompletedIDs),
		warn:   rate.Sometimes{Interval: 10 * time.Second},

		confirmations: rate.Sometimes{First: 3, Interval: 10 * time.Second},
	}
	s.metrics = newMetrics(opts.Registerer, s)
	return s, nil
}

// serverLog takes what net/http says of connections: failed handshakes, and
// panics of handlers. Whoever scans ports must not fill the log.
type serverLog struct {
	log   *zap.Logger
	often rate.Sometimes
}

func (l *serverLog) Write(line []byte) (int, error) {
	l.often.Do(func() {
		l.log.Warn("HTTP server; more of this is left out for a while", zap.ByteString("line", bytes.TrimSpace(line)))
	})
	return len(line), nil
}

// Run serves the listener until ctx ends, then lets requests in flight finish
// for at most StopTimeout. It returns nil when it was ctx that ended it.
func (s *Source) Run(ctx context.Context, hand func(context.Context, *ingest.Delivery) error) error {
	if s.opts.Listener == nil {
		return errors.New("firehose source: no listener")
	}
	// Requests outlive ctx by StopTimeout: stopping must not turn what Kafka is
	// about to acknowledge into a repetition.
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	server := &http.Server{
		Handler:           s.Handler(hand),
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    32 << 10,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          log.New(&serverLog{log: s.log, often: rate.Sometimes{Interval: 10 * time.Second}}, "", 0),
		TLSConfig:         s.opts.TLS,
	}
	served := make(chan error, 1)
	go func() {
		if s.opts.TLS != nil {
			served <- server.ServeTLS(s.opts.Listener, "", "")
		} else {
			served <- server.Serve(s.opts.Listener)
		}
	}()
	s.log.Info("firehose source listening", zap.Stringer("address", s.opts.Listener.Addr()),
		zap.Bool("tls", s.opts.TLS != nil), zap.String("path", s.opts.Path), zap.String("events_path", s.opts.EventsPath))
	select {
	case err := <-served:
		return fmt.Errorf("firehose source: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(base, s.opts.StopTimeout)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		s.log.Warn("firehose source: requests in flight were cut off; their senders will repeat them", zap.Error(err))
		cut()
		_ = server.Close() // the connections' errors mean nothing any more
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("firehose source: %w", err)
	}
	return nil
}
