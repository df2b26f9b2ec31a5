package simulate

import "fmt"

// action is one of the things that devices do.
type action uint8

const (
	actConnect action = iota
	actDrop
	actPublish
	actPing
	actShadow
	actCommand
	actCredentials
	actJob
)

// kind is a model of device. Intervals are mean seconds; 0 is never.
type kind struct {
	name        string
	share       int     // of a hundred devices
	publish     float64 // median over the devices of the kind; each has its own
	spread      float64 // sigma of that
	ping        float64 // keep-alive
	shadow      float64
	command     float64 // messages to the device
	credentials float64 // role alias credentials
	uptime      float64 // until the connection ends
	offline     float64 // until the next one
	lostness    float64 // share of the connections that end by themselves
	mobile      bool    // new address with each connection
	rule        *topicRule
}

// topicRule is the rule that takes up a kind's messages.
type topicRule struct{ name, action, resources string }

var (
	telemetryRule = &topicRule{"telemetry_to_kinesis", "KinesisAction", `{"StreamName":"fleet-telemetry"}`}
	alertRule     = &topicRule{"readings_to_timestream", "TimestreamAction", `{"DatabaseName":"fleet","TableName":"readings"}`}
)

var kinds = []kind{
	{name: "sensor", share: 45, publish: 60, spread: 0.3, ping: 120, shadow: 1800, uptime: 86400, offline: 20, lostness: 0.8, rule: alertRule},
	{name: "pump", share: 25, publish: 15, spread: 0.3, ping: 60, shadow: 600, command: 300, uptime: 43200, offline: 10, lostness: 0.5, rule: telemetryRule},
	// A meter sleeps: it connects, sends and goes.
	{name: "meter", share: 13, publish: 4, spread: 0.2, uptime: 15, offline: 880, lostness: 0.02},
	{name: "gateway", share: 5, publish: 1.5, spread: 0.4, ping: 30, shadow: 300, command: 60, uptime: 172800, offline: 5, lostness: 0.4, rule: telemetryRule},
	{name: "camera", share: 5, publish: 30, spread: 0.5, ping: 60, shadow: 900, command: 240, credentials: 3000, uptime: 43200, offline: 15, lostness: 0.3},
	{name: "tracker", share: 7, publish: 20, spread: 0.4, ping: 60, uptime: 1500, offline: 60, lostness: 0.7, mobile: true, rule: telemetryRule},
}

// device is one thing with its certificate.
type device struct {
	rng      rng
	kind     *kind
	peer     peer
	topic    string
	interval float64 // its own normal between two messages
	job      bool    // takes part in a software update
	badRule  bool    // its firmware still publishes to a rule that is gone

	connected   bool
	connection  int32 // how many so far
	gone        bool  // an attack took it off the air for good
	sessionEnds string
}

const devicesPerSite = 8

func newFleet(seed uint64, n int) []device {
	devices := make([]device, n)
	for i := range devices {
		d := &devices[i]
		d.rng = newRNG(seed, uint64(i)+1000)
		share := d.rng.n(100)
		for k := range kinds {
			d.kind = &kinds[k]
			if share -= d.kind.share; share < 0 {
				break
			}
		}
		site := i / devicesPerSite
		d.peer = peer{
			clientID: fmt.Sprintf("%s-%05d", d.kind.name, i+1),
			certID:   certificateID(seed, i),
			address:  siteAddress(site),
			port:     d.port(),
		}
		d.topic = fmt.Sprintf("fleet/site-%04d/%s/telemetry", site+1, d.peer.clientID)
		d.interval = d.rng.logNormal(d.kind.publish, d.kind.spread)
		d.job = d.rng.chance(0.1)
		d.badRule = i%400 == 123
		if d.kind.mobile {
			d.peer.address = roamingAddress(i, 0)
		}
	}
	return devices
}

func (d *device) port() int { return 32768 + d.rng.n(28232) }

// naturalRate is the mean number of log lines per second of a fleet.
func naturalRate(devices []device) float64 {
	rate := func(interval, lines float64) float64 {
		if interval == 0 {
			return 0
		}
		return lines / interval
	}
	total := 0.0
	for i := range devices {
		d := &devices[i]
		k := d.kind
		online := k.uptime / (k.uptime + k.offline)
		perPublish := 1.0
		if k.rule != nil {
			perPublish = 3
		}
		total += online*(rate(d.interval, perPublish)+rate(k.ping, 1)+rate(k.shadow, 1)+rate(k.command, 1)+rate(k.credentials, 1)) +
			4/(k.uptime+k.offline)
	}
	return total
}

// start puts the device where it is when the simulation begins: a fleet has
// been running for long, so most are connected.
func (d *device) start(s *Simulator, i int) {
	k := d.kind
	now := s.begins
	d.connected = d.rng.chance(k.uptime / (k.uptime + k.offline))
	if !d.connected {
		d.timer(s, i, after(now, d.rng.float()*k.offline/s.activity), actConnect)
		return
	}
	d.connection = 1
	d.schedule(s, i, now, true)
}

// schedule sets the timers of a connection. A connection that began before now
// is somewhere between two of everything.
func (d *device) schedule(s *Simulator, i int, now int64, running bool) {
	k := d.kind
	first := func(interval float64, what action) {
		if interval == 0 {
			return
		}
		wait := d.rng.about(interval, 0.15)
		if running {
			wait = d.rng.float() * interval
		}
		d.timer(s, i, after(now, wait/s.activity), what)
	}
	first(d.interval, actPublish)
	first(k.ping, actPing)
	first(k.shadow, actShadow)
	first(k.command, actCommand)
	first(k.credentials, actCredentials)
	if d.job {
		d.timer(s, i, after(now, d.rng.about(600, 0.9)/s.activity), actJob)
	}
	d.timer(s, i, after(now, d.rng.exp(k.uptime)/s.activity), actDrop)
}

// act does what is due.
func (d *device) act(s *Simulator, i int, e entry) {
	now, what := e.at, e.what
	if d.gone {
		return
	}
	if what == actConnect {
		d.connect(s, i, now)
		return
	}
	if !d.connected || e.connection != uint16(d.connection) {
		return
	}
	k := d.kind
	again := func(interval float64) {
		d.timer(s, i, after(now, d.rng.about(interval, 0.15)/s.activity), what)
	}
	switch what {
	case actPublish:
		d.publish(s, now, benign)
		again(d.interval)
	case actPing:
		s.ping(&d.rng, now, &d.peer, false)
		again(k.ping)
	case actShadow:
		thing := d.peer.clientID
		if d.rng.chance(0.3) {
			s.shadow(&d.rng, now, "GetThingShadow", thing, "$aws/things/"+thing+"/shadow/get")
		} else {
			s.shadow(&d.rng, now, "UpdateThingShadow", thing, "$aws/things/"+thing+"/shadow/update")
		}
		again(k.shadow)
	case actCommand:
		if d.rng.chance(0.02) {
			s.queued(&d.rng, now, &d.peer, "fleet/"+d.peer.clientID+"/command")
		} else {
			s.publishOut(&d.rng, now, &d.peer, "fleet/"+d.peer.clientID+"/command")
		}
		again(k.command)
	case actCredentials:
		s.getDeviceCredentials(&d.rng, now, d.peer.certID, benign)
		again(k.credentials)
	case actJob:
		s.updateJobExecution(now, &d.peer, "firmware-2026-11", "IN_PROGRESS")
		s.updateJobExecution(after(now, d.rng.about(0.8, 0.5)), &d.peer, "firmware-2026-11", "SUCCEEDED")
		d.job = false
	case actDrop:
		d.drop(s, i, now)
	}
}

func (d *device) timer(s *Simulator, i int, at int64, what action) {
	s.queue.push(entry{at: at, who: int32(i), what: what, connection: uint16(d.connection)})
}

// publish sends one message, which the topic rule takes up.
func (d *device) publish(s *Simulator, now int64, attack int) {
	s.publishIn(&d.rng, now, &d.peer, d.topic, attack)
	if d.badRule && d.rng.chance(0.3) {
		s.ruleNotFound(&d.rng, now+2, &d.peer, "legacy_ingest")
	}
	if rule := d.kind.rule; rule != nil {
		matched := now + 1 + int64(d.rng.n(5))
		s.ruleMatch(&d.rng, matched, &d.peer, d.topic, rule.name, attack)
		s.ruleExecution(&d.rng, matched+5+int64(d.rng.n(40)), &d.peer, d.topic, rule, attack)
	}
}

func (d *device) connect(s *Simulator, i int, now int64) {
	if d.connected {
		return
	}
	d.connection++
	d.peer.port = d.port()
	if d.kind.mobile {
		d.peer.address = roamingAddress(i, int(d.connection))
	}
	// Harmless: a policy that has not arrived everywhere yet, right after a
	// change. The next attempt succeeds.
	if d.rng.chance(0.002) {
		s.connect(&d.rng, now, &d.peer, true, benign)
		s.presenceFailed(&d.rng, now, &d.peer)
		d.timer(s, i, after(now, d.rng.about(8, 0.5)), actConnect)
		return
	}
	// A lost connection may not have been noticed yet; the new one ends it.
	if d.sessionEnds == "CONNECTION_LOST" && d.rng.chance(0.1) {
		s.disconnect(&d.rng, now, &d.peer, "DUPLICATE_CLIENTID", benign)
	}
	d.connected = true
	s.connect(&d.rng, now, &d.peer, false, benign)
	s.presence(&d.rng, now, &d.peer, int(d.connection), "")
	if d.kind.command > 0 {
		s.subscribe(&d.rng, after(now, d.rng.about(0.1, 0.5)), &d.peer, "fleet/"+d.peer.clientID+"/command", benign)
	}
	d.schedule(s, i, now, false)
}

func (d *device) drop(s *Simulator, i int, now int64) {
	reason := "CLIENT_INITIATED_DISCONNECT"
	if d.rng.chance(d.kind.lostness) {
		reason = "CONNECTION_LOST"
		if d.kind.ping > 0 && d.rng.chance(0.3) {
			reason = "MQTT_KEEP_ALIVE_TIMEOUT"
		}
	}
	d.connected = false
	d.sessionEnds = reason
	if reason == "MQTT_KEEP_ALIVE_TIMEOUT" {
		s.ping(&d.rng, now-1, &d.peer, true)
	}
	s.disconnect(&d.rng, now, &d.peer, reason, benign)
	s.presence(&d.rng, now, &d.peer, int(d.connection), reason)
	d.timer(s, i, after(now, (5+d.rng.exp(d.kind.offline))/s.activity), actConnect)
}

// cutOff ends the connection for good.
func (d *device) cutOff(s *Simulator, now int64, reason string, attack int) {
	if d.connected {
		d.connected = false
		s.disconnect(&d.rng, now, &d.peer, reason, attack)
	}
	d.gone = true
}
