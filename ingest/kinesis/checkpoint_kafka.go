package kinesis

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// KafkaStore keeps checkpoints in a compacted topic, under the key
// "kinesis/STREAM/SHARD", so that a process can be started anywhere. All of one
// stream is in one partition, which Load reads.
type KafkaStore struct {
	client     *kafka.Client
	producer   *kafka.Producer
	topic      string
	partitions int
}

// NewKafkaStore keeps the checkpoints in a topic, tocsin.state when topic is "".
func NewKafkaStore(client *kafka.Client, producer *kafka.Producer, topic string, partitions int) (*KafkaStore, error) {
	if client == nil || producer == nil || partitions < 1 {
		return nil, fmt.Errorf("kinesis checkpoints in Kafka: client, producer and partitions (%d) must be set", partitions)
	}
	if topic == "" {
		topic = schemas.TopicState
	}
	return &KafkaStore{client, producer, topic, partitions}, nil
}

func prefix(stream string) string { return "kinesis/" + stream + "/" }

func (s *KafkaStore) partition(stream string) int {
	return schemas.Partition([]byte(prefix(stream)), s.partitions)
}

// Load reads the stream's partition.
func (s *KafkaStore) Load(ctx context.Context, stream string) (map[string]Checkpoint, error) {
	loaded := map[string]Checkpoint{}
	err := s.client.ReadAll(ctx, s.topic, s.partition(stream), func(rec *kafka.FetchedRecord) error {
		shard, ok := strings.CutPrefix(string(rec.Key), prefix(stream))
		if !ok {
			return nil
		}
		if rec.Value == nil {
			delete(loaded, shard)
			return nil
		}
		var cp Checkpoint
		if err := json.Unmarshal(rec.Value, &cp); err != nil {
			return fmt.Errorf("offset %d, key %s: %w", rec.Offset, rec.Key, err)
		}
		loaded[shard] = cp
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("kinesis checkpoints: %w", err)
	}
	return loaded, nil
}

// Save appends the changed checkpoints and waits for their acknowledgement.
func (s *KafkaStore) Save(ctx context.Context, stream string, changed map[string]Checkpoint) error {
	recs := make([]kafka.Record, 0, len(changed))
	for shard, cp := range changed {
		rec := kafka.Record{Key: []byte(prefix(stream) + shard)}
		if cp != (Checkpoint{}) {
			value, err := json.Marshal(cp)
			if err != nil {
				return fmt.Errorf("kinesis checkpoints: %w", err)
			}
			rec.Value = value
		}
		recs = append(recs, rec)
	}
	if err := s.producer.Produce(ctx, s.topic, s.partition(stream), recs...); err != nil {
		return fmt.Errorf("kinesis checkpoints: %w", err)
	}
	return nil
}
