package clickhouse

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/sinks"
)

// SinkOptions configure a Sink. Conn, Metrics and Status are needed.
type SinkOptions struct {
	Conn *Conn
	// Database with the tables. Default "tocsin".
	Database string
	// A block is sent when it has this many rows (default 100,000) or bytes of
	// records (default 32 MiB), or when its first row is this old (default 1 s).
	// The sink holds two blocks, one filling and one on its way, and no more.
	Rows, Bytes int
	Interval    time.Duration
	// AllowedLateness: events that were ingested later than this after they
	// happened are marked late. It should be the correlator's. Default 10 min.
	AllowedLateness time.Duration
	// InsertTimeout bounds one attempt to insert. Default 60 s.
	InsertTimeout time.Duration
	Backoff       sinks.Backoff
	// Name of the sink in metrics.
	Name    string
	Metrics *sinks.Metrics
	Status  *sinks.Status
	Logger  *zap.Logger
}

func (o SinkOptions) withDefaults() SinkOptions {
	if o.Database == "" {
		o.Database = "tocsin"
	}
	if o.Rows <= 0 {
		o.Rows = 100_000
	}
	if o.Bytes <= 0 {
		o.Bytes = 32 << 20
	}
	if o.Interval <= 0 {
		o.Interval = time.Second
	}
	if o.AllowedLateness <= 0 {
		o.AllowedLateness = 10 * time.Minute
	}
	if o.InsertTimeout <= 0 {
		o.InsertTimeout = 60 * time.Second
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	return o
}

// NewEvents returns the sink of tocsin.events.
func NewEvents(o SinkOptions) *Sink {
	o = o.withDefaults()
	s := newSink(o, func() table { return newEventTable(o.AllowedLateness) })
	s.resume = true
	return s
}

// NewDetections returns the sink of tocsin.detections.
func NewDetections(o SinkOptions) *Sink {
	return newSink(o.withDefaults(), func() table { return newDetectionTable() })
}

// NewCertificates returns the sink of the certificate records in
// tocsin.identities.
func NewCertificates(o SinkOptions) *Sink {
	return newSink(o.withDefaults(), func() table { return newCertificateTable() })
}

// NewActions returns the sink of tocsin.actions.
func NewActions(o SinkOptions) *Sink {
	return newSink(o.withDefaults(), func() table { return newActionTable() })
}

// NewDeadLetters returns the sink of tocsin.deadletter.
func NewDeadLetters(o SinkOptions) *Sink {
	return newSink(o.withDefaults(), func() table { return newDeadLetterTable() })
}

// Sink gathers the records of all its partitions into blocks and inserts them
// into one table. It is a sinks.Sink.
type Sink struct {
	opts   SinkOptions
	insert *inserter
	// resume: ask ClickHouse which records it has when a partition is opened.
	resume bool

	// wake has room for one: that there is something to look at.
	wake chan struct{}

	mu      sync.Mutex
	filling *block
	spare   *block        // nil while it is on its way to ClickHouse
	first   time.Time     // when the first record came into filling
	flush   bool          // somebody waits for filling: send it now
	change  chan struct{} // closed, and replaced, when a block was taken or has arrived
}

func newSink(o SinkOptions, newTable func() table) *Sink {
	s := &Sink{
		opts:    o,
		wake:    make(chan struct{}, 1),
		filling: newBlock(newTable()),
		spare:   newBlock(newTable()),
		change:  make(chan struct{}),
	}
	s.insert = newInserter(o.Conn, o.Database, s.filling.table)
	return s
}

// partition is what the sink knows of one partition. It is a sinks.Partition.
type partition struct {
	sink    *Sink
	written atomic.Int64 // offset after the last record that was written; -1 before the first
	stored  atomic.Int64 // offset after the last record that ClickHouse has
	present *present     // records that ClickHouse had at the start
}

// Open begins with a partition.
func (s *Sink) Open(ctx context.Context, _ string, number int, next int64) (sinks.Partition, error) {
	p := &partition{sink: s}
	p.written.Store(next)
	p.stored.Store(next)
	if !s.resume {
		return p, nil
	}
	// Without the answer, records might be counted twice: the partition waits,
	// as it would have to with its first block.
	err := s.opts.Status.Retry(ctx, s.opts.Backoff, reason, func() (err error) {
		p.present, err = findPresent(ctx, s.opts.Conn, s.opts.Database, number, max(next, 0))
		return err
	})
	return p, err
}

// Write adds a record to the block being filled. It waits while that is full
// and the other one is still on its way.
func (p *partition) Write(ctx context.Context, rec *sinks.Record) error {
	s := p.sink
	if p.present.has(rec) {
		s.opts.Metrics.Duplicate(s.opts.Name)
		// What came before it may still be on its way: written stays, and the
		// record counts as soon as that has arrived.
		return nil
	}
	for {
		s.mu.Lock()
		if !s.full() {
			break
		}
		change := s.change
		s.mu.Unlock()
		select {
		case <-change:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer s.mu.Unlock()
	if err := s.filling.add(p, rec); err != nil {
		return err
	}
	p.written.Store(rec.Offset + 1)
	if s.first.IsZero() {
		s.first = time.Now()
		s.poke()
	}
	if s.full() {
		s.poke()
	}
	return nil
}

// Stored returns how far ClickHouse has the partition.
func (p *partition) Stored() (next int64, idle bool) {
	// In this order: written can only grow meanwhile, and then it is not idle.
	written := p.written.Load()
	stored := p.stored.Load()
	return stored, stored >= written
}

// Close sends what is waiting and returns when ClickHouse has it.
func (p *partition) Close(ctx context.Context) error {
	s := p.sink
	for {
		s.mu.Lock()
		change := s.change
		if _, idle := p.Stored(); idle {
			s.mu.Unlock()
			return nil
		}
		if _, waiting := s.filling.ends[p]; waiting {
			s.flush = true
			s.poke()
		}
		s.mu.Unlock()
		select {
		case <-change:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// full reports whether filling takes no more records. mu is held.
func (s *Sink) full() bool {
	b := s.filling
	return b.rows >= s.opts.Rows || b.bytes >= s.opts.Bytes || b.table.crowded()
}

// poke makes Run look. A poke that finds the channel full is not lost: Run has
// yet to look.
func (s *Sink) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run inserts block after block until ctx ends.
func (s *Sink) Run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		b, wait := s.take()
		if b == nil {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return nil
			case <-timer.C:
			case <-s.wake:
			}
			continue
		}
		if err := s.store(ctx, b); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		s.arrived(b)
	}
}

// take swaps the blocks when the filling one is due. Else it returns how long
// to wait until it may be.
func (s *Sink) take() (*block, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first.IsZero() {
		return nil, time.Hour
	}
	if due := s.opts.Interval - time.Since(s.first); due > 0 && !s.full() && !s.flush {
		return nil, due
	}
	b := s.filling
	s.filling, s.spare = s.spare, nil
	s.first, s.flush = time.Time{}, false
	s.signal()
	return b, 0
}

// store inserts a block, trying until ClickHouse has it or ctx ends.
func (s *Sink) store(ctx context.Context, b *block) error {
	s.opts.Metrics.Buffered(s.opts.Name, b.bytes)
	if b.rows == 0 {
		return nil // records without events
	}
	return s.opts.Status.Retry(ctx, s.opts.Backoff, reason, func() error {
		attempt, cancel := context.WithTimeout(ctx, s.opts.InsertTimeout)
		defer cancel()
		start := time.Now()
		err := s.insert.send(attempt, b)
		if err == nil {
			s.opts.Metrics.Batch(s.opts.Name, b.rows, time.Since(start))
		}
		return err
	})
}

// arrived lets the partitions know, and makes the block the spare one.
func (s *Sink) arrived(b *block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, end := range b.ends {
		p.stored.Store(end)
	}
	b.reset(s.opts.Bytes)
	s.spare = b
	s.opts.Metrics.Buffered(s.opts.Name, s.filling.bytes)
	s.signal()
}

// signal wakes all who wait for a change. mu is held.
func (s *Sink) signal() {
	close(s.change)
	s.change = make(chan struct{})
}
