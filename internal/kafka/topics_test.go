package kafka_test

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/tocsin-io/tocsin/internal/kafka"
)

func TestEnsureTopics(t *testing.T) { eachBroker(t, testEnsureTopics) }

func testEnsureTopics(t *testing.T, brokers []string) {
	core, logged := observer.New(zapcore.WarnLevel)
	c, err := kafka.Dial(kafka.Config{Brokers: brokers}, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	events := kafka.TopicSpec{Name: "ensure-events" + run, Partitions: 4, Retention: time.Hour, MaxMessageBytes: 2_000_000, Extra: map[string]string{"segment.ms": "600000"}}
	state := kafka.TopicSpec{Name: "ensure-state" + run, Partitions: 2, Compacted: true, Retention: -1}
	for range 2 { // the second time finds them as wanted
		if err := c.EnsureTopics(t.Context(), []kafka.TopicSpec{events, state}); err != nil {
			t.Fatal(err)
		}
	}
	if logged.Len() != 0 {
		t.Errorf("warnings about topics that are as wanted: %v", logged.All())
	}
	if n, err := c.Partitions(t.Context(), "ensure-events"+run); err != nil || n != 4 {
		t.Errorf("%d partitions, %v", n, err)
	}
	if _, err := c.Partitions(t.Context(), "ensure-none"+run); kafka.Reason(err) != kafka.ReasonUnknownTopic {
		t.Errorf("unknown topic: %v", err)
	}
	differs := events
	differs.Retention = 2 * time.Hour
	if err := c.EnsureTopics(t.Context(), []kafka.TopicSpec{differs}); err != nil {
		t.Error(err)
	}
	if all := logged.FilterMessageSnippet("differs").All(); len(all) != 1 || !strings.Contains(all[0].ContextMap()["run"].(string), "retention.ms=7200000") {
		t.Errorf("warnings: %v", logged.All())
	}
	more, fewer, compacted := events, events, events
	more.Partitions, fewer.Partitions, compacted.Compacted = 8, 2, true
	for want, spec := range map[string]kafka.TopicSpec{"--partitions 8": more, "raise the setting to 4": fewer, "cleanup.policy=compact": compacted} {
		if err := c.EnsureTopics(t.Context(), []kafka.TopicSpec{state, spec}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

func TestRefusedTopicIsNamed(t *testing.T) {
	c := dial(t, realKafka.Brokers(t)...)
	bad := kafka.TopicSpec{Name: "ensure-bad", Partitions: 1, Extra: map[string]string{"retention.ms": "soon"}}
	if err := c.EnsureTopics(t.Context(), []kafka.TopicSpec{bad}); err == nil || !strings.Contains(err.Error(), "ensure-bad") || kafka.Reason(err) != kafka.ReasonInvalid {
		t.Errorf("invalid configuration: %v", err)
	}
}
