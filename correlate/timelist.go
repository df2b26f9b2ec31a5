package correlate

import (
	"math"
	"slices"
	"sort"
)

// timeList is times in their order, each as often as it was put in. They are in
// blocks, so that one that comes out of order moves a block's worth of others.
type timeList struct {
	blocks [][]int64 // none is empty
}

const timeBlockSize = 256

func (l *timeList) insert(t int64) {
	b := l.block(t)
	if b == len(l.blocks) {
		if b--; b < 0 || len(l.blocks[b]) == timeBlockSize {
			l.blocks = append(l.blocks, nil)
			b++
		}
		l.blocks[b] = append(l.blocks[b], t)
		return
	}
	if len(l.blocks[b]) == timeBlockSize {
		upper := slices.Clone(l.blocks[b][timeBlockSize/2:])
		l.blocks[b] = l.blocks[b][:timeBlockSize/2]
		l.blocks = slices.Insert(l.blocks, b+1, upper)
		if t > l.blocks[b][timeBlockSize/2-1] {
			b++
		}
	}
	i, _ := slices.BinarySearch(l.blocks[b], t)
	l.blocks[b] = slices.Insert(l.blocks[b], i, t)
}

// block returns the first block with a time of t or later.
func (l *timeList) block(t int64) int {
	return sort.Search(len(l.blocks), func(i int) bool { return l.blocks[i][len(l.blocks[i])-1] >= t })
}

// upTo returns the last time that is not after t, and the lowest number if there
// is none.
func (l *timeList) upTo(t int64) int64 {
	b := l.block(t + 1)
	if b < len(l.blocks) {
		if i, _ := slices.BinarySearch(l.blocks[b], t+1); i > 0 {
			return l.blocks[b][i-1]
		}
	}
	if b == 0 {
		return math.MinInt64
	}
	return l.blocks[b-1][len(l.blocks[b-1])-1]
}

// from returns the first time that is not before t, and the highest number if
// there is none.
func (l *timeList) from(t int64) int64 {
	b := l.block(t)
	if b == len(l.blocks) {
		return math.MaxInt64
	}
	i, _ := slices.BinarySearch(l.blocks[b], t)
	return l.blocks[b][i]
}

// removeFirst drops the earliest time.
func (l *timeList) removeFirst() {
	l.blocks[0] = l.blocks[0][1:]
	if len(l.blocks[0]) == 0 {
		l.blocks = slices.Delete(l.blocks, 0, 1)
	}
}

func (l *timeList) empty() bool { return len(l.blocks) == 0 }
