package behavior

import (
	"slices"
)

// deviceTable is the devices of a partition, by key. They keep their numbers while
// they are in it.
type deviceTable struct {
	max     int
	numbers map[string]uint32
	all     []device
	free    []uint32
	times   []int64 // scratch
	// evicted is called before a device is given up.
	evicted func(n uint32)
}

func newDeviceTable(limit int, evicted func(uint32)) *deviceTable {
	return &deviceTable{max: limit, numbers: make(map[string]uint32), evicted: evicted}
}

func (t *deviceTable) at(n uint32) *device { return &t.all[n] }

// find returns the number of a device.
func (t *deviceTable) find(key []byte) (uint32, bool) {
	n, ok := t.numbers[string(key)]
	return n, ok
}

// add returns the number of a device, making room for it if need be, and whether it
// is new. Pointers from at are invalid afterwards.
func (t *deviceTable) add(key []byte) (n uint32, fresh bool) {
	if n, ok := t.numbers[string(key)]; ok {
		return n, false
	}
	if len(t.numbers) >= t.max {
		t.evict()
	}
	if last := len(t.free) - 1; last >= 0 {
		n = t.free[last]
		t.free = t.free[:last]
	} else {
		n = uint32(len(t.all))
		t.all = append(t.all, device{})
	}
	k := string(key)
	t.all[n] = device{key: k, used: true, slot: none, cert: none, lane: none}
	t.numbers[k] = n
	return n, true
}

// evict gives up the 64th of the devices that was idle longest. It looks at all of
// them, which is cheap for each of those that it makes room for, and needs no list
// that every event would have to keep in order.
func (t *deviceTable) evict() {
	t.times = t.times[:0]
	for i := range t.all {
		if t.all[i].used {
			t.times = append(t.times, t.all[i].recent())
		}
	}
	slices.Sort(t.times)
	goal := max(1, len(t.times)/64)
	limit := t.times[goal-1]
	for i := range t.all {
		if d := &t.all[i]; d.used && d.recent() <= limit && goal > 0 {
			goal--
			t.evicted(uint32(i))
			t.remove(uint32(i))
		}
	}
}

// remove forgets a device.
func (t *deviceTable) remove(n uint32) {
	delete(t.numbers, t.all[n].key)
	t.all[n] = device{}
	t.free = append(t.free, n)
}

// recent is when anything was known of the device last.
func (d *device) recent() int64 { return max(d.lastSeen, d.up, d.down, d.touched) }
