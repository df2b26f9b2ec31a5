package kinesis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/tocsin-io/tocsin/ingest"
)

// fakeStream behaves like a stream, and misbehaves on demand. The sequence
// number of a record is its place in the shard.
type fakeStream struct {
	mu     sync.Mutex
	shards map[string]*fakeShard
	fault  func(call, shard string) error // nil: none
	calls  map[string][]time.Time         // of GetRecords, by shard
	perGet int                            // records in a response; 0: 3
}

type fakeShard struct {
	parents []string
	records []fakeRecord
	closed  bool
}

type fakeRecord struct {
	data string
	at   time.Time
}

func newFakeStream(ids ...string) *fakeStream {
	f := &fakeStream{shards: map[string]*fakeShard{}, calls: map[string][]time.Time{}}
	for _, id := range ids {
		f.shards[id] = &fakeShard{}
	}
	return f
}

// put appends n records, which say where they are.
func (f *fakeStream) put(shard string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.shards[shard]
	for range n {
		s.records = append(s.records, fakeRecord{fmt.Sprintf("%s/%d", shard, len(s.records)), time.Now()})
	}
}

// split closes a shard.
func (f *fakeStream) split(shard string, children ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shards[shard].closed = true
	for _, c := range children {
		if f.shards[c] == nil {
			f.shards[c] = &fakeShard{}
		}
		f.shards[c].parents = append(f.shards[c].parents, shard)
	}
}

func (f *fakeStream) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, s := range f.shards {
		for _, r := range s.records {
			out = append(out, r.data)
		}
	}
	slices.Sort(out)
	return out
}

func (f *fakeStream) failing(call, shard string) error {
	if f.fault == nil {
		return nil
	}
	return f.fault(call, shard)
}

func (f *fakeStream) ListShards(_ context.Context, in *kinesis.ListShardsInput, _ ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.failing("ListShards", ""); err != nil {
		return nil, err
	}
	// One shard a page.
	ids := slices.Sorted(maps.Keys(f.shards))
	page := 0
	if in.NextToken != nil {
		if in.StreamName != nil {
			return nil, &types.InvalidArgumentException{}
		}
		page, _ = strconv.Atoi(*in.NextToken)
	}
	out := &kinesis.ListShardsOutput{}
	if page < len(ids) {
		s := f.shards[ids[page]]
		sh := types.Shard{ShardId: &ids[page], SequenceNumberRange: &types.SequenceNumberRange{StartingSequenceNumber: aws.String("0")}}
		if s.closed {
			sh.SequenceNumberRange.EndingSequenceNumber = aws.String("9")
		}
		if len(s.parents) > 0 {
			sh.ParentShardId = &s.parents[0]
		}
		if len(s.parents) > 1 {
			sh.AdjacentParentShardId = &s.parents[1]
		}
		out.Shards = append(out.Shards, sh)
	}
	if page+1 < len(ids) {
		out.NextToken = aws.String(strconv.Itoa(page + 1))
	}
	return out, nil
}

func (f *fakeStream) GetShardIterator(_ context.Context, in *kinesis.GetShardIteratorInput, _ ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.failing("GetShardIterator", *in.ShardId); err != nil {
		return nil, err
	}
	s := f.shards[*in.ShardId]
	if s == nil {
		return nil, &types.ResourceNotFoundException{}
	}
	at := 0
	switch in.ShardIteratorType {
	case types.ShardIteratorTypeAfterSequenceNumber:
		n, err := strconv.Atoi(*in.StartingSequenceNumber)
		if err != nil || n >= len(s.records) {
			return nil, &types.InvalidArgumentException{}
		}
		at = n + 1
	case types.ShardIteratorTypeLatest:
		at = len(s.records)
	case types.ShardIteratorTypeAtTimestamp:
		for at < len(s.records) && s.records[at].at.Before(*in.Timestamp) {
			at++
		}
	}
	return &kinesis.GetShardIteratorOutput{ShardIterator: aws.String(*in.ShardId + "@" + strconv.Itoa(at))}, nil
}

func (f *fakeStream) GetRecords(_ context.Context, in *kinesis.GetRecordsInput, _ ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id, place, _ := strings.Cut(*in.ShardIterator, "@")
	f.calls[id] = append(f.calls[id], time.Now())
	if err := f.failing("GetRecords", id); err != nil {
		return nil, err
	}
	at, _ := strconv.Atoi(place)
	s := f.shards[id]
	n := f.perGet
	if n == 0 {
		n = 3
	}
	n = min(n, len(s.records)-at)
	out := &kinesis.GetRecordsOutput{MillisBehindLatest: aws.Int64(int64(len(s.records)-at-n) * 1000)}
	for i := range n {
		out.Records = append(out.Records, types.Record{Data: []byte(s.records[at+i].data), SequenceNumber: aws.String(strconv.Itoa(at + i))})
	}
	if at += n; at < len(s.records) || !s.closed {
		out.NextShardIterator = aws.String(id + "@" + strconv.Itoa(at))
	}
	return out, nil
}

// sink takes deliveries.
type sink struct {
	mu     sync.Mutex
	taken  []string
	acked  []string
	answer func(d *ingest.Delivery) error // the outcome; nil: always well
	delay  func() time.Duration           // until Ack; nil: at once
	refuse error
}

func (k *sink) hand(_ context.Context, d *ingest.Delivery) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refuse != nil {
		return k.refuse
	}
	data := string(d.Data)
	k.taken = append(k.taken, data)
	var err error
	if k.answer != nil {
		err = k.answer(d)
	}
	if errors.Is(err, errNever) {
		return nil
	}
	ack := func() {
		k.mu.Lock()
		if err == nil {
			k.acked = append(k.acked, data)
		}
		k.mu.Unlock()
		d.Ack(err)
	}
	if k.delay == nil {
		k.mu.Unlock()
		ack()
		k.mu.Lock()
	} else {
		time.AfterFunc(k.delay(), ack)
	}
	return nil
}

// errNever is the outcome of a delivery that is never acknowledged.
var errNever = errors.New("never")

func (k *sink) sorted(list *[]string) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := slices.Clone(*list)
	slices.Sort(out)
	return out
}

// memory is a store that does not outlive the test.
type memory struct {
	mu     sync.Mutex
	points map[string]Checkpoint
	fail   error
}

func (m *memory) Load(context.Context, string) (map[string]Checkpoint, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.points), m.fail
}

func (m *memory) Save(_ context.Context, _ string, changed map[string]Checkpoint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	for id, cp := range changed {
		if cp == (Checkpoint{}) {
			delete(m.points, id)
		} else {
			m.points[id] = cp
		}
	}
	return nil
}

func newMemory() *memory { return &memory{points: map[string]Checkpoint{}} }
