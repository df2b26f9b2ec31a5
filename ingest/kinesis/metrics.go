package kinesis

import "github.com/prometheus/client_golang/prometheus"

// What became of a call of GetRecords or GetShardIterator; a metric label.
const (
	resultOK        = "ok"
	resultThrottled = "throttled"
	resultExpired   = "expired_iterator"
	resultInvalid   = "invalid_position" // the checkpoint is not of this stream
	resultGone      = "not_found"
	resultDenied    = "access_denied"
	resultError     = "error"
)

type metrics struct {
	calls        *prometheus.CounterVec
	records      prometheus.Counter
	bytes        prometheus.Counter
	restarts     prometheus.Counter
	saveFailures prometheus.Counter
	shards       prometheus.Gauge
	behind       *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer, stream string) *metrics {
	label := prometheus.Labels{"stream": stream}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "tocsin_kinesis_" + name, Help: help, ConstLabels: label})
	}
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tocsin_kinesis_calls_total", Help: "Calls of GetRecords and GetShardIterator by result.", ConstLabels: label,
		}, []string{"result"}),
		records:      counter("records_total", "Records read, repetitions included."),
		bytes:        counter("bytes_total", "Bytes of the records read."),
		restarts:     counter("shard_restarts_total", "Times that a shard was read again from its checkpoint because records were not published."),
		saveFailures: counter("checkpoint_failures_total", "Failed attempts to save checkpoints."),
		shards: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tocsin_kinesis_shards", Help: "Shards that are being read.", ConstLabels: label,
		}),
		// The shards of a stream are few, and AWS's own metrics have the label too.
		behind: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tocsin_kinesis_behind_latest_seconds", Help: "How far reading is behind the newest record of the shard.", ConstLabels: label,
		}, []string{"shard"}),
	}
	for _, r := range []string{resultOK, resultThrottled, resultExpired, resultInvalid, resultGone, resultDenied, resultError} {
		m.calls.WithLabelValues(r)
	}
	if reg != nil {
		reg.MustRegister(m.calls, m.records, m.bytes, m.restarts, m.saveFailures, m.shards, m.behind)
	}
	return m
}
