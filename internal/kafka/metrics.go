package kafka

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tocsin-io/tocsin/internal/telemetry"
)

type producerMetrics struct {
	records, bytes, retries, errors *prometheus.CounterVec
	inFlight, limit                 prometheus.Gauge
	duration                        *prometheus.HistogramVec
}

func newProducerMetrics(reg prometheus.Registerer) *producerMetrics {
	return &producerMetrics{
		records: telemetry.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tocsin_kafka_produced_records_total", Help: "Records acknowledged by all in-sync replicas.",
		}, []string{"topic"})),
		bytes: telemetry.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tocsin_kafka_produced_bytes_total", Help: "Bytes of acknowledged record batches, after compression.",
		}, []string{"topic"})),
		retries: telemetry.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tocsin_kafka_produce_retries_total", Help: "Produce requests that are sent again, by why the last one failed.",
		}, []string{"topic", "reason"})),
		errors: telemetry.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tocsin_kafka_produce_errors_total", Help: "Records that could not be produced, by reason.",
		}, []string{"topic", "reason"})),
		inFlight: telemetry.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tocsin_kafka_produce_in_flight_bytes", Help: "Bytes of records accepted for producing and not yet acknowledged.",
		})),
		limit: telemetry.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tocsin_kafka_produce_in_flight_limit_bytes", Help: "Bound on in-flight bytes at which producing blocks.",
		})),
		duration: telemetry.Register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tocsin_kafka_produce_request_seconds", Help: "Time from sending a record batch to its acknowledgement, retries included.",
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"topic"})),
	}
}

type groupMetrics struct {
	records, bytes, lost                               *prometheus.CounterVec
	lag                                                *prometheus.GaugeVec
	rebalances, assigned                               prometheus.Counter
	fetchErrors, commitErrors, groupErrors, handlerErr *prometheus.CounterVec
	partitions                                         prometheus.Gauge
}

func newGroupMetrics(reg prometheus.Registerer, group string) *groupMetrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return telemetry.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"group"}, labels...))).
			MustCurryWith(prometheus.Labels{"group": group})
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return telemetry.Register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, append([]string{"group"}, labels...))).
			MustCurryWith(prometheus.Labels{"group": group})
	}
	return &groupMetrics{
		records:      counter("tocsin_kafka_fetched_records_total", "Records fetched.", "topic"),
		bytes:        counter("tocsin_kafka_fetched_bytes_total", "Bytes of record batches fetched, before decompression.", "topic"),
		lost:         counter("tocsin_kafka_skipped_offsets_total", "Offsets that could not be read and were skipped, by reason.", "topic", "reason"),
		lag:          gauge("tocsin_kafka_consumer_lag_records", "Records between the worker's position and the high watermark.", "topic", "partition"),
		rebalances:   counter("tocsin_kafka_group_generations_total", "Generations of the consumer group that this member took part in.").WithLabelValues(),
		assigned:     counter("tocsin_kafka_group_assignments_total", "Partitions assigned to this member, summed over generations.").WithLabelValues(),
		fetchErrors:  counter("tocsin_kafka_fetch_errors_total", "Fetches that failed and are repeated, by reason.", "topic", "reason"),
		commitErrors: counter("tocsin_kafka_commit_errors_total", "Offset commits that failed, by reason.", "topic", "reason"),
		groupErrors:  counter("tocsin_kafka_group_errors_total", "Failed attempts to join the consumer group, by reason.", "reason"),
		handlerErr:   counter("tocsin_kafka_handler_errors_total", "Partition workers that failed and are started again.", "topic"),
		partitions:   gauge("tocsin_kafka_group_partitions", "Partitions currently assigned to this member.").WithLabelValues(),
	}
}
