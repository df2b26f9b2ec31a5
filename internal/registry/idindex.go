package registry

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
)

const (
	groupSize = 4
	// An entry is two words: the fingerprint, and an address.
	groupWords = 2 * groupSize
	// maxLoad is how full an index may be, in entries of 16: fuller, too many IDs are
	// not in the group where they are looked for first.
	maxLoad   = 9
	minGroups = 64

	// Fingerprints that are none.
	emptyEntry   = 0
	deletedEntry = 1

	refBits    = 30
	stateShift = refBits
	afterShift = 32
)

// What an address says of a certificate besides where its record is: its expiry in
// seconds since the epoch (0: not known) above afterShift, and below that a state.
const (
	stateLook    = iota // the record has to be looked at
	stateActive         // ACTIVE until it expires
	stateNothing        // the broker's state is not known; as ACTIVE otherwise
)

// address is where a record is, and what a stamp needs of it.
type address uint64

func (a address) ref() ref      { return ref(a & maxRef) }
func (a address) state() uint64 { return uint64(a) >> stateShift & 3 }
func (a address) after() int64  { return int64(a >> afterShift) }

func (a address) at(r ref) address { return a&^maxRef | address(r) }

// fingerprints hashes IDs with keys of its own, so that nobody can make a
// certificate that passes for another one: two IDs have the same fingerprint with
// a probability of 2^-63, whatever they are.
type fingerprints [8]uint64

func newFingerprints() *fingerprints {
	var f fingerprints
	for i := range f {
		f[i] = rand.Uint64() // of ChaCha8, seeded by the system
	}
	return &f
}

// of returns the fingerprint of an ID in its text form of 64 digits: hashing these
// is cheaper than reading them as hex.
func (f *fingerprints) of(id *[2 * idLen]byte) uint64 {
	le := binary.LittleEndian
	a := mix(le.Uint64(id[0:])^f[0], le.Uint64(id[8:])^f[1])
	b := mix(le.Uint64(id[16:])^f[2], le.Uint64(id[24:])^f[3])
	c := mix(le.Uint64(id[32:])^f[4], le.Uint64(id[40:])^f[5])
	d := mix(le.Uint64(id[48:])^f[6], le.Uint64(id[56:])^f[7])
	return mix(a^f[1]^bits.RotateLeft64(b, 23), c^f[6]^bits.RotateLeft64(d, 41)) | 2 // neither empty nor deleted
}

func mix(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	return high ^ low
}

// idIndex is a hash table of addresses by fingerprint, in groups of four entries
// that are one cache line. An entry is in the first group from its own on that had
// room.
//
// One goroutine writes. Any number may call find at the same time; they see an
// entry as it was at some moment of the call, or miss one that is being written.
type idIndex struct {
	words   []uint64
	groups  uint64
	entries int
	deleted int
}

func newIDIndex(entries int) *idIndex {
	groups := max(uint64(entries)*16/maxLoad/groupSize+1, minGroups)
	return &idIndex{words: make([]uint64, groups*groupWords), groups: groups}
}

// group returns the group at which the search for a fingerprint begins. A larger
// index has the entries in the same order.
func (x *idIndex) group(fingerprint uint64) uint64 {
	g, _ := bits.Mul64(fingerprint, x.groups)
	return g
}

func (x *idIndex) at(group uint64) *[groupWords]uint64 {
	return (*[groupWords]uint64)(x.words[group*groupWords:])
}

// ones returns a word of ones for zero, else zero.
func ones(n uint64) uint64 { return (n|-n)>>63 - 1 }

// find returns the address of an entry, 0 if there is none.
//
// In the first group, all entries are compared without a branch that depends on
// them: a mispredicted one would have to wait for memory before the next search
// can begin.
func (x *idIndex) find(fingerprint uint64) address {
	group := x.group(fingerprint)
	g := x.at(group)
	i := ones(atomic.LoadUint64(&g[0])^fingerprint)&4 |
		ones(atomic.LoadUint64(&g[1])^fingerprint)&5 |
		ones(atomic.LoadUint64(&g[2])^fingerprint)&6 |
		ones(atomic.LoadUint64(&g[3])^fingerprint)&7
	if i != 0 {
		a := atomic.LoadUint64(&g[i&7])
		// Between the two loads the entry can have been deleted and its place taken by
		// another one, whose address is written before its fingerprint: then this is no
		// longer ours.
		if atomic.LoadUint64(&g[i&3]) == fingerprint {
			return address(a)
		}
		return 0
	}
	return x.findNext(group, fingerprint)
}

// findNext goes on in the groups behind the first one, while they are full.
func (x *idIndex) findNext(group, fingerprint uint64) address {
	for range x.groups {
		g := x.at(group)
		for i := range groupSize {
			switch atomic.LoadUint64(&g[i]) {
			case emptyEntry:
				return 0
			case fingerprint:
				a := atomic.LoadUint64(&g[groupSize+i])
				if atomic.LoadUint64(&g[i]) == fingerprint {
					return address(a)
				}
				return 0
			}
		}
		if group++; group == x.groups {
			group = 0
		}
	}
	return 0
}

// entry returns where a fingerprint's entry is, or else where it can be put.
func (x *idIndex) entry(fingerprint uint64) (slot *uint64, addr *uint64, found bool) {
	group := x.group(fingerprint)
	for {
		g := x.at(group)
		for i := range groupSize {
			switch g[i] {
			case fingerprint:
				return &g[i], &g[groupSize+i], true
			case deletedEntry:
				if slot == nil {
					slot, addr = &g[i], &g[groupSize+i]
				}
			case emptyEntry:
				if slot == nil {
					slot, addr = &g[i], &g[groupSize+i]
				}
				return slot, addr, false
			}
		}
		if group++; group == x.groups {
			group = 0
		}
	}
}

// put adds an entry or changes it. There must be room.
func (x *idIndex) put(fingerprint uint64, a address) {
	slot, addr, found := x.entry(fingerprint)
	atomic.StoreUint64(addr, uint64(a))
	if found {
		return
	}
	if *slot == deletedEntry {
		x.deleted--
	}
	atomic.StoreUint64(slot, fingerprint)
	x.entries++
}

func (x *idIndex) remove(fingerprint uint64) {
	if slot, _, found := x.entry(fingerprint); found {
		atomic.StoreUint64(slot, deletedEntry)
		x.entries--
		x.deleted++
	}
}

// crowded reports whether another entry needs a larger index.
func (x *idIndex) crowded() bool {
	return uint64(x.entries+x.deleted+1)*16 > x.groups*groupSize*maxLoad
}

// grown returns an index with the same entries and room for a quarter more.
func (x *idIndex) grown() *idIndex {
	n := newIDIndex(x.entries + x.entries/4 + groupSize)
	for group := range x.groups {
		g := x.at(group)
		for i := range groupSize {
			if g[i] > deletedEntry {
				n.put(g[i], address(g[groupSize+i]))
			}
		}
	}
	return n
}
