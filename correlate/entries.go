package correlate

import (
	"bytes"
	"slices"
	"sort"

	"github.com/tocsin-io/tocsin/schemas"
)

// entry is one event of a group, or of one step of it in temporal correlations.
type entry struct {
	id    schemas.EventID
	time  int64
	value uint64 // of value_count the ID of a blob, of the other value_ types a number's bits
	blob  uint32 // evidence
	ep    uint16 // number of the episode that it contributes to; 0 for none
	step  uint8
	// begins, of deferred correlations only: the window that begins here satisfies
	// the condition.
	begins bool
}

// compare orders entries by time; ties are by ID and step, so that the order is
// that of the set and not of arrival.
func (e *entry) compare(o *entry) int {
	if e.time != o.time {
		if e.time < o.time {
			return -1
		}
		return 1
	}
	if c := bytes.Compare(e.id[:], o.id[:]); c != 0 {
		return c
	}
	return int(e.step) - int(o.step)
}

// entryList is entries in their order. Few are one slice, which is small and
// quick to look through; many are blocks, so that one that comes out of order
// moves a block's worth of others at most. Entries are named by their rank.
type entryList struct {
	few  []entry // from skip on: what is dropped leaves the others where they are
	many *entryBlocks
	skip int32
}

// A list has blocks from fewEntries on, and until it has less than half of them.
const (
	fewEntries   = 64
	blockEntries = 128
	// A block that grows at its end is left some room for what comes late.
	blockFill = 96
)

func (l *entryList) len() int {
	if l.many != nil {
		return l.many.n
	}
	return len(l.few) - int(l.skip)
}

// at returns the entry of a rank. It is valid until the list changes.
func (l *entryList) at(i int) *entry {
	if l.many != nil {
		return l.many.at(i)
	}
	return &l.few[int(l.skip)+i]
}

// search returns the rank of the first entry that is not before e.
func (l *entryList) search(e *entry) int {
	if l.many != nil {
		return l.many.search(e)
	}
	live := l.few[l.skip:]
	return sort.Search(len(live), func(i int) bool { return live[i].compare(e) >= 0 })
}

// insert puts e at rank i.
func (l *entryList) insert(i int, e *entry) {
	if l.many == nil && l.len() == fewEntries {
		l.many = newEntryBlocks(l.few[l.skip:])
		l.few, l.skip = nil, 0
	}
	if l.many != nil {
		l.many.insert(i, e)
		return
	}
	if n := len(l.few); n == cap(l.few) {
		to := l.few
		if live := l.len(); 4*live > 3*n {
			to = make([]entry, min(live+live/2+1, fewEntries))
		}
		l.few, l.skip = to[:copy(to, l.few[l.skip:])], 0
	}
	l.few = slices.Insert(l.few, int(l.skip)+i, *e)
}

// assign makes the entry of rank i a contributing event of an episode, or with 0
// of none.
func (l *entryList) assign(i int, serial uint16) {
	e := l.at(i)
	if l.many != nil && (e.ep == 0) != (serial == 0) {
		block := &l.many.blocks[l.many.near] // at has gone there
		if serial == 0 {
			block.plain++
		} else {
			block.plain--
		}
	}
	e.ep = serial
}

// plainBefore returns the highest rank in [from, i] with an entry that contributes
// to no episode, and -1 if there is none.
func (l *entryList) plainBefore(i, from int) int {
	for i >= from {
		if l.many != nil {
			l.many.at(i)
			if l.many.blocks[l.many.near].plain == 0 {
				i = l.many.nearRank - 1
				continue
			}
		}
		if l.at(i).ep == 0 {
			return i
		}
		i--
	}
	return -1
}

// removeFirst drops the first n entries.
func (l *entryList) removeFirst(n int) {
	if l.many != nil {
		l.many.removeFirst(n)
		if l.many.n < fewEntries/2 {
			l.few = make([]entry, 0, fewEntries/2)
			for i := range l.many.n {
				l.few = append(l.few, *l.many.at(i))
			}
			l.many = nil
		}
		return
	}
	l.skip += int32(n)
	switch left := l.len(); {
	case left == 0:
		l.few, l.skip = nil, 0
	case cap(l.few) >= 8 && left <= cap(l.few)/4:
		l.few, l.skip = append(make([]entry, 0, cap(l.few)/2), l.few[l.skip:]...), 0
	}
}

// capacity is how many entries there is memory for.
func (l *entryList) capacity() int {
	if l.many != nil {
		return len(l.many.blocks) * blockEntries
	}
	return cap(l.few)
}

// entryBlocks is entries in blocks. Those that are empty are at the front, where
// the oldest were, until there are enough of them to be worth the moving.
type entryBlocks struct {
	blocks []entryBlock
	empty  int
	n      int
	// counts is a Fenwick tree of the lengths of the blocks: from a rank to its
	// block and back takes the logarithm of their number.
	counts []int32
	// The block last used and the rank of its first entry: most look at one entry
	// after the other.
	near, nearRank int
}

type entryBlock struct {
	entries []entry
	plain   int   // entries that contribute to no episode
	last    int64 // time of the last one
}

func newEntryBlocks(entries []entry) *entryBlocks {
	b := &entryBlocks{blocks: []entryBlock{{entries: append(make([]entry, 0, blockEntries), entries...)}}, n: len(entries)}
	b.blocks[0].measure()
	b.recount()
	return b
}

// measure sets what follows from the entries of a block.
func (b *entryBlock) measure() {
	b.plain = 0
	for i := range b.entries {
		if b.entries[i].ep == 0 {
			b.plain++
		}
	}
	b.last = b.entries[len(b.entries)-1].time
}

// recount makes the tree anew, without the empty blocks.
func (b *entryBlocks) recount() {
	if b.empty > 0 {
		live := copy(b.blocks, b.blocks[b.empty:])
		clear(b.blocks[live:])
		b.blocks, b.empty = b.blocks[:live], 0
	}
	b.counts = slices.Grow(b.counts[:0], len(b.blocks)+1)[:len(b.blocks)+1]
	clear(b.counts)
	for i := range b.blocks {
		k := i + 1
		b.counts[k] += int32(len(b.blocks[i].entries))
		if up := k + k&-k; up < len(b.counts) {
			b.counts[up] += b.counts[k]
		}
	}
	b.near, b.nearRank = 0, 0
}

func (b *entryBlocks) count(block, n int) {
	for k := block + 1; k < len(b.counts); k += k & -k {
		b.counts[k] += int32(n)
	}
}

// rank returns the rank of the first entry of a block.
func (b *entryBlocks) rank(block int) int {
	n := 0
	for k := block; k > 0; k &= k - 1 {
		n += int(b.counts[k])
	}
	return n
}

// find makes the block that has the entry of a rank the near one.
func (b *entryBlocks) find(i int) {
	if i == b.nearRank+len(b.blocks[b.near].entries) && b.near+1 < len(b.blocks) {
		b.nearRank = i
		b.near++
		return
	}
	if i == b.nearRank-1 {
		b.near--
		b.nearRank -= len(b.blocks[b.near].entries)
		return
	}
	block, rank := 0, 0
	step := 1
	for 2*step < len(b.counts) {
		step *= 2
	}
	for ; step > 0; step /= 2 {
		if k := block + step; k < len(b.counts) && rank+int(b.counts[k]) <= i {
			block, rank = k, rank+int(b.counts[k])
		}
	}
	if block == len(b.blocks) { // behind the last entry
		block--
		rank -= len(b.blocks[block].entries)
	}
	b.near, b.nearRank = block, rank
}

func (b *entryBlocks) at(i int) *entry {
	if k := i - b.nearRank; uint(k) < uint(len(b.blocks[b.near].entries)) {
		return &b.blocks[b.near].entries[k]
	}
	b.find(i)
	return &b.blocks[b.near].entries[i-b.nearRank]
}

func (b *entryBlocks) search(e *entry) int {
	live := b.blocks[b.empty:]
	block := b.empty + sort.Search(len(live), func(i int) bool {
		if live[i].last != e.time {
			return live[i].last > e.time
		}
		return live[i].entries[len(live[i].entries)-1].compare(e) >= 0
	})
	if block == len(b.blocks) {
		return b.n
	}
	if b.near != block {
		b.near, b.nearRank = block, b.rank(block)
	}
	entries := b.blocks[block].entries
	return b.nearRank + sort.Search(len(entries), func(i int) bool { return entries[i].compare(e) >= 0 })
}

func (b *entryBlocks) insert(i int, e *entry) {
	if i == b.n {
		last := len(b.blocks) - 1
		if len(b.blocks[last].entries) >= blockFill {
			b.blocks = append(b.blocks, entryBlock{entries: make([]entry, 0, blockEntries)})
			last++
			// The new node of the tree is the sum of those below it; its own block is
			// still empty.
			sum := int32(0)
			for k := last; k > (last+1)&last; k &= k - 1 {
				sum += b.counts[k]
			}
			b.counts = append(b.counts, sum)
		}
		b.put(last, len(b.blocks[last].entries), e)
		return
	}
	if k := i - b.nearRank; uint(k) >= uint(len(b.blocks[b.near].entries)) {
		b.find(i)
	}
	if len(b.blocks[b.near].entries) == blockEntries {
		b.split(b.near)
		b.find(i)
	}
	b.put(b.near, i-b.nearRank, e)
}

func (b *entryBlocks) put(block, at int, e *entry) {
	to := &b.blocks[block]
	if len(to.entries) == cap(to.entries) {
		// Its front was cut off.
		to.entries = append(make([]entry, 0, blockEntries), to.entries...)
	}
	to.entries = slices.Insert(to.entries, at, *e)
	to.last = to.entries[len(to.entries)-1].time
	if e.ep == 0 {
		to.plain++
	}
	b.n++
	b.count(block, 1)
	if block < b.near {
		b.nearRank++
	}
}

func (b *entryBlocks) split(block int) {
	entries := b.blocks[block].entries
	half := len(entries) / 2
	upper := entryBlock{entries: append(make([]entry, 0, blockEntries), entries[half:]...)}
	b.blocks[block].entries = entries[:half]
	b.blocks[block].measure()
	upper.measure()
	b.blocks = slices.Insert(b.blocks, block+1, upper)
	b.recount()
}

func (b *entryBlocks) removeFirst(n int) {
	b.n -= n
	for n > 0 {
		first := &b.blocks[b.empty]
		gone := min(n, len(first.entries))
		for i := range gone {
			if first.entries[i].ep == 0 {
				first.plain--
			}
		}
		first.entries = first.entries[gone:]
		b.count(b.empty, -gone)
		n -= gone
		if len(first.entries) > 0 {
			break
		}
		*first = entryBlock{}
		b.empty++
	}
	if b.empty == len(b.blocks) || 2*b.empty > len(b.blocks) && b.empty > 8 {
		b.recount()
		return
	}
	b.near, b.nearRank = b.empty, 0
}
