package correlate

import "github.com/prometheus/client_golang/prometheus"

// Why a match took no part in a window; values of the label reason.
const (
	ignoredFuture      = "future_time"
	ignoredNoGroup     = "no_group_value"
	ignoredNoValue     = "no_condition_value"
	ignoredNoNumber    = "no_number"
	ignoredManyGroups  = "too_many_groups"
	ignoredLongGroup   = "group_too_long"
	ignoredLongValue   = "condition_value_too_long"
	ignoredUnknownRule = "unknown_rule"
)

// Where an event was found to be there already; values of the label where.
const (
	duplicateMatch     = "window"    // the group has it
	duplicateDetection = "detection" // it has been reported by itself
)

// Why a record went to the dead letter topic.
const (
	reasonMalformed = "malformed_record"
	reasonTooLarge  = "output_too_large"
)

type metrics struct {
	events, matched, shuffled, shuffledBytes prometheus.Counter
	ignored, detections, deadLetters         *prometheus.CounterVec
	restores                                 *prometheus.CounterVec
	evidence, duplicates                     *prometheus.CounterVec
	late, evicted                            prometheus.Counter
	snapshotSeconds, snapshotPause           prometheus.Histogram
	snapshotBytes                            prometheus.Histogram
	snapshotFailures                         prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		if reg != nil {
			reg.MustRegister(c)
		}
		return c
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		if reg != nil {
			reg.MustRegister(c)
		}
		return c
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
		if reg != nil {
			reg.MustRegister(h)
		}
		return h
	}
	m := &metrics{
		events:           counter("tocsin_correlate_events_total", "Events matched against the rules."),
		matched:          counter("tocsin_correlate_events_matched_total", "Events that matched at least one rule."),
		shuffled:         counter("tocsin_correlate_shuffled_matches_total", "Matches sent to the partition of their group."),
		shuffledBytes:    counter("tocsin_correlate_shuffled_bytes_total", "Bytes of these, before compression."),
		ignored:          vec("tocsin_correlate_ignored_matches_total", "Matches that took no part in a window.", "reason"),
		detections:       vec("tocsin_correlate_detections_total", "Records sent to the detections topic.", "rule", "activity"),
		deadLetters:      vec("tocsin_correlate_dead_letters_total", "Records that could not be read.", "reason"),
		restores:         vec("tocsin_correlate_restores_total", "Partitions taken over, by what was found of their state.", "result"),
		evidence:         vec("tocsin_correlate_evidence_lookups_total", "Contributing events of heavy groups that detections looked for in the events topic.", "result"),
		duplicates:       vec("tocsin_correlate_duplicates_total", "Matches of events that had been counted already: delivered twice, or read again after a crash.", "where"),
		late:             counter("tocsin_correlate_late_events_total", "Matches older than the allowed lateness; they took no part in windows."),
		evicted:          counter("tocsin_correlate_evicted_groups_total", "Groups given up because a memory bound was reached."),
		snapshotSeconds:  histogram("tocsin_correlate_snapshot_duration_seconds", "Time that making a snapshot took, without the wait for the place that keeps it.", prometheus.ExponentialBuckets(0.001, 2, 14)),
		snapshotPause:    histogram("tocsin_correlate_snapshot_pause_seconds", "Time a worker stood still for a snapshot.", prometheus.ExponentialBuckets(0.0005, 2, 14)),
		snapshotFailures: counter("tocsin_correlate_snapshot_failures_total", "Snapshots that could not be written."),
		snapshotBytes:    histogram("tocsin_correlate_snapshot_bytes", "Size of a snapshot, compressed.", prometheus.ExponentialBuckets(256, 4, 12)),
	}
	// Or the first one that is counted is no increase.
	for vec, values := range map[*prometheus.CounterVec][]string{
		m.evidence:   {evidenceKnown, evidenceRead, evidenceMissing},
		m.restores:   {"ok", "missing"},
		m.duplicates: {duplicateMatch, duplicateDetection},
	} {
		for _, value := range values {
			vec.WithLabelValues(value)
		}
	}
	return m
}
