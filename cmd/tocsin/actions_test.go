package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/config"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
)

// certificates answers DescribeCertificate and UpdateCertificate.
type certificates struct {
	mu      sync.Mutex
	updates []string
}

func (c *certificates) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Method == http.MethodPut {
		c.updates = append(c.updates, r.URL.Path+" "+r.URL.Query().Get("newStatus"))
	}
	fmt.Fprint(w, `{"certificateDescription":{"status":"ACTIVE"}}`)
}

func (c *certificates) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.updates...)
}

// startResponses runs the stage with one sink against a broker and a fake of AWS
// IoT, and returns what writes a detection about a device.
func startResponses(t *testing.T, extra string) (aws *certificates, detect func(device int)) {
	t.Helper()
	cluster := testkit.KafkaFake(t, kfake.NumBrokers(1))
	aws = &certificates{}
	server := httptest.NewServer(aws)
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_EC2_METADATA_DISABLED": "true",
		"TOCSIN_CONFIG": "", "TOCSIN_KAFKA_BROKERS": strings.Join(cluster.ListenAddrs(), ","),
	} {
		t.Setenv(name, value)
	}
	file := write(t, "tocsin.yaml", fmt.Sprintf(`
kafka: {topics: {partitions: 2}}
sinks:
  clickhouse: {enabled: false}
  awsiot:
    - name: prod
      account: "123456789012"
      region: eu-west-1
      endpoint: %[1]s
      data_endpoint: %[1]s
      dry_run: false
      bindings: [{rules: ["level>=high"], actions: [revoke]}]
      %[2]s
admin: {listen: ""}
`, server.URL, extra))
	cfg, err := config.LoadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	a, err := newApp(streams{out: io.Discard, err: io.Discard}, cfg, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.stop(); err != nil {
			t.Error(err)
		}
	})
	if _, err := startStages(t.Context(), a, stages{sinks: allSinks(cfg)}); err != nil {
		t.Fatal(err)
	}
	client, err := kafka.Dial(kafka.Config{Brokers: cluster.ListenAddrs()}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	producer, err := kafka.NewProducer(client, kafka.ProducerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { producer.Close(context.Background()) }) // everything is acknowledged by then
	return aws, func(device int) {
		t.Helper()
		f := schemas.Finding{
			ClassUID: schemas.FindingClassUID, ActivityID: schemas.ActivityCreate, Time: time.Now().UnixMilli(),
			Message:     "a revoked certificate connects",
			FindingInfo: schemas.FindingInfo{UID: fmt.Sprint("d", device), Title: "A revoked certificate connects to the broker"},
			Device:      &schemas.FindingDevice{UID: fmt.Sprintf("pump-%04d-in-the-northern-hall", device)},
			Unmapped:    schemas.FindingExtension{RuleLevel: "high", Group: map[string]string{"tocsin.certificate_id": fmt.Sprintf("%064x", device)}},
		}
		value, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := producer.Produce(t.Context(), schemas.TopicDetections, device%2, kafka.Record{Value: value}); err != nil {
			t.Fatal(err)
		}
	}
}

// actions runs tocsin actions list --json until n actions are in a state.
func actions(t *testing.T, state string, n int) (found []schemas.Action) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		code, out, stderr := tocsin("actions", "list", "--json", "--state", state, "--limit", "0")
		if code != exitOK {
			t.Fatalf("exit %d: %s", code, stderr)
		}
		found = nil
		for line := range strings.Lines(out) {
			var a schemas.Action
			if err := json.Unmarshal([]byte(line), &a); err != nil {
				t.Fatal(err)
			}
			found = append(found, a)
		}
		if len(found) >= n {
			return found
		}
		if time.Now().After(deadline) {
			_, all, _ := tocsin("actions", "list")
			t.Fatalf("%d are %s, want %d:\n%s", len(found), state, n, all)
		}
		time.Sleep(20 * time.Millisecond) // the topic is read again
	}
}

// A detection, a person's approval, and what AWS is told.
func TestActionsApproval(t *testing.T) {
	aws, detect := startResponses(t, "approval: {required: true}")
	detect(1)
	detect(2)
	pending := actions(t, schemas.ActionPending, 2)
	if calls := aws.all(); len(calls) != 0 {
		t.Fatalf("calls %v", calls)
	}
	code, out, stderr := tocsin("actions", "list")
	if code != exitOK || !strings.Contains(out, "pump-0001") || !strings.Contains(out, "pending") {
		t.Errorf("exit %d: %s%s", code, out, stderr)
	}
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	yes, no := pending[0], pending[1]
	expect(t, []string{"actions", "show", yes.ID}, exitOK, "tocsin actions approve "+yes.ID[:8], "")
	expect(t, []string{"actions", "approve", yes.ID[:12], "--by", "alice", "--reason", "spoke to the site"}, exitOK, "approved: revoke of certificate", "")
	expect(t, []string{"actions", "reject", no.ID}, exitOK, "rejected: revoke", "")
	done := actions(t, schemas.ActionDone, 1)[0]
	if done.ID != yes.ID || done.Approver != "alice" {
		t.Errorf("got %+v", done)
	}
	if calls := aws.all(); len(calls) != 1 || calls[0] != "/certificates/"+yes.CertificateID+" REVOKED" {
		t.Errorf("calls %v", calls)
	}
	expect(t, []string{"actions", "show", yes.ID}, exitOK, "spoke to the site", "")

	expect(t, []string{"actions", "approve", no.ID}, exitFailed, "", "it is rejected")
	expect(t, []string{"actions", "approve", no.ID}, exitFailed, "", "Try: tocsin actions show "+no.ID)
	expect(t, []string{"actions", "approve", "nobody"}, exitFailed, "", "Try: tocsin actions list")
	expect(t, []string{"actions", "resume", "prod"}, exitFailed, "", "never opened")
}

func TestActionsBreaker(t *testing.T) {
	aws, detect := startResponses(t, "min_per_hour: 2")
	for i := range 4 {
		detect(i)
	}
	actions(t, schemas.ActionDone, 2)
	actions(t, schemas.ActionRefused, 2)
	actions(t, schemas.ActionOpened, 1)
	if calls := aws.all(); len(calls) != 2 {
		t.Errorf("calls %v", calls)
	}
	expect(t, []string{"actions", "list"}, exitOK, "breaker_open", "")
	expect(t, []string{"actions", "show", "breaker:prod"}, exitOK, "tocsin actions resume prod", "")
	expect(t, []string{"actions", "resume", "prod", "--reason", "a drill"}, exitOK, "the breaker of prod is closed", "")
	expect(t, []string{"actions", "resume", "prod"}, exitFailed, "", "resumed already")
	for n := 4; ; n++ { // until the sink has read it
		detect(n)
		found := 0
		for _, a := range append(actions(t, schemas.ActionRefused, 2), actions(t, schemas.ActionDone, 2)...) {
			if a.DetectionID == fmt.Sprint("d", n) && a.State == schemas.ActionDone {
				found++
			}
		}
		if found > 0 || len(aws.all()) > 2 {
			return
		}
		if n > 200 {
			t.Fatal("nothing is done after the breaker was resumed")
		}
	}
}

func TestValidateChecksBindings(t *testing.T) {
	file := write(t, "tocsin.yaml", `
sinks: {awsiot: [{name: prod, account: "1", region: eu-west-1, bindings: [{rules: ["level>=huge"], actions: [explode]}]}]}
`)
	expect(t, []string{"validate", file}, exitConfig, `sinks.awsiot[0]: account: "1"`, "3 problems")
	expect(t, []string{"validate", file}, exitConfig, `level "huge" is not one of`, "")
}
