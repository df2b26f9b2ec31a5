package kinesis

import "sync"

// window is the records of one shard, in order, from the first that is not
// acknowledged. Acknowledgements come in any order; the checkpoint is the last
// record before the first gap.
type window struct {
	advance func(sequence string) // called under the lock, in order

	mu      sync.Mutex
	entries []entry // [0] is number first
	first   uint64
	open    int           // entries without an acknowledgement, good or bad
	err     error         // the first failure; the checkpoint stays before it
	failed  chan struct{} // closed with the first failure
	empty   chan struct{} // closed when open becomes 0; nil when nobody waits
}

type entry struct {
	sequence string
	acked    bool
}

func newWindow(advance func(sequence string)) *window {
	return &window{advance: advance, failed: make(chan struct{})}
}

// add appends a record and returns its number.
func (w *window) add(sequence string) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.entries = append(w.entries, entry{sequence: sequence})
	w.open++
	return w.first + uint64(len(w.entries)) - 1
}

// ack must be called once for each number.
func (w *window) ack(number uint64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.entries[number-w.first].acked = true
		n := 0
		for n < len(w.entries) && w.entries[n].acked {
			n++
		}
		if n > 0 {
			w.advance(w.entries[n-1].sequence)
			w.first += uint64(n)
			w.entries = w.entries[n:]
		}
	} else if w.err == nil {
		w.err = err
		close(w.failed)
	}
	if w.open--; w.open == 0 && w.empty != nil {
		close(w.empty)
		w.empty = nil
	}
}

// settled returns a channel that is closed when every record so far is
// acknowledged, well or badly. No record may be added until then.
func (w *window) settled() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	done := make(chan struct{})
	if w.open == 0 {
		close(done)
	} else {
		w.empty = done
	}
	return done
}

func (w *window) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}
