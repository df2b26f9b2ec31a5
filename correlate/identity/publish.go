package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// pending is what has changed in memory and is not in Kafka. It outlives a term:
// what an instance could not publish before it lost its partition is published
// when it is active again, or else the others have found it out by themselves.
type pending struct {
	certs    map[string]struct{} // IDs; the record is taken when it is published
	forgot   map[string]struct{} // IDs of records that were deleted
	cas      map[string]struct{}
	findings []*schemas.Event
}

func newPending() pending {
	return pending{certs: make(map[string]struct{}), forgot: make(map[string]struct{}), cas: make(map[string]struct{})}
}

func (p *pending) len() int { return len(p.certs) + len(p.forgot) + len(p.cas) + len(p.findings) }

const (
	// maxPending is when whoever changes more waits for it to be published.
	maxPending    = 4096
	flushInterval = 500 * time.Millisecond
	// maxBatchBytes of a record of tocsin.events, as the ingester's.
	maxBatchBytes = 256 << 10
)

// batch is what one flush publishes.
type batch struct {
	pending
	chunks  map[chunkID]struct{}
	records map[int][]kafka.Record // of tocsin.identities, by partition
	last    map[int][]kafka.Record // likewise; the chunks
}

// flush publishes what is pending: findings first, because the records are what
// keeps them from being found again; chunks of revoked serial numbers last, because
// a serial number that is in one is not looked for among the certificates again.
// What fails stays pending.
func (s *Service) flush(ctx context.Context) error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.mu.Lock()
	if s.pending.len() == 0 && len(s.revoked.dirty) == 0 {
		s.mu.Unlock()
		return nil
	}
	b := s.takePending()
	s.mu.Unlock()
	err := s.publishFindings(ctx, b.findings)
	if err == nil {
		b.findings = nil
		err = s.produceAll(ctx, schemas.TopicIdentities, b.records)
	}
	if err == nil {
		err = s.produceAll(ctx, schemas.TopicIdentities, b.last)
	}
	if err != nil {
		s.metrics.flushErrors.WithLabelValues(kafka.Reason(err)).Inc()
		s.mu.Lock()
		s.keepPending(b)
		s.mu.Unlock()
		return fmt.Errorf("registry: publish: %w", err)
	}
	s.metrics.published.Add(float64(len(b.certs) + len(b.forgot) + len(b.cas) + len(b.chunks)))
	return nil
}

// takePending encodes what is pending. mu is held.
func (s *Service) takePending() *batch {
	b := &batch{pending: s.pending, chunks: s.revoked.dirty, records: make(map[int][]kafka.Record), last: make(map[int][]kafka.Record)}
	s.pending = newPending()
	s.revoked.dirty = make(map[chunkID]struct{})
	for id := range b.certs {
		if c, ok := s.certs.Get(id); ok {
			s.encode(b, schemas.KeyCertificate+id, id, &c)
		}
	}
	for id := range b.forgot {
		if _, ok := s.certs.Get(id); !ok { // it may be back
			s.add(b.records, schemas.KeyCertificate+id, id, nil)
		}
	}
	for id := range b.cas {
		if ca, ok := s.cas[id]; ok {
			s.encode(b, schemas.KeyCA+id, id, &ca.CertificateAuthority)
		}
	}
	for id := range b.chunks {
		value, err := s.revoked.encode(id)
		if err == nil {
			s.add(b.last, id.key(), id.key(), value)
		}
	}
	return b
}

func (s *Service) encode(b *batch, key, partitionKey string, v any) {
	value, err := json.Marshal(v)
	if err != nil {
		// A time outside of what JSON can say, and nothing else: a certificate may
		// be valid until the year 10,000.
		s.metrics.malformed.WithLabelValues("encode").Inc()
		return
	}
	s.add(b.records, key, partitionKey, value)
}

func (s *Service) add(records map[int][]kafka.Record, key, partitionKey string, value []byte) {
	p := schemas.Partition([]byte(partitionKey), s.partitions)
	records[p] = append(records[p], kafka.Record{
		Key: []byte(key), Value: value, Headers: []kafka.Header{{Key: writerHeader, Value: []byte(s.writer)}},
	})
}

// keepPending takes back what could not be published. mu is held.
func (s *Service) keepPending(b *batch) {
	maps.Copy(s.pending.certs, b.certs)
	maps.Copy(s.pending.forgot, b.forgot)
	maps.Copy(s.pending.cas, b.cas)
	maps.Copy(s.revoked.dirty, b.chunks)
	s.pending.findings = append(b.findings, s.pending.findings...)
}

// publishFindings appends events to tocsin.events, as the ingester does.
func (s *Service) publishFindings(ctx context.Context, events []*schemas.Event) error {
	if len(events) == 0 {
		return nil
	}
	encoders := make(map[int]*schemas.BatchEncoder)
	records := make(map[int][]kafka.Record)
	cut := func(p int) {
		if e := encoders[p]; e != nil && e.Len() > 0 {
			records[p] = append(records[p], kafka.Record{Value: e.Bytes()})
			encoders[p] = nil
		}
	}
	for _, ev := range events {
		p := schemas.Partition(ev.Device, s.eventPartitions)
		if encoders[p] == nil {
			encoders[p] = &schemas.BatchEncoder{}
		}
		encoders[p].Append(ev, registryLane)
		if encoders[p].Size() >= maxBatchBytes {
			cut(p)
		}
	}
	for p := range encoders {
		cut(p)
	}
	if err := s.produceAll(ctx, schemas.TopicEvents, records); err != nil {
		return err
	}
	for _, ev := range events {
		s.metrics.findings.WithLabelValues(string(ev.Type)).Inc()
	}
	return nil
}

// produceAll produces to all partitions at once and waits for all.
func (s *Service) produceAll(ctx context.Context, topic string, records map[int][]kafka.Record) error {
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for p, recs := range records {
		wg.Go(func() {
			if err := s.opts.Producer.Produce(ctx, topic, p, recs...); err != nil {
				mu.Lock()
				errs = append(errs, fmt.Errorf("%s/%d: %w", topic, p, err))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// saveSync stores how far a source has been read, once everything that came of it
// is published. complete says that the source has listed all there is.
func (s *Service) saveSync(ctx context.Context, source string, state any, complete bool) error {
	encoded, err := json.Marshal(state)
	if err != nil {
		return err
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	now := time.Now().UTC()
	s.mu.Lock()
	sync := s.syncs[source]
	sync.Source, sync.Updated, sync.State = source, now, encoded
	if complete && sync.FirstComplete.IsZero() {
		sync.FirstComplete = now
	}
	s.syncs[source] = sync
	b := &batch{records: make(map[int][]kafka.Record)}
	s.encode(b, schemas.KeySync+source, source, &sync)
	s.mu.Unlock()
	if err := s.produceAll(ctx, schemas.TopicIdentities, b.records); err != nil {
		return fmt.Errorf("registry: publish: %w", err)
	}
	return nil
}
