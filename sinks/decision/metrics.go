package decision

import "github.com/prometheus/client_golang/prometheus"

// The endpoints; a metric label.
const (
	endpointCertificates = "certificates"
	endpointEMQXAuthn    = "emqx_authn"
	endpointEMQXAuthz    = "emqx_authz"
	endpointMosquitto    = "mosquitto_user"
	endpointSuperuser    = "mosquitto_superuser"
	endpointACL          = "mosquitto_acl"
)

// What became of a request; a metric label beside the reason of the verdict.
const (
	resultAllow   = "allow"
	resultDeny    = "deny"
	resultIgnore  = "ignore"
	resultRefused = "refused" // not answered, see the reasons
)

// Why a request was not answered; they share a label with the reasons of verdicts.
const (
	reasonUnauthorized = "unauthorized" // no access key, or a wrong one
	reasonMalformed    = "malformed"
	reasonOverloaded   = "overloaded"
)

type metrics struct {
	decisions *prometheus.CounterVec
	duration  prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tocsin_decisions_total",
			Help: "Requests to the decision endpoint, by who asked, what was answered and why.",
		}, []string{"endpoint", "result", "reason"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "tocsin_decision_duration_seconds",
			Help:    "Time from a request's header to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.00001, 4, 10),
		}),
	}
	if reg != nil {
		reg.MustRegister(m.decisions, m.duration)
	}
	return m
}
