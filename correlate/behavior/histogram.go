package behavior

import "math/bits"

const (
	exactBuckets  = 16 // values below have a bucket each
	octaveBuckets = 8  // buckets for each doubling above
	numBuckets    = exactBuckets + (32-4)*octaveBuckets
)

// bucketOf returns the bucket of a value. Buckets are in the order of their values,
// and those of one bucket differ by at most an eighth.
func bucketOf(v uint32) int {
	if v < exactBuckets {
		return int(v)
	}
	octave := bits.Len32(v) - 1 // at least 4
	return exactBuckets + (octave-4)*octaveBuckets + int(v>>(octave-3))&(octaveBuckets-1)
}

// histogram counts devices by value.
type histogram [numBuckets]uint32

// pairs returns the buckets that are not empty, with their counts.
func (h *histogram) pairs() [][2]uint32 {
	var p [][2]uint32
	for i, n := range h {
		if n > 0 {
			p = append(p, [2]uint32{uint32(i), n})
		}
	}
	return p
}

// distribution is how the values of one metric lie in the fleet.
type distribution struct {
	below [numBuckets + 1]uint64 // devices in the buckets before this one
}

// total returns the number of devices.
func (d *distribution) total() uint64 { return d.below[numBuckets] }

// percentile returns the share of the fleet, in percent, that lies below v; of those
// in v's own bucket half counts.
func (d *distribution) percentile(v uint32) float64 {
	b := bucketOf(v)
	return 50 * float64(d.below[b]+d.below[b+1]) / float64(d.total())
}
