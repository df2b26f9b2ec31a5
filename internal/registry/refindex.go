package registry

import "math/bits"

// refIndex is a hash table of refs, for keys that are in the records: whoever looks
// for one asks of every candidate whether it is the right one. Linear probing; what
// is removed is closed up, so that there are no marks to clean away.
type refIndex struct {
	slots   []uint32
	entries int
}

const (
	minSlots   = 64
	refMaxLoad = 12 // entries of 16 slots
)

func newRefIndex(entries int) *refIndex {
	return &refIndex{slots: make([]uint32, max(entries*16/refMaxLoad+1, minSlots))}
}

func (x *refIndex) home(hash uint64) int {
	at, _ := bits.Mul64(hash, uint64(len(x.slots)))
	return int(at)
}

// find calls is for every ref that may have the key of hash, until it returns true.
func (x *refIndex) find(hash uint64, is func(ref) bool) {
	for at := x.home(hash); x.slots[at] != 0; at = x.next(at) {
		if is(ref(x.slots[at])) {
			return
		}
	}
}

func (x *refIndex) next(at int) int {
	if at++; at == len(x.slots) {
		return 0
	}
	return at
}

// put adds a ref. There must be room.
func (x *refIndex) put(hash uint64, r ref) {
	at := x.home(hash)
	for x.slots[at] != 0 {
		at = x.next(at)
	}
	x.slots[at] = uint32(r)
	x.entries++
}

// move changes a ref of this hash for another one.
func (x *refIndex) move(hash uint64, from, to ref) {
	for at := x.home(hash); x.slots[at] != 0; at = x.next(at) {
		if x.slots[at] == uint32(from) {
			x.slots[at] = uint32(to)
			return
		}
	}
}

// remove takes out a ref of this hash. hashOf returns the hash of any ref.
func (x *refIndex) remove(hash uint64, r ref, hashOf func(ref) uint64) {
	at := x.home(hash)
	for x.slots[at] != uint32(r) {
		if x.slots[at] == 0 {
			return
		}
		at = x.next(at)
	}
	// What comes behind the gap and would be found before it moves into it.
	n := len(x.slots)
	for gap, j := at, at; ; {
		if j = x.next(j); x.slots[j] == 0 {
			x.slots[gap] = 0
			break
		}
		home := x.home(hashOf(ref(x.slots[j])))
		if (j-home+n)%n >= (j-gap+n)%n {
			x.slots[gap] = x.slots[j]
			gap = j
		}
	}
	x.entries--
}

func (x *refIndex) crowded() bool { return (x.entries+1)*16 > len(x.slots)*refMaxLoad }

// grown returns an index with the same entries and room for a quarter more.
func (x *refIndex) grown(hashOf func(ref) uint64) *refIndex {
	n := newRefIndex(x.entries + x.entries/4 + minSlots)
	for _, r := range x.slots {
		if r != 0 {
			n.put(hashOf(ref(r)), ref(r))
		}
	}
	return n
}
