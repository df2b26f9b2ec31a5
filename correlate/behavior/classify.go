package behavior

import (
	"github.com/tocsin-io/tocsin/internal/jsonscan"
	"github.com/tocsin-io/tocsin/schemas"
)

// counter is what is counted of a device in an interval. Connections are counted
// apart for the two sources that report them.
type counter uint8

const (
	countNothing counter = iota
	countSent
	countReceived
	countLogAttempt
	countLogDisconnect
	countLifeAttempt
	countLifeDisconnect
	// Authorization failures are also attempts when they are of a connection.
	countLogFailure
	countLifeFailure
	numCounters
)

// deed is what an event says of its device.
type deed struct {
	count   counter
	attempt counter // counted besides
	// active: the device itself was heard, with an identity that the broker accepted.
	active bool
	up     bool // it is online
	down   bool // it went offline
	change bool // a certificate's state changed
}

// The sources, the event types and what they mean: reference AWS IoT Core developer
// guide, "CloudWatch AWS IoT Core log entries" and "Lifecycle events"; the metrics: AWS
// IoT Device Defender developer guide, "Cloud-side metrics".
func classify(ev *schemas.Event) deed {
	switch string(ev.Source) {
	case schemas.SourceIoT:
		return classifyLog(ev)
	case schemas.SourceLifecycle:
		return classifyLifecycle(ev)
	case schemas.SourceCloudTrail, schemas.SourceDeviceDefender:
		return deed{change: true}
	}
	return deed{}
}

func classifyLog(ev *schemas.Event) deed {
	failed := ev.Outcome == schemas.OutcomeFailure
	switch string(ev.Type) {
	case "Publish-In":
		if failed {
			return authorization(ev, deed{})
		}
		return deed{count: countSent, active: true, up: true}
	case "Publish-Out":
		if failed {
			return deed{}
		}
		return deed{count: countReceived, active: true, up: true}
	case "Connect":
		if failed {
			return authorization(ev, deed{attempt: countLogAttempt})
		}
		return deed{count: countLogAttempt, active: true, up: true}
	case "Connection.AuthNError":
		return deed{attempt: countLogAttempt}
	case "Disconnect":
		return disconnect(ev, countLogDisconnect, "reason")
	case "Subscribe":
		if failed {
			return authorization(ev, deed{})
		}
		return deed{active: true, up: true}
	case "Ping":
		return deed{active: !failed, up: !failed}
	case "Unsubscribe", "GetThingShadow", "UpdateThingShadow", "DeleteThingShadow", "DescribeJobExecution",
		"GetPendingJobExecution", "StartNextPendingJobExecution", "UpdateJobExecution":
		// A shadow may be changed by anybody with the right to: that is no sign of the
		// device being online.
		return deed{active: !failed && len(ev.ClientID) > 0}
	}
	return deed{}
}

// authorization adds a failure if it is one of authorization.
func authorization(ev *schemas.Event, d deed) deed {
	if reason, ok := jsonscan.Lookup(ev.Message, "reason"); ok && string(reason.Raw) == "AUTHORIZATION_FAILURE" {
		d.count = countLogFailure
	}
	return d
}

// disconnect leaves a device online that took its own place: the new connection may
// be reported before the end of the old one. It is no sign of life: most often it is
// the broker that missed one.
func disconnect(ev *schemas.Event, c counter, field string) deed {
	reason, _ := jsonscan.Lookup(ev.Message, field)
	if string(reason.Raw) == "DUPLICATE_CLIENT_ID" || string(reason.Raw) == "DUPLICATE_CLIENTID" {
		return deed{count: c}
	}
	return deed{count: c, down: true}
}

func classifyLifecycle(ev *schemas.Event) deed {
	switch string(ev.Type) {
	case "connected":
		return deed{count: countLifeAttempt, active: true, up: true}
	case "disconnected":
		return disconnect(ev, countLifeDisconnect, "disconnectReason")
	case "connect_failed":
		return deed{count: countLifeFailure, attempt: countLifeAttempt}
	case "subscribed", "unsubscribed":
		return deed{active: true, up: true}
	case "registered":
		return deed{change: true}
	}
	return deed{}
}
