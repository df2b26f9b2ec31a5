package awsiot

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tocsin-io/tocsin/internal/blastradius"
	"github.com/tocsin-io/tocsin/internal/telemetry"
	"github.com/tocsin-io/tocsin/schemas"
)

// Metrics are those of all sinks of the package in a process; they differ in the
// label sink.
type Metrics struct {
	steps   *prometheus.CounterVec
	open    *prometheus.GaugeVec
	breaker *prometheus.GaugeVec
	used    *prometheus.GaugeVec
	limit   *prometheus.GaugeVec
	fleet   *prometheus.GaugeVec
	calls   *prometheus.HistogramVec
}

// NewMetrics registers the metrics with reg, which may be nil. It may be called
// again with the same registry.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return telemetry.Register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"sink"}))
	}
	return &Metrics{
		steps: telemetry.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tocsin_actions_total",
			Help: "Steps of automated responses, by kind and state; code says why one was refused or failed.",
		}, []string{"sink", "kind", "state", "code"})),
		open:    gauge("tocsin_actions_open", "Automated responses without a final state, on the process that acts."),
		breaker: gauge("tocsin_actions_breaker_state", "0 closed, 1 half-open, 2 open: nothing is done until tocsin actions resume."),
		used:    gauge("tocsin_actions_window_targets", "Devices that were acted on within the last hour."),
		limit:   gauge("tocsin_actions_window_limit", "Devices that may be acted on within an hour."),
		fleet:   gauge("tocsin_actions_fleet_size", "Devices that the limit is a share of."),
		calls: telemetry.Register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tocsin_awsiot_call_duration_seconds", Help: "Time of a call to AWS IoT, by operation and result.",
			Buckets: []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15},
		}, []string{"sink", "operation", "result"})),
	}
}

func (m *Metrics) step(a *schemas.Action) {
	m.steps.WithLabelValues(a.Sink, a.Kind, a.State, a.Code).Inc()
}

func (m *Metrics) called(sink, op, result string, took time.Duration) {
	m.calls.WithLabelValues(sink, op, result).Observe(took.Seconds())
}

// passive takes back what only the process that acts can say.
func (m *Metrics) passive(sink string) {
	for _, g := range []*prometheus.GaugeVec{m.open, m.breaker, m.used, m.limit, m.fleet} {
		g.DeleteLabelValues(sink)
	}
}

func (m *Metrics) state(sink string, open int, s blastradius.Status) {
	m.open.WithLabelValues(sink).Set(float64(open))
	m.breaker.WithLabelValues(sink).Set(float64(s.State))
	m.used.WithLabelValues(sink).Set(float64(s.Used))
	m.limit.WithLabelValues(sink).Set(float64(s.Limit))
	m.fleet.WithLabelValues(sink).Set(float64(s.Fleet))
}
