package telemetry

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// ErrNoReload is returned by a Reloader without hooks.
var ErrNoReload = errors.New("nothing here can be reloaded")

// Reloader runs the hooks that take over a changed configuration or changed
// rules without a restart: on SIGHUP and on POST /-/reload.
type Reloader struct {
	success prometheus.Gauge
	when    prometheus.Gauge

	mu    sync.Mutex // held while hooks run: reloads never overlap
	hooks []reloadHook
}

type reloadHook struct {
	name string
	run  func(context.Context) error
}

// NewReloader registers tocsin_config_last_reload_successful and
// tocsin_config_last_reload_success_timestamp_seconds.
func NewReloader(r prometheus.Registerer) *Reloader {
	l := &Reloader{
		success: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tocsin_config_last_reload_successful",
			Help: "Whether the last reload of configuration and rules succeeded (1) or the old ones were kept (0).",
		}),
		when: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tocsin_config_last_reload_success_timestamp_seconds",
			Help: "When configuration and rules were last loaded successfully.",
		}),
	}
	r.MustRegister(l.success, l.when)
	l.Loaded()
	return l
}

// Loaded records a successful load, as at the start of the process.
func (l *Reloader) Loaded() {
	l.success.Set(1)
	l.when.SetToCurrentTime()
}

// OnReload adds a hook. It must either take over what is new or leave what was
// in force untouched and return why.
func (l *Reloader) OnReload(name string, run func(context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hooks = append(l.hooks, reloadHook{name, run})
}

// Reload runs all hooks and returns the errors of those that failed.
func (l *Reloader) Reload(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.hooks) == 0 {
		return ErrNoReload
	}
	var problems []error
	for _, h := range l.hooks {
		if err := h.run(ctx); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", h.name, err))
		}
	}
	if err := errors.Join(problems...); err != nil {
		l.success.Set(0)
		return err
	}
	l.Loaded()
	return nil
}
