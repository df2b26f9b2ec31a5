package correlate

import (
	"math/bits"
	"slices"
	"sort"
)

// profile is the values of the windows of a large group, by the times that they
// begin at. An event changes those of all windows from one beginning to another
// by the same amount. The beginnings are in blocks with a segment tree over them,
// so that changing a range, and finding the first or last window in one whose
// value is great enough, take the logarithm of the number of beginnings.
//
// The values only grow: it is for conditions that hold at once.
type profile struct {
	blocks []profileBlock
	empty  int // blocks at the front whose beginnings are gone
	// The tree over the blocks, root at 1, leaves from leaves on. A node's most is
	// the greatest value below it, without what is pending above it; pending is to
	// be added to all that is below.
	leaves        int
	most, pending []float64
}

type profileBlock struct {
	begins []int64
	values []float64 // without what is pending in the tree
}

// A block that grows at its end is left some room for what comes late.
const (
	profileBlockSize = 64
	profileBlockFill = 44
)

// start makes t a beginning. Its window has the value that value returns for the
// beginning after t and the value of that one's window; with none after it the
// value is 0.
func (p *profile) start(t int64, value func(next int64, nextValue float64) float64) {
	b, i := p.search(t)
	if b == len(p.blocks) { // behind the last one
		if b--; b < 0 || len(p.blocks[b].begins) >= profileBlockFill {
			if b++; b+1 >= p.leaves {
				p.arrange(func(_, _ []float64) {})
			}
			p.blocks = append(p.blocks, newProfileBlock())
		}
		p.put(b, len(p.blocks[b].begins), t, 0)
		return
	}
	next := p.blocks[b].begins[i]
	if next == t {
		return
	}
	v := value(next, p.blocks[b].values[i]+p.above(b))
	if len(p.blocks[b].begins) == profileBlockSize {
		p.split(b)
		b, i = p.search(t)
	}
	p.put(b, i, t, v)
}

func newProfileBlock() profileBlock {
	return profileBlock{begins: make([]int64, 0, profileBlockSize), values: make([]float64, 0, profileBlockSize)}
}

func (p *profile) put(b, i int, t int64, value float64) {
	block := &p.blocks[b]
	value -= p.above(b)
	block.begins = slices.Insert(block.begins, i, t)
	block.values = slices.Insert(block.values, i, value)
	if at := p.leaves + b; value > p.most[at] || len(block.values) == 1 {
		p.most[at] = value
		p.lift(at)
	}
}

// search returns the block of the first beginning that is not before t, and where
// in it that is.
func (p *profile) search(t int64) (b, i int) {
	live := p.blocks[p.empty:]
	b = p.empty + sort.Search(len(live), func(i int) bool {
		begins := live[i].begins
		return len(begins) > 0 && begins[len(begins)-1] >= t
	})
	if b < len(p.blocks) {
		i, _ = slices.BinarySearch(p.blocks[b].begins, t)
	}
	return b, i
}

// above is what is pending for a block.
func (p *profile) above(b int) (sum float64) {
	for at := p.leaves + b; at > 0; at /= 2 {
		sum += p.pending[at]
	}
	return sum
}

// lift carries the greatest value of a leaf up the tree.
func (p *profile) lift(at int) {
	for at /= 2; at > 0; at /= 2 {
		p.most[at] = max(p.most[2*at]+p.pending[2*at], p.most[2*at+1]+p.pending[2*at+1])
	}
}

func (p *profile) split(b int) {
	upper := newProfileBlock()
	low := &p.blocks[b]
	half := len(low.begins) / 2
	upper.begins = append(upper.begins, low.begins[half:]...)
	upper.values = append(upper.values, low.values[half:]...)
	low.begins, low.values = low.begins[:half], low.values[:half]
	p.arrange(func(most, pending []float64) {
		copy(most[b+2:], most[b+1:len(p.blocks)])
		copy(pending[b+2:], pending[b+1:len(p.blocks)])
		most[b], most[b+1], pending[b+1] = slices.Max(low.values), slices.Max(upper.values), pending[b]
	})
	p.blocks = slices.Insert(p.blocks, b+1, upper)
}

// arrange lets fn change the leaves of the tree, after which there is room for one
// more: with nothing pending above them.
func (p *profile) arrange(fn func(most, pending []float64)) {
	for at := 1; at < p.leaves; at++ {
		p.pending[2*at] += p.pending[at]
		p.pending[2*at+1] += p.pending[at]
		p.pending[at] = 0
	}
	if len(p.blocks)+1 >= p.leaves {
		most, pending, leaves := p.most, p.pending, p.leaves
		p.leaves = max(8, 4*len(p.blocks))
		p.leaves = 1 << bits.Len(uint(p.leaves-1))
		p.most, p.pending = make([]float64, 2*p.leaves), make([]float64, 2*p.leaves)
		for at := range p.most {
			p.most[at] = lowest
		}
		copy(p.most[p.leaves:], most[leaves:])
		copy(p.pending[p.leaves:], pending[leaves:])
	}
	fn(p.most[p.leaves:], p.pending[p.leaves:])
	for at := p.leaves - 1; at > 0; at-- {
		p.most[at] = max(p.most[2*at]+p.pending[2*at], p.most[2*at+1]+p.pending[2*at+1])
	}
}

// compact drops the empty blocks.
func (p *profile) compact() {
	live := copy(p.blocks, p.blocks[p.empty:])
	clear(p.blocks[live:])
	p.arrange(func(most, pending []float64) {
		copy(most, most[p.empty:len(p.blocks)])
		copy(pending, pending[p.empty:len(p.blocks)])
		for b := live; b < len(p.blocks); b++ {
			most[b], pending[b] = lowest, 0
		}
	})
	p.blocks, p.empty = p.blocks[:live], 0
}

// lowest is less than any value.
const lowest = -1e308

// add adds x to the values of the windows that begin from lo to hi.
func (p *profile) add(lo, hi int64, x float64) {
	from, i := p.search(lo)
	to, j := p.search(hi + 1) // behind the last one
	if from > to || from == to && i >= j {
		return
	}
	if from == to {
		p.addPart(from, i, j, x)
		return
	}
	p.addPart(from, i, len(p.blocks[from].begins), x)
	if to < len(p.blocks) && j > 0 {
		p.addPart(to, 0, j, x)
	}
	// Whole blocks between them: the nodes that cover [l, r).
	l, r := p.leaves+from+1, p.leaves+to
	first, last := l, r-1
	if first > last {
		return
	}
	for ; l < r; l, r = l/2, r/2 {
		if l&1 == 1 {
			p.pending[l] += x
			l++
		}
		if r&1 == 1 {
			r--
			p.pending[r] += x
		}
	}
	p.lift(first)
	p.lift(last)
}

func (p *profile) addPart(b, i, j int, x float64) {
	at := p.leaves + b
	for k := i; k < j; k++ {
		p.blocks[b].values[k] += x
		p.most[at] = max(p.most[at], p.blocks[b].values[k])
	}
	p.lift(at)
}

// holding returns the first and the last beginning in [lo, hi] of a window whose
// value holds accepts; holds must accept all values above one that it accepts.
func (p *profile) holding(lo, hi int64, holds func(float64) bool) (first, last int64, ok bool) {
	if !p.some(1, holds) {
		return 0, 0, false
	}
	from, i := p.search(lo)
	to, j := p.search(hi + 1)
	b, k := p.firstFrom(from, i, holds)
	if b < 0 || b > to || b == to && k >= j {
		return 0, 0, false
	}
	first = p.blocks[b].begins[k]
	b, k = p.lastBefore(to, j, holds)
	return first, p.blocks[b].begins[k], true
}

// firstFrom returns the first window that holds at or behind the i-th of block b;
// a negative block when there is none.
func (p *profile) firstFrom(b, i int, holds func(float64) bool) (block, k int) {
	if b >= len(p.blocks) {
		return -1, 0
	}
	if p.some(p.leaves+b, holds) {
		pending := p.above(b)
		for ; i < len(p.blocks[b].values); i++ {
			if holds(p.blocks[b].values[i] + pending) {
				return b, i
			}
		}
	}
	// Up until there is something to the right, then down to its first.
	for at := p.leaves + b; at > 1; at /= 2 {
		if at&1 == 0 && p.some(at+1, holds) {
			at++
			for at < p.leaves {
				at *= 2
				if !p.some(at, holds) {
					at++
				}
			}
			b = at - p.leaves
			pending := p.above(b)
			for i = range p.blocks[b].values {
				if holds(p.blocks[b].values[i] + pending) {
					return b, i
				}
			}
		}
	}
	return -1, 0
}

// lastBefore is firstFrom the other way: the last window that holds before the
// i-th of block b.
func (p *profile) lastBefore(b, i int, holds func(float64) bool) (block, k int) {
	if b < len(p.blocks) && p.some(p.leaves+b, holds) {
		pending := p.above(b)
		for i--; i >= 0; i-- {
			if holds(p.blocks[b].values[i] + pending) {
				return b, i
			}
		}
	}
	for at := p.leaves + b; at > 1; at /= 2 {
		if at&1 == 1 && p.some(at-1, holds) {
			at--
			for at < p.leaves {
				at = 2*at + 1
				if !p.some(at, holds) {
					at--
				}
			}
			b = at - p.leaves
			pending := p.above(b)
			for i = len(p.blocks[b].values) - 1; i >= 0; i-- {
				if holds(p.blocks[b].values[i] + pending) {
					return b, i
				}
			}
		}
	}
	return -1, 0
}

// some reports whether a window below a node holds.
func (p *profile) some(at int, holds func(float64) bool) bool {
	v := p.most[at]
	if v == lowest {
		return false
	}
	for ; at > 0; at /= 2 {
		v += p.pending[at]
	}
	return holds(v)
}

// expire forgets the windows that begin before t.
func (p *profile) expire(t int64) {
	for p.empty < len(p.blocks) {
		block := &p.blocks[p.empty]
		i, _ := slices.BinarySearch(block.begins, t)
		if i == 0 {
			break
		}
		at := p.leaves + p.empty
		if i < len(block.begins) {
			block.begins = slices.Delete(block.begins, 0, i)
			block.values = slices.Delete(block.values, 0, i)
			p.most[at] = slices.Max(block.values)
			p.lift(at)
			break
		}
		*block = profileBlock{}
		p.most[at] = lowest
		p.lift(at)
		p.empty++
	}
	if p.empty == len(p.blocks) || p.empty > 8 && 2*p.empty > len(p.blocks) {
		p.compact()
	}
}

// each calls fn for the windows that begin from lo to hi, with their values, which
// become what it returns: no less than they were.
func (p *profile) each(lo, hi int64, fn func(begin int64, value float64) float64) {
	b, i := p.search(lo)
	for ; b < len(p.blocks); b, i = b+1, 0 {
		block := &p.blocks[b]
		at, pending := p.leaves+b, p.above(b)
		for ; i < len(block.begins) && block.begins[i] <= hi; i++ {
			block.values[i] = fn(block.begins[i], block.values[i]+pending) - pending
			p.most[at] = max(p.most[at], block.values[i])
		}
		p.lift(at)
		if i < len(block.begins) {
			return
		}
	}
}
