package awsiot

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/tocsin-io/tocsin/internal/blastradius"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// EventBreakerOpened is the type of the event that says that a breaker opened, so
// that rules and what is bound to them tell people.
const EventBreakerOpened = "ResponseBreakerOpened"

// breakerOpened is its message.
type breakerOpened struct {
	Sink    string    `json:"sink"`
	Opened  time.Time `json:"opened"`
	Devices int       `json:"devices"` // that were acted on within the hour
	Limit   int       `json:"limit"`
	Fleet   int       `json:"fleet"`
	DryRun  bool      `json:"dry_run"`
}

// alert publishes the event.
func (e *executor) alert(ctx context.Context, why *blastradius.Refused) error {
	message, err := json.Marshal(breakerOpened{e.o.Name, why.Since.UTC(), why.Used, why.Limit, why.Fleet, e.o.DryRun})
	if err != nil {
		return err
	}
	partitions, err := e.o.Kafka.Partitions(ctx, schemas.TopicEvents)
	if err != nil {
		return err
	}
	millis := why.Since.UnixMilli()
	device := []byte("account:" + e.o.Account)
	var batch schemas.BatchEncoder
	batch.Append(&schemas.Event{
		ID:   schemas.NewEventID([]byte(EventBreakerOpened), []byte(e.o.Name), strconv.AppendInt(nil, millis, 10)),
		Time: millis, IngestTime: e.o.Now().UnixMilli(),
		Source: []byte(schemas.SourceRegistry), Type: []byte(EventBreakerOpened),
		Account: []byte(e.o.Account), Region: []byte(e.o.Region), Device: device, Message: message,
	}, schemas.DerivedLane+"responses")
	return e.o.Producer.Produce(ctx, schemas.TopicEvents, schemas.Partition(device, partitions), kafka.Record{Value: batch.Bytes()})
}
