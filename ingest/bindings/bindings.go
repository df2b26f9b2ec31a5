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
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/ingest/identity"
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
	client     *kafka.Client
	producer   *kafka.Producer
	table      *identity.Bindings
	partitions int
	log        *zap.Logger

	mu      sync.Mutex
	pending map[string]string // device by certificate ID; bounded by the certificates of a flushInterval
	next    []int64           // by partition: the offset that follow goes on from
}

// maxPending bounds the bindings that wait to be published. Beyond it they are
// kept in the table alone until they change again.
const maxPending = 1 << 18

// Open reads the topic into table and returns a Topic that Run keeps in step.
// It must be called before the table is used.
func Open(ctx context.Context, client *kafka.Client, producer *kafka.Producer, table *identity.Bindings, log *zap.Logger) (*Topic, error) {
	partitions, err := client.Partitions(ctx, schemas.TopicIdentities)
	if err != nil {
		return nil, err
	}
	t := &Topic{
		client: client, producer: producer, table: table, partitions: partitions, log: log,
		pending: make(map[string]string), next: make([]int64, partitions),
	}
	for p := range partitions {
		// Before reading: what is written meanwhile is read twice rather than never.
		if t.next[p], err = client.LastOffset(ctx, schemas.TopicIdentities, p); err != nil {
			return nil, err
		}
		err = client.ReadAll(ctx, schemas.TopicIdentities, p, func(r *kafka.FetchedRecord) error {
			t.restore(r)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("bindings: %w", err)
		}
	}
	table.OnChange(t.changed)
	log.Info("bindings of certificates to devices", zap.Int("certificates", table.Len()))
	return t, nil
}

// Run publishes new bindings and follows those of other ingesters, until ctx
// ends; then it publishes what is left.
func (t *Topic) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for p := range t.partitions {
		wg.Go(func() { t.follow(ctx, p) })
	}
	ticker := time.NewTicker(flushInterval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
			t.flush(ctx)
		}
	}
	wg.Wait()
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

// follow takes over what other ingesters publish, and what this one did, which
// changes nothing.
func (t *Topic) follow(ctx context.Context, partition int) {
	var buf kafka.FetchBuffer
	for ctx.Err() == nil {
		batch, err := t.client.FetchFrom(ctx, schemas.TopicIdentities, partition, t.next[partition], &buf)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			t.log.Warn("cannot follow the bindings of other ingesters", zap.Int("partition", partition), zap.Error(err))
			if last, lerr := t.client.LastOffset(ctx, schemas.TopicIdentities, partition); lerr == nil {
				t.next[partition] = last
			}
			select {
			case <-ctx.Done():
			case <-time.After(flushInterval):
			}
			continue
		}
		for i := range batch.Records {
			t.restore(&batch.Records[i])
		}
		t.next[partition] = batch.Next
	}
}

// restore takes a record over. The topic may hold other things, and what
// somebody else wrote there need not be JSON.
func (t *Topic) restore(r *kafka.FetchedRecord) {
	certificate, ok := strings.CutPrefix(string(r.Key), keyPrefix)
	if !ok {
		return
	}
	var b Binding
	if json.Unmarshal(r.Value, &b) == nil && b.CertificateID == certificate {
		t.mu.Lock()
		_, newer := t.pending[certificate]
		t.mu.Unlock()
		if !newer {
			t.table.Restore([]byte(certificate), []byte(b.Device))
		}
	}
}
