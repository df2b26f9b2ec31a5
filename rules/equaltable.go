package rules

// equalTable finds the predicates that a value proves by being equal to one of
// their texts.
type equalTable struct {
	lengths uint64 // bit n: a text of n bytes; bit 63: of 63 or more
	mask    uint32
	slots   []int32 // open addressing: index into entries, plus one
	entries []equalEntry
}

type equalEntry struct {
	text    string
	hits    []hitID
	numbers []hitID // of texts that stand for numbers
}

func newEqualTable(texts []literal, hits []hitID) *equalTable {
	t := &equalTable{}
	index := map[string]int32{}
	for i, l := range texts {
		at, ok := index[l.text]
		if !ok {
			at = int32(len(t.entries))
			index[l.text] = at
			t.entries = append(t.entries, equalEntry{text: l.text})
			t.lengths |= 1 << min(len(l.text), 63)
		}
		e := &t.entries[at]
		e.hits = append(e.hits, hits[i])
		if l.number {
			e.numbers = append(e.numbers, hits[i])
		}
	}
	size := 4
	for size < 2*len(t.entries) {
		size *= 2
	}
	t.mask = uint32(size - 1)
	t.slots = make([]int32, size)
	for i := range t.entries {
		h := textHash([]byte(t.entries[i].text)) & t.mask
		for t.slots[h] != 0 {
			h = (h + 1) & t.mask
		}
		t.slots[h] = int32(i + 1)
	}
	return t
}

// find returns the entry of text, which is ASCII or folded, or nil.
func (t *equalTable) find(text []byte) *equalEntry {
	if t.lengths&(1<<min(len(text), 63)) == 0 {
		return nil
	}
	for h := textHash(text) & t.mask; t.slots[h] != 0; h = (h + 1) & t.mask {
		if e := &t.entries[t.slots[h]-1]; equalFold(text, e.text) {
			return e
		}
	}
	return nil
}

// textHash hashes a text without regard to the case of letters.
func textHash(text []byte) uint32 {
	const factor = 0x9e3779b97f4a7c15
	h := uint64(len(text))
	for len(text) >= 8 {
		h = (h ^ (word(text) | caseless)) * factor
		h ^= h >> 32
		text = text[8:]
	}
	var end [8]byte
	copy(end[:], text)
	h = (h ^ (word(end[:]) | caseless)) * factor
	return uint32(h >> 32)
}
