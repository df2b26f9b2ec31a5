package firehose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/ingest"
	"github.com/tocsin-io/tocsin/ingest/decode"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
)

// TestIntoKafka goes the whole way, from a CloudWatch Logs payload in two layers
// of gzip to the events in Kafka.
func TestIntoKafka(t *testing.T) {
	cluster := testkit.KafkaFake(t)
	client, err := kafka.Dial(kafka.Config{Brokers: cluster.ListenAddrs()}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	const partitions = 2
	if err := client.EnsureTopics(t.Context(), []kafka.TopicSpec{{Name: schemas.TopicEvents, Partitions: partitions}, {Name: schemas.TopicDeadLetter, Partitions: 1}}); err != nil {
		t.Fatal(err)
	}
	producer, err := kafka.NewProducer(client, kafka.ProducerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := producer.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	pipeline, err := ingest.New(ingest.Options{
		Partitions: partitions, Producer: producer,
		NewDecoder: func() *decode.Decoder { return decode.New(decode.Options{}) },
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{AccessKeys: []string{testKey}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		ended <- pipeline.Run(ctx, runner(func(ctx context.Context, hand func(context.Context, *ingest.Delivery) error) error {
			server.Config.Handler = s.Handler(hand)
			server.Start()
			close(started)
			<-ctx.Done()
			server.Close()
			return nil
		}))
	}()
	<-started
	g := &rig{source: s, url: server.URL}

	var want []string
	payload := func(lines int) string {
		type logEvent struct {
			ID        string `json:"id"`
			Timestamp int64  `json:"timestamp"`
			Message   string `json:"message"`
		}
		var events []logEvent
		for range lines {
			id := fmt.Sprintf("trace-%03d", len(want))
			want = append(want, id)
			now := time.Now().UTC()
			events = append(events, logEvent{id, now.UnixMilli(), fmt.Sprintf(
				`{"timestamp":%q,"logLevel":"INFO","traceId":%q,"accountId":"111122223333","status":"Success","eventType":"Connect","protocol":"MQTT","clientId":"device-%d"}`,
				now.Format("2006-01-02 15:04:05.000"), id, len(want)%9)})
		}
		b, err := json.Marshal(map[string]any{
			"owner": "111122223333", "logGroup": "AWSIotLogsV2", "logStream": "s", "subscriptionFilters": []string{"f"},
			"messageType": "DATA_MESSAGE", "logEvents": events,
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(gzipped(b))
	}
	const control = `{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logGroup":"","logStream":"","subscriptionFilters":[],` +
		`"logEvents":[{"id":"","timestamp":1764000000000,"message":"CWL CONTROL MESSAGE: Checking health of destination Firehose."}]}`
	for i := range 10 {
		body := gzipped(request(fmt.Sprint("id-", i), payload(7), string(gzipped([]byte(control))), payload(3)))
		if a := g.post(t, body, "Content-Encoding", "gzip"); a.status != http.StatusOK {
			t.Fatalf("%+v", a)
		}
	}
	// All of it was acknowledged, so all of it is there, without waiting.
	var got []string
	for part := range partitions {
		err := client.ReadAll(t.Context(), schemas.TopicEvents, part, func(rec *kafka.FetchedRecord) error {
			var r schemas.BatchReader
			var ev schemas.Event
			r.Reset(rec.Value)
			for r.Next(&ev) {
				var line struct{ TraceID string }
				if err := json.Unmarshal(ev.Message, &line); err != nil {
					return err
				}
				got = append(got, line.TraceID)
				if string(r.Lane(ev.Lane)) != "firehose/iot-logs" || string(ev.Region) != "eu-west-1" {
					t.Errorf("lane %s, region %s", r.Lane(ev.Lane), ev.Region)
				}
			}
			return r.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%d events in Kafka, want %d, each once", len(got), len(want))
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// runner is a source that is only a function.
type runner func(context.Context, func(context.Context, *ingest.Delivery) error) error

func (f runner) Run(ctx context.Context, hand func(context.Context, *ingest.Delivery) error) error {
	return f(ctx, hand)
}
