package simulate

import (
	"strconv"
	"time"
)

// line builds one JSON object by appending. Values must be ASCII that needs no
// escaping, which everything here is.
type line struct{ b []byte }

func (l *line) str(key, value string) {
	l.key(key)
	l.b = append(l.b, '"')
	l.b = append(l.b, value...)
	l.b = append(l.b, '"')
}

func (l *line) num(key string, value int64) {
	l.key(key)
	l.b = strconv.AppendInt(l.b, value, 10)
}

func (l *line) raw(key, value string) {
	l.key(key)
	l.b = append(l.b, value...)
}

func (l *line) key(key string) {
	if l.b[len(l.b)-1] != '{' {
		l.b = append(l.b, ',')
	}
	l.b = append(l.b, '"')
	l.b = append(l.b, key...)
	l.b = append(l.b, '"', ':')
}

// stamp appends t as AWS IoT writes it: "2017-08-10 15:37:23.476", in UTC.
// Consecutive lines mostly share the second, whose text is kept.
type stamp struct {
	second int64
	text   [20]byte // "2017-08-10 15:37:23."
}

func (s *stamp) append(dst []byte, ms int64) []byte {
	second, milli := ms/1000, ms%1000
	if second != s.second || s.text[0] == 0 {
		s.second = second
		time.Unix(second, 0).UTC().AppendFormat(s.text[:0], "2006-01-02 15:04:05.")
	}
	dst = append(dst, s.text[:]...)
	return append(dst, byte('0'+milli/100), byte('0'+milli/10%10), byte('0'+milli%10))
}

// Log levels and statuses.
const (
	levelDebug = "DEBUG"
	levelInfo  = "INFO"
	levelError = "ERROR"
	success    = "Success"
	failure    = "Failure"
)

// begin starts an AWSIotLogsV2 line with the attributes that all lines have.
func (s *Simulator) begin(r *rng, at int64, level, status, eventType string) *line {
	l := &s.line
	l.b = append(s.buf, `{"timestamp":"`...)
	l.b = s.stamp.append(l.b, at)
	l.b = append(l.b, `","logLevel":"`...)
	l.b = append(l.b, level...)
	l.b = append(l.b, `","traceId":"`...)
	l.b = r.uuid(l.b)
	l.b = append(l.b, `","accountId":"`+Account+`","status":"`...)
	l.b = append(l.b, status...)
	l.b = append(l.b, `","eventType":"`...)
	l.b = append(l.b, eventType...)
	l.b = append(l.b, '"')
	return l
}

// end finishes the line that begin started and emits it.
func (s *Simulator) end(at int64, attack int) {
	start := len(s.buf)
	s.buf = append(s.line.b, '}')
	if at < s.silentFrom || at >= s.silentTo {
		s.records = append(s.records, Record{Time: at, Channel: ChannelLogs, Attack: attack, start: start, end: len(s.buf)})
	}
}

// peer is one end of a connection as the log shows it.
type peer struct {
	clientID string
	certID   string
	address  string
	port     int
}

func (l *line) peer(p *peer) {
	l.str("clientId", p.clientID)
	l.origin(p)
}

func (l *line) origin(p *peer) {
	if p.certID != "" {
		l.str("principalId", p.certID)
	}
	l.str("sourceIp", p.address)
	l.num("sourcePort", int64(p.port))
}

// The lines below have the attributes, and their order, of the samples in
// https://docs.aws.amazon.com/iot/latest/developerguide/cwl-format.html

const (
	reasonAuthorization  = "AUTHORIZATION_FAILURE"
	detailsAuthorization = "Authorization Failure"
)

// refused adds what AWS IoT says when a policy forbids something.
func (l *line) refused() {
	l.str("reason", reasonAuthorization)
	l.str("details", detailsAuthorization)
}

func (s *Simulator) connect(r *rng, at int64, p *peer, refused bool, attack int) {
	if refused {
		l := s.begin(r, at, levelError, failure, "Connect")
		l.str("protocol", "MQTT")
		l.peer(p)
		l.refused()
	} else {
		l := s.begin(r, at, levelInfo, success, "Connect")
		l.str("protocol", "MQTT")
		l.peer(p)
	}
	s.end(at, attack)
}

// disconnect reasons and what the log says beside them.
var disconnectDetails = map[string][2]string{
	"CLIENT_INITIATED_DISCONNECT": {"CLIENT_INITIATED_DISCONNECT", "Client initiated disconnect"},
	"CONNECTION_LOST":             {"CONNECTION_LOST", "Connection lost"},
	"MQTT_KEEP_ALIVE_TIMEOUT":     {"MQTT_KEEP_ALIVE_TIMEOUT", "No client-server communication in 1.5x keep-alive time"},
	// The log's reason has an underscore more than its disconnectReason.
	"DUPLICATE_CLIENTID":          {"DUPLICATE_CLIENT_ID", "A new connection was established with the same client ID"},
	"FORBIDDEN_ACCESS":            {"FORBIDDEN_ACCESS", "The client is not allowed to connect"},
	"API_INITIATED_DISCONNECT":    {"API_INITIATED_DISCONNECT", "The connection was closed by a DeleteConnection request"},
	"SERVER_INITIATED_DISCONNECT": {"SERVER_INITIATED_DISCONNECT", "Server initiated disconnect"},
}

func (s *Simulator) disconnect(r *rng, at int64, p *peer, reason string, attack int) {
	l := s.begin(r, at, levelInfo, success, "Disconnect")
	l.str("protocol", "MQTT")
	l.peer(p)
	d := disconnectDetails[reason]
	l.str("reason", d[0])
	l.str("details", d[1])
	l.str("disconnectReason", reason)
	s.end(at, attack)
}

// authNError is a connection refused before MQTT: the certificate is not good.
func (s *Simulator) authNError(r *rng, at int64, p *peer, reason, details string, attack int) {
	l := s.begin(r, at, levelError, failure, "Connection.AuthNError")
	l.str("protocol", "MQTT")
	l.str("authenticationType", "AWS_X509")
	if p.clientID != "" {
		l.str("clientId", p.clientID)
	}
	l.origin(p)
	l.str("targetIp", "192.0.2.10")
	l.num("targetPort", 8883)
	l.str("serverNameIndication", endpoint)
	l.str("reason", reason)
	l.str("details", details)
	s.end(at, attack)
}

func (s *Simulator) publishIn(r *rng, at int64, p *peer, topic string, attack int) {
	l := s.begin(r, at, levelInfo, success, "Publish-In")
	l.str("protocol", "MQTT")
	l.str("topicName", topic)
	l.peer(p)
	s.end(at, attack)
}

// publishRefused is a publish or subscription that the policy forbids.
func (s *Simulator) refusedOn(r *rng, at int64, eventType string, p *peer, topic string, attack int) {
	l := s.begin(r, at, levelError, failure, eventType)
	l.str("protocol", "MQTT")
	l.str("topicName", topic)
	l.peer(p)
	l.refused()
	s.end(at, attack)
}

func (s *Simulator) publishOut(r *rng, at int64, p *peer, topic string) {
	l := s.begin(r, at, levelInfo, success, "Publish-Out")
	l.str("protocol", "MQTT")
	l.str("topicName", topic)
	l.peer(p)
	s.end(at, benign)
}

func (s *Simulator) queued(r *rng, at int64, p *peer, topic string) {
	l := s.begin(r, at, levelInfo, success, "Queued")
	l.str("topicName", topic)
	l.str("clientId", p.clientID)
	l.str("qos", "1")
	l.str("protocol", "MQTT")
	s.end(at, benign)
}

func (s *Simulator) subscribe(r *rng, at int64, p *peer, topic string, attack int) {
	l := s.begin(r, at, levelInfo, success, "Subscribe")
	l.str("protocol", "MQTT")
	l.str("topicName", topic)
	l.peer(p)
	s.end(at, attack)
}

func (s *Simulator) ping(r *rng, at int64, p *peer, lost bool) {
	if lost {
		l := s.begin(r, at, levelError, failure, "Ping")
		l.str("protocol", "MQTT")
		l.time("requestTimestamp", &s.stamp, at-2)
		l.peer(p)
		l.str("reason", "CONNECTION_ALREADY_CLOSED")
		l.str("details", "Connection has already closed")
		s.end(at, benign)
		return
	}
	latency := int64(5 + r.n(80))
	l := s.begin(r, at, levelDebug, success, "Ping")
	l.str("protocol", "MQTT")
	l.num("latency", latency)
	l.time("requestTimestamp", &s.stamp, at-latency)
	l.time("responseTimestamp", &s.stamp, at)
	l.peer(p)
	s.end(at, benign)
}

func (l *line) time(key string, st *stamp, at int64) {
	l.key(key)
	l.b = append(l.b, '"')
	l.b = st.append(l.b, at)
	l.b = append(l.b, '"')
}

func (s *Simulator) shadow(r *rng, at int64, eventType, thing, topic string) {
	l := s.begin(r, at, levelInfo, success, eventType)
	l.str("protocol", "MQTT")
	l.str("deviceShadowName", thing)
	l.str("topicName", topic)
	s.end(at, benign)
}

func (s *Simulator) ruleMatch(r *rng, at int64, p *peer, topic, rule string, attack int) {
	l := s.begin(r, at, levelInfo, success, "RuleMatch")
	l.str("clientId", p.clientID)
	l.str("topicName", topic)
	l.str("ruleName", rule)
	l.str("principalId", p.certID)
	s.end(at, attack)
}

func (s *Simulator) ruleExecution(r *rng, at int64, p *peer, topic string, rule *topicRule, attack int) {
	l := s.begin(r, at, levelInfo, success, "RuleExecution")
	l.str("clientId", p.clientID)
	l.str("topicName", topic)
	l.str("ruleName", rule.name)
	l.str("ruleAction", rule.action)
	l.raw("resources", rule.resources)
	l.str("principalId", p.certID)
	s.end(at, attack)
}

func (s *Simulator) ruleNotFound(r *rng, at int64, p *peer, rule string) {
	l := s.begin(r, at, levelError, failure, "RuleNotFound")
	l.str("clientId", p.clientID)
	l.str("topicName", "$aws/rules/"+rule)
	l.str("ruleName", rule)
	l.str("principalId", p.certID)
	l.str("reason", "RuleNotFound")
	l.str("details", "Rule "+rule+" not found")
	s.end(at, benign)
}

func (s *Simulator) getDeviceCredentials(r *rng, at int64, certID string, attack int) {
	l := s.begin(r, at, levelInfo, success, "GetDeviceCredentials")
	l.str("deviceCertificateId", certID)
	l.str("details", "Device credentials were issued.")
	s.end(at, attack)
}

// updateJobExecution has no traceId, as AWS's sample.
func (s *Simulator) updateJobExecution(at int64, p *peer, job, status string) {
	l := &s.line
	l.b = append(s.buf, `{"timestamp":"`...)
	l.b = s.stamp.append(l.b, at)
	l.b = append(l.b, `","logLevel":"DEBUG","accountId":"`+Account+`","status":"Success","eventType":"UpdateJobExecution"`...)
	l.str("protocol", "MQTT")
	l.str("clientId", p.clientID)
	l.str("jobId", job)
	l.str("topicName", "$aws/things/"+p.clientID+"/jobs/"+job+"/update")
	l.str("clientToken", p.clientID+"-"+job)
	l.str("versionNumber", "1")
	l.str("details", "The destination status is "+status+". The request status is SUCCESS.")
	s.end(at, benign)
}
