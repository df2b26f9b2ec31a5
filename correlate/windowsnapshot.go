package correlate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/tocsin-io/tocsin/rules"
)

// windowsVersion is the first byte of a snapshot.
const windowsVersion = 1

// errWindows is in the chain of every error about a snapshot of windows.
var errWindows = errors.New("snapshot of windows is damaged")

// AppendSnapshot encodes all state: one section for each correlation, under its
// hash, with its groups in the order of their last use. What Drain has yet to
// report is not in it; call Drain first.
func (w *Windows) AppendSnapshot(dst []byte) []byte {
	start := len(dst)
	e := encoder{b: append(dst, windowsVersion)}
	e.varint(w.mark)
	e.varint(w.stats.EvictedGroups)
	e.varint(w.stats.Late)

	// Blobs are written once, and referred to by the order in which they came up.
	index := make(map[uint32]uint64)
	var texts []string
	blob := func(id uint32) uint64 {
		if id == noBlob {
			return 0
		}
		n, ok := index[id]
		if !ok {
			texts = append(texts, w.blobs.text[id])
			n = uint64(len(texts))
			index[id] = n
		}
		return n
	}
	one, groups := encoder{}, encoder{w.encoded[:0]}
	count := 0
	for g := w.idle.root.next; g != &w.idle.root; g = g.next {
		one.b = one.b[:0]
		one.group(g, blob)
		// With its length before it, a group of a rule that is gone can be passed over.
		groups.b = binary.BigEndian.AppendUint64(groups.b, g.rule.c.Hash)
		groups.bytes(one.b)
		count++
	}
	e.uvarint(uint64(len(texts)))
	for _, t := range texts {
		e.bytes([]byte(t))
	}
	e.uvarint(uint64(count))
	e.b = append(e.b, groups.b...)
	w.encoded = groups.b
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

func (e *encoder) group(g *group, blob func(uint32) uint64) {
	e.bytes([]byte(g.key))
	e.varint(g.decided)
	e.varint(g.quietUntil)
	e.uvarint(uint64(g.serial))
	e.uvarint(uint64(g.len()))
	last := int64(0)
	for i := g.head; i < len(g.entries); i++ {
		en := &g.entries[i]
		e.varint(en.time - last)
		last = en.time
		e.b = append(e.b, en.id[:]...)
		e.uvarint(uint64(en.step))
		e.uvarint(uint64(en.ep))
		e.uvarint(blob(en.blob))
		e.flags(en.begins, en.covered)
		switch {
		case g.rule.c.Type == rules.ValueCount:
			e.uvarint(blob(uint32(g.values[i])))
		case g.rule.valued:
			e.uvarint(g.values[i])
		}
	}
	e.uvarint(uint64(len(g.episodes)))
	for _, ep := range g.episodes {
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
	texts := make([][]byte, d.count(1)+1)
	for i := 1; i < len(texts); i++ {
		texts[i] = d.bytes()
	}
	byHash := make(map[uint64]*windowRule)
	for _, r := range w.rules {
		if r != nil {
			byHash[r.c.Hash] = r
		}
	}
	for range d.count(9) {
		hash := binary.BigEndian.Uint64(d.take(8))
		one := decoder{b: d.bytes()}
		if r := byHash[hash]; r != nil && !d.failed {
			one.group(w, r, texts)
			d.failed = one.failed || len(one.b) > 0
		}
		if d.failed {
			break
		}
	}
	if d.failed || len(d.b) > 0 {
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

// blob reads a reference to a text and interns that.
func (d *decoder) blob(w *Windows, texts [][]byte) uint32 {
	return w.blobs.intern(texts[d.below(len(texts))])
}

func (d *decoder) group(w *Windows, r *windowRule, texts [][]byte) {
	key := d.bytes()
	if d.failed || r.groups[string(key)] != nil {
		d.fail()
		return
	}
	g := w.newGroup(r, key)
	g.decided, g.quietUntil = d.varint(), d.varint()
	g.serial = uint16(d.below(1 << 16))
	last := int64(0)
	for range d.count(16) {
		e := entry{time: last + d.varint()}
		last = e.time
		copy(e.id[:], d.take(len(e.id)))
		e.step = uint8(d.below(len(r.c.Steps)))
		e.ep = uint16(d.below(1 << 16))
		e.blob = d.blob(w, texts)
		flags := d.below(4)
		e.begins, e.covered = flags&1 != 0, flags&2 != 0
		n := len(g.entries)
		if d.failed || n > 0 && g.entries[n-1].compare(&e) >= 0 {
			d.fail()
			return
		}
		g.entries = append(g.entries, e)
		switch {
		case r.c.Type == rules.ValueCount:
			g.values = append(g.values, uint64(d.blob(w, texts)))
		case r.valued:
			g.values = append(g.values, d.uvarint())
		}
	}
	w.stats.Events += len(g.entries)
	for range d.count(32) {
		ep := d.episode(w, texts)
		if d.failed {
			return
		}
		g.episodes = append(g.episodes, ep)
	}
	if !d.failed {
		g.rebuild(w)
	}
}

func (d *decoder) episode(w *Windows, texts [][]byte) *episode {
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

// rebuild makes anew what a snapshot leaves out.
func (g *group) rebuild(w *Windows) {
	n := len(g.entries)
	if n > 0 {
		g.tail = g.first(g.entries[n-1].time - g.rule.span)
		if !g.rule.deferred && g.rule.c.Type != rules.EventCount {
			g.live = g.rule.newMeasure()
			for i := g.tail; i < n; i++ {
				g.live.add(&g.entries[i], g.value(i))
			}
		}
	}
	w.schedule(g)
}
