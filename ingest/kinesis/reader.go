package kinesis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/ingest"
	"github.com/tocsin-io/tocsin/internal/backoff"
)

const (
	firstBackoff = 200 * time.Millisecond
	maxBackoff   = 10 * time.Second

	// A response may have 10 MiB. How many it will have is guessed from the last
	// one.
	leastFetch = 256 << 10
	mostFetch  = 10 << 20
)

// errShardGone is that the stream does not know the shard (any more).
var errShardGone = errors.New("shard is gone")

// reader reads one shard, in one goroutine.
type reader struct {
	source *Source
	hand   func(context.Context, *ingest.Delivery) error
	shard  string
	from   Checkpoint // where to begin; kept up with the acknowledgements
	latest bool
	expect int64 // bytes of the next response
}

// run reads until ctx ends or the shard does, in which case it returns true when
// all of it has been acknowledged.
func (r *reader) run(ctx context.Context) (done bool, err error) {
	for attempt := 0; ; attempt++ {
		before := r.from
		done, err = r.read(ctx)
		switch {
		case err == nil, ctx.Err() != nil, errors.Is(err, errShardGone), errors.Is(err, ingest.ErrStopped):
			return done, err
		}
		// Something was given back. All that was handed over has been answered by
		// now: read again what comes after the checkpoint.
		r.source.metrics.restarts.Inc()
		r.source.log.Warn("records were not published; reading the shard again from its checkpoint",
			zap.String("shard", r.shard), zap.String("checkpoint", r.from.Sequence), zap.Error(err))
		if r.from != before {
			attempt = 0
		}
		if err := backoff.Sleep(ctx, backoff.Delay(attempt, firstBackoff, maxBackoff)); err != nil {
			return false, err
		}
	}
}

// read reads from the checkpoint on, until something ends that, and then waits
// for the acknowledgements.
func (r *reader) read(ctx context.Context) (bool, error) {
	from := r.from
	w := newWindow(func(sequence string) {
		// Only after settled is r.from read by somebody else than this.
		r.from = Checkpoint{Sequence: sequence}
		r.source.saver.set(r.shard, r.from)
	})
	end, err := r.poll(ctx, w, from)
	settled := w.settled()
	select {
	case <-settled:
	case <-ctx.Done():
		timer := time.NewTimer(r.source.opts.StopTimeout)
		defer timer.Stop()
		select {
		case <-settled:
		case <-timer.C:
			return false, ctx.Err()
		}
	}
	if err = errors.Join(err, w.failure()); err != nil || !end {
		return false, err
	}
	done := r.from
	done.Done = true
	r.source.saver.set(r.shard, done)
	return true, nil
}

// poll hands records over until the shard ends (true), ctx does, or something is
// given back.
func (r *reader) poll(ctx context.Context, w *window, at Checkpoint) (end bool, err error) {
	s := r.source
	iterator := ""
	attempt := 0
	for {
		due := time.Now().Add(s.opts.PollInterval)
		var out *kinesis.GetRecordsOutput
		var size int64
		positioning := iterator == ""
		if positioning {
			iterator, err = r.iterator(ctx, at)
		}
		if err == nil {
			positioning = false
			out, size, err = r.fetch(ctx, iterator)
		}
		if err != nil {
			if ctx.Err() != nil {
				return false, ctx.Err()
			}
			result := classify(err)
			s.metrics.calls.WithLabelValues(result).Inc()
			switch result {
			case resultExpired:
				// It is good for five minutes: the pipeline was full for longer.
				iterator = ""
			case resultGone:
				return false, fmt.Errorf("%w: %s: %w", errShardGone, r.shard, err)
			case resultInvalid:
				iterator = ""
				if !positioning {
					break
				}
				// The stream was made anew under the same name. Its beginning repeats
				// what may have been read, and leaves out nothing.
				s.log.Error("checkpoint is not of this stream; reading the shard from its beginning",
					zap.String("shard", r.shard), zap.String("checkpoint", at.Sequence), zap.Error(err))
				at = Checkpoint{}
			default:
				s.log.Warn("cannot read shard; trying again", zap.String("shard", r.shard), zap.String("result", result), zap.Error(err))
			}
			if result != resultExpired {
				due = time.Now().Add(backoff.Delay(attempt, firstBackoff, maxBackoff))
			}
			attempt++
			err = nil
		} else {
			attempt = 0
			s.metrics.calls.WithLabelValues(resultOK).Inc()
			if out.MillisBehindLatest != nil {
				s.metrics.behind.WithLabelValues(r.shard).Set(float64(*out.MillisBehindLatest) / 1000)
			}
			err := r.deliver(ctx, w, out.Records)
			s.fetched.Release(size)
			if err != nil {
				return false, err
			}
			if n := len(out.Records); n > 0 {
				at = Checkpoint{Sequence: aws.ToString(out.Records[n-1].SequenceNumber)}
			}
			if out.NextShardIterator == nil {
				return true, nil
			}
			iterator = *out.NextShardIterator
		}
		timer := time.NewTimer(time.Until(due))
		select {
		case <-timer.C:
		case <-w.failed:
			timer.Stop()
			return false, nil // read has the reason
		case <-ctx.Done():
			timer.Stop()
			return false, ctx.Err()
		}
	}
}

func (r *reader) iterator(ctx context.Context, at Checkpoint) (string, error) {
	in := &kinesis.GetShardIteratorInput{
		StreamName: r.source.streamName(), StreamARN: r.source.streamARN(), ShardId: &r.shard,
	}
	switch {
	case at.Sequence != "":
		in.ShardIteratorType, in.StartingSequenceNumber = types.ShardIteratorTypeAfterSequenceNumber, &at.Sequence
	case r.latest:
		in.ShardIteratorType = types.ShardIteratorTypeLatest
	case !at.Since.IsZero():
		in.ShardIteratorType, in.Timestamp = types.ShardIteratorTypeAtTimestamp, &at.Since
	default:
		in.ShardIteratorType = types.ShardIteratorTypeTrimHorizon
	}
	out, err := r.source.opts.Client.GetShardIterator(ctx, in)
	if err != nil {
		return "", err
	}
	// Another LATEST would leave out what has come since.
	r.latest = false
	return aws.ToString(out.ShardIterator), nil
}

// fetch gets the next records. Their size is taken from the source's budget, and
// is to be given back by the caller.
func (r *reader) fetch(ctx context.Context, iterator string) (*kinesis.GetRecordsOutput, int64, error) {
	s := r.source
	share := func(n int64) int64 { return min(n, s.opts.MaxFetchBytes) }
	expected := share(max(r.expect, leastFetch))
	if err := s.fetched.Acquire(ctx, expected); err != nil {
		return nil, 0, err
	}
	out, err := s.opts.Client.GetRecords(ctx, &kinesis.GetRecordsInput{
		ShardIterator: &iterator, StreamARN: s.streamARN(), Limit: aws.Int32(maxRecords),
	})
	if err != nil {
		s.fetched.Release(expected)
		return nil, 0, err
	}
	size := int64(0)
	for i := range out.Records {
		size += int64(len(out.Records[i].Data))
	}
	s.metrics.records.Add(float64(len(out.Records)))
	s.metrics.bytes.Add(float64(size))
	r.expect = min(size+size/4, mostFetch)
	size = share(size)
	if size <= expected {
		s.fetched.Release(expected - size)
		return out, size, nil
	}
	// More than expected: wait for the rest, with nothing in hand that another
	// reader could wait for in turn.
	s.fetched.Release(expected)
	if err := s.fetched.Acquire(ctx, size); err != nil {
		return nil, 0, err
	}
	return out, size, nil
}

// deliver hands records over, until one of them is given back.
func (r *reader) deliver(ctx context.Context, w *window, records []types.Record) error {
	s := r.source
	now := time.Now()
	lane := "kinesis/" + s.name + "/" + r.shard
	origin := s.name + "/" + r.shard + "@"
	for i := range records {
		select {
		case <-w.failed:
			return nil // read has the reason
		default:
		}
		sequence := aws.ToString(records[i].SequenceNumber)
		number := w.add(sequence)
		err := r.hand(ctx, &ingest.Delivery{
			Data: records[i].Data, Source: "kinesis", Lane: lane, Ordered: true, Origin: origin + sequence,
			Account: s.account, Region: s.region, Received: now,
			Ack: func(err error) { w.ack(number, err) },
		})
		if err != nil {
			w.ack(number, err)
			return err
		}
		records[i].Data = nil // the pipeline has it, for as long as it needs it
	}
	return nil
}

// classify names the kind of an error of a call.
func classify(err error) string {
	var expired *types.ExpiredIteratorException
	var gone *types.ResourceNotFoundException
	var invalid *types.InvalidArgumentException
	var throughput *types.ProvisionedThroughputExceededException
	var limit *types.LimitExceededException
	var kms *types.KMSThrottlingException
	var denied *types.AccessDeniedException
	var api smithy.APIError
	switch {
	case errors.As(err, &expired):
		return resultExpired
	case errors.As(err, &gone):
		return resultGone
	case errors.As(err, &invalid):
		return resultInvalid
	case errors.As(err, &throughput), errors.As(err, &limit), errors.As(err, &kms):
		return resultThrottled
	case errors.As(err, &denied):
		return resultDenied
	case errors.As(err, &api):
		switch api.ErrorCode() {
		case "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException":
			return resultThrottled
		case "AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException":
			return resultDenied
		}
	}
	return resultError
}
