package telemetry

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestRegister(t *testing.T) {
	counter := func(help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "tocsin_x_total", Help: help})
	}
	reg := prometheus.NewRegistry()
	first := Register(reg, counter("X."))
	if Register(reg, counter("X.")) != first {
		t.Error("the second is not the first")
	}
	if Register(nil, counter("X.")) == first {
		t.Error("without a registry metrics are shared")
	}
	defer func() {
		if recover() == nil {
			t.Error("no panic for another metric under the same name")
		}
	}()
	Register(reg, counter("Y."))
}
