package webhook

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/sinks"
)

// partition is what the sink knows of one partition. It is a sinks.Partition.
type partition struct {
	sink *Sink
	sent *sentIDs // of the goroutine that writes
	// arrived are the records that were dealt with before the partition was opened,
	// beyond the offset that it was opened at; of the goroutine that writes.
	arrived map[int64]bool

	stop chan struct{} // closed by Close: begin nothing any more

	mu       sync.Mutex
	pending  []*slot // messages that are not done, by offset
	attempts int     // requests under way
	stopped  bool
	quiet    chan struct{} // closed when stopped and no request is under way
}

// slot is the place of a message among those of its partition.
type slot struct {
	offset int64
	done   bool
}

func newPartition(s *Sink) *partition {
	return &partition{
		sink: s, sent: newSentIDs(rememberedIDs),
		stop: make(chan struct{}), quiet: make(chan struct{}),
	}
}

// Write hands a detection to the worker that sends all messages about it, and
// waits while that worker's queue is full.
func (p *partition) Write(ctx context.Context, rec *sinks.Record) error {
	s := p.sink
	f, err := parse(rec.Value)
	if err != nil {
		return &sinks.Rejected{Reason: sinks.ReasonMalformed, Err: err}
	}
	if !s.wants(f) {
		return nil
	}
	id := messageID(f)
	if !p.sent.add(id) {
		s.opts.Metrics.Duplicate(s.opts.Name)
		return nil
	}
	if p.arrived[rec.Offset] {
		// It keeps its place among those that are done, so that a restart before those
		// in front of it are done still knows it.
		delete(p.arrived, rec.Offset)
		p.mu.Lock()
		if len(p.pending) > 0 {
			p.pending = append(p.pending, &slot{offset: rec.Offset, done: true})
		}
		p.mu.Unlock()
		s.opts.Metrics.Duplicate(s.opts.Name)
		return nil
	}
	detection := f.FindingInfo.UID
	b, err := body(f)
	if err != nil {
		return &sinks.Rejected{Reason: sinks.ReasonRefused, Err: err}
	}
	m := &message{id: id, detection: detection, body: b, rec: *rec, from: p, slot: &slot{offset: rec.Offset}}
	m.rec.Key, m.rec.Value = nil, bytes.Clone(rec.Value)
	p.mu.Lock()
	p.pending = append(p.pending, m.slot)
	p.mu.Unlock()
	select {
	case s.queue(detection) <- m:
		return nil
	case <-ctx.Done():
		// The slot stays pending: the record is not dealt with.
		return ctx.Err()
	}
}

// Stored returns the offset of the first message that is not done.
func (p *partition) Stored() (next int64, idle bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pending) == 0 {
		return 0, true
	}
	return p.pending[0].offset, false
}

// Close lets the requests under way end, and leaves the rest to the next owner
// of the partition.
func (p *partition) Close(ctx context.Context) error {
	p.mu.Lock()
	p.stopped = true
	close(p.stop)
	if p.attempts == 0 {
		close(p.quiet)
	}
	p.mu.Unlock()
	select {
	case <-p.quiet:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// begin reports whether a request may begin; then end must follow.
func (p *partition) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return false
	}
	p.attempts++
	return true
}

func (p *partition) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attempts--
	if p.stopped && p.attempts == 0 {
		close(p.quiet)
	}
}

// done notes that a message has been dealt with.
func (p *partition) done(s *slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.done = true
	n := 0
	for n < len(p.pending) && p.pending[n].done {
		n++
	}
	// Not a slice expression alone, which would keep the slots before n for ever.
	p.pending = append(p.pending[:0], p.pending[n:]...)
}

// sleep reports whether d passed before ctx ended or the partition was closed.
func (p *partition) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-p.stop:
	}
	return false
}
