package behavior

import "math"

// metric is one of the values of a datapoint that are compared, with the fleet and
// with the device's own past.
type metric int

const (
	messagesSent metric = iota
	messagesReceived
	authorizationFailures
	connectionAttempts
	disconnects
	disconnectDuration // seconds
	sourceAddresses
	numMetrics
)

// metricNames are the names in messages and records: those of Device Defender
// Detect, in snake_case.
var metricNames = [numMetrics]string{
	"num_messages_sent", "num_messages_received", "num_authorization_failures",
	"num_connection_attempts", "num_disconnects", "disconnect_duration_seconds", "num_source_ips",
}

// values are those of one device in one interval.
type values [numMetrics]uint32

func clampUint32(n int64) uint32 { return uint32(max(0, min(n, math.MaxUint32))) }
