package identity

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/correlate/identity/certificate"
	"github.com/tocsin-io/tocsin/internal/backoff"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// writerHeader names the instance that wrote a record.
const writerHeader = "writer"

// follow takes over what is written to a partition of tocsin.identities, from its
// beginning. An instance that stands by takes records and leaves facts alone; the
// active one takes facts, and of records only those that others wrote.
func (s *Service) follow(ctx context.Context, partition int) {
	var buf kafka.FetchBuffer
	for failures := 0; ctx.Err() == nil; {
		s.mu.Lock()
		from := s.next[partition]
		s.mu.Unlock()
		batch, err := s.opts.Client.FetchFrom(ctx, schemas.TopicIdentities, partition, from, &buf)
		if err == nil {
			failures = 0
			s.take(ctx, partition, &batch)
			continue
		}
		if ctx.Err() != nil {
			break
		}
		next := batch.Next // behind a corrupt batch
		if errors.Is(err, kafka.ErrOffsetOutOfRange) {
			if first, ferr := s.opts.Client.FirstOffset(ctx, schemas.TopicIdentities, partition); ferr == nil {
				next = first
			}
		} else {
			s.log.Warn("cannot follow the registry's topic", zap.Int("partition", partition), zap.Int64("offset", from), zap.Error(err))
		}
		s.setNext(partition, next)
		if backoff.Sleep(ctx, backoff.Delay(failures, 50*time.Millisecond, 5*time.Second)) != nil {
			break
		}
		failures++
	}
	s.mu.Lock()
	s.moved.Broadcast()
	s.mu.Unlock()
}

func (s *Service) setNext(partition int, next int64) {
	s.mu.Lock()
	s.next[partition] = next
	s.moved.Broadcast()
	s.mu.Unlock()
}

// take takes a batch over, and waits while too much is not published yet.
func (s *Service) take(ctx context.Context, partition int, batch *kafka.FetchBatch) {
	s.mu.Lock()
	for i := range batch.Records {
		s.takeRecord(partition, &batch.Records[i])
	}
	s.next[partition] = batch.Next
	s.ends[partition] = max(batch.HighWatermark, batch.Next)
	s.moved.Broadcast()
	t := s.term
	s.mu.Unlock()
	if t != nil {
		// What fails is published by the next flush.
		_ = t.flushWhenFull(ctx)
	}
}

func (s *Service) takeRecord(partition int, r *kafka.FetchedRecord) {
	kind, name, ok := strings.Cut(string(r.Key), "/")
	if !ok {
		return
	}
	own := s.term != nil && writerOf(r) == s.writer
	var err error
	switch kind += "/"; kind {
	case schemas.KeyCertificate:
		if !own {
			err = s.takeCertificate(name, r.Value)
		}
	case schemas.KeyCA:
		if !own {
			err = s.takeCA(name, r.Value)
		}
	case schemas.KeySync:
		if !own {
			err = s.takeSync(name, r.Value)
		}
	case schemas.KeyCRL:
		// While active: it knows more than whoever wrote this.
		if s.term == nil && len(r.Value) > 0 {
			err = s.revoked.restore(r.Value)
		}
	default:
		if s.term != nil && s.term.facts[partition] == followed {
			err = s.term.takeFact(kind, name, r.Value)
		}
	}
	if err != nil {
		s.metrics.malformed.WithLabelValues(strings.TrimSuffix(kind, "/")).Inc()
		s.log.Warn("a record of the registry's topic cannot be read", zap.ByteString("key", r.Key), zap.Int64("offset", r.Offset), zap.Error(err))
	}
}

func writerOf(r *kafka.FetchedRecord) string {
	for i := range r.Headers {
		if r.Headers[i].Key == writerHeader {
			return string(r.Headers[i].Value)
		}
	}
	return ""
}

func (s *Service) takeCertificate(id string, value []byte) error {
	if len(value) == 0 {
		s.certs.Delete(id)
		return nil
	}
	var c schemas.Certificate
	if err := json.Unmarshal(value, &c); err != nil {
		return err
	}
	if c.ID != id {
		return errors.New("the key is another certificate's")
	}
	if s.term == nil {
		return s.certs.Put(&c)
	}
	// By an instance that is not active any more. Whatever it knew is merged, and
	// what the topic has now is replaced by the result.
	s.term.update(id, func(mine *schemas.Certificate) bool {
		mergeRecord(mine, &c)
		return true
	})
	return nil
}

func (s *Service) takeCA(keyID string, value []byte) error {
	if len(value) == 0 {
		delete(s.cas, keyID)
		return nil
	}
	var ca schemas.CertificateAuthority
	if err := json.Unmarshal(value, &ca); err != nil {
		return err
	}
	if s.term != nil {
		s.term.putCA(&ca)
		return nil
	}
	s.keepCA(&ca)
	return nil
}

// keepCA puts a CA's record in its place. It reports false when there is no room.
func (s *Service) keepCA(ca *schemas.CertificateAuthority) bool {
	if _, ok := s.cas[ca.KeyID]; !ok && len(s.cas) >= maxCAs {
		s.metrics.refused.WithLabelValues("ca").Inc()
		return false
	}
	a := &authority{CertificateAuthority: *ca}
	if parsed, err := certificate.ParsePEM(ca.PEM); err == nil {
		a.issuerKeyID = parsed.IssuerKeyID
	}
	s.cas[ca.KeyID] = a
	return true
}

func (s *Service) takeSync(source string, value []byte) error {
	var sync schemas.Sync
	if len(value) == 0 {
		return nil
	}
	if err := json.Unmarshal(value, &sync); err != nil {
		return err
	}
	if s.term != nil {
		// The active instance knows best how far it is; only what is not its own
		// (an import that is complete) is new to it.
		if _, mine := s.syncs[source]; mine {
			return nil
		}
	}
	s.syncs[source] = sync
	return nil
}
