package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tocsin-io/tocsin/correlate"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
)

// stateServer is the admin listener of a process that holds these partitions.
func stateServer(t *testing.T, partitions ...correlate.PartitionStatus) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/-/state" {
			http.NotFound(w, r)
			return
		}
		if err := json.NewEncoder(w).Encode(stateAnswer{Group: "g", Partitions: partitions}); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestStateMergesProcesses(t *testing.T) {
	large := correlate.PartitionStatus{
		Topic: schemas.TopicMatches, Partition: 1023, Next: 123_456_789_012, Lag: 1_234_567, Watermark: 1_790_000_000_000,
		Groups: 200_000, Events: 2_000_000, Bytes: 9_999 << 20, Evicted: 7, Late: 8, SnapshotTime: time.Now().Add(-100 * time.Hour).UnixMilli(),
		Rules: []correlate.RuleStatus{{
			ID: "a", Name: strings.Repeat("long", 20), Groups: 200_000, Events: 2_000_000, Oldest: 1_790_000_000_000,
			Largest: []string{strings.Repeat("f", 64), "111122223333"}, LargestEvents: 1_000_000,
		}},
	}
	first := stateServer(t,
		correlate.PartitionStatus{Topic: schemas.TopicEvents, Partition: 0, Next: 10, Groups: 1, SnapshotNext: -1, Rules: []correlate.RuleStatus{
			{ID: "b", Name: "shared", Groups: 1, Events: 3, Oldest: 2000, Largest: []string{"x"}, LargestEvents: 3},
		}},
		correlate.PartitionStatus{Topic: schemas.TopicEvents, Partition: 1, Next: 5}, // it moved meanwhile
	)
	second := stateServer(t,
		correlate.PartitionStatus{Topic: schemas.TopicEvents, Partition: 1, Next: 7, Rules: []correlate.RuleStatus{
			{ID: "b", Name: "shared", Groups: 2, Events: 5, Oldest: 1000, Largest: []string{"y", "z"}, LargestEvents: 4},
		}}, large)

	code, stdout, stderr := tocsin("state", "--json", "--addr", first, "--addr", second)
	var got stateJSON
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitOK {
		t.Fatalf("exit %d, %v: %s%s", code, err, stdout, stderr)
	}
	var list []string
	for _, p := range got.Partitions {
		list = append(list, fmt.Sprintf("%s/%d@%d %v", p.Topic, p.Partition, p.Next, p.Address == second))
	}
	if want := "[tocsin.events/0@10 false tocsin.events/1@7 true tocsin.matches/1023@123456789012 true]"; fmt.Sprint(list) != want {
		t.Errorf("got %v, want %s", list, want)
	}

	code, stdout, stderr = tocsin("state", "--addr", first, "--addr", "http://"+second+"/")
	if code != exitOK {
		t.Errorf("exit %d: %s", code, stderr)
	}
	for line := range strings.Lines(stdout) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, text := range []string{"events/0", "matches/1023", "123,456,789,012", "100h0m0s", "none", "7 groups were given up", "8 matches were later", "y, z"} {
		if !strings.Contains(stdout, text) {
			t.Errorf("no %q in\n%s", text, stdout)
		}
	}
	// Of the rule that two partitions hold: 3 groups, 8 events, the oldest, the largest.
	if !strings.Contains(strings.Join(strings.Fields(stdout), " "), "shared 3 8 01-01 00:00:01 y, z 4") {
		t.Errorf("rules are not added up:\n%s", stdout)
	}
}

func TestStateErrors(t *testing.T) {
	nowhere := freeAddress(t)
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	ingester := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no correlator runs in this process", http.StatusNotImplemented)
	}))
	defer ingester.Close()
	next := "Try: tocsin state --addr HOST:PORT"
	for addr, says := range map[string]string{
		nowhere:      "nothing answers at " + nowhere,
		other.URL:    "not the admin listener",
		ingester.URL: "no correlator runs in this process",
		"::bad":      "--addr",
	} {
		code, stdout, stderr := tocsin("state", "--addr", addr)
		if code != exitFailed || stdout != "" || !strings.Contains(stderr, says) || !strings.Contains(stderr, next) {
			t.Errorf("%s: exit %d, %s%s", addr, code, stdout, stderr)
		}
	}
	// What the others hold is shown all the same.
	up := stateServer(t, correlate.PartitionStatus{Topic: schemas.TopicEvents, Partition: 3})
	code, stdout, stderr := tocsin("state", "--addr", up, "--addr", nowhere)
	if code != exitFailed || !strings.Contains(stdout, "events/3") || !strings.Contains(stderr, nowhere) {
		t.Errorf("exit %d, %s%s", code, stdout, stderr)
	}
	code, stdout, _ = tocsin("state", "--addr", stateServer(t))
	if code != exitOK || !strings.Contains(stdout, "has not been assigned any") {
		t.Errorf("exit %d, %s", code, stdout)
	}
}

// What a running program holds, from its log's address to the groups of a rule.
func TestStateOfARunningProgram(t *testing.T) {
	t.Parallel()
	rules := write(t, "rules.yml", `
title: Connected
name: connected
logsource: {product: aws, service: iot}
detection: {s: {eventType: Connect}, condition: s}
---
title: Connects a lot
id: often
name: often
correlation:
  type: event_count
  rules: [connected]
  group-by: [tocsin.device]
  timespan: 1h
  condition: {gte: 10}
`)
	listen := freeAddress(t)
	file := write(t, "tocsin.yaml", fmt.Sprintf(`
kafka: {topics: {partitions: 1}}
ingest: {firehose: {listen: %q}}
correlate: {rules: [%q], builtin: false, snapshot_interval: 100ms}
sinks: {clickhouse: {enabled: false}}
admin: {listen: "127.0.0.1:0"}
`, listen, rules))
	p := start(t, []string{"TOCSIN_KAFKA_BROKERS=" + strings.Join(testkit.KafkaFake(t).ListenAddrs(), ",")}, "run", "--config", file)
	p.ready()
	at := time.Now()
	for i := range 5 {
		line := logLine(t, at.Add(time.Duration(i)*time.Second), "Connect", []string{"pump", "pump", "pump", "valve", "valve"}[i], nil)
		res, err := http.Post("http://"+listen+"/v1/events", "application/json", bytes.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Fatal(res.Status)
		}
	}
	admin := p.says("admin listener", "address")
	eventually(t, "state", func() error {
		code, stdout, stderr := tocsin("state", "--json", "--addr", admin)
		var s stateJSON
		if err := json.Unmarshal([]byte(stdout), &s); err != nil || code != exitOK {
			t.Fatalf("exit %d, %v: %s%s", code, err, stdout, stderr)
		}
		for _, part := range s.Partitions {
			if part.Topic != schemas.TopicEvents || part.Groups != 2 || part.Events != 5 {
				continue
			}
			if part.Lag != 0 || part.SnapshotTime == 0 || part.SnapshotNext < 1 || part.Watermark == 0 || part.Bytes == 0 {
				return errors.New(stdout)
			}
			want := correlate.RuleStatus{ID: "often", Name: "often", Groups: 2, Events: 5, Oldest: at.UnixMilli(), Largest: []string{"pump"}, LargestEvents: 3}
			if len(part.Rules) == 1 && fmt.Sprint(part.Rules[0]) == fmt.Sprint(want) {
				return nil
			}
		}
		return errors.New(stdout)
	})
	if code, stdout, _ := tocsin("state", "--addr", admin); code != exitOK || !strings.Contains(stdout, "often") {
		t.Errorf("exit %d\n%s", code, stdout)
	}
}
