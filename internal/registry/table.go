package registry

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

const (
	maxIssuers = 4096
	// maxNamesakes is how many certificates of one common name are looked up by it. A
	// device has two while it changes them.
	maxNamesakes = 16
	// maxCrowds bounds the names of which there are more.
	maxCrowds = 4096
)

// ErrID is returned for a certificate whose ID is not 64 lower-case hex digits.
var ErrID = errors.New("registry: a certificate ID is 64 lower-case hex digits")

// errTwins would need some 2^31 certificates to be likely.
var errTwins = errors.New("registry: two certificates have the same fingerprint")

// Options of a Table.
type Options struct {
	// ByName keeps an index by the subject's common name, of about 6 bytes per
	// certificate. Without it, Named finds nothing.
	ByName bool
}

// Table is the certificates of a fleet. All methods may be called from several
// goroutines at once; of those that change it, one works at a time.
//
// Times are kept to the millisecond and come back in UTC.
type Table struct {
	prints *fingerprints
	seed   maphash.Seed
	ids    atomic.Pointer[idIndex] // changed by whoever holds writing
	// completeFrom is when what is not in the table is unknown, in Unix
	// milliseconds.
	completeFrom atomic.Int64
	strangers    *strangers

	// writing is held by whoever changes the table, for the whole change; mu in
	// addition while readers must not look.
	writing sync.Mutex
	enc     encoder // writing

	mu      sync.RWMutex
	slab    slab
	texts   dictionary
	serials *refIndex
	names   *refIndex // nil: not kept
	issuers []issuer
	known   map[issuer]struct{} // the same
	crowds  map[string]struct{} // names with more than maxNamesakes
}

type issuer struct{ keyID, name string }

// New returns an empty table.
func New(opts Options) *Table {
	t := &Table{
		strangers: newStrangers(),
		prints:    newFingerprints(), seed: maphash.MakeSeed(), slab: newSlab(), texts: newDictionary(),
		serials: newRefIndex(0), known: make(map[issuer]struct{}), crowds: make(map[string]struct{}),
	}
	t.enc.texts = &t.texts
	t.ids.Store(newIDIndex(0))
	t.completeFrom.Store(math.MaxInt64)
	if opts.ByName {
		t.names = newRefIndex(0)
	}
	return t
}

// Put adds or replaces a certificate, of which it keeps nothing.
func (t *Table) Put(c *schemas.Certificate) error {
	id, ok := parseID(c.ID)
	if !ok {
		return fmt.Errorf("%w: %.80q", ErrID, c.ID)
	}
	t.writing.Lock()
	defer t.writing.Unlock()
	t.makeRoom()
	fingerprint := t.prints.of((*[2 * idLen]byte)([]byte(c.ID)))

	t.mu.Lock()
	defer t.mu.Unlock()
	record, err := t.enc.encode(&id, c)
	if err != nil {
		return err
	}
	var r ref
	if old := t.ids.Load().find(fingerprint); old != 0 {
		if *recordID(t.slab.get(old.ref())) != id {
			return errTwins
		}
		// The keys are in the record: what it was found by has to go before it changes.
		t.unlink(old.ref())
		r = old.ref()
		if !t.slab.set(r, record) {
			if r, err = t.slab.add(record); err != nil {
				t.link(old.ref())
				return err
			}
			t.slab.remove(old.ref())
		}
	} else if r, err = t.slab.add(record); err != nil {
		return err
	}
	t.link(r)
	t.ids.Load().put(fingerprint, addressOf(c).at(r))
	t.know(c.IssuerKeyID, c.Issuer)
	t.reclaim()
	return nil
}

// addressOf returns what is stamped without looking at the record.
func addressOf(c *schemas.Certificate) address {
	state := uint64(stateLook)
	switch {
	case c.Revoked != nil:
	case c.Status == schemas.CertActive:
		state = stateActive
	case c.Status == schemas.CertUnspecified:
		state = stateNothing
	}
	after := int64(0)
	if !c.NotAfter.IsZero() {
		// An expiry that has a fraction of a second or does not fit is left to the record.
		if after = c.NotAfter.Unix(); after <= 0 || after > math.MaxUint32 || c.NotAfter.Nanosecond() != 0 {
			after, state = 0, stateLook
		}
	}
	return address(uint64(after)<<afterShift | state<<stateShift)
}

// Delete removes a certificate, if it is there.
func (t *Table) Delete(id string) {
	if _, ok := parseID(id); !ok {
		return
	}
	t.writing.Lock()
	defer t.writing.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	a, fingerprint := t.locate([]byte(id))
	if a == 0 {
		return
	}
	t.unlink(a.ref())
	t.ids.Load().remove(fingerprint)
	t.slab.remove(a.ref())
	t.reclaim()
}

// locate returns where the record of an ID of 64 digits is, 0 if there is none. The
// caller holds mu or writing.
func (t *Table) locate(id []byte) (address, uint64) {
	fingerprint := t.prints.of((*[2 * idLen]byte)(id))
	a := t.ids.Load().find(fingerprint)
	if a == 0 {
		return 0, fingerprint
	}
	var text [2 * idLen]byte
	hex.Encode(text[:], recordID(t.slab.get(a.ref()))[:])
	if string(text[:]) != string(id) {
		return 0, fingerprint
	}
	return a, fingerprint
}

// Get returns the certificate with an ID of 64 lower-case hex digits.
func (t *Table) Get(id string) (schemas.Certificate, bool) {
	if len(id) != 2*idLen {
		return schemas.Certificate{}, false
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	a, _ := t.locate([]byte(id))
	if a == 0 {
		return schemas.Certificate{}, false
	}
	return decode(&t.texts, t.slab.get(a.ref())), true
}

// Len returns how many certificates there are.
func (t *Table) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.ids.Load().entries
}

// Range calls f for every certificate until it returns false. What is added or
// removed meanwhile may be left out, and when much is added the others may come
// twice. f may call the table.
func (t *Table) Range(f func(*schemas.Certificate) bool) {
	var batch []schemas.Certificate
	for group, groups := uint64(0), t.ids.Load().groups; group < groups; group++ {
		t.mu.RLock()
		x := t.ids.Load()
		if x.groups != groups {
			// It has grown. The entries have kept their order, but for those that were
			// not in their own group.
			const displaced = 64
			high, low := bits.Mul64(group, x.groups)
			at, _ := bits.Div64(high, low, groups)
			group, groups = at-min(at, displaced), x.groups
		}
		batch = batch[:0]
		for i := range groupSize {
			if x.at(group)[i] > deletedEntry {
				batch = append(batch, decode(&t.texts, t.slab.get(address(x.at(group)[groupSize+i]).ref())))
			}
		}
		t.mu.RUnlock()
		for i := range batch {
			if !f(&batch[i]) {
				return
			}
		}
	}
}

// makeRoom grows the indexes that are full. Readers go on with the old ones.
func (t *Table) makeRoom() {
	if x := t.ids.Load(); x.crowded() {
		t.ids.Store(x.grown())
	}
	if t.serials.crowded() {
		grown := t.serials.grown(t.serialHash)
		t.mu.Lock()
		t.serials = grown
		t.mu.Unlock()
	}
	if t.names != nil && t.names.crowded() {
		grown := t.names.grown(t.nameHash)
		t.mu.Lock()
		t.names = grown
		t.mu.Unlock()
	}
}

// reclaim empties a chunk when too much space is dead. The pause is that of one
// chunk, about a millisecond.
func (t *Table) reclaim() {
	chunk, ok := t.slab.wasteful()
	if !ok {
		return
	}
	ids := t.ids.Load()
	var text [2 * idLen]byte
	full := false
	t.slab.blocks(chunk, func(old ref, record []byte) {
		hex.Encode(text[:], recordID(record)[:])
		fingerprint := t.prints.of(&text)
		a := ids.find(fingerprint)
		if a == 0 || a.ref() != old || full {
			return // dead
		}
		moved, err := t.slab.add(record)
		if err != nil {
			full = true // the chunk is kept as it is, for another time
			return
		}
		if hash, ok := t.serialKey(old); ok {
			t.serials.move(hash, old, moved)
		}
		if t.names != nil {
			t.names.move(t.nameHash(old), old, moved)
		}
		ids.put(fingerprint, a.at(moved))
		t.slab.remove(old)
	})
	if !full {
		t.slab.release(chunk)
	}
}

// SetComplete says from when on a certificate that is not in the table is unknown:
// all that the broker knows have been listed once. The zero time: not yet.
func (t *Table) SetComplete(from time.Time) {
	if from.IsZero() {
		t.completeFrom.Store(math.MaxInt64)
	} else {
		t.completeFrom.Store(from.UnixMilli())
	}
}

// Complete reports whether at a time all certificates of the broker were known.
func (t *Table) Complete(at time.Time) bool { return at.UnixMilli() >= t.completeFrom.Load() }

// Stats is what a table takes.
type Stats struct {
	Certificates int
	Bytes        int64 // of records and indexes
	DeadBytes    int64 // of these, waiting to be used again
	Texts        int   // that records share
	TextsFull    int64 // texts that found no room among these
}

// Stats returns what the table takes.
func (t *Table) Stats() Stats {
	t.mu.RLock()
	defer t.mu.RUnlock()
	ids := t.ids.Load()
	s := Stats{
		Certificates: ids.entries, Texts: len(t.texts.texts), TextsFull: t.texts.full, DeadBytes: t.slab.deadBytes,
		Bytes: int64(len(t.slab.chunks))*chunkSize + 8*int64(len(ids.words)) + 4*int64(len(t.serials.slots)),
	}
	if t.names != nil {
		s.Bytes += 4 * int64(len(t.names.slots))
	}
	return s
}
