// Package actionlog is tocsin.actions, the journal of automated responses: what
// was asked for, decided and done, each step with its reason. It is the audit log
// and, after a restart, the memory of those who act.
package actionlog

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// Producer is the part of kafka.Producer that a Log needs. Produce must return
// only when the records are acknowledged or can never be.
type Producer interface {
	Produce(ctx context.Context, topic string, partition int, recs ...kafka.Record) error
}

// Log appends to tocsin.actions. It is safe for concurrent use.
type Log struct {
	producer   Producer
	partitions int
}

// New returns a log; tocsin.actions has the given number of partitions.
func New(p Producer, partitions int) *Log { return &Log{producer: p, partitions: partitions} }

// Append writes a step and returns when Kafka has it. It must be called before
// the step is taken for done, and before a call to AWS that it announces.
func (l *Log) Append(ctx context.Context, a *schemas.Action) error {
	value, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("action %s: %w", a.ID, err)
	}
	key := []byte(Key(a))
	err = l.producer.Produce(ctx, schemas.TopicActions, schemas.Partition(key, l.partitions),
		kafka.Record{Key: key, Value: value, Time: a.Time})
	if err != nil {
		return fmt.Errorf("action %s: %w", a.ID, err)
	}
	return nil
}

// Key returns the key of a's records: the device, else the certificate, else the
// ID. The later steps of an action must not change it, or they would lose their
// order.
func Key(a *schemas.Action) string {
	switch {
	case a.Kind == schemas.KindBreaker:
		return a.ID
	case a.Device != "":
		return a.Device
	case a.CertificateID != "":
		return "cert:" + a.CertificateID
	}
	return a.ID
}

// ID returns the ID of an action: the same whenever the same sink does the same to
// the same target for the same detection.
func ID(sink, detection, kind, target string) string {
	return schemas.NewEventID([]byte("action"), []byte(sink), []byte(detection), []byte(kind), []byte(target)).String()
}

// Parse reads the value of a record.
func Parse(value []byte) (*schemas.Action, error) {
	var a schemas.Action
	if err := json.Unmarshal(value, &a); err != nil {
		return nil, fmt.Errorf("not an action: %w", err)
	}
	if a.ID == "" || a.Kind == "" || a.State == "" {
		return nil, fmt.Errorf("not an action: id %q, kind %q, state %q", a.ID, a.Kind, a.State)
	}
	return &a, nil
}

// Breaker returns the record that a sink's breaker opened, or that a person
// resumed it.
func Breaker(sink, state, reason, approver string, now time.Time) *schemas.Action {
	return &schemas.Action{
		ID: BreakerID(sink), Time: now, Sink: sink, Kind: schemas.KindBreaker,
		State: state, Reason: reason, Approver: approver,
	}
}

// BreakerID returns the ID of the records of a sink's breaker.
func BreakerID(sink string) string { return schemas.KindBreaker + ":" + sink }

// Target returns what an action is about, for a person.
func Target(a *schemas.Action) string {
	var parts []string
	for _, p := range []struct{ name, value string }{
		{"client", a.ClientID}, {"thing", a.Thing}, {"certificate", a.CertificateID},
	} {
		if p.value != "" {
			parts = append(parts, p.name+" "+p.value)
		}
	}
	if len(parts) == 0 {
		return a.Sink
	}
	return strings.Join(parts, ", ")
}
