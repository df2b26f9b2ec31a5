package firehose

import "github.com/prometheus/client_golang/prometheus"

// What became of a request; a metric label.
const (
	resultOK           = "ok"
	resultDuplicate    = "duplicate"    // answered 200 from memory
	resultConfirmation = "confirmation" // AWS IoT asks to confirm a destination
	resultMethod       = "method"       // not POST
	resultUnauthorized = "unauthorized" // no access key
	resultForbidden    = "forbidden"    // wrong access key
	resultMalformed    = "malformed"
	resultTooLarge     = "too_large"
	resultSlow         = "slow"        // the body did not arrive in time
	resultAborted      = "aborted"     // the sender went away
	resultOverloaded   = "overloaded"  // no room for it
	resultAckTimeout   = "ack_timeout" // Kafka did not acknowledge in time
	resultFailed       = "failed"      // the pipeline gave it back
)

var results = [...]string{
	resultOK, resultDuplicate, resultConfirmation, resultMethod, resultUnauthorized, resultForbidden, resultMalformed,
	resultTooLarge, resultSlow, resultAborted, resultOverloaded, resultAckTimeout, resultFailed,
}

type metrics struct {
	requests *prometheus.CounterVec
	duration prometheus.Histogram
	bytes    prometheus.Counter
	records  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Source) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tocsin_firehose_requests_total",
			Help: "HTTP requests to the Firehose and push endpoints by what became of them.",
		}, []string{"result"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "tocsin_firehose_request_duration_seconds",
			Help:    "Time from the first byte of a request that ended well to its answer, Kafka's acknowledgement included.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 16),
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tocsin_firehose_request_bytes_total",
			Help: "Bytes of request bodies as they came over the wire.",
		}),
		records: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tocsin_firehose_records_total",
			Help: "Records in Firehose requests, repetitions included.",
		}),
	}
	for _, r := range results {
		m.requests.WithLabelValues(r)
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.duration, m.bytes, m.records,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "tocsin_firehose_in_flight_bytes",
				Help: "Bytes held for requests that are being read or wait for Kafka.",
			}, func() float64 { return float64(s.budget.used.Load()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "tocsin_firehose_in_flight_bytes_limit",
				Help: "Bound of tocsin_firehose_in_flight_bytes; past it requests are answered 503.",
			}, func() float64 { return float64(s.budget.limit) }))
	}
	return m
}
