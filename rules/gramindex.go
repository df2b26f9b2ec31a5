package rules

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
)

// gramIndex finds texts by four bytes of each, the gram that the fewest other
// texts have. Whether a gram is any text's is one bit of a bitmap that stays in
// the cache; unlike the steps of an automaton the tests of neighbouring positions
// do not wait for each other. So the cost per byte hardly grows with the number
// of texts. (The idea is Wu and Manber's, "A fast algorithm for multi-pattern
// searching", 1994, with the block chosen by rarity instead of position.)
//
// The worst case is bounded, not linear: maxBucket texts of maxGramText bytes are
// compared at a position. What would exceed this is left to an automaton.
type gramIndex struct {
	tables []gramTable // by four, three and two bytes
	one    []singleText
}

// gramTable maps grams of n bytes, in which letters lost their case, to texts.
type gramTable struct {
	n         int
	keep      uint32 // the gram's bits of four bytes
	bitShift  uint8  // of the hash, for bits
	slotShift uint8  // of the hash, for slots
	bits      []uint64
	slots     []gramSlot  // open addressing
	entries   []gramEntry // those of one gram are neighbours
	texts     []byte      // of the entries
	hits      []hitID     // of the entries
}

type gramSlot struct {
	gram     uint32
	from, to int32 // in entries; to is 0 where the slot is free
}

type gramEntry struct {
	text       uint32 // in texts
	length, at uint16 // of the text, and of the gram in it
	op         literalOp
	hits       span
}

// gramText is an entry before the table is built.
type gramText struct {
	text string
	hits []hitID
	at   int
	op   literalOp
}

// singleText is a text of one byte.
type singleText struct {
	lower, upper byte
	op           literalOp
	hits         []hitID
}

const (
	maxBucket   = 8
	maxGramText = 256
	caseless    = 0x2020202020202020
	hashFactor  = 0x9e3779b1
)

// gramOf returns the first n bytes of s, at most four.
func gramOf(s string, n int) uint32 {
	g := uint32(0)
	for i := range n {
		g |= uint32(s[i]|0x20) << (8 * i)
	}
	return g
}

// newGramIndex returns an index of texts, nil if there are none, and the texts that
// it did not take.
func newGramIndex(texts []acText) (*gramIndex, []acText) {
	if len(texts) == 0 {
		return nil, nil
	}
	count := map[uint32]int{}
	for _, t := range texts {
		for i := 0; i+4 <= len(t.text); i++ {
			count[gramOf(t.text[i:], 4)]++
		}
	}
	x := &gramIndex{}
	four, three, two := map[uint32][]gramText{}, map[uint32][]gramText{}, map[uint32][]gramText{}
	var rest []acText
	for _, t := range texts {
		ok := true
		switch n := len(t.text); {
		case n > maxGramText:
			ok = false
		case n >= 4:
			ok = addRarest(four, count, t)
		case n == 3:
			ok = add(three, gramOf(t.text, 3), 0, t)
		case n == 2:
			ok = add(two, gramOf(t.text, 2), 0, t)
		default:
			x.addOne(t)
		}
		if !ok {
			rest = append(rest, t)
		}
	}
	for _, t := range []gramTable{newGramTable(4, four), newGramTable(3, three), newGramTable(2, two)} {
		if t.n > 0 {
			x.tables = append(x.tables, t)
		}
	}
	return x, rest
}

// addRarest takes the rarest gram of the text whose bucket has room.
func addRarest(buckets map[uint32][]gramText, count map[uint32]int, t acText) bool {
	positions := make([]int, len(t.text)-3)
	for i := range positions {
		positions[i] = i
	}
	slices.SortStableFunc(positions, func(a, b int) int {
		return count[gramOf(t.text[a:], 4)] - count[gramOf(t.text[b:], 4)]
	})
	for _, at := range positions {
		if add(buckets, gramOf(t.text[at:], 4), at, t) {
			return true
		}
	}
	return false
}

func (x *gramIndex) addOne(t acText) {
	for i := range x.one {
		if s := &x.one[i]; s.lower == t.text[0] && s.op == t.op {
			s.hits = append(s.hits, t.hit)
			return
		}
	}
	s := singleText{t.text[0], t.text[0], t.op, []hitID{t.hit}}
	if 'a' <= s.lower && s.lower <= 'z' {
		s.upper -= 'a' - 'A'
	}
	x.one = append(x.one, s)
}

// add puts a text into the bucket of its gram and reports whether there was
// room.
func add(buckets map[uint32][]gramText, gram uint32, at int, t acText) bool {
	texts := buckets[gram]
	for i := range texts {
		if e := &texts[i]; e.text == t.text && e.op == t.op {
			e.hits = append(e.hits, t.hit)
			return true
		}
	}
	if len(texts) == maxBucket {
		return false
	}
	buckets[gram] = append(texts, gramText{t.text, []hitID{t.hit}, at, t.op})
	return true
}

func newGramTable(n int, buckets map[uint32][]gramText) gramTable {
	if len(buckets) == 0 {
		return gramTable{}
	}
	t := gramTable{n: n, keep: uint32(1<<(8*n) - 1)}
	log := 13 // of the bits
	for log < 18 && 1<<log < 32*len(buckets) {
		log++
	}
	t.bits, t.bitShift = make([]uint64, 1<<log/64), uint8(32-log)
	log = 2 // of the slots
	for 1<<log < 2*len(buckets) {
		log++
	}
	t.slots, t.slotShift = make([]gramSlot, 1<<log), uint8(32-log)
	for _, gram := range slices.Sorted(maps.Keys(buckets)) {
		hash := gram * hashFactor
		at := hash >> t.bitShift
		t.bits[at/64] |= 1 << (at % 64)
		slot := int(hash >> t.slotShift)
		for t.slots[slot].to != 0 {
			slot = (slot + 1) & (len(t.slots) - 1)
		}
		from := int32(len(t.entries))
		for _, text := range buckets[gram] {
			e := gramEntry{text: uint32(len(t.texts)), length: uint16(len(text.text)), at: uint16(text.at), op: text.op}
			t.texts = append(t.texts, text.text...)
			e.hits.from = int32(len(t.hits))
			t.hits = append(t.hits, text.hits...)
			e.hits.to = int32(len(t.hits))
			t.entries = append(t.entries, e)
		}
		t.slots[slot] = gramSlot{gram, from, int32(len(t.entries))}
	}
	return t
}

// bit returns in its lowest bit whether gram may be one of the table's.
func (t *gramTable) bit(gram uint32) uint64 {
	at := gram * hashFactor >> (t.bitShift & 31)
	return t.bits[at/64] >> (at % 64)
}

func (t *gramTable) may(gram uint32) bool { return t.bit(gram)&1 != 0 }

// bucket returns the texts of a gram.
func (t *gramTable) bucket(gram uint32) []gramEntry {
	for at := int(gram * hashFactor >> (t.slotShift & 31)); ; at++ {
		slot := &t.slots[at&(len(t.slots)-1)]
		if slot.gram == gram || slot.to == 0 {
			return t.entries[slot.from:slot.to]
		}
	}
}

// holds reports whether the text of e is in text, with its gram at position i.
func (t *gramTable) holds(e *gramEntry, text []byte, i int) bool {
	from := i - int(e.at)
	to := from + int(e.length)
	switch {
	case from < 0 || to > len(text), e.op == litPrefix && from > 0, e.op == litSuffix && to < len(text):
		return false
	}
	return equalFold(text[from:to], t.texts[e.text:][:e.length])
}

// test looks for texts whose gram is at position i.
func (t *gramTable) test(gram uint32, text []byte, i int, m *Matcher) {
	if !t.may(gram) {
		return
	}
	entries := t.bucket(gram)
	for j := range entries {
		if e := &entries[j]; t.holds(e, text, i) {
			m.hit(t.hits[e.hits.from:e.hits.to])
		}
	}
}

func (t *gramTable) scan(text []byte, m *Matcher) {
	i := 0
	keep := t.keep
	for ; i+8 <= len(text); i += 4 {
		w := binary.LittleEndian.Uint64(text[i:]) | caseless
		a, b, c, d := uint32(w)&keep, uint32(w>>8)&keep, uint32(w>>16)&keep, uint32(w>>24)&keep
		// Mostly none of the four is there, which is one branch.
		if (t.bit(a)|t.bit(b)|t.bit(c)|t.bit(d))&1 != 0 {
			t.test(a, text, i, m)
			t.test(b, text, i+1, m)
			t.test(c, text, i+2, m)
			t.test(d, text, i+3, m)
		}
	}
	var end [8]byte
	copy(end[:], text[i:])
	w := binary.LittleEndian.Uint64(end[:]) | caseless
	for ; i+t.n <= len(text); i++ {
		t.test(uint32(w)&keep, text, i, m)
		w >>= 8
	}
}

// scan reports what text, which is ASCII or folded, contains.
func (x *gramIndex) scan(text []byte, m *Matcher) {
	for i := range x.tables {
		x.tables[i].scan(text, m)
	}
	for i := range x.one {
		if x.one[i].in(text) {
			m.hit(x.one[i].hits)
		}
	}
}

func (s *singleText) in(text []byte) bool {
	if len(text) == 0 {
		return false
	}
	switch s.op {
	case litPrefix:
		return lower[text[0]] == s.lower
	case litSuffix:
		return lower[text[len(text)-1]] == s.lower
	}
	return bytes.IndexByte(text, s.lower) >= 0 || s.upper != s.lower && bytes.IndexByte(text, s.upper) >= 0
}
