package telemetry

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Register registers c, or returns the collector that is registered under its
// name already: several parts of one process (producers, consumer groups, sinks)
// share metrics and differ in labels only. With a nil reg it returns c, which is
// exported nowhere. It panics when reg has another metric of that name.
func Register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	if reg == nil {
		return c
	}
	err := reg.Register(c)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing
		}
	}
	if err != nil {
		panic(err) // two different metrics under one name: a programming error
	}
	return c
}
