package behavior

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/backoff"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

const (
	// fleetKey is what the partition of all shares is chosen by.
	fleetKey = "fleet"
	// keptIntervals is how many complete intervals of a partition are kept: partitions
	// are not equally far.
	keptIntervals = 3
	// oldestShare is how many intervals back what a partition did still stands for it.
	oldestShare = 12
	// maxPartitions bounds what is believed of the number of a partition.
	maxPartitions = 1 << 16
)

// fleet is what all partitions have shared, the same in every process. It is safe for
// concurrent use.
type fleet struct {
	client    *kafka.Client
	partition int // of tocsin.identities
	seconds   int // of an interval
	least     uint64
	log       *zap.Logger
	position  atomic.Int64 // offset that follow goes on from

	mu     sync.Mutex
	shares map[int]*share
}

// share is what one partition has shared.
type share struct {
	newest  schemas.FleetShare
	history []complete // newest last
}

// complete is an interval of a partition that is complete.
type complete struct {
	number  int64
	metrics [numMetrics]histogram
}

func newFleet(client *kafka.Client, identities int, interval time.Duration, least int, log *zap.Logger) *fleet {
	f := &fleet{
		client: client, partition: schemas.Partition([]byte(fleetKey), identities),
		seconds: int(interval.Seconds()), least: uint64(least), log: log, shares: make(map[int]*share),
	}
	return f
}

// follow reads the shares of all partitions until ctx ends.
func (f *fleet) follow(ctx context.Context) {
	var buf kafka.FetchBuffer
	for attempt := 0; ctx.Err() == nil; {
		batch, err := f.fetch(ctx, &buf)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			f.log.Warn("what the fleet did cannot be read, will be repeated", zap.Error(err))
			if backoff.Sleep(ctx, backoff.Delay(attempt, time.Second, 30*time.Second)) != nil {
				return
			}
			attempt++
			continue
		}
		attempt = 0
		for i := range batch.Records {
			f.take(&batch.Records[i])
		}
		f.position.Store(batch.Next)
	}
}

func (f *fleet) fetch(ctx context.Context, buf *kafka.FetchBuffer) (kafka.FetchBatch, error) {
	at := f.position.Load()
	first, err := f.client.FirstOffset(ctx, schemas.TopicIdentities, f.partition)
	if at > 0 {
		// The topic is compacted and never cut short at its beginning, unless somebody made
		// it anew; then FetchFrom says so.
		first, err = at, nil
	}
	if err != nil {
		return kafka.FetchBatch{}, err
	}
	batch, err := f.client.FetchFrom(ctx, schemas.TopicIdentities, f.partition, first, buf)
	if err != nil && at > 0 {
		f.position.Store(0)
	}
	return batch, err
}

// catchUp waits until all that is in the topic now has been read.
func (f *fleet) catchUp(ctx context.Context) error {
	end, err := f.client.LastOffset(ctx, schemas.TopicIdentities, f.partition)
	if err != nil {
		return err
	}
	for f.position.Load() < end {
		if err := backoff.Sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (f *fleet) take(rec *kafka.FetchedRecord) {
	if !strings.HasPrefix(string(rec.Key), schemas.KeyFleet) {
		return
	}
	var s schemas.FleetShare
	if json.Unmarshal(rec.Value, &s) == nil {
		f.put(&s)
	}
}

// put takes over what a partition shares.
func (f *fleet) put(s *schemas.FleetShare) {
	if s.Partition < 0 || s.Partition >= maxPartitions || s.Interval != f.seconds {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.shares[s.Partition]
	if p == nil {
		p = &share{}
		f.shares[s.Partition] = p
	}
	if s.Closed.Before(p.newest.Closed) {
		return // of a worker that has been replaced
	}
	p.newest = *s
	if len(s.Metrics) == 0 {
		return
	}
	c := complete{number: s.Start.UnixMilli() / int64(f.seconds*1000)}
	for m, name := range metricNames {
		for _, pair := range s.Metrics[name] {
			if pair[0] < numBuckets {
				c.metrics[m][pair[0]] += pair[1]
			}
		}
	}
	p.add(&c)
}

// add takes over an interval unless it or a later one is there.
func (p *share) add(c *complete) {
	if len(p.history) > 0 && p.history[len(p.history)-1].number >= c.number {
		return
	}
	if len(p.history) == keptIntervals {
		p.history = p.history[:copy(p.history, p.history[1:])]
	}
	p.history = append(p.history, *c)
}

// complete notes an interval of a partition of this process, before it is shared: a
// worker that catches up completes many before it would read of them.
func (f *fleet) complete(partition int, number int64, metrics *[numMetrics]histogram) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.shares[partition]
	if p == nil {
		p = &share{}
		f.shares[partition] = p
	}
	p.add(&complete{number: number, metrics: *metrics})
}

// newest returns the largest event time that any partition told of a lane, in Unix
// milliseconds.
func (f *fleet) newest(lane string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := int64(0)
	for _, p := range f.shares {
		t = max(t, millisOf(p.newest.Lanes[lane].Newest))
	}
	return t
}

// share returns the newest of a partition.
func (f *fleet) share(partition int) (schemas.FleetShare, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.shares[partition]
	if p == nil || p.newest.Interval == 0 {
		return schemas.FleetShare{}, false
	}
	return p.newest, true
}

// before returns how the fleet's values lay in the last complete interval before
// number, nil when too few devices are known.
func (f *fleet) before(number int64) *[numMetrics]distribution {
	f.mu.Lock()
	defer f.mu.Unlock()
	var sum [numMetrics]distribution
	for _, p := range f.shares {
		for i := len(p.history) - 1; i >= 0; i-- {
			c := &p.history[i]
			if c.number >= number {
				continue
			}
			if c.number < number-oldestShare {
				break
			}
			for m := range sum {
				for b, n := range c.metrics[m] {
					sum[m].below[b+1] += uint64(n)
				}
			}
			break
		}
	}
	for m := range sum {
		for b := range numBuckets {
			sum[m].below[b+1] += sum[m].below[b]
		}
	}
	if sum[0].total() < f.least {
		return nil
	}
	return &sum
}

// closed returns the latest end of a complete interval that any other partition told,
// in Unix milliseconds, 0 for none.
func (f *fleet) closed(except int) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	latest := int64(0)
	for n, p := range f.shares {
		if n != except {
			latest = max(latest, millisOf(p.newest.Closed))
		}
	}
	return latest
}

// lanes returns what all partitions together have seen of the lanes, and whether each
// partition, up to partitions, has been read to its end since then.
func (f *fleet) lanes(partitions int, since time.Time) (map[string]schemas.LaneShare, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make(map[string]schemas.LaneShare)
	for n := range partitions {
		p := f.shares[n]
		if p == nil || p.newest.CaughtUpAt.Before(since) {
			return nil, false
		}
		for name, l := range p.newest.Lanes {
			sum, known := all[name]
			sum.Seen += l.Seen
			if l.Last.After(sum.Last) {
				sum.Last = l.Last
			}
			if !known || l.UsualGapSeconds < sum.UsualGapSeconds {
				// The partition that hears it most often.
				sum.UsualGapSeconds = l.UsualGapSeconds
			}
			all[name] = sum
		}
	}
	return all, true
}
