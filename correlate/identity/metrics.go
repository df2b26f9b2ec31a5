package identity

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tocsin-io/tocsin/internal/telemetry"
)

type metrics struct {
	active       prometheus.Gauge
	lag          prometheus.Gauge
	certificates *prometheus.GaugeVec
	expiring     *prometheus.GaugeVec
	expired      prometheus.Gauge
	described    prometheus.Gauge
	cas          prometheus.Gauge
	revoked      prometheus.Gauge
	waiting      prometheus.Gauge
	published    prometheus.Counter
	findings     *prometheus.CounterVec
	malformed    *prometheus.CounterVec
	refused      *prometheus.CounterVec
	flushErrors  *prometheus.CounterVec
	syncFailures *prometheus.CounterVec
	forgotten    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	const prefix = "tocsin_registry_"
	gauge := func(name, help string) prometheus.Gauge {
		return telemetry.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + name, Help: help}))
	}
	gauges := func(name, help, label string) *prometheus.GaugeVec {
		return telemetry.Register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + name, Help: help}, []string{label}))
	}
	counter := func(name, help string) prometheus.Counter {
		return telemetry.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help}))
	}
	counters := func(name, help, label string) *prometheus.CounterVec {
		return telemetry.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, []string{label}))
	}
	return &metrics{
		active:       gauge("active", "1 in the instance of the registry that is the active one, 0 in those that stand by."),
		lag:          gauge("lag_records", "Records of tocsin.identities that the active instance has not merged yet."),
		certificates: gauges("certificates", "Certificates by state, as events are stamped with it.", "status"),
		expiring:     gauges("expiring", "Live certificates that expire within so many days.", "days"),
		expired:      gauge("expired", "Certificates that have expired and that the broker has not deactivated."),
		described:    gauge("described", "Certificates of which the certificate itself has been read."),
		cas:          gauge("cas", "CAs."),
		revoked:      gauge("revoked_serials", "Serial numbers that CAs have revoked."),
		waiting:      gauge("unresolved_revocations", "Revocations in CloudTrail by CAs of AWS Private CA whose key identifiers are not known yet."),
		published:    counter("published_total", "Records written to tocsin.identities."),
		findings:     counters("findings_total", "Events of the registry published to tocsin.events.", "type"),
		malformed:    counters("malformed_total", "Records of tocsin.identities that could not be read or written.", "kind"),
		refused:      counters("refused_total", "What the registry had no room for.", "kind"),
		flushErrors:  counters("publish_errors_total", "Failed attempts to publish; what failed is published by the next one.", "reason"),
		syncFailures: counters("sync_failures_total", "Failed readings of a source.", "source"),
		forgotten:    counter("forgotten_total", "Records removed of certificates that are not registered and were not seen for long."),
	}
}

// show exports what was counted.
func (m *metrics) show(n *Counts) {
	m.certificates.Reset()
	for status, count := range n.ByStatus {
		if status == "" {
			status = "none"
		}
		m.certificates.WithLabelValues(status).Set(float64(count))
	}
	for days, count := range n.Expiring {
		m.expiring.WithLabelValues(days).Set(float64(count))
	}
	m.expired.Set(float64(n.Expired))
	m.described.Set(float64(n.Described))
	m.cas.Set(float64(n.CAs))
	m.revoked.Set(float64(n.Revoked))
}
