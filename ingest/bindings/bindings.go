// Package bindings keeps the table of which device uses which certificate in
// step with the topic tocsin.identities, so that it outlives the process and is
// the same in every ingester.
//
// It matters because some records name only a certificate (a GuardDuty finding
// on a device's role session). Their device decides their partition: with a table
// of its own memory alone, an ingester would send the same record elsewhere after
// a restart.
package bindings

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/ingest/identity"
	"github.com/tocsin-io/tocsin/internal/identities"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

const (
	// flushInterval is how long a new binding waits for others. One that is lost
	// in a crash is learned again from the device's next connection.
	flushInterval = time.Second
	// keyPrefix tells the bindings from what else the topic holds of identities.
	keyPrefix = schemas.KeyBinding
)

// Binding is the value of a record; its key is "binding/" and the certificate
// ID.
type Binding struct {
	CertificateID string    `json:"certificate_id"`
	Device        string    `json:"device"`
	Time          time.Time `json:"time"` // when it was learned
}

// Topic ties a table to tocsin.identities.
type Topic struct {
	producer   *kafka.Producer
	table      *identity.Bindings
	partitions int
	log        *zap.Logger

	mu      sync.Mutex
	pending map[string]string // device by certificate ID; bounded by the certificates of a flushInterval
}

// maxPending bounds the bindings that wait to be published. Beyond it they are
// kept in the table alone until they change again.
const maxPending = 1 << 18

// New ties a table to the topic that topic follows, and publishes what is new in
// it from Run on. It must be called before the topic is loaded; the table must not
// be used before it is.
func New(topic *identities.Follower, producer *kafka.Producer, table *identity.Bindings, log *zap.Logger) *Topic {
	t := &Topic{producer: producer, table: table, partitions: topic.Partitions(), log: log, pending: make(map[string]string)}
	topic.Handle(keyPrefix, t.restore)
	table.OnChange(t.changed)
	return t
}

// Run publishes new bindings until ctx ends; then it publishes what is left.
func (t *Topic) Run(ctx context.Context) error {
	ticker := time.NewTicker(flushInterval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
			t.flush(ctx)
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushInterval)
	defer cancel()
	t.flush(last)
	return nil
}

func (t *Topic) changed(certificateID, device []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.pending) < maxPending {
		t.pending[string(certificateID)] = string(device)
	}
}

// flush publishes what is pending. What cannot be published stays pending,
// unless it has changed since.
func (t *Topic) flush(ctx context.Context) {
	t.mu.Lock()
	batch := t.pending
	t.pending = make(map[string]string)
	t.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	now := time.Now().UTC()
	byPartition := make(map[int][]kafka.Record)
	for certificate, device := range batch {
		value, err := json.Marshal(Binding{CertificateID: certificate, Device: device, Time: now})
		if err != nil {
			continue // strings always have a JSON form
		}
		p := schemas.Partition([]byte(certificate), t.partitions)
		byPartition[p] = append(byPartition[p], kafka.Record{Key: []byte(keyPrefix + certificate), Value: value})
	}
	for p, records := range byPartition {
		err := t.producer.Produce(ctx, schemas.TopicIdentities, p, records...)
		if err == nil {
			continue
		}
		t.log.Warn("bindings could not be published; they will be with the next ones", zap.Int("partition", p), zap.Error(err))
		t.mu.Lock()
		for _, r := range records {
			certificate := strings.TrimPrefix(string(r.Key), keyPrefix)
			if _, newer := t.pending[certificate]; !newer {
				t.pending[certificate] = batch[certificate]
			}
		}
		t.mu.Unlock()
	}
}

// restore takes over what other ingesters publish, and what this one did, which
// changes nothing. What somebody else wrote there need not be JSON.
func (t *Topic) restore(certificate, value []byte) {
	var b Binding
	if json.Unmarshal(value, &b) != nil || b.CertificateID != string(certificate) {
		return
	}
	t.mu.Lock()
	_, newer := t.pending[b.CertificateID]
	t.mu.Unlock()
	if !newer {
		t.table.Restore(certificate, []byte(b.Device))
	}
}
