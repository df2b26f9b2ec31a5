// Package sinks is the last stage: it reads topics and hands their records to
// stores and receivers.
//
// Every sink has a consumer group of its own. A sink that is down keeps its
// records in Kafka and delays itself; nothing else notices. A record is
// committed after the sink has it, so that it is delivered at least once; what
// makes it exactly once is in the sink.
package sinks

import (
	"context"
	"fmt"
	"time"
)

// Sink takes the records of one topic to one place.
type Sink interface {
	// Open begins with a partition. Everything before next has been committed by
	// the group; next is negative when nothing has. The same partition is opened
	// again only after its Partition was closed.
	Open(ctx context.Context, topic string, partition int, next int64) (Partition, error)
	// Run does what the sink does in the background. It must go on until ctx
	// ends, and may return earlier only with an error that cannot be cured by
	// trying again. It is called once, before Open.
	Run(ctx context.Context) error
}

// Partition takes the records of one partition. Write and Close are called by
// one goroutine, Stored by that or another one.
type Partition interface {
	// Write takes a record; offsets grow from call to call. It must copy what it
	// keeps of the record. It blocks while the sink is full, until ctx ends.
	// For a record that can never be delivered it returns a *Rejected, and the
	// caller sees to the record. Any other error is of ctx or fatal.
	Write(ctx context.Context, rec *Record) error
	// Stored returns the offset up to which everything that was written has
	// arrived, and whether nothing is on its way any more.
	Stored() (next int64, idle bool)
	// Close returns when everything written has arrived, or when ctx ends; then
	// records may still arrive later.
	Close(ctx context.Context) error
}

// Rememberer is a Partition that delivers records out of order: those after its
// Stored offset that have arrived would be delivered again after a restart.
type Rememberer interface {
	// Memory returns which records from next on have arrived, next being what Stored
	// returned before, as text of at most kafka.MaxNote bytes. It may be called
	// by another goroutine than Write's.
	Memory(next int64) string
	// Recall is called once, before the first Write, with the Memory that was
	// committed last, by whomever; "" if none was.
	Recall(memory string)
}

// Record is a record of a topic. Its memory belongs to the caller.
type Record struct {
	Topic      string
	Partition  int
	Offset     int64
	Time       time.Time
	Key, Value []byte
}

// Reasons why a record is rejected. They are metric labels: the set is fixed.
const (
	ReasonMalformed = "malformed" // the value is not what the topic holds
	ReasonRefused   = "refused"   // the receiver will not take it
	ReasonExpired   = "expired"   // the receiver did not take it in the time allowed
)

// Rejected is the error of a record that goes to the dead letter topic.
type Rejected struct {
	Reason string // one of the Reason constants
	Err    error
}

func (r *Rejected) Error() string { return fmt.Sprintf("%s: %v", r.Reason, r.Err) }

// Unwrap returns the cause.
func (r *Rejected) Unwrap() error { return r.Err }

// DeadLetters takes in what a sink rejects. It is safe for concurrent use.
type DeadLetters interface {
	// Reject returns when the record is safe in the dead letter topic, or with
	// the error of ctx. It must not keep rec.
	Reject(ctx context.Context, sink string, rec *Record, why *Rejected) error
}
