package registry

import (
	"sync"

	"github.com/bits-and-blooms/bloom/v3"
)

const (
	// The filter of strangers is made anew when it has this many: about 150 KiB, and one
	// in a hundred is taken for one that was seen.
	maxStrangers        = 1 << 17
	strangersFalseShare = 0.01
)

// strangers tells the first event of an unknown certificate from the others, so
// that certificates can be counted and not only their events. It is approximate,
// and nothing else may depend on it.
type strangers struct {
	mu       sync.Mutex
	filter   *bloom.BloomFilter
	held     int
	seen     int64 // certificates
	events   int64
	rebuilds int64
}

func newStrangers() *strangers {
	return &strangers{filter: bloom.NewWithEstimates(maxStrangers, strangersFalseShare)}
}

// note takes note of an event of an unknown certificate.
func (s *strangers) note(id []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events++
	if s.filter.TestAndAdd(id) {
		return
	}
	s.seen++
	if s.held++; s.held == maxStrangers {
		s.filter.ClearAll()
		s.held = 0
		s.rebuilds++
	}
}

func (s *strangers) counts() (seen, events, rebuilds int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen, s.events, s.rebuilds
}
