package inventory

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tocsin-io/tocsin/internal/telemetry"
)

type metrics struct {
	calls      *prometheus.CounterVec
	listed     prometheus.Gauge
	completed  prometheus.Gauge
	described  prometheus.Counter
	failed     prometheus.Counter
	unreadable prometheus.Counter
	malformed  prometheus.Counter
	dropped    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return telemetry.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{Name: "tocsin_inventory_" + name, Help: help}))
	}
	gauge := func(name, help string) prometheus.Gauge {
		return telemetry.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts{Name: "tocsin_inventory_" + name, Help: help}))
	}
	return &metrics{
		calls: telemetry.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tocsin_inventory_calls_total",
			Help: "Calls of AWS IoT's API by operation and result; throttled ones are made again, more slowly.",
		}, []string{"operation", "result"})),
		listed:     gauge("listed", "Certificates that the cycle under way, or the last one, has listed."),
		completed:  gauge("completed_timestamp_seconds", "When the last listing was complete."),
		described:  counter("described_total", "Certificates described."),
		failed:     counter("describe_failed_total", "Certificates that could not be described; the next cycle tries again."),
		unreadable: counter("unreadable_total", "Certificates that AWS IoT has and that do not parse."),
		malformed:  counter("malformed_total", "Entries of listings that are no certificate IDs."),
		dropped:    counter("dropped_total", "Requests to describe a certificate soon that found the queue full."),
	}
}
