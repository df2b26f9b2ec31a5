package clickhouse

import "unsafe"

const arenaChunk = 1 << 20

// arena is memory that is filled and then emptied as a whole. What it holds
// never moves, so that columns can point into it.
type arena struct {
	chunks  [][]byte
	current int
}

// copy returns a copy of b that is valid until reset.
func (a *arena) copy(b []byte) []byte {
	for ; a.current < len(a.chunks); a.current++ {
		c := a.chunks[a.current]
		if len(c)+len(b) <= cap(c) {
			end := len(c) + len(b)
			a.chunks[a.current] = append(c, b...)
			return a.chunks[a.current][len(c):end:end]
		}
	}
	a.chunks = append(a.chunks, append(make([]byte, 0, max(arenaChunk, len(b))), b...))
	return a.chunks[a.current][:len(b):len(b)]
}

// reset empties the arena and keeps up to limit bytes of its memory.
func (a *arena) reset(limit int) {
	kept := 0
	for i, c := range a.chunks {
		if kept += cap(c); kept > limit && i > 0 {
			clear(a.chunks[i:])
			a.chunks = a.chunks[:i]
			break
		}
		a.chunks[i] = c[:0]
	}
	a.current = 0
}

// text is b as a string without a copy: b must not change while it is in use.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
