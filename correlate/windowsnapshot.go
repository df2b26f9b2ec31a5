package correlate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/tocsin-io/tocsin/rules"
)

// windowsVersion is the first byte of a snapshot.
const windowsVersion = 3

// groupsSize is the size of the length before all groups.
const groupsSize = 8

// errWindows is in the chain of every error about a snapshot of windows.
var errWindows = errors.New("snapshot of windows is damaged")

// AppendSnapshot encodes all state: one section for each correlation, under its
// hash, with its groups and when they were last used. What Drain has yet to
// report is not in it; call Drain first.
func (w *Windows) AppendSnapshot(dst []byte) []byte {
	start := len(dst)
	e := encoder{b: append(dst, windowsVersion)}
	e.varint(w.mark)
	e.varint(w.stats.EvictedGroups)
	e.varint(w.stats.Late)

	e.uvarint(uint64(w.stats.Groups))
	e.uvarint(w.tick)
	// The groups go where they stay, with their length before them: a copy of them
	// all would be most of the time that the caller stands still.
	at := len(e.b)
	e.b = append(e.b, make([]byte, groupsSize)...)

	// Blobs are written once, and referred to by the order in which they came up.
	index := make([]uint32, len(w.blobs.all))
	var order []uint32
	blob := func(id uint32) uint64 {
		if id == noBlob {
			return 0
		}
		if index[id] == 0 {
			order = append(order, id)
			index[id] = uint32(len(order))
		}
		return uint64(index[id])
	}
	one := encoder{}
	w.groups.each(func(g *group) {
		one.b = one.b[:0]
		one.group(w, g, blob)
		// With its length before it, a group of a rule that is gone can be passed over.
		e.b = binary.BigEndian.AppendUint64(e.b, g.rule.c.Hash)
		e.bytes(one.b)
	})
	binary.BigEndian.PutUint64(e.b[at:], uint64(len(e.b)-at-groupsSize))
	e.uvarint(uint64(len(order)))
	for _, id := range order {
		e.bytes(w.blobs.text(id))
	}
	return binary.BigEndian.AppendUint32(e.b, crc32.Checksum(e.b[start:], castagnoli))
}

type encoder struct{ b []byte }

func (e *encoder) varint(v int64)   { e.b = binary.AppendVarint(e.b, v) }
func (e *encoder) uvarint(v uint64) { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) bytes(b []byte) {
	e.uvarint(uint64(len(b)))
	e.b = append(e.b, b...)
}

func (e *encoder) flags(flags ...bool) {
	var v uint64
	for i, f := range flags {
		if f {
			v |= 1 << i
		}
	}
	e.uvarint(v)
}

func (e *encoder) group(w *Windows, g *group, blob func(uint32) uint64) {
	w.scratch = g.appendKey(w.scratch[:0])
	e.bytes(w.scratch)
	e.uvarint(w.tick - g.used)
	e.flags(g.more != nil)
	if more := g.more; more != nil {
		e.varint(more.decided)
		e.varint(more.coveredUntil)
		e.varint(more.quietUntil)
		e.uvarint(uint64(more.serial))
	}
	e.uvarint(uint64(g.len()))
	last := int64(0)
	for i := range g.len() {
		en := g.at(i)
		e.varint(en.time - last)
		last = en.time
		e.b = append(e.b, en.id[:]...)
		e.uvarint(uint64(en.step))
		e.uvarint(uint64(en.ep))
		e.uvarint(blob(en.blob))
		e.flags(en.begins)
		switch g.rule.c.Type {
		case rules.ValueCount:
			e.uvarint(blob(uint32(en.value)))
		case rules.ValueSum, rules.ValueAvg, rules.ValuePercentile, rules.ValueMedian:
			e.uvarint(en.value)
		}
	}
	e.uvarint(uint64(len(g.episodes())))
	for _, ep := range g.episodes() {
		e.episode(ep, blob)
	}
}

func (e *encoder) episode(ep *episode, blob func(uint32) uint64) {
	e.b = append(e.b, ep.id[:]...)
	e.uvarint(uint64(ep.serial))
	e.uvarint(uint64(ep.state))
	e.flags(ep.suppressed, ep.reported, ep.changed)
	for _, v := range []int64{ep.first, ep.last, ep.satisfied, ep.count, ep.revision, ep.reportedAt, ep.gone, ep.goneLast} {
		e.varint(v)
	}
	e.b = append(e.b, ep.mergedInto[:]...)
	e.b = append(e.b, ep.goneID[:]...)
	kept := func(list []keptEvent) {
		e.uvarint(uint64(len(list)))
		for _, k := range list {
			e.b = append(e.b, k.id[:]...)
			e.varint(k.time)
			e.uvarint(uint64(k.step))
			e.uvarint(blob(k.blob))
		}
	}
	kept(ep.firsts)
	kept(ep.kept()[len(ep.firsts):])
}

// Restore puts back what AppendSnapshot wrote, into windows that are empty.
// Groups of correlations that are not here, or that have changed since, are
// dropped. After an error the windows must not be used.
func (w *Windows) Restore(b []byte) error {
	if len(b) < 5 || b[0] != windowsVersion {
		return fmt.Errorf("%w: not of version %d", errWindows, windowsVersion)
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[len(body):]) {
		return fmt.Errorf("%w: checksum", errWindows)
	}
	d := decoder{b: body[1:]}
	w.mark = d.varint()
	w.stats.EvictedGroups = d.varint()
	w.stats.Late = d.varint()
	n := d.count(9)
	// Uses are written as how long ago they were; none is longer ago than this.
	w.tick = d.uvarint()
	size := binary.BigEndian.Uint64(d.take(groupsSize))
	if d.failed || size > uint64(len(d.b)) {
		return fmt.Errorf("%w: length of the groups", errWindows)
	}
	groups := decoder{b: d.take(int(size))}
	texts := make([]snapshotText, d.count(1)+1)
	for i := 1; i < len(texts); i++ {
		texts[i].text = d.bytes()
	}
	byHash := make(map[uint64]*windowRule)
	for _, r := range w.rules {
		if r != nil {
			byHash[r.c.Hash] = r
		}
	}
	for range n {
		hash := binary.BigEndian.Uint64(groups.take(8))
		one := decoder{b: groups.bytes()}
		if r := byHash[hash]; r != nil && !groups.failed {
			one.group(w, r, texts)
			groups.failed = one.failed || len(one.b) > 0
		}
		if groups.failed {
			break
		}
	}
	if d.failed || len(d.b) > 0 || groups.failed || len(groups.b) > 0 {
		return fmt.Errorf("%w: contents", errWindows)
	}
	return nil
}

// decoder reads what encoder wrote. After the first failure it returns zeros.
type decoder struct {
	b      []byte
	failed bool
}

func (d *decoder) fail() { d.failed, d.b = true, nil }

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// below reads a number that must be less than limit.
func (d *decoder) below(limit int) int {
	v := d.uvarint()
	if v >= uint64(limit) {
		d.fail()
		return 0
	}
	return int(v)
}

// count reads a number of things that take at least size bytes each, so that
// no number can make us allocate more than the snapshot could hold.
func (d *decoder) count(size int) int { return d.below(len(d.b)/size + 1) }

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail()
		return make([]byte, n)
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) bytes() []byte { return d.take(d.count(1)) }

// blob reads a reference to a text and takes one to its blob.
func (d *decoder) blob(w *Windows, texts []snapshotText) uint32 {
	t := &texts[d.below(len(texts))]
	if len(t.text) == 0 {
		return noBlob
	}
	if t.blob == noBlob {
		t.blob = w.blobs.intern(t.text, noBlob)
	} else {
		w.blobs.retain(t.blob)
	}
	return t.blob
}

// snapshotText is a text of a snapshot, and its blob once there is one. What is
// restored is not dropped before all is, so that stays what it is.
type snapshotText struct {
	text []byte
	blob uint32
}

func (d *decoder) group(w *Windows, r *windowRule, texts []snapshotText) {
	key := d.bytes()
	groups := w.stats.Groups
	g := w.group(r, key)
	if d.failed || w.stats.Groups == groups {
		d.fail()
		return
	}
	ago := d.uvarint()
	if ago > w.tick {
		d.fail()
		return
	}
	g.used = w.tick - ago
	if d.below(2) == 1 {
		more := g.extra()
		more.decided, more.coveredUntil, more.quietUntil = d.varint(), d.varint(), d.varint()
		more.serial = uint16(d.below(1 << 16))
	}
	last := int64(0)
	for range d.count(16) {
		e := entry{time: last + d.varint()}
		last = e.time
		copy(e.id[:], d.take(len(e.id)))
		e.step = uint8(d.below(len(r.c.Steps)))
		e.ep = uint16(d.below(1 << 16))
		e.blob = d.blob(w, texts)
		e.begins = d.below(2) == 1
		switch r.c.Type {
		case rules.ValueCount:
			e.value = uint64(d.blob(w, texts))
		case rules.ValueSum, rules.ValueAvg, rules.ValuePercentile, rules.ValueMedian:
			e.value = d.uvarint()
		}
		n := g.len()
		if d.failed || n > 0 && g.at(n-1).compare(&e) >= 0 {
			d.fail()
			return
		}
		g.insert(w, n, &e)
	}
	for range d.count(32) {
		ep := d.episode(w, texts)
		if d.failed {
			return
		}
		more := g.extra()
		more.episodes = append(more.episodes, ep)
	}
	if !d.failed {
		w.schedule(g)
	}
}

func (d *decoder) episode(w *Windows, texts []snapshotText) *episode {
	ep := new(episode)
	copy(ep.id[:], d.take(len(ep.id)))
	ep.serial = uint16(d.below(1 << 16))
	ep.state = episodeState(d.below(int(episodeRetracted) + 1))
	flags := d.below(8)
	ep.suppressed, ep.reported, ep.changed = flags&1 != 0, flags&2 != 0, flags&4 != 0
	for _, v := range []*int64{&ep.first, &ep.last, &ep.satisfied, &ep.count, &ep.revision, &ep.reportedAt, &ep.gone, &ep.goneLast} {
		*v = d.varint()
	}
	copy(ep.mergedInto[:], d.take(len(ep.mergedInto)))
	copy(ep.goneID[:], d.take(len(ep.goneID)))
	kept := func() (list []keptEvent) {
		for range d.count(16) {
			var k keptEvent
			copy(k.id[:], d.take(len(k.id)))
			k.time = d.varint()
			k.step = uint8(d.below(256))
			k.blob = d.blob(w, texts)
			if d.failed {
				return list
			}
			list = append(list, k)
		}
		return list
	}
	ep.firsts, ep.lasts = kept(), kept()
	return ep
}
