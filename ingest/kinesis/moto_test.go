package kinesis

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	logs "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logstypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/tocsin-io/tocsin/ingest"
	"github.com/tocsin-io/tocsin/ingest/decode"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
)

var moto testkit.SharedMoto

// fleet is a log group whose lines reach a Kinesis stream by a subscription
// filter.
type fleet struct {
	t       *testing.T
	kinesis *kinesis.Client
	logs    *logs.Client
	stream  string
	group   string
	written []string // the trace IDs of the lines
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	endpoint := moto.Endpoint(t)
	creds := credentials.NewStaticCredentialsProvider("testing", "testing", "")
	client, err := NewClient(t.Context(), "eu-west-1", endpoint, func(o *kinesis.Options) {
		o.Credentials, o.RetryMaxAttempts = creds, 1
	})
	if err != nil {
		t.Fatal(err)
	}
	// moto is shared, also with an earlier run of the same test.
	name := fmt.Sprintf("fleet-%d", time.Now().UnixNano())
	f := &fleet{t: t, kinesis: client, stream: name, group: "AWSIotLogsV2-" + name}
	f.logs = logs.New(logs.Options{Region: "eu-west-1", BaseEndpoint: &endpoint, Credentials: creds, RetryMaxAttempts: 1})
	ctx := t.Context()
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	_, err = client.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: &f.stream, ShardCount: aws.Int32(1)})
	check("create stream", err)
	arn := f.describe()
	_, err = f.logs.CreateLogGroup(ctx, &logs.CreateLogGroupInput{LogGroupName: &f.group})
	check("create log group", err)
	_, err = f.logs.CreateLogStream(ctx, &logs.CreateLogStreamInput{LogGroupName: &f.group, LogStreamName: aws.String("s")})
	check("create log stream", err)
	_, err = f.logs.PutSubscriptionFilter(ctx, &logs.PutSubscriptionFilterInput{
		LogGroupName: &f.group, FilterName: aws.String("all"), FilterPattern: aws.String(""),
		DestinationArn: &arn, RoleArn: aws.String("arn:aws:iam::123456789012:role/logs"), Distribution: logstypes.DistributionRandom,
	})
	check("put subscription filter", err)
	return f
}

// describe waits until the stream is active and returns its ARN.
func (f *fleet) describe() string {
	f.t.Helper()
	for range 100 {
		out, err := f.kinesis.DescribeStreamSummary(f.t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: &f.stream})
		if err != nil {
			f.t.Fatal(err)
		}
		if out.StreamDescriptionSummary.StreamStatus == "ACTIVE" {
			return *out.StreamDescriptionSummary.StreamARN
		}
		time.Sleep(50 * time.Millisecond)
	}
	f.t.Fatal("stream does not become active")
	return ""
}

// write puts n log lines, a few in a call: each call is one Kinesis record.
func (f *fleet) write(n int) {
	f.t.Helper()
	const perCall = 5
	for n > 0 {
		var events []logstypes.InputLogEvent
		for range min(n, perCall) {
			id := fmt.Sprintf("trace-%d", len(f.written))
			f.written = append(f.written, id)
			now := time.Now()
			events = append(events, logstypes.InputLogEvent{Timestamp: aws.Int64(now.UnixMilli()), Message: aws.String(fmt.Sprintf(
				`{"timestamp":"%s","logLevel":"INFO","traceId":%q,"accountId":"123456789012","status":"Success","eventType":"Connect","protocol":"MQTT","clientId":"device-%d","principalId":"p","sourceIp":"192.0.2.1","sourcePort":1}`,
				now.UTC().Format("2006-01-02 15:04:05.000"), id, len(f.written)%7))})
		}
		n -= len(events)
		_, err := f.logs.PutLogEvents(f.t.Context(), &logs.PutLogEventsInput{
			LogGroupName: &f.group, LogStreamName: aws.String("s"), LogEvents: events,
		})
		if err != nil {
			f.t.Fatal(err)
		}
	}
}

// split halves the hash range of the first open shard.
func (f *fleet) split() {
	f.t.Helper()
	_, err := f.kinesis.SplitShard(f.t.Context(), &kinesis.SplitShardInput{
		StreamName: &f.stream, ShardToSplit: aws.String("shardId-000000000000"),
		NewStartingHashKey: aws.String("170141183460469231731687303715884105728"),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.describe()
}

// TestCloudWatchToKafka goes the whole way: log group, subscription filter,
// Kinesis, this source, decoder, Kafka; with a shard that is split meanwhile and
// a restart from the checkpoints.
func TestCloudWatchToKafka(t *testing.T) {
	f := newFleet(t)
	cluster := testkit.KafkaFake(t)
	client, err := kafka.Dial(kafka.Config{Brokers: cluster.ListenAddrs()}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	const partitions = 3
	if err := client.EnsureTopics(t.Context(), []kafka.TopicSpec{{Name: schemas.TopicEvents, Partitions: partitions}, {Name: schemas.TopicDeadLetter, Partitions: 1}}); err != nil {
		t.Fatal(err)
	}
	producer, err := kafka.NewProducer(client, kafka.ProducerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close(context.Background())
	// published are the trace IDs in Kafka, in the order of partition and offset.
	published := func() []string {
		var all []string
		for part := range partitions {
			err := client.ReadAll(t.Context(), schemas.TopicEvents, part, func(rec *kafka.FetchedRecord) error {
				var r schemas.BatchReader
				var ev schemas.Event
				r.Reset(rec.Value)
				for r.Next(&ev) {
					all = append(all, traceID(ev.Message))
					if string(ev.Account) != "123456789012" || string(ev.Source) != schemas.SourceIoT {
						t.Errorf("event %s of account %q, source %q", ev.Message, ev.Account, ev.Source)
					}
				}
				return r.Err()
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		return all
	}
	store, err := NewFileStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	// during runs source and pipeline while f does, and stops them when all that
	// was written is in Kafka. It returns the number of records read.
	during := func(do func()) float64 {
		t.Helper()
		reg := prometheus.NewRegistry()
		log := zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
		source, err := New(Options{
			Stream: f.stream, Client: f.kinesis, Checkpoints: store, RefreshInterval: time.Second,
			PollInterval: 200 * time.Millisecond, Logger: log, Registerer: reg,
		})
		if err != nil {
			t.Fatal(err)
		}
		pipeline, err := ingest.New(ingest.Options{
			Partitions: partitions, Producer: producer, Decoders: 2, Logger: log,
			NewDecoder: func() *decode.Decoder { return decode.New(decode.Options{}) },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- pipeline.Run(ctx, source) }()
		do()
		deadline := time.Now().Add(60 * time.Second)
		for len(published()) < len(f.written) && time.Now().Before(deadline) {
			time.Sleep(100 * time.Millisecond)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		return sum(t, reg, "tocsin_kinesis_records_total")
	}
	compare := func(when string) {
		t.Helper()
		got, want := published(), slices.Clone(f.written)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("%s: %d events in Kafka, want %d, each once", when, len(got), len(want))
		}
	}

	f.write(40)
	during(func() { f.write(20) })
	compare("at first")
	during(func() {
		f.write(20)
		f.split()
		f.write(40)
	})
	compare("after the split")
	f.write(30)
	if n := during(func() {}); n != 6 {
		t.Errorf("read %v records after the restart, want the 6 new ones", n)
	}
	compare("after the restart")
	points, err := store.Load(t.Context(), f.stream)
	if err != nil || len(points) != 3 || !points["shardId-000000000000"].Done || points["shardId-000000000001"].Done {
		t.Errorf("%v: checkpoints %+v", err, points)
	}
}

// traceID of a log line.
func traceID(message []byte) string {
	var line struct {
		TraceID string `json:"traceId"`
	}
	if err := json.Unmarshal(message, &line); err != nil {
		return err.Error()
	}
	return line.TraceID
}

func sum(t *testing.T, reg prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				total += m.GetCounter().GetValue()
			}
		}
	}
	return total
}
