package behavior

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tocsin-io/tocsin/schemas"
)

// What a bound made the service leave out; values of the label bound.
const (
	boundDevices      = "devices"      // a device idle longest was given up
	boundCertificates = "certificates" // likewise
	boundIntervals    = "intervals"    // the oldest open interval was closed early
	boundOffline      = "offline"      // a device that is offline got no datapoint
	boundSilent       = "silent"       // a silent device was not reported in this interval
	boundRecords      = "records"      // a record was put off, for want of rate
	boundLanes        = "lanes"        // a lane is not watched
)

type metrics struct {
	events, late, repeated prometheus.Counter
	derived                map[string]prometheus.Counter // by type
	records                *prometheus.CounterVec
	bounds                 *prometheus.CounterVec
	restored, unreadable   prometheus.Counter
	malformed              prometheus.Counter
	devices                *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		events:     prometheus.NewCounter(prometheus.CounterOpts{Name: "tocsin_behavior_events_total", Help: "Events of devices that were counted."}),
		late:       prometheus.NewCounter(prometheus.CounterOpts{Name: "tocsin_behavior_late_events_total", Help: "Events of intervals that were complete already; they are in no datapoint."}),
		repeated:   prometheus.NewCounter(prometheus.CounterOpts{Name: "tocsin_behavior_repeated_events_total", Help: "Events read again after a restart whose interval was complete."}),
		derived:    make(map[string]prometheus.Counter),
		records:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tocsin_behavior_records_total", Help: "Records written to the identities topic, by kind."}, []string{"kind"}),
		bounds:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tocsin_behavior_bounds_reached_total", Help: "What a bound made the service leave out or put off."}, []string{"bound"}),
		unreadable: prometheus.NewCounter(prometheus.CounterOpts{Name: "tocsin_behavior_unreadable_records_total", Help: "Records of events that broke off; the correlator keeps them as dead letters."}),
		malformed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "tocsin_behavior_malformed_issuances_total", Help: "CloudTrail events of AWS Private CA of which no record could be made: without a readable serial number, CA or time."}),
		restored:   prometheus.NewCounter(prometheus.CounterOpts{Name: "tocsin_behavior_restored_devices_total", Help: "Devices read back from the identities topic when a partition was taken over."}),
		devices:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tocsin_behavior_devices", Help: "Devices remembered, by partition."}, []string{"partition"}),
	}
	derived := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tocsin_behavior_derived_events_total", Help: "Events made, by type."}, []string{"type"})
	for _, typ := range []string{schemas.TypeDatapoint, schemas.TypeDeviceSilent, schemas.TypeDeviceReturned, schemas.TypeSourceSilent} {
		m.derived[typ] = derived.WithLabelValues(typ)
	}
	for _, b := range []string{boundDevices, boundCertificates, boundIntervals, boundOffline, boundSilent, boundRecords, boundLanes} {
		m.bounds.WithLabelValues(b)
	}
	if reg != nil {
		reg.MustRegister(m.events, m.late, m.repeated, derived, m.records, m.bounds, m.unreadable, m.malformed, m.restored, m.devices)
	}
	return m
}
