package decision

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/tocsin-io/tocsin/internal/accesskey"
	"github.com/tocsin-io/tocsin/internal/registry"
)

const (
	defaultMaxRequests = 1024
	defaultStopTimeout = 5 * time.Second
	readTimeout        = 5 * time.Second // of a whole request
	writeTimeout       = 5 * time.Second
	idleTimeout        = 2 * time.Minute
)

// Options of a Server. Table, Listener and AccessKeys (or Anonymous) are required.
type Options struct {
	Table *registry.Table
	// Listener accepts the connections; Run closes it. Handler does not need it.
	Listener net.Listener
	// TLS, when set, makes the listener speak TLS.
	TLS *tls.Config
	// AccessKeys are let in. Several, so that a key can be replaced without a gap.
	AccessKeys []string
	// Anonymous lets everybody in. It must not be set together with AccessKeys.
	Anonymous bool
	// FailOpen lets unknown certificates in while the registry has not listed all of
	// them once. Afterwards they are refused.
	FailOpen bool
	// MaxRequests bounds the requests that are served at once; the others are
	// answered 503. Default 1024.
	MaxRequests int
	// StopTimeout bounds how long requests are waited for at the end. Default 5 s.
	StopTimeout time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time

	Logger     *zap.Logger           // nil: none
	Registerer prometheus.Registerer // nil: metrics are not exposed
}

// Server answers questions about certificates.
type Server struct {
	opts    Options
	keys    accesskey.Keys
	policy  policy
	metrics *metrics
	slots   chan struct{}
	log     *zap.Logger
}

// New checks the options and returns a server.
func New(opts Options) (*Server, error) {
	if opts.MaxRequests <= 0 {
		opts.MaxRequests = defaultMaxRequests
	}
	if opts.StopTimeout <= 0 {
		opts.StopTimeout = defaultStopTimeout
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = zap.NewNop()
	}
	keys, err := accesskey.New(opts.AccessKeys)
	switch {
	case err != nil:
		return nil, fmt.Errorf("decision endpoint: %w", err)
	case len(keys) == 0 && !opts.Anonymous:
		return nil, errors.New("decision endpoint: no access key is configured")
	case len(keys) > 0 && opts.Anonymous:
		return nil, errors.New("decision endpoint: access keys are configured and anonymous access is allowed: it must be one or the other")
	}
	return &Server{
		opts: opts, keys: keys, metrics: newMetrics(opts.Registerer), slots: make(chan struct{}, opts.MaxRequests), log: opts.Logger,
		policy: policy{table: opts.Table, failOpen: opts.FailOpen, now: opts.Now},
	}, nil
}

// Handler serves all endpoints. Run uses it; it is for those who have an HTTP
// server already.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/certificates/{id}", s.serve(endpointCertificates, s.certificate))
	for pattern, e := range map[string]struct {
		name  string
		serve func(http.ResponseWriter, *http.Request) outcome
	}{
		"/v1/emqx/authn":  {endpointEMQXAuthn, s.emqxAuthn},
		"/v1/emqx/authz":  {endpointEMQXAuthz, s.emqxAuthz},
		"/auth/user":      {endpointMosquitto, s.mosquittoUser},
		"/auth/acl":       {endpointACL, s.mosquittoUser},
		"/auth/superuser": {endpointSuperuser, s.mosquittoSuperuser},
	} {
		mux.HandleFunc("POST "+pattern, s.serve(e.name, e.serve))
		mux.HandleFunc("PUT "+pattern, s.serve(e.name, e.serve))
	}
	return mux
}

// outcome is what was answered, and why.
type outcome struct{ result, reason string }

// serve lets a request in or not, and counts what became of it.
func (s *Server) serve(endpoint string, answer func(http.ResponseWriter, *http.Request) outcome) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		if !s.opts.Anonymous {
			if err := s.keys.Check(accesskey.Presented(r)); err != nil {
				s.metrics.decisions.WithLabelValues(endpoint, resultRefused, reasonUnauthorized).Inc()
				refuse(w, http.StatusUnauthorized, err)
				return
			}
		}
		select {
		case s.slots <- struct{}{}:
		default:
			s.metrics.decisions.WithLabelValues(endpoint, resultRefused, reasonOverloaded).Inc()
			w.Header().Set("Retry-After", "1")
			refuse(w, http.StatusServiceUnavailable, errors.New("too many requests are being served already"))
			return
		}
		o := answer(w, r)
		<-s.slots
		s.metrics.decisions.WithLabelValues(endpoint, o.result, o.reason).Inc()
		s.metrics.duration.Observe(time.Since(start).Seconds())
		if ce := s.log.Check(zap.DebugLevel, "decision"); ce != nil {
			ce.Write(zap.String("endpoint", endpoint), zap.String("result", o.result), zap.String("reason", o.reason), zap.String("remote", r.RemoteAddr))
		}
	}
}

// Run serves the listener until ctx ends, then lets requests finish for at most
// StopTimeout. It returns nil when it was ctx that ended it.
func (s *Server) Run(ctx context.Context) error {
	// Whoever scans ports must not fill the log with failed handshakes.
	sampled := s.log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, 10*time.Second, 1, 0)
	}))
	serverLog, err := zap.NewStdLogAt(sampled.Named("http"), zap.WarnLevel)
	if err != nil {
		return fmt.Errorf("decision endpoint: %w", err)
	}
	server := &http.Server{
		Handler: s.Handler(), TLSConfig: s.opts.TLS, ErrorLog: serverLog,
		ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: 16 << 10,
	}
	served := make(chan error, 1)
	go func() {
		if s.opts.TLS != nil {
			served <- server.ServeTLS(s.opts.Listener, "", "")
		} else {
			served <- server.Serve(s.opts.Listener)
		}
	}()
	select {
	case err := <-served:
		return fmt.Errorf("decision endpoint: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.StopTimeout)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		s.log.Warn("decision endpoint: requests were cut off", zap.Error(err))
		_ = server.Close() // the connections' errors mean nothing any more
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("decision endpoint: %w", err)
	}
	return nil
}
