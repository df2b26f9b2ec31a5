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
	four, three, two gramTable // by that many bytes
	one              []singleText
}

// gramTable maps grams, in which letters lost their case, to texts.
type gramTable struct {
	bits  []uint64
	shift uint8 // of the hash for bits
	mask  uint32
	slots []gramSlot // open addressing
	texts []gramText // those of one gram are neighbours
}

type gramSlot struct {
	gram     uint32
	from, to int32 // in texts; to is 0 where the slot is free
}

type gramText struct {
	text string
	hits []hitID
	at   int32 // of the gram in the text
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
	// minGramTexts: with fewer texts an automaton is small enough to be fast.
	minGramTexts = 48
	caseless     = 0x2020202020202020
	hashFactor   = 0x9e3779b1
)

// gramOf returns the first n bytes of s, at most four.
func gramOf(s string, n int) uint32 {
	g := uint32(0)
	for i := range n {
		g |= uint32(s[i]|0x20) << (8 * i)
	}
	return g
}

// newGramIndex returns an index of texts, nil if they are few, and the texts that
// it did not take.
func newGramIndex(texts []acText) (*gramIndex, []acText) {
	if len(texts) < minGramTexts {
		return nil, texts
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
	x.four, x.three, x.two = newGramTable(four), newGramTable(three), newGramTable(two)
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
	buckets[gram] = append(texts, gramText{t.text, []hitID{t.hit}, int32(at), t.op})
	return true
}

func newGramTable(buckets map[uint32][]gramText) gramTable {
	var t gramTable
	log := 10 // of the bits
	for log < 18 && 1<<log < 32*len(buckets) {
		log++
	}
	t.bits, t.shift = make([]uint64, 1<<log/64), uint8(32-log)
	size := 4
	for size < 2*len(buckets) {
		size *= 2
	}
	t.slots, t.mask = make([]gramSlot, size), uint32(size-1)
	for _, gram := range slices.Sorted(maps.Keys(buckets)) {
		hash := gram * hashFactor
		at := hash >> t.shift
		t.bits[at/64] |= 1 << (at % 64)
		slot := hash & t.mask
		for t.slots[slot].to != 0 {
			slot = (slot + 1) & t.mask
		}
		from := int32(len(t.texts))
		t.texts = append(t.texts, buckets[gram]...)
		t.slots[slot] = gramSlot{gram, from, int32(len(t.texts))}
	}
	return t
}

// may reports whether gram may be one of the table's.
func (t *gramTable) may(gram uint32) bool {
	at := gram * hashFactor >> (t.shift & 31)
	return t.bits[at/64]>>(at%64)&1 != 0
}

// verify compares the texts of a gram that was found at position i.
func (t *gramTable) verify(gram uint32, text []byte, i int, m *Matcher, v *view) {
	for at := gram * hashFactor & t.mask; t.slots[at].to != 0; at = (at + 1) & t.mask {
		slot := &t.slots[at]
		if slot.gram != gram {
			continue
		}
		for j := slot.from; j < slot.to; j++ {
			e := &t.texts[j]
			from := i - int(e.at)
			to := from + len(e.text)
			switch {
			case from < 0 || to > len(text):
				continue
			case e.op == litPrefix && from > 0, e.op == litSuffix && to < len(text):
				continue
			}
			if equalFold(text[from:to], e.text) {
				m.hit(v, e.hits)
			}
		}
		return
	}
}

// scan reports what text, which is ASCII or folded, contains.
func (x *gramIndex) scan(text []byte, m *Matcher, v *view) {
	i := 0
	for ; i+8 <= len(text); i += 4 {
		w := binary.LittleEndian.Uint64(text[i:]) | caseless
		x.test(uint32(w), text, i, m, v)
		x.test(uint32(w>>8), text, i+1, m, v)
		x.test(uint32(w>>16), text, i+2, m, v)
		x.test(uint32(w>>24), text, i+3, m, v)
	}
	for ; i < len(text); i++ {
		// Past the end are zeros; what is compared is within the text.
		var end [4]byte
		copy(end[:], text[i:])
		x.test(binary.LittleEndian.Uint32(end[:])|caseless&0xffffffff, text, i, m, v)
	}
	for i := range x.one {
		if x.one[i].in(text) {
			m.hit(v, x.one[i].hits)
		}
	}
}

// test looks for texts whose gram is at position i.
func (x *gramIndex) test(gram uint32, text []byte, i int, m *Matcher, v *view) {
	if x.four.may(gram) {
		x.four.verify(gram, text, i, m, v)
	}
	if g := gram & 0xffffff; x.three.may(g) {
		x.three.verify(g, text, i, m, v)
	}
	if g := gram & 0xffff; x.two.may(g) {
		x.two.verify(g, text, i, m, v)
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
