package crl

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tocsin-io/tocsin/internal/telemetry"
)

// Metrics are those of all Syncers and Exporters of a process.
type Metrics struct {
	documents *prometheus.CounterVec
	problems  *prometheus.CounterVec
	lists     prometheus.Counter
	entries   prometheus.Counter
	skipped   prometheus.Counter
	seconds   prometheus.Histogram
	exports   *prometheus.CounterVec
	forgotten prometheus.Gauge
}

// NewMetrics registers the metrics with reg, which may be nil. It may be called
// again with the same registry.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return telemetry.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help}))
	}
	vector := func(name, help, label string, values ...string) *prometheus.CounterVec {
		v := telemetry.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label}))
		for _, value := range values {
			v.WithLabelValues(value) // or the first one that is counted is no increase
		}
		return v
	}
	reasons := make([]string, len(Reasons))
	for i, r := range Reasons {
		reasons[i] = string(r)
	}
	return &Metrics{
		documents: vector("tocsin_crl_documents_total", "Documents with revocation lists that were looked at, by result.", "result", "read", "unchanged"),
		problems:  vector("tocsin_crl_problems_total", "Revocation lists that were not taken in, or only with reservations, by reason; counted again at each synchronisation.", "reason", reasons...),
		lists:     counter("tocsin_crl_lists_total", "Revocation lists that were new or had changed."),
		entries:   counter("tocsin_crl_entries_total", "Entries of the revocation lists that were new or had changed."),
		skipped:   counter("tocsin_crl_entries_skipped_total", "Entries of these lists that revoke nothing: removeFromCRL, or a serial number that no certificate can have."),
		seconds: telemetry.Register(reg, prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tocsin_crl_read_duration_seconds", Help: "Time to read and verify a document with revocation lists, and to take it in.",
			Buckets: []float64{0.01, 0.1, 0.5, 1, 5, 30, 120},
		})),
		forgotten: telemetry.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tocsin_crl_lists_not_remembered", Help: "Revocation lists beyond those of which something is remembered: they are read each time, and that they go back is not noticed.",
		})),
		exports: vector("tocsin_crl_exports_total", "Times that the merged revocation lists were written for TLS servers, by result.", "result", "written", "unchanged", "failed"),
	}
}

func (m *Metrics) unchanged() { m.documents.WithLabelValues("unchanged").Inc() }

func (m *Metrics) done(took time.Duration) {
	m.documents.WithLabelValues("read").Inc()
	m.seconds.Observe(took.Seconds())
}

func (m *Metrics) list(l *List) {
	m.lists.Inc()
	m.entries.Add(float64(l.Entries))
	m.skipped.Add(float64(l.Skipped))
}

func (m *Metrics) problem(r Reason) { m.problems.WithLabelValues(string(r)).Inc() }

func (m *Metrics) export(result string) { m.exports.WithLabelValues(result).Inc() }

// Forgotten notes how many lists are too many to be remembered.
func (m *Metrics) Forgotten(lists int) { m.forgotten.Set(float64(lists)) }
