package awsiot

import (
	"bytes"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/tocsin-io/tocsin/internal/jsonscan"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// fleet is what tocsin.identities says of the fleet: how many certificates are
// active, and which ones are used under the names that rotations wait for. It is
// safe for concurrent use.
type fleet struct {
	configured int // size; 0: counted

	mu     sync.Mutex
	active map[uint64]struct{}  // hashes of the IDs of active certificates, about 20 B each
	waits  map[string][]waiting // by name: things and client IDs
}

// waiting is a rotation that waits for a new certificate.
type waiting struct{ id, old string }

func newFleet(size int) *fleet {
	return &fleet{configured: size, active: make(map[uint64]struct{}), waits: make(map[string][]waiting)}
}

// size returns how many devices there are, 0 when it is not known.
func (f *fleet) size() int {
	if f.configured > 0 {
		return f.configured
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.active)
}

// watch has take report certificates for a rotation.
func (f *fleet) watch(a *schemas.Action) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range []string{a.Thing, a.ClientID} {
		w := waiting{a.ID, a.CertificateID}
		if name != "" && !slices.Contains(f.waits[name], w) {
			f.waits[name] = append(f.waits[name], w)
		}
	}
}

// unwatch ends watch.
func (f *fleet) unwatch(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, all := range f.waits {
		all = slices.DeleteFunc(all, func(w waiting) bool { return w.id == id })
		if f.waits[name] = all; len(all) == 0 {
			delete(f.waits, name)
		}
	}
}

var (
	certificateKey = []byte(schemas.KeyCertificate)
	observedKey    = []byte(schemas.KeyObserved)
)

// identity is what is read of a Certificate and of an Observation.
type identity struct {
	ID        string    `json:"certificate_id"`
	Things    []string  `json:"things"`
	ClientIDs []string  `json:"client_ids"`
	LastSeen  time.Time `json:"last_seen"`
}

// take notes a record, and returns the rotations that it may be news for. What is
// not JSON is somebody else's.
func (f *fleet) take(rec *kafka.FetchedRecord) (rotations []string, s sighting) {
	certificate := bytes.HasPrefix(rec.Key, certificateKey)
	if !certificate && !bytes.HasPrefix(rec.Key, observedKey) {
		return nil, s
	}
	if f.count(rec, certificate) == 0 {
		return nil, s
	}
	var id identity
	if json.Unmarshal(rec.Value, &id) != nil {
		return nil, s
	}
	s = sighting{certificate: certificateID(id.ID), names: append(id.Things, id.ClientIDs...), seen: id.LastSeen}
	if s.certificate == "" || s.seen.IsZero() {
		return nil, s
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range s.names {
		for _, w := range f.waits[name] {
			if w.old != s.certificate && !slices.Contains(rotations, w.id) {
				rotations = append(rotations, w.id)
			}
		}
	}
	return rotations, s
}

// count notes whether a certificate is active, and returns how many names are
// waited for. Nothing else of a record is looked at while there is none: at the
// start every certificate of the fleet comes by.
func (f *fleet) count(rec *kafka.FetchedRecord, certificate bool) (names int) {
	counted := certificate && f.configured == 0
	active := false
	if counted {
		status, ok := jsonscan.Lookup(rec.Value, "status") // a tombstone has none
		active = ok && status.Kind == jsonscan.String && string(status.Raw) == activeStatus
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch hash := xxhash.Sum64(rec.Key); {
	case active:
		f.active[hash] = struct{}{}
	case counted:
		delete(f.active, hash)
	}
	return len(f.waits)
}

var activeStatus = schemas.CertActive.String()
