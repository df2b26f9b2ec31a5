package simulate

// Lifecycle events, as AWS IoT publishes them on
// $aws/events/presence/connected|disconnected|connect_failed/<client ID>.
// https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html

// presence emits a connect, or a disconnect when there is a reason.
func (s *Simulator) presence(r *rng, at int64, p *peer, version int, reason string) {
	l := &s.line
	l.b = append(s.buf, '{')
	l.str("clientId", p.clientID)
	l.num("timestamp", at)
	if reason == "" {
		l.str("eventType", "connected")
	} else {
		l.str("eventType", "disconnected")
	}
	l.key("sessionIdentifier")
	l.b = append(l.b, '"')
	l.b = r.uuid(l.b)
	l.b = append(l.b, '"')
	l.str("principalIdentifier", p.certID)
	if reason == "" {
		l.str("ipAddress", p.address)
	} else {
		initiated := "false"
		if reason == "CLIENT_INITIATED_DISCONNECT" {
			initiated = "true"
		}
		l.raw("clientInitiatedDisconnect", initiated)
		l.str("disconnectReason", reason)
	}
	l.num("versionNumber", int64(version))
	s.endPresence(at)
}

// presenceFailed emits a connect that the policy forbade; other failures have
// no lifecycle event.
func (s *Simulator) presenceFailed(r *rng, at int64, p *peer) {
	l := &s.line
	l.b = append(s.buf, '{')
	l.str("clientId", p.clientID)
	l.num("timestamp", at)
	l.str("eventType", "connect_failed")
	l.str("connectFailureReason", "AUTHORIZATION_FAILED")
	l.key("sessionIdentifier")
	l.b = append(l.b, '"')
	l.b = r.uuid(l.b)
	l.b = append(l.b, '"')
	l.str("principalIdentifier", p.certID)
	l.str("ipAddress", p.address)
	l.num("versionNumber", 0)
	s.endPresence(at)
}

func (s *Simulator) endPresence(at int64) {
	start := len(s.buf)
	s.buf = append(s.line.b, '}')
	s.records = append(s.records, Record{Time: at, Channel: ChannelLifecycle, Attack: benign, start: start, end: len(s.buf)})
}
