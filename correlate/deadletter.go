package correlate

import (
	"context"
	"encoding/json"
	"fmt"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// badRecord keeps an input record that could not be read.
func (w *worker) badRecord(ctx context.Context, rec *kafka.FetchedRecord, cause error) {
	origin := fmt.Sprintf("%s/%d@%d", w.key.topic, w.key.partition, rec.Offset)
	w.deadLetter(ctx, origin, rec.Value, reasonMalformed, cause)
}

// deadLetter sends what cannot be used to the dead letter topic.
func (w *worker) deadLetter(ctx context.Context, origin string, raw []byte, reason string, cause error) {
	w.log.Warn("record goes to the dead letter topic", zap.String("origin", origin), zap.String("reason", reason), zap.Error(cause))
	w.c.metrics.deadLetters.WithLabelValues(reason).Inc()
	value, err := json.Marshal(schemas.NewDeadLetter("correlate", origin, reason, cause, raw))
	if err != nil {
		w.log.Error("BUG: a dead letter that cannot be encoded", zap.Error(err))
		return
	}
	// By origin, so that many of them are not all in one partition.
	key := []byte("correlate/" + origin)
	w.out.send(ctx, schemas.TopicDeadLetter, schemas.Partition(key, w.c.deadLetters), kafka.Record{Key: key, Value: value})
}
