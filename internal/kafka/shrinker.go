package kafka

// shrinker tells when a reused buffer is much larger than what it is used for. A worker that has caught up would otherwise
// keep the memory that catching up took, and so would every other partition.
type shrinker struct {
	uses, most int
}

const (
	shrinkAfter = 64        // uses; of a partition that is silent, about half a minute
	shrinkAbove = 256 << 10 // bytes; less is not worth it
)

// after notes a use of size bytes of a buffer with the given capacity, and reports whether to let go of it: whether the last
// uses all needed less than a quarter.
func (s *shrinker) after(size, capacity int) bool {
	s.most = max(s.most, size)
	if s.uses++; s.uses < shrinkAfter {
		return false
	}
	let := capacity > shrinkAbove && s.most < capacity/4
	s.uses, s.most = 0, 0
	return let
}
