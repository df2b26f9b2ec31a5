// Package identity reads who did it out of the forms in which AWS writes
// identities, and remembers which device uses which certificate.
package identity

import "sync"

// DefaultBindings is how many certificates NewBindings(0) remembers at least.
const DefaultBindings = 1 << 18

const shards = 16

// Bindings remembers which device key was seen using which certificate. It is
// bounded: what was not used for longest is forgotten first, approximately. It
// is safe for concurrent use.
//
// What it answers depends on what this process has seen so far. That is why an
// answer is used once, at ingest, and recorded in the event.
type Bindings struct {
	shard    [shards]bindingShard
	onChange func(certificateID, device []byte)
}

// bindingShard keeps two generations. Reading an entry of the old one moves it
// to the young one; when the young one is full it becomes the old one and what
// was in that is forgotten. So an entry lives through at least `limit` others.
type bindingShard struct {
	mu         sync.RWMutex
	young, old map[[CertificateIDLen]byte][]byte
	limit      int
}

// NewBindings returns a table for at least n certificates (0: DefaultBindings)
// and at most about twice as many.
func NewBindings(n int) *Bindings {
	if n <= 0 {
		n = DefaultBindings
	}
	b := new(Bindings)
	for i := range b.shard {
		b.shard[i].limit = (n + shards - 1) / shards
		b.shard[i].young = make(map[[CertificateIDLen]byte][]byte)
	}
	return b
}

// OnChange has fn called for every binding that Learn makes or changes. fn must
// not block, and must not change what it is given; it may be called from many
// goroutines at once. OnChange must be called before the first Learn.
func (b *Bindings) OnChange(fn func(certificateID, device []byte)) { b.onChange = fn }

// DeviceOf returns the device that certificateID (64 lower-case hex digits) is
// bound to, nil when it is not known. The result never changes.
func (b *Bindings) DeviceOf(certificateID []byte) []byte {
	if len(certificateID) != CertificateIDLen {
		return nil
	}
	key := [CertificateIDLen]byte(certificateID)
	s := b.of(&key)
	s.mu.RLock()
	device, young := s.young[key]
	if !young {
		device = s.old[key]
	}
	s.mu.RUnlock()
	if young || device == nil {
		return device
	}
	// Between the two locks another goroutine may have moved, rebound or
	// forgotten the entry: only move what is still there as it was.
	s.mu.Lock()
	if now, ok := s.old[key]; ok {
		if _, ok := s.young[key]; !ok {
			s.put(key, now)
		}
	}
	s.mu.Unlock()
	return device
}

// Learn binds certificateID to device, which it copies. Unless rebind is set, an
// existing binding stays: a client that merely uses a certificate must not take
// it over from the one that connected with it.
func (b *Bindings) Learn(certificateID, device []byte, rebind bool) {
	if device, changed := b.learn(certificateID, device, rebind); changed && b.onChange != nil {
		b.onChange(certificateID, device)
	}
}

// Restore binds as Learn with rebind does, for what is known from elsewhere:
// OnChange's function does not hear of it.
func (b *Bindings) Restore(certificateID, device []byte) { b.learn(certificateID, device, true) }

// learn returns the binding's device, in memory that does not change, and
// whether it is a new one.
func (b *Bindings) learn(certificateID, device []byte, rebind bool) (now []byte, changed bool) {
	if len(certificateID) != CertificateIDLen || len(device) == 0 {
		return nil, false
	}
	key := [CertificateIDLen]byte(certificateID)
	s := b.of(&key)
	s.mu.RLock()
	have, young := s.young[key]
	s.mu.RUnlock()
	if young && (!rebind || string(have) == string(device)) {
		return have, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	have, known := s.young[key]
	if !known {
		have, known = s.old[key]
	}
	if !known || (rebind && string(have) != string(device)) {
		have, changed = append([]byte(nil), device...), true
	}
	s.put(key, have)
	return have, changed
}

// Len returns how many bindings are held.
func (b *Bindings) Len() int {
	n := 0
	for i := range b.shard {
		s := &b.shard[i]
		s.mu.RLock()
		n += len(s.young)
		for key := range s.old {
			if _, ok := s.young[key]; !ok {
				n++
			}
		}
		s.mu.RUnlock()
	}
	return n
}

// of picks the shard by the last digit: certificate IDs are SHA-256 sums, so
// every digit is evenly spread.
func (b *Bindings) of(key *[CertificateIDLen]byte) *bindingShard {
	c := key[CertificateIDLen-1]
	return &b.shard[(c&0xf+c>>6*9)%shards] // '0'..'9', 'a'..'f' to 0..15
}

func (s *bindingShard) put(key [CertificateIDLen]byte, device []byte) {
	if _, ok := s.young[key]; !ok && len(s.young) >= s.limit {
		s.old = s.young
		s.young = make(map[[CertificateIDLen]byte][]byte, s.limit)
	}
	s.young[key] = device
}
