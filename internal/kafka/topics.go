package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	kgo "github.com/segmentio/kafka-go"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/backoff"
)

// TopicSpec describes a topic as the configuration wants it.
type TopicSpec struct {
	Name       string
	Partitions int
	// ReplicationFactor of zero or less takes the broker's default.
	ReplicationFactor int
	// Compacted keeps the newest record of every key instead of deleting by age.
	Compacted bool
	// Retention deletes records older than this; zero takes the broker's default, negative keeps them for ever.
	Retention time.Duration
	// MaxMessageBytes is the largest record batch (after compression) that the topic accepts; zero takes the broker's default.
	MaxMessageBytes int
	// Extra are further topic configs by Kafka's names.
	Extra map[string]string
}

func (s TopicSpec) configs() map[string]string {
	configs := make(map[string]string, len(s.Extra)+3)
	maps.Copy(configs, s.Extra)
	if s.Compacted {
		configs["cleanup.policy"] = "compact"
	}
	switch {
	case s.Retention > 0:
		configs["retention.ms"] = strconv.FormatInt(s.Retention.Milliseconds(), 10)
	case s.Retention < 0:
		configs["retention.ms"] = "-1"
	}
	if s.MaxMessageBytes > 0 {
		configs["max.message.bytes"] = strconv.Itoa(s.MaxMessageBytes)
	}
	return configs
}

// EnsureTopics creates the topics that do not exist and compares those that do. It never alters or shrinks a topic: an
// existing topic that would make the pipeline wrong (fewer partitions than configured, not compacted) is an error, one that
// merely differs is a warning in the log, and both say which command would change it. It is safe to run from several
// processes at once, and returns when every partition has a leader.
func (c *Client) EnsureTopics(ctx context.Context, specs []TopicSpec) error {
	names := make([]string, len(specs))
	for i, s := range specs {
		names[i] = s.Name
	}
	if err := c.waitForCluster(ctx); err != nil {
		return err
	}
	existing, err := c.existingTopics(ctx, names)
	if err != nil {
		return err
	}
	var create []kgo.TopicConfig
	var compare []TopicSpec
	for _, s := range specs {
		if _, ok := existing[s.Name]; ok {
			compare = append(compare, s)
			continue
		}
		t := kgo.TopicConfig{Topic: s.Name, NumPartitions: s.Partitions, ReplicationFactor: s.ReplicationFactor}
		if t.ReplicationFactor <= 0 {
			t.ReplicationFactor = -1
		}
		configs := s.configs()
		for _, name := range slices.Sorted(maps.Keys(configs)) {
			t.ConfigEntries = append(t.ConfigEntries, kgo.ConfigEntry{ConfigName: name, ConfigValue: configs[name]})
		}
		create = append(create, t)
	}
	var problems []error
	if len(create) > 0 {
		res, err := c.kgo.CreateTopics(ctx, &kgo.CreateTopicsRequest{Topics: create})
		if err != nil {
			return fmt.Errorf("create topics: %w", err)
		}
		for _, t := range create {
			switch err := res.Errors[t.Topic]; {
			case err == nil:
				c.log.Info("topic created", zap.String("topic", t.Topic), zap.Int("partitions", t.NumPartitions), zap.Int("replication", t.ReplicationFactor))
			case errors.Is(err, kgo.TopicAlreadyExists):
				// Another process was faster; what it made may differ.
				compare = append(compare, specs[slices.Index(names, t.Topic)])
			default:
				problems = append(problems, fmt.Errorf("create topic %s: %w", t.Topic, err))
			}
		}
	}
	if len(problems) > 0 {
		return errors.Join(problems...)
	}
	counts, err := c.awaitLeaders(ctx, names)
	if err != nil {
		return err
	}
	configs, err := c.describeTopics(ctx, compare)
	if err != nil {
		return err
	}
	for _, s := range compare {
		problems = append(problems, c.compareTopic(s, counts[s.Name], configs[s.Name])...)
	}
	return errors.Join(problems...)
}

// waitForCluster retries until a broker answers or ctx ends: at start, the broker may come up after us.
func (c *Client) waitForCluster(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		_, err := c.metadata(ctx)
		if err == nil {
			return nil
		}
		if permanent(err) {
			return fmt.Errorf("kafka: %w", err)
		}
		c.log.Warn("kafka is not reachable yet", zap.Error(err), zap.Strings("brokers", c.cfg.Brokers))
		if backoff.Sleep(ctx, backoff.Delay(attempt, minRefreshInterval, 2*time.Second)) != nil {
			return fmt.Errorf("kafka: %w", err)
		}
	}
}

// existingTopics maps the topics that exist to their partition counts.
func (c *Client) existingTopics(ctx context.Context, names []string) (map[string]int, error) {
	if err := c.refresh(ctx); err != nil {
		return nil, err
	}
	m, err := c.metadata(ctx, names...)
	if err != nil {
		return nil, err
	}
	counts := make(map[string]int, len(names))
	for _, t := range m.Topics {
		switch code := kgo.Error(t.ErrorCode); code {
		case 0, kgo.LeaderNotAvailable:
			counts[t.Name] = len(t.Partitions)
		case kgo.UnknownTopicOrPartition:
		default:
			return nil, fmt.Errorf("topic %s: %w", t.Name, code)
		}
	}
	return counts, nil
}

// awaitLeaders waits until all topics are visible with a leader for every partition and returns their partition counts.
func (c *Client) awaitLeaders(ctx context.Context, names []string) (map[string]int, error) {
	for attempt := 0; ; attempt++ {
		m, err := c.metadata(ctx, names...)
		missing := ""
		if err == nil {
			counts := make(map[string]int, len(names))
			for _, t := range m.Topics {
				counts[t.Name] = len(t.Partitions)
				if t.ErrorCode != 0 || len(t.Partitions) == 0 {
					missing = t.Name
				}
				for _, p := range t.Partitions {
					if p.ErrorCode != 0 || p.LeaderID < 0 {
						missing = fmt.Sprintf("%s/%d", t.Name, p.PartitionIndex)
					}
				}
			}
			if missing == "" {
				return counts, nil
			}
			err = fmt.Errorf("no leader for %s yet", missing)
		}
		if serr := backoff.Sleep(ctx, backoff.Delay(attempt, minRefreshInterval, time.Second)); serr != nil {
			return nil, fmt.Errorf("waiting for topics: %w", err)
		}
		// The error, if any, comes back from the metadata call above.
		_ = c.refresh(ctx)
	}
}

func (c *Client) describeTopics(ctx context.Context, specs []TopicSpec) (map[string]map[string]string, error) {
	req := &kgo.DescribeConfigsRequest{}
	for _, s := range specs {
		names := slices.Sorted(maps.Keys(s.configs()))
		if len(names) > 0 {
			req.Resources = append(req.Resources, kgo.DescribeConfigRequestResource{ResourceType: kgo.ResourceTypeTopic, ResourceName: s.Name, ConfigNames: names})
		}
	}
	if len(req.Resources) == 0 {
		return nil, nil
	}
	res, err := c.kgo.DescribeConfigs(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("describe topics: %w", err)
	}
	configs := make(map[string]map[string]string, len(res.Resources))
	for _, r := range res.Resources {
		if r.Error != nil {
			if Reason(r.Error) == ReasonAuth {
				c.log.Warn("topic configuration cannot be compared: not allowed to describe it", zap.String("topic", r.ResourceName))
				continue
			}
			return nil, fmt.Errorf("describe topic %s: %w", r.ResourceName, r.Error)
		}
		configs[r.ResourceName] = make(map[string]string, len(r.ConfigEntries))
		for _, e := range r.ConfigEntries {
			configs[r.ResourceName][e.ConfigName] = e.ConfigValue
		}
	}
	return configs, nil
}

func (c *Client) compareTopic(s TopicSpec, partitions int, have map[string]string) (problems []error) {
	switch {
	case partitions < s.Partitions:
		problems = append(problems, fmt.Errorf("topic %s has %d partitions, the configuration wants %d: lower the setting, or stop the pipeline and run "+
			"kafka-topics.sh --alter --topic %s --partitions %d (keys move to other partitions: correlator state starts anew)",
			s.Name, partitions, s.Partitions, s.Name, s.Partitions))
	case partitions > s.Partitions:
		problems = append(problems, fmt.Errorf("topic %s has %d partitions, the configuration wants %d: Kafka cannot take partitions away, so raise the setting to %d",
			s.Name, partitions, s.Partitions, partitions))
	}
	want := s.configs()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		got, known := have[name]
		if !known || got == want[name] {
			continue
		}
		if name == "cleanup.policy" && s.Compacted && !strings.Contains(got, "compact") {
			problems = append(problems, fmt.Errorf("topic %s must be compacted but has cleanup.policy=%s: run "+
				"kafka-configs.sh --alter --entity-type topics --entity-name %s --add-config cleanup.policy=compact", s.Name, got, s.Name))
			continue
		}
		c.log.Warn("topic differs from the configuration", zap.String("topic", s.Name), zap.String("config", name), zap.String("have", got), zap.String("want", want[name]),
			zap.String("run", fmt.Sprintf("kafka-configs.sh --alter --entity-type topics --entity-name %s --add-config %s=%s", s.Name, name, want[name])))
	}
	return problems
}
