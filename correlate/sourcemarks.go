package correlate

import "github.com/tocsin-io/tocsin/internal/watermark"

// sourceMarks follows the partitions of tocsin.events whose matches come
// together in one partition of tocsin.matches: how far each one's event time
// is, and up to which offset its matches have been taken.
type sourceMarks struct {
	sources []sourceMark
	mark    int64
}

type sourceMark struct {
	heard     bool
	idle      bool
	watermark int64
	offset    int64 // the highest whose matches were taken; -1 for none
}

// maxSources bounds the source partitions of a match batch: a hostile number
// must not make us allocate.
const maxSources = 1 << 16

func newSourceMarks(partitions int) *sourceMarks {
	s := &sourceMarks{mark: watermark.None}
	s.grow(partitions)
	return s
}

func (s *sourceMarks) grow(n int) {
	for len(s.sources) < min(n, maxSources) {
		s.sources = append(s.sources, sourceMark{watermark: watermark.None, offset: -1})
	}
}

// source returns the mark of a partition, nil for one that cannot be.
func (s *sourceMarks) source(partition int) *sourceMark {
	if partition < 0 || partition >= maxSources {
		return nil
	}
	s.grow(partition + 1)
	return &s.sources[partition]
}

// watermark returns the minimum over the partitions that are not idle, the
// maximum when all are, and none until every one was heard of: a partition
// that is late to start may still hold older events. It never runs backwards.
func (s *sourceMarks) watermark() int64 {
	low, high := int64(0), int64(watermark.None)
	active := false
	for i := range s.sources {
		m := &s.sources[i]
		if !m.heard {
			return s.mark
		}
		high = max(high, m.watermark)
		if m.idle {
			continue
		}
		if !active || m.watermark < low {
			low, active = m.watermark, true
		}
	}
	if !active {
		low = high
	}
	s.mark = max(s.mark, low)
	return s.mark
}
