// Package config reads Tocsin's one YAML document into plain structs. It knows
// no stage: cmd/tocsin turns its sections into the stages' own options.
//
// A document is read strictly, and all that is wrong with it is reported at
// once, each problem with its line and column. ${VAR} and ${VAR:default} are
// expanded in values after parsing, so what a variable holds cannot change the
// structure of the document.
package config

import (
	"slices"
	"time"
)

// Config is the whole configuration. Load fills what the document leaves out
// from Default.
type Config struct {
	Kafka      Kafka      `yaml:"kafka"`
	ClickHouse ClickHouse `yaml:"clickhouse"`
	Ingest     Ingest     `yaml:"ingest"`
	Correlate  Correlate  `yaml:"correlate"`
	Behavior   Behavior   `yaml:"behavior"`
	Registry   Registry   `yaml:"registry"`
	Sinks      Sinks      `yaml:"sinks"`
	Decisions  Decisions  `yaml:"decisions"`
	Embedded   Embedded   `yaml:"embedded"`
	Admin      Admin      `yaml:"admin"`
	Log        Log        `yaml:"log"`
	// ShutdownTimeout bounds the whole stop, from the signal to the exit. It must
	// be below the orchestrator's grace period, or the last commits are lost.
	ShutdownTimeout Duration `yaml:"shutdown_timeout"`
}

// Kafka says how to reach the cluster and what the topics are like.
type Kafka struct {
	Brokers        []string  `yaml:"brokers"` // host:port
	ClientID       string    `yaml:"client_id"`
	DialTimeout    Duration  `yaml:"dial_timeout"`
	RequestTimeout Duration  `yaml:"request_timeout"`
	Compression    string    `yaml:"compression"` // none, gzip, snappy, lz4, zstd
	TLS            ClientTLS `yaml:"tls"`
	SASL           SASL      `yaml:"sasl"`
	Topics         Topics    `yaml:"topics"`
}

// ClientTLS is transport encryption towards a server.
type ClientTLS struct {
	Enabled            bool   `yaml:"enabled"`
	CAFile             string `yaml:"ca_file"` // PEM; replaces the system's roots
	CertFile           string `yaml:"cert_file"`
	KeyFile            string `yaml:"key_file"`
	ServerName         string `yaml:"server_name"`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify"`
}

// SASL mechanisms, by Kafka's names.
const (
	SASLPlain       = "PLAIN"
	SASLScramSHA256 = "SCRAM-SHA-256"
	SASLScramSHA512 = "SCRAM-SHA-512"
	SASLMSKIAM      = "AWS_MSK_IAM"
)

// SASL is authentication towards Kafka.
type SASL struct {
	Mechanism    string `yaml:"mechanism"` // "" for none
	Username     string `yaml:"username"`
	Password     Secret `yaml:"password"`
	PasswordFile string `yaml:"password_file"`
	Region       string `yaml:"region"` // AWS_MSK_IAM; "" for the AWS default chain's
}

// Topics is how the topics are created. An existing topic is never altered.
type Topics struct {
	Partitions  int       `yaml:"partitions"`
	Replication int       `yaml:"replication"` // 0: the broker's default
	Retention   Retention `yaml:"retention"`
}

// Retention is how long Kafka keeps the records of a topic; 0 is the broker's
// default. The compacted topics have none.
type Retention struct {
	Events     Duration `yaml:"events"`
	Matches    Duration `yaml:"matches"`
	Detections Duration `yaml:"detections"`
	DeadLetter Duration `yaml:"deadletter"`
	Actions    Duration `yaml:"actions"`
}

// ClickHouse says how to reach the store. A user and password in URL are moved
// to the fields of that name, so that URL can be logged.
type ClickHouse struct {
	// URL is http(s)://host:8123 or clickhouse://host:9000; hosts may be a list
	// with commas, a path is the prefix of a proxy.
	URL          string    `yaml:"url"`
	Username     string    `yaml:"username"`
	Password     Secret    `yaml:"password"`
	PasswordFile string    `yaml:"password_file"`
	Database     string    `yaml:"database"`
	TLS          ClientTLS `yaml:"tls"`
	// Compression is lz4, zstd, none, or auto: none to this machine, lz4 to others.
	Compression string   `yaml:"compression"`
	DialTimeout Duration `yaml:"dial_timeout"`
	ReadTimeout Duration `yaml:"read_timeout"` // of one statement
	MaxConns    int      `yaml:"max_conns"`
	// Cluster is the name for ON CLUSTER; with it the tables are replicated.
	Cluster string   `yaml:"cluster"`
	TTL     TTL      `yaml:"ttl"`
	Batch   RowBatch `yaml:"batch"`
}

// TTL is how long ClickHouse keeps rows, in days; 0 keeps them for ever.
type TTL struct {
	EventsDays      int `yaml:"events_days"`
	DetectionsDays  int `yaml:"detections_days"`
	DeadLettersDays int `yaml:"dead_letters_days"`
	EventCountsDays int `yaml:"event_counts_days"` // counts per minute
	ActionsDays     int `yaml:"actions_days"`      // the audit log of automated responses
}

// RowBatch is when a batch is inserted: at the first limit reached.
type RowBatch struct {
	Rows     int      `yaml:"rows"`
	Bytes    Size     `yaml:"bytes"`
	Interval Duration `yaml:"interval"`
}

// Ingest is the first stage.
type Ingest struct {
	Firehose    Firehose    `yaml:"firehose"`
	Kinesis     []Kinesis   `yaml:"kinesis"`
	File        File        `yaml:"file"`
	Decoders    int         `yaml:"decoders"`      // goroutines; 0: one per CPU
	MaxInFlight Size        `yaml:"max_in_flight"` // payloads not yet acknowledged by Kafka
	MaxInflated Size        `yaml:"max_inflated"`  // what one payload may inflate to
	MaxMessage  Size        `yaml:"max_message"`   // of one event
	MaxFuture   Duration    `yaml:"max_future"`    // how far an event's clock may be ahead
	Account     string      `yaml:"account"`       // of records that do not name theirs
	Region      string      `yaml:"region"`        // likewise
	Batch       RecordBatch `yaml:"batch"`
}

// RecordBatch is when a Kafka record of events is closed: at the first limit
// reached.
type RecordBatch struct {
	Bytes  Size     `yaml:"bytes"` // before compression; below the topic's max.message.bytes
	Linger Duration `yaml:"linger"`
}

// Firehose is the HTTP endpoint that Amazon Data Firehose and EventBridge API
// destinations push to.
type Firehose struct {
	Enabled        bool      `yaml:"enabled"`
	Listen         string    `yaml:"listen"`
	Path           string    `yaml:"path"`        // Firehose's HTTP endpoint contract
	EventsPath     string    `yaml:"events_path"` // bare events: EventBridge API destinations, curl
	AccessKeys     []Secret  `yaml:"access_keys"`
	AccessKeysFile string    `yaml:"access_keys_file"` // one per line
	TLS            ServerTLS `yaml:"tls"`
	MaxBody        Size      `yaml:"max_body"`
	MaxInFlight    Size      `yaml:"max_in_flight"` // bodies held at once, over all requests
	MaxRequests    int       `yaml:"max_requests"`  // served at once
	BodyTimeout    Duration  `yaml:"body_timeout"`  // in which a body must arrive
	AckTimeout     Duration  `yaml:"ack_timeout"`   // in which Kafka must have it
	CompletedIDs   int       `yaml:"completed_ids"` // request IDs remembered
	MaxLanes       int       `yaml:"max_lanes"`     // delivery streams told apart
}

// ServerTLS is transport encryption of a listener.
type ServerTLS struct {
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// TerminatedUpstream says that a load balancer in front speaks TLS and the
	// listener may be plain HTTP on other than a loopback address.
	TerminatedUpstream bool `yaml:"terminated_upstream"`
}

// Where a Kinesis shard without a checkpoint is read from.
const (
	StartLatest      = "latest"
	StartTrimHorizon = "trim_horizon"
)

// Kinesis is one data stream.
type Kinesis struct {
	Stream        string `yaml:"stream"` // name or ARN
	Region        string `yaml:"region"`
	Endpoint      string `yaml:"endpoint"`       // "" for AWS's
	Start         string `yaml:"start"`          // latest, trim_horizon or a time in RFC 3339
	CheckpointDir string `yaml:"checkpoint_dir"` // "" keeps checkpoints in Kafka
	// Worker of Workers takes every Workers-th shard by a hash of its ID, so that
	// several processes share a stream. Worker counts from 0.
	Worker       int      `yaml:"worker"`
	Workers      int      `yaml:"workers"`
	PollInterval Duration `yaml:"poll_interval"`
}

// StartTime returns the time that Start names, and whether it names one.
func (k *Kinesis) StartTime() (time.Time, bool) {
	t, err := time.Parse(time.RFC3339, k.Start)
	return t, err == nil
}

// File reads files once, as fast as they can be taken or slower.
type File struct {
	Paths          []string `yaml:"paths"` // files, directories, patterns, "-" for standard input; plain or gzip
	LinesPerSecond int      `yaml:"lines_per_second"`
	BytesPerSecond Size     `yaml:"bytes_per_second"` // after decompression
}

// Correlate is the second stage.
type Correlate struct {
	GroupID          string   `yaml:"group_id"`
	Rules            []string `yaml:"rules"`          // files and directories
	Builtin          bool     `yaml:"builtin"`        // the rules that come with the program
	WatchInterval    Duration `yaml:"watch_interval"` // between two looks for changed rule files; 0: never
	Lateness         Duration `yaml:"lateness"`
	Disorder         Duration `yaml:"disorder"`
	Idle             Duration `yaml:"idle"`
	MaxGroups        int      `yaml:"max_groups"`      // per partition
	MaxEvents        int      `yaml:"max_events"`      // kept in the windows of a partition
	UpdateInterval   Duration `yaml:"update_interval"` // least event time between two updates of an episode
	SnapshotInterval Duration `yaml:"snapshot_interval"`
	State            string   `yaml:"state"`          // where snapshots are: "" for Kafka, a directory, or s3://bucket/prefix
	StateRegion      string   `yaml:"state_region"`   // of the bucket; "": as the AWS credentials say
	StateEndpoint    string   `yaml:"state_endpoint"` // of S3; "": AWS's
}

// Sinks is the third stage.
type Sinks struct {
	ClickHouse ClickHouseSink `yaml:"clickhouse"`
	Webhooks   []Webhook      `yaml:"webhooks"`
	AWSIoT     []AWSIoT       `yaml:"awsiot"`
}

// ClickHouseSink writes events and detections to the store.
type ClickHouseSink struct {
	Enabled bool   `yaml:"enabled"`
	GroupID string `yaml:"group_id"`
}

// Webhook receives detections as Standard Webhooks.
type Webhook struct {
	Name         string            `yaml:"name"` // in metrics and the consumer group's name
	URL          string            `yaml:"url"`
	Secrets      []Secret          `yaml:"secrets"`      // whsec_...; several while rotating
	SecretsFile  string            `yaml:"secrets_file"` // one per line
	Headers      map[string]Secret `yaml:"headers"`
	MinLevel     string            `yaml:"min_level"`
	Activities   []string          `yaml:"activities"`
	AllowPrivate bool              `yaml:"allow_private"`
	ProxyURL     string            `yaml:"proxy_url"` // it must refuse private addresses then
	CAFile       string            `yaml:"ca_file"`
	Timeout      Duration          `yaml:"timeout"`
	GiveUpAfter  Duration          `yaml:"give_up_after"` // then it is a dead letter
	// RefusedAttempts is how often a message is sent that the receiver refuses
	// (4xx, 3xx) before it is a dead letter.
	RefusedAttempts int `yaml:"refused_attempts"`
	Concurrency     int `yaml:"concurrency"`
}

// Levels are Sigma's, from the least to the most severe.
var Levels = []string{"informational", "low", "medium", "high", "critical"}

// Activities of a detection that a webhook may be told of.
var Activities = []string{"created", "updated", "closed"}

// Embedded starts a Kafka broker and a ClickHouse engine inside the program.
// A broker or store that is configured takes the place of the embedded one.
type Embedded struct {
	Dir     string `yaml:"dir"`     // where they keep their data; "" for not embedded
	Library string `yaml:"library"` // libchdb.so; "" to search for it
}

// EmbedKafka reports whether the broker inside the program is wanted: there is a
// directory for it, and no other broker is named.
func (c *Config) EmbedKafka() bool {
	return c.Embedded.Dir != "" && slices.Equal(c.Kafka.Brokers, []string{DefaultBroker})
}

// EmbedClickHouse reports the same of the engine.
func (c *Config) EmbedClickHouse() bool {
	return c.Embedded.Dir != "" && c.ClickHouse.URL == DefaultClickHouse
}

// Admin is the listener for health checks, metrics and reload.
type Admin struct {
	Listen string `yaml:"listen"` // "" for none
	Pprof  bool   `yaml:"pprof"`
}

// Log formats. Auto is console on a terminal, JSON otherwise.
const (
	LogAuto    = "auto"
	LogJSON    = "json"
	LogConsole = "console"
)

// Log is what is written to standard error.
type Log struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// Default returns the configuration of an empty document. getenv supplies
// TOCSIN_KAFKA_BROKERS (comma-separated) and TOCSIN_CLICKHOUSE_URL, which take
// the place of the built-in addresses and give way to the document.
func Default(getenv func(string) (string, bool)) *Config {
	c := &Config{
		Kafka: Kafka{
			Brokers:        []string{DefaultBroker},
			ClientID:       "tocsin",
			DialTimeout:    Duration(5 * time.Second),
			RequestTimeout: Duration(10 * time.Second),
			Compression:    "lz4",
			Topics: Topics{
				Partitions: 16,
				Retention: Retention{
					Events:     Duration(72 * time.Hour),
					Matches:    Duration(72 * time.Hour),
					Detections: Duration(30 * 24 * time.Hour),
					DeadLetter: Duration(14 * 24 * time.Hour),
					Actions:    Duration(400 * 24 * time.Hour),
				},
			},
		},
		ClickHouse: ClickHouse{
			URL:      DefaultClickHouse,
			Username: "default",
			Database: "tocsin",
			TTL:      TTL{EventsDays: 30, DetectionsDays: 400, DeadLettersDays: 30, EventCountsDays: 400, ActionsDays: 400},
			Batch:    RowBatch{Rows: 100_000, Bytes: 32 << 20, Interval: Duration(time.Second)},

			Compression: "auto",
			DialTimeout: Duration(5 * time.Second),
			ReadTimeout: Duration(time.Minute),
			MaxConns:    4,
		},
		Ingest: Ingest{
			Firehose: Firehose{
				Enabled:      true,
				Listen:       "127.0.0.1:8443",
				Path:         "/firehose",
				EventsPath:   "/v1/events",
				MaxBody:      96 << 20, // 64 MiB of records in base64
				MaxInFlight:  256 << 20,
				MaxRequests:  256,
				BodyTimeout:  Duration(time.Minute),
				AckTimeout:   Duration(100 * time.Second),
				CompletedIDs: 16_384,
				MaxLanes:     64,
			},
			MaxInFlight: 64 << 20,
			MaxInflated: 64 << 20,
			MaxMessage:  1 << 20, // what CloudWatch Logs allows
			MaxFuture:   Duration(5 * time.Minute),
			Batch:       RecordBatch{Bytes: 512 << 10, Linger: Duration(20 * time.Millisecond)},
		},
		Correlate: Correlate{
			GroupID:          "tocsin-correlate",
			Builtin:          true,
			WatchInterval:    Duration(5 * time.Second),
			Lateness:         Duration(10 * time.Minute),
			Disorder:         Duration(30 * time.Second),
			Idle:             Duration(10 * time.Second),
			MaxGroups:        200_000,
			MaxEvents:        2_000_000,
			UpdateInterval:   Duration(time.Minute),
			SnapshotInterval: Duration(10 * time.Second),
		},
		Behavior:        defaultBehavior(),
		Decisions:       defaultDecisions(),
		Registry:        defaultRegistry(),
		Sinks:           Sinks{ClickHouse: ClickHouseSink{Enabled: true, GroupID: "tocsin-clickhouse"}},
		Admin:           Admin{Listen: "127.0.0.1:9464"},
		Log:             Log{Level: "info", Format: LogAuto},
		ShutdownTimeout: Duration(25 * time.Second),
	}
	if v, ok := getenv(EnvKafkaBrokers); ok && v != "" {
		c.Kafka.Brokers = splitList(v)
	}
	if v, ok := getenv(EnvClickHouseURL); ok && v != "" {
		c.ClickHouse.URL = v
	}
	return c
}

// Where the parts are when nothing says otherwise.
const (
	DefaultBroker     = "127.0.0.1:9092"
	DefaultClickHouse = "http://127.0.0.1:8123"

	EnvKafkaBrokers  = "TOCSIN_KAFKA_BROKERS"
	EnvClickHouseURL = "TOCSIN_CLICKHOUSE_URL"
)
