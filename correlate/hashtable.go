package correlate

// hashTable finds things by a hash of their keys, and knows nothing else of
// them: an open-addressed table with linear probing of (32 bits of the hash,
// index). It has no pointers, a lookup is one cache line more often than not, and
// neither growing nor removing looks at the things themselves.
type hashTable struct {
	slots []uint64 // hash in the upper half, index + 1 in the lower; 0 is free
	n     int
}

// find returns the index with this hash for which same is true.
func (t *hashTable) find(hash uint32, same func(index uint32) bool) (uint32, bool) {
	if t.n == 0 {
		return 0, false
	}
	mask := uint32(len(t.slots) - 1)
	for at := hash & mask; ; at = (at + 1) & mask {
		slot := t.slots[at]
		if slot == 0 {
			return 0, false
		}
		if index := uint32(slot) - 1; uint32(slot>>32) == hash && same(index) {
			return index, true
		}
	}
}

// add puts in an index, which must not be there.
func (t *hashTable) add(hash, index uint32) {
	if 4*(t.n+1) > 3*len(t.slots) {
		t.resize(max(8, 2*len(t.slots)))
	}
	t.put(uint64(hash)<<32 | uint64(index+1))
	t.n++
}

func (t *hashTable) put(slot uint64) {
	mask := uint32(len(t.slots) - 1)
	at := uint32(slot>>32) & mask
	for t.slots[at] != 0 {
		at = (at + 1) & mask
	}
	t.slots[at] = slot
}

// remove takes an index out, which must be there. What follows it moves up, so
// that there are no marks of what has been.
func (t *hashTable) remove(hash, index uint32) {
	mask := uint32(len(t.slots) - 1)
	at := hash & mask
	for t.slots[at] != uint64(hash)<<32|uint64(index+1) {
		at = (at + 1) & mask
	}
	for next := (at + 1) & mask; t.slots[next] != 0; next = (next + 1) & mask {
		home := uint32(t.slots[next]>>32) & mask
		// It may move to at unless its home lies behind that.
		if (next-home)&mask >= (next-at)&mask {
			t.slots[at] = t.slots[next]
			at = next
		}
	}
	t.slots[at] = 0
	t.n--
	if len(t.slots) > 64 && 8*t.n < len(t.slots) {
		t.resize(len(t.slots) / 4)
	}
}

func (t *hashTable) resize(n int) {
	old := t.slots
	t.slots = make([]uint64, n)
	for _, slot := range old {
		if slot != 0 {
			t.put(slot)
		}
	}
}
