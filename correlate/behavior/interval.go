package behavior

import (
	"net/netip"
	"slices"
	"sort"
	"unsafe"
)

// inlineAddresses is how many source addresses a slot has room for without more
// memory; most devices have one.
const inlineAddresses = 2

// maxSlotAddresses bounds the source addresses that are told apart in an interval.
const maxSlotAddresses = 16

// address is a source address and the hash by which it is known.
type address struct {
	hash uint32
	ip   [16]byte
}

// slot counts what one device did in one interval.
type slot struct {
	interval int64 // number since the epoch
	device   uint32
	next     uint32 // the device's slot of another interval
	counts   [numCounters]uint32
	n        int // addresses
	first    [inlineAddresses]address
	more     []address
}

func (s *slot) address(i int) *address {
	if i < inlineAddresses {
		return &s.first[i]
	}
	return &s.more[i-inlineAddresses]
}

// has reports whether the address with this hash is counted already.
func (s *slot) has(hash uint32) bool {
	for i := range s.n {
		if s.address(i).hash == hash {
			return true
		}
	}
	return false
}

// add counts an address that it has not.
func (s *slot) add(hash uint32, ip []byte) bool {
	if s.n == maxSlotAddresses {
		return false
	}
	// ParseAddr keeps nothing of its text but a zone, which it clones, and the error, which
	// goes no further.
	parsed, err := netip.ParseAddr(unsafe.String(unsafe.SliceData(ip), len(ip)))
	if err != nil {
		return false
	}
	a := address{hash: hash, ip: parsed.As16()}
	if s.n < inlineAddresses {
		s.first[s.n] = a
	} else {
		s.more = append(s.more, a)
	}
	s.n++
	return true
}

// openInterval is one that is not complete.
type openInterval struct {
	number int64
	slots  []uint32
	from   int64 // offset of the first record with an event of it
}

// intervals are the open intervals of a partition, oldest first.
type intervals struct {
	millis int64 // length of one
	max    int   // slots
	open   []openInterval
	slots  []slot
	free   []uint32
	spare  [][]uint32
}

func (t *intervals) numberOf(ms int64) int64 { return ms / t.millis }

// end returns where an interval ends, in Unix milliseconds.
func (t *intervals) end(number int64) int64 { return (number + 1) * t.millis }

// slotOf returns the slot of a device in an interval, made if need be; nil when there
// is no room. Slots returned before are invalid afterwards.
func (t *intervals) slotOf(d *device, n uint32, number, offset int64) *slot {
	for i := d.slot; i != none; i = t.slots[i].next {
		if t.slots[i].interval == number {
			return &t.slots[i]
		}
	}
	var i uint32
	if last := len(t.free) - 1; last >= 0 {
		i = t.free[last]
		t.free = t.free[:last]
	} else {
		if len(t.slots) == t.max {
			return nil
		}
		i = uint32(len(t.slots))
		t.slots = append(t.slots, slot{})
	}
	s := &t.slots[i]
	more := s.more[:0]
	*s = slot{interval: number, device: n, next: d.slot, more: more}
	d.slot = i
	o := t.interval(number, offset)
	o.slots = append(o.slots, i)
	return s
}

func (t *intervals) interval(number, offset int64) *openInterval {
	at := sort.Search(len(t.open), func(i int) bool { return t.open[i].number >= number })
	if at < len(t.open) && t.open[at].number == number {
		return &t.open[at]
	}
	o := openInterval{number: number, from: offset}
	if last := len(t.spare) - 1; last >= 0 {
		o.slots = t.spare[last]
		t.spare = t.spare[:last]
	}
	t.open = slices.Insert(t.open, at, o)
	return &t.open[at]
}

// release takes a slot out of its device's chain.
func (t *intervals) release(d *device, i uint32) {
	for at := &d.slot; *at != none; at = &t.slots[*at].next {
		if *at == i {
			*at = t.slots[i].next
			break
		}
	}
	t.free = append(t.free, i)
}

// drop takes all slots from a device that is given up. They stay in their intervals'
// lists, without a device.
func (t *intervals) drop(d *device) {
	for d.slot != none {
		s := &t.slots[d.slot]
		s.device, d.slot = none, s.next
	}
}

// close forgets the oldest interval.
func (t *intervals) close() {
	if len(t.spare) < 4 {
		t.spare = append(t.spare, t.open[0].slots[:0])
	}
	t.open = slices.Delete(t.open, 0, 1)
}

// from returns the offset of the first event that is in an open interval, else next.
func (t *intervals) from(next int64) int64 {
	for i := range t.open {
		next = min(next, t.open[i].from)
	}
	return next
}
