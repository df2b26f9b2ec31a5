package chaos

import "time"

// sigmaRules are what the correlators run; see rules.
const sigmaRules = `
title: Certificate revoked
id: revoked
logsource: {product: aws, service: iot}
detection: {s: {eventType: Connect, reason: CERTIFICATE_REVOKED}, condition: s}
level: high
---
title: Refused
name: refused
logsource: {product: aws, service: iot}
detection: {s: {eventType: Connect, status: Failure, reason: AUTHORIZATION_FAILURE}, condition: s}
---
title: Connected
name: connected
logsource: {product: aws, service: iot}
detection: {s: {eventType: Connect, status: Success, protocol: MQTT}, condition: s}
---
title: Connected by WebSocket
name: websocket
logsource: {product: aws, service: iot}
detection: {s: {eventType: Connect, status: Success, protocol: WebSocket}, condition: s}
---
title: Published
name: published
logsource: {product: aws, service: iot}
detection: {s: {eventType: Publish-In}, condition: s}
---
title: Alive
name: alive
logsource: {product: aws, service: iot}
detection: {s: {eventType: Ping}, condition: s}
---
title: Not authenticated
name: unauthenticated
logsource: {product: aws, service: iot}
detection: {s: {eventType: Connection.AuthNError}, condition: s}
---
title: Device refused several times
id: refusals
correlation:
  type: event_count
  rules: [refused]
  group-by: [tocsin.device]
  timespan: 10s
  condition: {gte: 4}
level: medium
---
title: Certificate shared
id: shared
correlation:
  type: value_count
  rules: [connected]
  group-by: [tocsin.certificate_id]
  timespan: 10s
  condition: {field: clientId, gte: 3}
level: high
---
title: Refused, then let in
id: guessed
correlation:
  type: temporal_ordered
  rules: [refused, connected]
  group-by: [tocsin.source_ip]
  timespan: 10s
level: high
---
title: Connected but silent
id: silent
correlation:
  type: temporal
  rules: [websocket, published]
  group-by: [tocsin.device]
  timespan: 5s
  condition: websocket and not published
level: low
---
title: Hardly alive
id: fading
correlation:
  type: event_count
  rules: [alive]
  group-by: [tocsin.device]
  timespan: 6s
  condition: {lt: 3}
level: low
---
title: Account under attack
id: storm
correlation:
  type: event_count
  rules: [unauthenticated]
  group-by: [tocsin.account]
  timespan: 5s
  condition: {gte: 15}
level: critical
`

// kind is what an event says.
type kind int

const (
	revoked kind = iota
	refused
	connected
	websocket
	published
	alive
	unauthenticated
	noise // matches no rule
)

// rule is a correlation of sigmaRules for the oracle.
type rule struct {
	id    string
	steps []kind // an event of any of them takes part
	group func(*event) string
	span  time.Duration
	// holds decides about the events of one window; nil for the chains of
	// temporal_ordered, one event of each step in order.
	holds func([]*event) bool
	// begins is the kind that windows begin with, if not any of steps.
	begins func(kind) bool
}

func anything(kind) bool { return true }

func byDevice(e *event) string      { return e.device }
func byCertificate(e *event) string { return e.certificate }
func byAddress(e *event) string     { return e.address }
func byAccount(e *event) string     { return e.account }

var rules = []rule{
	{
		id: "refusals", steps: []kind{refused}, group: byDevice, span: 10 * time.Second, begins: anything,
		holds: func(w []*event) bool { return len(w) >= 4 },
	},
	{
		id: "shared", steps: []kind{connected}, group: byCertificate, span: 10 * time.Second, begins: anything,
		holds: func(w []*event) bool {
			clients := map[string]bool{}
			for _, e := range w {
				clients[e.device] = true
			}
			return len(clients) >= 3
		},
	},
	{id: "guessed", steps: []kind{refused, connected}, group: byAddress, span: 10 * time.Second},
	{
		id: "silent", steps: []kind{websocket, published}, group: byDevice, span: 5 * time.Second,
		begins: func(k kind) bool { return k == websocket },
		holds: func(w []*event) bool {
			for _, e := range w {
				if e.kind == published {
					return false
				}
			}
			return true
		},
	},
	{
		id: "fading", steps: []kind{alive}, group: byDevice, span: 6 * time.Second, begins: anything,
		holds: func(w []*event) bool { return len(w) < 3 },
	},
	{
		id: "storm", steps: []kind{unauthenticated}, group: byAccount, span: 5 * time.Second, begins: anything,
		holds: func(w []*event) bool { return len(w) >= 15 },
	},
}
