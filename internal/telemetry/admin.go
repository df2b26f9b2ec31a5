package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// Admin is what the admin listener serves:
//
//	GET  /livez, /-/healthy   the process runs; never looks at Kafka or ClickHouse
//	GET  /readyz, /-/ready    all checks pass; ?verbose lists them
//	GET  /metrics             Prometheus and OpenMetrics
//	GET  /-/state             what the stages hold, as JSON; ask now and then, not all the time
//	POST /-/reload            runs the reload hooks, answers with their error
//	GET  /debug/pprof/        when Pprof is set
//
// It has no authentication: it belongs on a loopback or pod-local address.
type Admin struct {
	Log     *zap.Logger
	Metrics prometheus.Gatherer
	Checks  *Checks
	Reload  *Reloader
	// State returns what /-/state shows, nil if there is nothing here that holds
	// any. It may be called at any time and must heed its context.
	State func(context.Context) any
	// Routes are further patterns of http.ServeMux and what serves them.
	Routes map[string]http.HandlerFunc
	Pprof  bool
}

// Handler returns the listener's handler.
func (a *Admin) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/livez", "/-/healthy"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	}
	for _, path := range []string{"/readyz", "/-/ready"} {
		mux.HandleFunc("GET "+path, a.ready)
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.Metrics, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.HandleFunc("POST /-/reload", a.reload)
	mux.HandleFunc("GET /-/state", a.state)
	for pattern, serve := range a.Routes {
		mux.HandleFunc(pattern, serve)
	}
	if a.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

func (a *Admin) ready(w http.ResponseWriter, r *http.Request) {
	results, ready := a.Checks.run(r.Context())
	var body bytes.Buffer
	// What is wrong is always listed: it is what one wants to know then.
	if _, verbose := r.URL.Query()["verbose"]; verbose || !ready {
		write(&body, results)
	}
	if ready {
		fmt.Fprintln(&body, "ready")
	} else {
		fmt.Fprintln(&body, "not ready")
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(body.Bytes())
}

func (a *Admin) reload(w http.ResponseWriter, r *http.Request) {
	switch err := a.Reload.Reload(r.Context()); {
	case errors.Is(err, ErrNoReload):
		http.Error(w, err.Error(), http.StatusNotImplemented)
	case err != nil:
		a.Log.Error("reload failed; what was in force stays", zap.Error(err))
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		a.Log.Info("reloaded")
		fmt.Fprintln(w, "reloaded")
	}
}

// stateTimeout bounds the time in which parts are to show what they hold.
const stateTimeout = 3 * time.Second

func (a *Admin) state(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), stateTimeout)
	defer cancel()
	var state any
	if a.State != nil {
		state = a.State(ctx)
	}
	if state == nil {
		http.Error(w, "no correlator runs in this process", http.StatusNotImplemented)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(state) // to a client that is gone
}

// Listen serves on address until the returned function is called, and returns
// the address that it got.
func (a *Admin) Listen(address string) (net.Addr, func(context.Context) error, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, nil, fmt.Errorf("admin listener: %w; choose another address with admin.listen, or \"\" for none", err)
	}
	server := &http.Server{
		Handler:           a.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          zap.NewStdLog(a.Log),
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	return l.Addr(), func(ctx context.Context) error {
		err := server.Shutdown(ctx)
		if serr := <-done; !errors.Is(serr, http.ErrServerClosed) {
			err = errors.Join(err, serr)
		}
		return err
	}, nil
}
