package correlate

import (
	"slices"

	"github.com/tocsin-io/tocsin/internal/watermark"
)

// A match batch says where it comes from, by a number: its partition of
// tocsin.events, or what resultSource returns. Partitions are below maxSources.
const (
	maxSources = 1 << 16
	// noSource marks results: each goes alone and says nothing of its source's
	// watermark.
	noSource = maxSources
)

// resultSource is the number by which a partition of tocsin.matches tells the
// watermark of one level of its windows: all its results before that are sent.
func resultSource(level, partition int) int { return (level+2)*maxSources + partition }

// sourceMarks follows how far event time is in the sources of one partition of
// tocsin.matches: the partitions of tocsin.events for the matches of events, and
// those of tocsin.matches for the results of correlations that are events of
// others.
type sourceMarks struct {
	sources []sourceMark // by partition of tocsin.events
	results [][]int64    // by level and partition of tocsin.matches
	matches int          // partitions of that
	mark    int64
}

type sourceMark struct {
	heard     bool
	idle      bool
	watermark int64
}

func newSourceMarks(events, matches int) *sourceMarks {
	s := &sourceMarks{mark: watermark.None, matches: matches, sources: make([]sourceMark, events)}
	for i := range s.sources {
		s.sources[i].watermark = watermark.None
	}
	return s
}

// maxLevels bounds how deep correlations are followed from what a batch says.
const maxLevels = 64

// hear notes the watermark that a batch brought. A source that cannot be is
// passed over: waiting for one, the watermark would stand still for ever.
func (s *sourceMarks) hear(source int, mark int64, idle bool) {
	level, partition := source/maxSources-2, source%maxSources
	switch {
	case source < 0:
	case source < maxSources && partition < len(s.sources):
		m := &s.sources[partition]
		m.heard, m.idle, m.watermark = true, idle, max(m.watermark, mark)
	case level >= 0 && level < maxLevels && partition < s.matches:
		r := s.level(level)
		r[partition] = max(r[partition], mark)
	}
}

// level returns the watermarks of the results of a level.
func (s *sourceMarks) level(level int) []int64 {
	for len(s.results) <= level {
		s.results = append(s.results, slices.Repeat([]int64{watermark.None}, s.matches))
	}
	return s.results[level]
}

// events returns the minimum over the partitions of tocsin.events that are not
// idle, the maximum when all are, and none until every one was heard of: a
// partition that is late to start may still hold older events. It never runs
// backwards.
func (s *sourceMarks) events() int64 {
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

// watermark returns the watermark of a level. That of level 0 is the events'; a
// higher one waits for the results of the level below: of those that are sent
// from where the events are, it is enough that they are sent before the
// watermark is told; for those from windows behind the shuffle, all partitions
// must have told theirs.
func (s *sourceMarks) watermark(level int, plan *levelPlan) int64 {
	mark := s.events()
	for below := range level {
		if plan.shuffled[below] {
			mark = min(mark, slices.Min(s.level(below)))
		}
		mark = plan.behind(mark, below)
	}
	return mark
}
