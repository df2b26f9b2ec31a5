package sinks

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tocsin-io/tocsin/internal/telemetry"
)

// Metrics are those of all sinks of a process; they differ in their labels.
type Metrics struct {
	up         *prometheus.GaugeVec
	buffered   *prometheus.GaugeVec
	records    *prometheus.CounterVec
	rows       *prometheus.CounterVec
	rejected   *prometheus.CounterVec
	retries    *prometheus.CounterVec
	duplicates *prometheus.CounterVec
	batchTime  *prometheus.HistogramVec
	batchRows  *prometheus.HistogramVec

	sent    *prometheus.CounterVec
	failed  *prometheus.CounterVec
	latency *prometheus.HistogramVec
}

// NewMetrics registers the metrics with reg, which may be nil. It may be called
// again with the same registry.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return telemetry.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels))
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return telemetry.Register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels))
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return telemetry.Register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels))
	}
	seconds := []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}
	return &Metrics{
		up:         gauge("tocsin_sink_up", "1 while the sink's last attempt succeeded, 0 while it fails or is disabled.", "sink"),
		buffered:   gauge("tocsin_sink_buffered_bytes", "Bytes of records taken from Kafka that the sink's receiver does not have yet.", "sink"),
		records:    counter("tocsin_sink_records_total", "Kafka records that the sink has dealt with.", "sink"),
		rows:       counter("tocsin_sink_rows_total", "Rows stored.", "sink"),
		rejected:   counter("tocsin_sink_dead_letters_total", "Records sent to the dead letter topic, by reason.", "sink", "reason"),
		retries:    counter("tocsin_sink_retries_total", "Failed attempts, each followed by another one, by reason.", "sink", "reason"),
		duplicates: counter("tocsin_sink_duplicates_total", "Records left out because the receiver has them already.", "sink"),
		batchTime:  histogram("tocsin_sink_batch_duration_seconds", "Time to store a batch, without the attempts that failed.", seconds, "sink"),
		batchRows:  histogram("tocsin_sink_batch_rows", "Rows of a stored batch.", prometheus.ExponentialBuckets(1, 10, 7), "sink"),

		sent:    counter("tocsin_notifications_total", "Notifications accepted by their receiver.", "integration"),
		failed:  counter("tocsin_notifications_failed_total", "Failed attempts to notify, by reason.", "integration", "reason"),
		latency: histogram("tocsin_notification_latency_seconds", "Time of one attempt to notify.", seconds, "integration"),
	}
}

// Batch notes a stored batch.
func (m *Metrics) Batch(sink string, rows int, took time.Duration) {
	m.rows.WithLabelValues(sink).Add(float64(rows))
	m.batchRows.WithLabelValues(sink).Observe(float64(rows))
	m.batchTime.WithLabelValues(sink).Observe(took.Seconds())
}

// Buffered notes how many bytes wait in the sink.
func (m *Metrics) Buffered(sink string, bytes int) {
	m.buffered.WithLabelValues(sink).Set(float64(bytes))
}

// Duplicate notes a record that was left out.
func (m *Metrics) Duplicate(sink string) { m.duplicates.WithLabelValues(sink).Inc() }

// Rejected notes a record that went to the dead letter topic.
func (m *Metrics) Rejected(sink, reason string) { m.rejected.WithLabelValues(sink, reason).Inc() }

// Notified notes an attempt to notify; reason is "" for a success.
func (m *Metrics) Notified(integration, reason string, took time.Duration) {
	m.latency.WithLabelValues(integration).Observe(took.Seconds())
	if reason == "" {
		m.sent.WithLabelValues(integration).Inc()
		return
	}
	m.failed.WithLabelValues(integration, reason).Inc()
}
