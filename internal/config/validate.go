package config

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/internal/hosturl"
)

// validator checks what the types cannot say.
type validator struct{ *reader }

// bad reports a problem at the path, or at the nearest part of it that the
// document has. What is under a value that was not taken over has been
// reported already.
func (v *validator) bad(path, format string, args ...any) {
	p := Problem{File: v.file, Path: path, Message: fmt.Sprintf(format, args...)}
	for at := path; at != ""; at = parent(at) {
		if v.faulty[at] {
			return
		}
		if pos, ok := v.positions[at]; ok && p.Line == 0 {
			p.Line, p.Column = pos.line, pos.column
		}
	}
	v.problems = append(v.problems, p)
}

// parent returns the path without its last key or index, "" at the top.
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// secrets reads the *_file twins.
func (v *validator) secrets(c *Config) {
	v.secret("kafka.sasl.password", &c.Kafka.SASL.Password, c.Kafka.SASL.PasswordFile)
	v.secret("clickhouse.password", &c.ClickHouse.Password, c.ClickHouse.PasswordFile)
	v.secretList("ingest.firehose.access_keys", &c.Ingest.Firehose.AccessKeys, c.Ingest.Firehose.AccessKeysFile)
	v.secretList("decisions.access_keys", &c.Decisions.AccessKeys, c.Decisions.AccessKeysFile)
	for i := range c.Sinks.Webhooks {
		w := &c.Sinks.Webhooks[i]
		v.secretList(fmt.Sprintf("sinks.webhooks[%d].secrets", i), &w.Secrets, w.SecretsFile)
	}
}

func (v *validator) secret(path string, s *Secret, file string) {
	if file == "" {
		return
	}
	if *s != "" {
		v.bad(path+"_file", "%s is set as well; keep one of them", path)
		return
	}
	var err error
	if *s, err = readSecretFile(file); err != nil {
		v.bad(path+"_file", "%s", err)
	}
}

func (v *validator) secretList(path string, s *[]Secret, file string) {
	if file == "" {
		return
	}
	if len(*s) > 0 {
		v.bad(path+"_file", "%s is set as well; keep one of them", path)
		return
	}
	var err error
	if *s, err = readSecretLines(file); err != nil {
		v.bad(path+"_file", "%s", err)
	}
}

// clickhouseURL moves a user and password from the URL to their fields, where a
// log cannot show them.
func (v *validator) clickhouseURL(c *ClickHouse) {
	u, hosts, err := hosturl.Parse(c.URL)
	if err != nil {
		v.bad("clickhouse.url", "is not a URL; want http://host:8123 or clickhouse://host:9000")
		c.URL = ""
		return
	}
	if u.User != nil {
		c.Username = u.User.Username()
		if password, ok := u.User.Password(); ok {
			c.Password = Secret(password)
		}
		u.User = nil
	}
	u.Host = strings.Join(hosts, ",")
	c.URL = u.String()
	switch u.Scheme {
	case "http", "https", "clickhouse", "tcp":
	default:
		v.bad("clickhouse.url", "the scheme %q is not one of http, https, clickhouse; want http://host:8123 or clickhouse://host:9000", u.Scheme)
		return
	}
	if u.RawQuery != "" || u.Fragment != "" {
		v.bad("clickhouse.url", "want a URL without parameters: http://host:8123")
	}
	if u.Scheme == "http" && c.TLS.Enabled {
		v.bad("clickhouse.tls.enabled", "TLS is on, so the URL must begin with https://")
	}
}

func (v *validator) validate(c *Config) {
	v.kafka(&c.Kafka)
	v.clickhouse(&c.ClickHouse)
	v.ingest(&c.Ingest)
	v.correlate(&c.Correlate)
	v.behavior(&c.Behavior)
	v.registry(c)
	v.sinks(&c.Sinks)
	v.decisions(&c.Decisions)
	if c.Admin.Listen != "" {
		v.address("admin.listen", c.Admin.Listen)
	}
	v.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	v.oneOf("log.format", c.Log.Format, LogAuto, LogJSON, LogConsole)
	positive(v, "shutdown_timeout", c.ShutdownTimeout)
}

func (v *validator) kafka(c *Kafka) {
	if len(c.Brokers) == 0 {
		v.bad("kafka.brokers", "at least one host:port is needed; or set %s", EnvKafkaBrokers)
	}
	for i, b := range c.Brokers {
		v.hostPort(fmt.Sprintf("kafka.brokers[%d]", i), b)
	}
	positive(v, "kafka.dial_timeout", c.DialTimeout)
	positive(v, "kafka.request_timeout", c.RequestTimeout)
	v.oneOf("kafka.compression", c.Compression, "none", "gzip", "snappy", "lz4", "zstd")
	v.clientTLS("kafka.tls", &c.TLS)
	v.sasl(c)
	between(v, "kafka.topics.partitions", c.Topics.Partitions, 1, 10_000)
	between(v, "kafka.topics.replication", c.Topics.Replication, 0, 32)
	r := &c.Topics.Retention
	for name, d := range map[string]Duration{"events": r.Events, "matches": r.Matches, "detections": r.Detections, "deadletter": r.DeadLetter} {
		if d < 0 {
			v.bad("kafka.topics.retention."+name, "is %v; want a duration, or 0 for the broker's default", d)
		}
	}
}

func (v *validator) sasl(c *Kafka) {
	s := &c.SASL
	switch s.Mechanism {
	case "":
		if s.Username != "" || s.Password != "" {
			v.bad("kafka.sasl", "a user name or password is set but no mechanism; set mechanism to PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
		}
	case SASLPlain, SASLScramSHA256, SASLScramSHA512:
		if s.Username == "" || s.Password == "" {
			v.bad("kafka.sasl", "%s needs username and password (or password_file)", s.Mechanism)
		}
		if s.Mechanism == SASLPlain && !c.TLS.Enabled && !allLoopback(c.Brokers) {
			v.bad("kafka.sasl.mechanism", "PLAIN sends the password as it is; set kafka.tls.enabled: true")
		}
	case SASLMSKIAM:
		if !c.TLS.Enabled {
			v.bad("kafka.sasl.mechanism", "AWS_MSK_IAM works only over TLS; set kafka.tls.enabled: true")
		}
	default:
		v.oneOf("kafka.sasl.mechanism", s.Mechanism, SASLPlain, SASLScramSHA256, SASLScramSHA512, SASLMSKIAM)
	}
}

func (v *validator) clientTLS(path string, t *ClientTLS) {
	if (t.CertFile == "") != (t.KeyFile == "") {
		v.bad(path, "a client certificate needs both cert_file and key_file")
	}
	if !t.Enabled && (t.CAFile != "" || t.CertFile != "" || t.ServerName != "" || t.InsecureSkipVerify) {
		v.bad(path, "options are set but TLS is off; set enabled: true")
	}
}

func (v *validator) clickhouse(c *ClickHouse) {
	v.clientTLS("clickhouse.tls", &c.TLS)
	for key, name := range map[string]string{"database": c.Database, "cluster": c.Cluster} {
		if !isIdentifier(name) && (key == "database" || name != "") || strings.Contains(name, "-") {
			v.bad("clickhouse."+key, "%q: want letters, digits and _, beginning with a letter", name)
		}
	}
	v.oneOf("clickhouse.compression", c.Compression, "auto", "lz4", "zstd", "none")
	positive(v, "clickhouse.dial_timeout", c.DialTimeout)
	positive(v, "clickhouse.read_timeout", c.ReadTimeout)
	between(v, "clickhouse.max_conns", c.MaxConns, 1, 1000)
	const fiftyYears = 50 * 365 // ClickHouse's DateTime, which the days are added to, ends in 2106
	between(v, "clickhouse.ttl.events_days", c.TTL.EventsDays, 0, fiftyYears)
	between(v, "clickhouse.ttl.detections_days", c.TTL.DetectionsDays, 0, fiftyYears)
	between(v, "clickhouse.ttl.dead_letters_days", c.TTL.DeadLettersDays, 0, fiftyYears)
	between(v, "clickhouse.ttl.event_counts_days", c.TTL.EventCountsDays, 0, fiftyYears)
	between(v, "clickhouse.ttl.actions_days", c.TTL.ActionsDays, 0, fiftyYears)
	between(v, "clickhouse.batch.rows", c.Batch.Rows, 1, 1_000_000)
	between(v, "clickhouse.batch.bytes", c.Batch.Bytes, 1<<10, 1<<30)
	positive(v, "clickhouse.batch.interval", c.Batch.Interval)
}

func (v *validator) ingest(c *Ingest) {
	if c.Firehose.Enabled {
		v.firehose(&c.Firehose)
	}
	streams := map[string]int{}
	for i := range c.Kinesis {
		v.kinesis(fmt.Sprintf("ingest.kinesis[%d]", i), &c.Kinesis[i])
		key := c.Kinesis[i].Region + "/" + c.Kinesis[i].Stream + "/" + c.Kinesis[i].Endpoint
		if first, ok := streams[key]; ok {
			v.bad(fmt.Sprintf("ingest.kinesis[%d].stream", i), "%s is read already by ingest.kinesis[%d]", c.Kinesis[i].Stream, first)
		} else {
			streams[key] = i
		}
	}
	for i, path := range c.File.Paths {
		if path == "" {
			v.bad(fmt.Sprintf("ingest.file.paths[%d]", i), "a file, a directory or - is needed")
		}
	}
	between(v, "ingest.file.lines_per_second", c.File.LinesPerSecond, 0, 1e9)
	between(v, "ingest.decoders", c.Decoders, 0, 1024)
	between(v, "ingest.max_in_flight", c.MaxInFlight, 1<<20, 64<<30)
	between(v, "ingest.max_message", c.MaxMessage, 1<<10, 64<<20)
	between(v, "ingest.max_future", c.MaxFuture, 0, Duration(24*time.Hour))
	between(v, "ingest.max_inflated", c.MaxInflated, 1<<20, 4<<30)
	between(v, "ingest.batch.bytes", c.Batch.Bytes, 1<<10, 8<<20)
	between(v, "ingest.batch.linger", c.Batch.Linger, 0, Duration(10*time.Second))
}

func (v *validator) firehose(c *Firehose) {
	const path = "ingest.firehose"
	host, ok := v.address(path+".listen", c.Listen)
	for key, p := range map[string]string{".path": c.Path, ".events_path": c.EventsPath} {
		if !strings.HasPrefix(p, "/") || p == "/" {
			v.bad(path+key, "%q: want a path like /firehose", p)
		}
	}
	if c.Path == c.EventsPath {
		v.bad(path+".events_path", "is the same as path")
	}
	v.guarded(path, host, ok, &c.TLS, c.AccessKeys, "send events to "+c.Listen)
	between(v, path+".max_body", c.MaxBody, 1<<20, 1<<30)
	between(v, path+".max_in_flight", c.MaxInFlight, c.MaxBody, 64<<30)
	between(v, path+".max_requests", c.MaxRequests, 1, 100_000)
	between(v, path+".body_timeout", c.BodyTimeout, Duration(time.Second), firehosePatience)
	between(v, path+".ack_timeout", c.AckTimeout, Duration(time.Second), firehosePatience)
	if c.BodyTimeout+c.AckTimeout >= firehosePatience {
		v.bad(path+".ack_timeout", "body_timeout and ack_timeout together must be below 3m, after which Firehose gives up")
	}
	between(v, path+".completed_ids", c.CompletedIDs, 1, 10_000_000)
	between(v, path+".max_lanes", c.MaxLanes, 1, 1000)
}

// firehosePatience is how long Firehose waits for an answer.
const firehosePatience = Duration(3 * time.Minute)

func (v *validator) kinesis(path string, k *Kinesis) {
	if k.Stream == "" {
		v.bad(path+".stream", "the name or ARN of a data stream is needed")
	}
	if _, ok := k.StartTime(); !ok {
		if k.Start != StartLatest && k.Start != StartTrimHorizon {
			v.bad(path+".start", "%q: want latest, trim_horizon or a time like 2026-01-31T12:00:00Z", k.Start)
		}
	}
	if k.Endpoint != "" {
		v.httpURL(path+".endpoint", k.Endpoint)
	}
	between(v, path+".workers", k.Workers, 1, 10_000)
	if k.Worker < 0 || k.Worker >= k.Workers {
		v.bad(path+".worker", "is %d; want 0 to %d (workers - 1)", k.Worker, k.Workers-1)
	}
	// Kinesis allows five reads per second and shard.
	between(v, path+".poll_interval", k.PollInterval, Duration(200*time.Millisecond), Duration(time.Minute))
}

func (v *validator) correlate(c *Correlate) {
	if c.GroupID == "" {
		v.bad("correlate.group_id", "must not be empty")
	}
	if len(c.Rules) == 0 && !c.Builtin {
		v.bad("correlate.rules", "there is no rule: name files or directories, or set builtin: true")
	}
	for i, path := range c.Rules {
		if path == "" {
			v.bad(fmt.Sprintf("correlate.rules[%d]", i), "a file or a directory is needed")
		}
	}
	between(v, "correlate.watch_interval", c.WatchInterval, 0, Duration(time.Hour))
	between(v, "correlate.lateness", c.Lateness, 0, Duration(24*time.Hour))
	between(v, "correlate.disorder", c.Disorder, 0, c.Lateness)
	between(v, "correlate.idle", c.Idle, Duration(100*time.Millisecond), Duration(time.Hour))
	positive(v, "correlate.max_groups", c.MaxGroups)
	positive(v, "correlate.max_events", c.MaxEvents)
	positive(v, "correlate.update_interval", c.UpdateInterval)
	between(v, "correlate.snapshot_interval", c.SnapshotInterval, Duration(100*time.Millisecond), Duration(10*time.Minute))
	v.correlateState(c)
}

func (v *validator) sinks(c *Sinks) {
	if c.ClickHouse.Enabled && c.ClickHouse.GroupID == "" {
		v.bad("sinks.clickhouse.group_id", "must not be empty")
	}
	names := map[string]int{}
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		path := fmt.Sprintf("sinks.webhooks[%d]", i)
		if first, ok := names[w.Name]; ok && w.Name != "" {
			v.bad(path+".name", "%q is the name of sinks.webhooks[%d] already; the name is the consumer group's", w.Name, first)
		} else {
			names[w.Name] = i
		}
		v.webhook(path, w)
	}
	v.awsIoT(c.AWSIoT)
}

func (v *validator) webhook(path string, w *Webhook) {
	if !isIdentifier(w.Name) {
		v.bad(path+".name", "%q: want letters, digits, - and _, beginning with a letter; it names metrics and the consumer group", w.Name)
	}
	if u := v.httpURL(path+".url", w.URL); u != nil && u.User != nil {
		v.bad(path+".url", "must not hold a user or password; use headers")
	}
	if len(w.Secrets) == 0 {
		v.bad(path+".secrets", "at least one secret is needed to sign with; make one with: echo whsec_$(openssl rand -base64 32)")
	}
	for i, s := range w.Secrets {
		if !isWebhookSecret(s) {
			v.bad(fmt.Sprintf("%s.secrets[%d]", path, i), "want whsec_ and base64 of 24 to 64 bytes; make one with: echo whsec_$(openssl rand -base64 32)")
		}
	}
	v.oneOf(path+".min_level", w.MinLevel, Levels...)
	if len(w.Activities) == 0 {
		v.bad(path+".activities", "want at least one of %s", strings.Join(Activities, ", "))
	}
	for i, a := range w.Activities {
		v.oneOf(fmt.Sprintf("%s.activities[%d]", path, i), a, Activities...)
	}
	between(v, path+".timeout", w.Timeout, Duration(100*time.Millisecond), Duration(2*time.Minute))
	positive(v, path+".give_up_after", w.GiveUpAfter)
	positive(v, path+".refused_attempts", w.RefusedAttempts)
	if w.ProxyURL != "" {
		v.httpURL(path+".proxy_url", w.ProxyURL)
	}
	between(v, path+".concurrency", w.Concurrency, 1, 256)
}

// isWebhookSecret checks the form that Standard Webhooks 1.0 gives a secret.
func isWebhookSecret(s Secret) bool {
	encoded, ok := strings.CutPrefix(s.Reveal(), "whsec_")
	key, err := base64.StdEncoding.DecodeString(encoded)
	return ok && err == nil && len(key) >= 24 && len(key) <= 64
}

func (v *validator) httpURL(path, s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		v.bad(path, "want a URL like https://example.com/path")
		return nil
	}
	return u
}

// address checks what to listen on and returns its host.
func (v *validator) address(path, s string) (string, bool) {
	host, port, err := net.SplitHostPort(s)
	if _, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil {
		v.bad(path, "%q: want host:port, like 127.0.0.1:8443 or :8443", s)
		return "", false
	}
	return host, true
}

func (v *validator) hostPort(path, s string) {
	host, port, err := net.SplitHostPort(s)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || n == 0 || host == "" {
		v.bad(path, "%q: want host:port", s)
	}
}

func (v *validator) oneOf(path, s string, allowed ...string) {
	if !slices.Contains(allowed, s) {
		v.bad(path, "%q is not one of %s", s, strings.Join(allowed, ", "))
	}
}

func positive[T ~int | ~int64](v *validator, path string, n T) {
	if n <= 0 {
		v.bad(path, "must be above zero")
	}
}

// between reports n in the unit of its type when it is out of [least, most].
func between[T ~int | ~int64](v *validator, path string, n, least, most T) {
	if n < least || n > most {
		v.bad(path, "is %v; want %v to %v", n, least, most)
	}
}

func isIdentifier(s string) bool {
	for i, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		other := c == '_' || c == '-' || '0' <= c && c <= '9'
		if !letter && (i == 0 || !other) {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func allLoopback(brokers []string) bool {
	return !slices.ContainsFunc(brokers, func(b string) bool {
		host, _, err := net.SplitHostPort(b)
		return err != nil || !isLoopback(host)
	})
}
