package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
)

// What tocsin.identities says of a certificate reaches the decisions of a broker
// and the stamps of events, in processes that run already.
func TestCertificatesReachDecisionsAndEvents(t *testing.T) {
	t.Parallel()
	brokers := strings.Join(testkit.KafkaFake(t).ListenAddrs(), ",")
	listen, decisions := freeAddress(t), freeAddress(t)
	file := write(t, "tocsin.yaml", fmt.Sprintf(`
kafka: {brokers: [%q], topics: {partitions: 2}}
ingest: {firehose: {listen: %q}}
sinks: {clickhouse: {enabled: false}}
decisions: {enabled: true, listen: %q, access_keys: [a-key-of-the-broker], fail_open: false}
admin: {listen: "127.0.0.1:0"}
`, brokers, listen, decisions))
	ingest := start(t, nil, "ingest", "--config", file)
	ingest.ready()
	endpoint := start(t, nil, "sink", "--config", file, "decisions")
	endpoint.ready()

	client, err := kafka.Dial(kafka.Config{Brokers: strings.Split(brokers, ",")}, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	producer, err := kafka.NewProducer(client, kafka.ProducerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close(context.Background())
	id := strings.Repeat("ab", 32)
	now := time.Now().UTC()
	publish := func(c schemas.Certificate) {
		t.Helper()
		value, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		record := kafka.Record{Key: []byte(schemas.KeyCertificate + id), Value: value}
		if err := producer.Produce(t.Context(), schemas.TopicIdentities, schemas.Partition([]byte(id), 2), record); err != nil {
			t.Fatal(err)
		}
	}
	decided := func(want string) {
		t.Helper()
		eventually(t, "decision: "+want, func() error {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+decisions+"/v1/emqx/authn", strings.NewReader(`{"certificate_id":"`+id+`"}`))
			if err != nil {
				return err
			}
			r.Header.Set("X-Tocsin-Key", "a-key-of-the-broker")
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				return err
			}
			defer res.Body.Close()
			if body, err := io.ReadAll(res.Body); err != nil || !strings.Contains(string(body), want) {
				return fmt.Errorf("%d %s, %w", res.StatusCode, body, err)
			}
			return nil
		})
	}
	decided(`"registry_incomplete"`)
	c := schemas.Certificate{ID: id, Subject: "CN=pump-1", NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.Add(9*24*time.Hour + 12*time.Hour), Status: schemas.CertActive}
	publish(c)
	decided(`"allow"`)
	c.Status = schemas.CertRevoked
	publish(c)
	decided(`"revoked"`)

	// The ingester follows the same topic; events say what it knows by then.
	line := fmt.Sprintf(`{"timestamp":%q,"logLevel":"INFO","traceId":"t","accountId":"111122223333","status":"Success","eventType":"Connect","protocol":"MQTT","clientId":"pump-1","principalId":%q}`,
		now.Format("2006-01-02 15:04:05.000"), id)
	eventually(t, "a stamped event", func() error {
		res, err := http.Post("http://"+listen+"/v1/events", "application/json", strings.NewReader(line))
		if err != nil {
			return err
		}
		res.Body.Close()
		var last map[string]any
		for _, l := range tapLines(t, brokers, "events") {
			event, _ := l["event"].(map[string]any)
			last = event
			if event["certificate_status"] == "REVOKED" && event["days_to_expiry"] == 9.0 {
				return nil
			}
		}
		return fmt.Errorf("%d, and no event of a revoked certificate: %v", res.StatusCode, last)
	})
}
