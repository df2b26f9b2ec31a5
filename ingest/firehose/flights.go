package firehose

import (
	"sync"

	"github.com/cespare/xxhash/v2"
)

// requestKey identifies a request: its ID and what it holds. A sender that uses
// one ID for two contents gets both published.
type requestKey struct {
	id  string
	sum uint64
}

func newRequestKey(id, stream string, records [][]byte) requestKey {
	var h xxhash.Digest
	h.Reset()
	// Neither Write can fail.
	_, _ = h.WriteString(stream)
	for _, r := range records {
		n := len(r)
		_, _ = h.Write([]byte{0, byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)})
		_, _ = h.Write(r)
	}
	return requestKey{id, h.Sum64()}
}

// flight is a request between its arrival and the last acknowledgement.
type flight struct {
	done chan struct{} // closed at the end
	err  error         // set before; nil: all of it is in Kafka
}

// flights knows the requests in flight and those completed of late.
type flights struct {
	mu        sync.Mutex
	inFlight  map[requestKey]*flight
	completed *idSet
}

func newFlights(completed int) *flights {
	return &flights{inFlight: map[requestKey]*flight{}, completed: newIDSet(completed)}
}

// begin returns the flight of key. It is the caller's own to end when first is
// true, somebody else's when it is not. A nil flight was completed before.
func (f *flights) begin(key requestKey) (fl *flight, first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl, ok := f.inFlight[key]; ok {
		return fl, false
	}
	// The two are looked at under one lock: a flight that ended in between would
	// be in neither.
	if f.completed.has(key) {
		return nil, false
	}
	fl = &flight{done: make(chan struct{})}
	f.inFlight[key] = fl
	return fl, true
}

// end must be called once for each first flight.
func (f *flights) end(key requestKey, fl *flight, err error) {
	f.mu.Lock()
	delete(f.inFlight, key)
	if err == nil {
		f.completed.add(key)
	}
	f.mu.Unlock()
	fl.err = err
	close(fl.done)
}

// idSet remembers the newest keys, at most a fixed number. It is safe for
// concurrent use.
type idSet struct {
	mu   sync.Mutex
	set  map[requestKey]struct{}
	ring []requestKey // the oldest is at next, once it is full
	next int
}

func newIDSet(limit int) *idSet {
	return &idSet{set: map[requestKey]struct{}{}, ring: make([]requestKey, 0, limit)}
}

func (s *idSet) has(k requestKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.set[k]
	return ok
}

// add reports whether k was not there.
func (s *idSet) add(k requestKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.set[k]; ok {
		return false
	}
	if len(s.ring) < cap(s.ring) {
		s.ring = append(s.ring, k)
	} else {
		delete(s.set, s.ring[s.next])
		s.ring[s.next] = k
		s.next = (s.next + 1) % len(s.ring)
	}
	s.set[k] = struct{}{}
	return true
}
