package ingest

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tocsin-io/tocsin/ingest/decode"
)

type metrics struct {
	deliveries, bytes, inflated, events, control *prometheus.CounterVec
	fallbacks, cut, failures, deadLetters        *prometheus.CounterVec
	latency                                      *prometheus.HistogramVec
	batchBytes                                   prometheus.Histogram
	inFlight, limit                              prometheus.Gauge
	blocked                                      prometheus.Counter

	mu      sync.RWMutex
	sources map[string]*sourceMetrics
}

func newMetrics(reg prometheus.Registerer) *metrics {
	bySource := func(name, help string, more ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tocsin_ingest_" + name, Help: help}, append([]string{"source"}, more...))
	}
	m := &metrics{
		deliveries:  bySource("deliveries_total", "Payloads taken from sources."),
		bytes:       bySource("bytes_total", "Bytes of payloads as they arrived."),
		inflated:    bySource("inflated_bytes_total", "Bytes of payloads after all layers of compression."),
		events:      bySource("events_total", "Events decoded."),
		control:     bySource("control_messages_total", "CloudWatch Logs control messages: probes without events."),
		fallbacks:   bySource("event_time_fallbacks_total", "Events that took the time of their arrival because they had none to believe."),
		cut:         bySource("cut_texts_total", "Identity fields that were cut to their maximum length."),
		failures:    bySource("ack_failures_total", "Deliveries given back to their source because they could not be published."),
		deadLetters: bySource("dead_letters_total", "Parts of payloads that went to the dead letter topic.", "reason"),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "tocsin_ingest_delivery_duration_seconds",
			Help:    "Time from a payload's arrival to Kafka's acknowledgement of all it held.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 16),
		}, []string{"source"}),
		batchBytes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "tocsin_ingest_batch_bytes",
			Help:    "Encoded size of the batches of events sent to Kafka.",
			Buckets: prometheus.ExponentialBuckets(1<<10, 4, 8),
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tocsin_ingest_in_flight_bytes",
			Help: "Bytes of payloads taken from sources and not yet acknowledged.",
		}),
		limit: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tocsin_ingest_in_flight_bytes_limit",
			Help: "Bound of tocsin_ingest_in_flight_bytes; past it sources wait.",
		}),
		blocked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tocsin_ingest_blocked_deliveries_total",
			Help: "Deliveries that had to wait because the bound of bytes in flight was reached.",
		}),
		sources: map[string]*sourceMetrics{},
	}
	if reg != nil {
		reg.MustRegister(m.deliveries, m.bytes, m.inflated, m.events, m.control, m.fallbacks, m.cut, m.failures,
			m.deadLetters, m.latency, m.batchBytes, m.inFlight, m.limit, m.blocked)
	}
	return m
}

// sourceMetrics are the metrics of one kind of source, looked up once.
type sourceMetrics struct {
	deliveries, bytes, inflated, events, control, fallbacks, cut, failures prometheus.Counter
	deadLetters                                                            *prometheus.CounterVec
	latency                                                                prometheus.Observer
}

// source returns the metrics of a kind of source. The kinds are few constants.
func (m *metrics) source(kind string) *sourceMetrics {
	m.mu.RLock()
	s := m.sources[kind]
	m.mu.RUnlock()
	if s != nil {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s = m.sources[kind]; s != nil {
		return s
	}
	s = &sourceMetrics{
		deliveries:  m.deliveries.WithLabelValues(kind),
		bytes:       m.bytes.WithLabelValues(kind),
		inflated:    m.inflated.WithLabelValues(kind),
		events:      m.events.WithLabelValues(kind),
		control:     m.control.WithLabelValues(kind),
		fallbacks:   m.fallbacks.WithLabelValues(kind),
		cut:         m.cut.WithLabelValues(kind),
		failures:    m.failures.WithLabelValues(kind),
		deadLetters: m.deadLetters.MustCurryWith(prometheus.Labels{"source": kind}),
		latency:     m.latency.WithLabelValues(kind),
	}
	for _, reason := range decode.Reasons {
		s.deadLetters.WithLabelValues(string(reason))
	}
	m.sources[kind] = s
	return s
}

func (s *sourceMetrics) deadLetter(reason string) { s.deadLetters.WithLabelValues(reason).Inc() }

func (s *sourceMetrics) count(stats decode.Stats) {
	s.events.Add(float64(stats.Events))
	s.inflated.Add(float64(stats.Inflated))
	s.control.Add(float64(stats.Control))
	s.fallbacks.Add(float64(stats.TimeFallbacks))
	s.cut.Add(float64(stats.CutTexts))
}
