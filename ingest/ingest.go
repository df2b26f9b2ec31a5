// Package ingest is the first stage: sources hand over raw payloads, formats
// turn them into events, and the pipeline publishes these to tocsin.events.
package ingest

import (
	"context"
	"time"
)

// Delivery is one raw payload from a source: the body of one Firehose record,
// one Kinesis record, a part of a file.
type Delivery struct {
	// Data must not be changed by the source after the hand-over, until Ack was
	// called; then the source may reuse it.
	Data []byte
	// Source is the kind of source: "firehose", "kinesis", "file", "push". It is
	// a metric label: one of a few constants.
	Source string
	// Lane is source and input shard; event times are compared within a lane.
	// The number of lanes must be bounded by the configuration or by AWS.
	Lane string
	// Ordered asks that the events of this lane are published, within each
	// partition, in the order in which the deliveries were handed over, by one
	// goroutine at a time. It costs parallelism, and is for lanes whose events come
	// in the order of their times: a Kinesis shard, a file that is replayed.
	Ordered bool
	// Origin says where Data came from, for a dead letter.
	Origin string
	// Account and Region are those of the input (from a stream's ARN, say), ""
	// when the source does not know.
	Account, Region string
	// Received is when the source had it.
	Received time.Time
	// Reject, when it is set, is why the source itself could make nothing of
	// Data: the pipeline does not decode it but puts it into the dead letter
	// topic as it is.
	Reject *Rejection
	// Ack is called exactly once, from any goroutine: with nil when all that
	// Data held is in Kafka with acks=all (events and dead letters alike), with
	// an error when that will not happen, and the source must deliver it again.
	// It must not block.
	Ack func(error)
}

// Rejection is why input became a dead letter.
type Rejection struct {
	// Reason is one of a small fixed set; it is a metric label.
	Reason string
	// Err is for a person.
	Err error
	// Size is the length of the input in bytes when Data is only its beginning,
	// else 0.
	Size int
}

// Source reads deliveries from one place.
type Source interface {
	// Run calls hand for each delivery until ctx ends or the input does. hand
	// blocks while the pipeline is full: that is how Kafka's backpressure reaches
	// the source. After an error from hand the delivery was not taken and its
	// Ack will not be called. hand may be called from many goroutines at once,
	// and also after Run has returned, when it fails.
	//
	// Run must return soon after ctx ends. It may wait a bounded time for
	// acknowledgements, which keep coming until it returns; deliveries that were
	// handed over may still be acknowledged after that.
	Run(ctx context.Context, hand func(context.Context, *Delivery) error) error
}
