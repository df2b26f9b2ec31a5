package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	kgo "github.com/segmentio/kafka-go"

	"github.com/tocsin-io/tocsin/internal/backoff"
)

const (
	// defaultFetchMaxBytes is per partition, and a partition's buffers hold it compressed and, several times as large, not. A
	// worker that catches up gains nothing from more: round trips are no longer what it waits for.
	defaultFetchMaxBytes = 1 << 20
	defaultMaxWait       = 500 * time.Millisecond
	// corruptAttempts is how often a batch is read again before it is believed to be corrupt on the broker's disk too.
	corruptAttempts = 3
)

// FetchBuffer holds the memory that fetched records refer to. The zero value is ready. It must not be used by two goroutines
// at once; a worker keeps one and uses it for every fetch.
type FetchBuffer struct {
	exchange *fetchExchange
	decoder  recordDecoder
}

// FetchBatch is the result of one fetch. It is valid until the next use of its buffer.
type FetchBatch struct {
	// Records are in offset order. There may be none: see CaughtUp.
	Records []FetchedRecord
	// Next is the offset at which the next fetch goes on. It can be beyond the last record's offset + 1, where transaction
	// markers, aborted records and holes left by compaction were passed over.
	Next int64
	// HighWatermark is the offset up to which all in-sync replicas have the partition.
	HighWatermark int64
	// CaughtUp says that the broker answered and there is nothing committed beyond Next: no record is waiting. An empty batch
	// without it means that the broker could not be reached or is slow, and must not be taken for silence of the source.
	CaughtUp bool
	// Gap is set when the offsets before Next could not be delivered.
	Gap *Gap
	// Bytes is the size of the records as they came over the network.
	Bytes int
}

// Gap says which offsets of a partition were skipped because they cannot be read any more.
type Gap struct {
	// From is the offset wanted and To the one at which reading resumed. To is less than From if the partition was recreated
	// or truncated and reading starts over.
	From, To int64
	// Reason is ReasonOffsetRange (deleted by retention, or beyond the end) or ReasonCorrupt.
	Reason string
}

type fetchParams struct {
	topic     string
	partition int
	offset    int64
	maxBytes  int
	maxWait   time.Duration
}

// fetchOnce does one round trip. Records before a corrupt batch are returned with a nil error; a corrupt batch at the very
// start returns ErrCorrupt with batch.Next behind it.
func (c *Client) fetchOnce(ctx context.Context, p fetchParams, buf *FetchBuffer) (FetchBatch, error) {
	fail := func(err error) (FetchBatch, error) {
		return FetchBatch{Next: p.offset}, fmt.Errorf("fetch %s/%d at offset %d: %w", p.topic, p.partition, p.offset, err)
	}
	x := buf.exchange
	if x == nil {
		x = &fetchExchange{}
	}
	// From here on the transport may hold on to x; only a response gives it back.
	buf.exchange = nil
	x.clientID, x.topic, x.partition, x.offset = c.cfg.ClientID, p.topic, int32(p.partition), p.offset
	x.minBytes, x.maxBytes, x.maxWaitMs = 1, int32(p.maxBytes), int32(p.maxWait.Milliseconds())
	// The deadline is our own liveness check: a broker that went away without closing the connection answers never.
	rctx, cancel := context.WithTimeout(ctx, p.maxWait+c.cfg.RequestTimeout)
	_, err := c.transport.RoundTrip(rctx, c.addr, x)
	cancel()
	if err != nil {
		return fail(c.explain(ctx, err))
	}
	buf.exchange = x
	if x.code != 0 {
		return fail(x.code)
	}
	next, skipTo, err := buf.decoder.decode(x.recordSet, p.offset, x.aborted)
	if err != nil && len(buf.decoder.records) == 0 && next == p.offset {
		batch, err := fail(err)
		// What the header of a damaged batch says may be damaged too: never leave the log.
		batch.Next = max(p.offset+1, min(skipTo, x.highWatermark))
		return batch, err
	}
	return FetchBatch{
		Records:       buf.decoder.records,
		Next:          next,
		HighWatermark: x.highWatermark,
		CaughtUp:      next >= x.lastStableOffset,
		Bytes:         len(x.recordSet),
	}, nil
}

// FetchFrom reads records of a partition from offset on, whoever else consumes it. It waits up to half a second for records
// and then returns an empty batch. Transient failures are retried until ctx ends; ErrOffsetOutOfRange, ErrCorrupt (with
// Next behind the corrupt batch) and permanent errors are returned.
func (c *Client) FetchFrom(ctx context.Context, topic string, partition int, offset int64, buf *FetchBuffer) (FetchBatch, error) {
	p := fetchParams{topic: topic, partition: partition, offset: offset, maxBytes: defaultFetchMaxBytes, maxWait: defaultMaxWait}
	for attempt, corrupt := 0, 0; ; attempt++ {
		batch, err := c.fetchOnce(ctx, p, buf)
		if err == nil {
			return batch, nil
		}
		if errors.Is(err, ErrCorrupt) {
			corrupt++
		}
		if permanent(err) && corrupt == 0 || corrupt >= corruptAttempts || errors.Is(err, kgo.OffsetOutOfRange) || ctx.Err() != nil {
			return batch, err
		}
		if metadataIsStale(err) {
			// Its error would come back from the next attempt.
			_ = c.refresh(ctx)
		}
		if serr := backoff.Sleep(ctx, backoff.Delay(attempt, 50*time.Millisecond, 2*time.Second)); serr != nil {
			return batch, err
		}
	}
}

// ReadAll calls fn for every record of a partition, from its first offset to the end it had when ReadAll was called. The
// record's memory is valid only during the call. An error of fn ends the reading and is returned. Records that retention or
// compaction removes meanwhile are passed over; a corrupt batch is an error.
func (c *Client) ReadAll(ctx context.Context, topic string, partition int, fn func(*FetchedRecord) error) error {
	end, err := c.LastOffset(ctx, topic, partition)
	if err != nil {
		return err
	}
	next, err := c.FirstOffset(ctx, topic, partition)
	if err != nil {
		return err
	}
	var buf FetchBuffer
	for next < end {
		batch, err := c.FetchFrom(ctx, topic, partition, next, &buf)
		if errors.Is(err, ErrOffsetOutOfRange) {
			first, ferr := c.FirstOffset(ctx, topic, partition)
			if ferr != nil {
				return ferr
			}
			if first <= next { // not overtaken by retention: the partition was recreated or truncated
				return err
			}
			next = first
			continue
		}
		if err != nil {
			return err
		}
		for i := range batch.Records {
			if batch.Records[i].Offset >= end {
				return nil
			}
			if err := fn(&batch.Records[i]); err != nil {
				return err
			}
		}
		next = batch.Next
	}
	return nil
}
