package correlate

import (
	"encoding/binary"
	"fmt"

	"github.com/tocsin-io/tocsin/internal/watermark"
	"github.com/tocsin-io/tocsin/rules"
)

// levels are the windows of one partition. A correlation of detection rules is
// of level 0, one that refers to other correlations a level above the highest of
// these. The levels have windows of their own because they have watermarks of
// their own: the results of one level are events of those above, and come later
// than events of the same time.
type levels struct {
	set     *rules.Set
	plan    levelPlan
	windows []*Windows // by level
}

// levelPlan is what follows from a rule set for the levels of all partitions.
type levelPlan struct {
	of []int // level by correlation
	// hold is, by level, how far the time of a result may lie behind the watermark
	// of its level, in milliseconds: a condition that waits for the end of its
	// window gives a result that is older by up to the timespan.
	hold []int64
	// shuffled tells the levels that have results which come by tocsin.matches from
	// windows that are there themselves.
	shuffled []bool
}

func planLevels(set *rules.Set) levelPlan {
	p := levelPlan{of: make([]int, len(set.Correlations)), hold: make([]int64, 1), shuffled: make([]bool, 1)}
	scratch := new(Windows)
	for i, c := range set.Correlations {
		// Those that it refers to come before it.
		for _, step := range c.Steps {
			if step.Correlation >= 0 {
				p.of[i] = max(p.of[i], p.of[step.Correlation]+1)
			}
		}
		level := p.of[i]
		for len(p.hold) <= level {
			p.hold, p.shuffled = append(p.hold, 0), append(p.shuffled, false)
		}
		if len(c.Uses) == 0 {
			continue
		}
		if r := scratch.newRule(c, int32(i)); r.deferred {
			p.hold[level] = max(p.hold[level], r.span)
		}
		p.shuffled[level] = p.shuffled[level] || !c.Local
	}
	return p
}

// behind returns mark less what the results of a level may be behind it.
func (p *levelPlan) behind(mark int64, level int) int64 {
	if mark < watermark.None+p.hold[level] {
		return watermark.None
	}
	return mark - p.hold[level]
}

// newLevels returns empty windows for those correlations that are local, or for
// those that are not. Every level has the bounds of opts.
func newLevels(set *rules.Set, local bool, opts WindowOptions) *levels {
	l := &levels{set: set, plan: planLevels(set)}
	for level := range l.plan.hold {
		index := -1 // NewWindows asks about one correlation after the other
		l.windows = append(l.windows, NewWindows(set, func(c *rules.Correlation) bool {
			index++
			return c.Local == local && l.plan.of[index] == level
		}, opts))
	}
	return l
}

// add puts a match into the windows of its correlation.
func (l *levels) add(m *Match) { l.windows[l.plan.of[m.Correlation]].Add(m) }

// outerMatches returns what an episode is to the correlations that refer to its
// own.
func (l *levels) outerMatches(ep *Episode) []Match {
	return l.windows[l.plan.of[ep.Correlation]].OuterMatches(ep)
}

// advance moves all levels on, from the lowest, each to the watermark that mark
// returns for it, and reports what changed. report may add results to higher
// levels: these are advanced after it.
func (l *levels) advance(mark func(level int) int64, report func(*Episode)) {
	for level, w := range l.windows {
		w.Advance(mark(level))
		w.Drain(report)
	}
}

// mark returns how far a level has been advanced.
func (l *levels) mark(level int) int64 { return l.windows[level].mark }

// stats returns the sum over the levels.
func (l *levels) stats() Stats {
	var sum Stats
	for _, w := range l.windows {
		s := w.Stats()
		sum.Groups += s.Groups
		sum.Events += s.Events
		sum.Bytes += s.Bytes
		sum.EvictedGroups += s.EvictedGroups
		sum.Late += s.Late
		sum.Repeated += s.Repeated
		sum.Unusable += s.Unusable
	}
	return sum
}

// levelSize is the size of the length before each level's windows.
const levelSize = 8

// appendSnapshot encodes the windows, each with its length before it.
func (l *levels) appendSnapshot(dst []byte) []byte {
	for _, w := range l.windows {
		start := len(dst)
		dst = w.AppendSnapshot(append(dst, make([]byte, levelSize)...))
		binary.BigEndian.PutUint64(dst[start:], uint64(len(dst)-start-levelSize))
	}
	return dst
}

// restore puts back what appendSnapshot wrote, into windows that are empty. The
// rules may be others than they were: an unchanged correlation is of the level
// that it was. After an error the windows must not be used.
func (l *levels) restore(b []byte) error {
	for level := 0; len(b) > 0; level++ {
		if len(b) < levelSize || binary.BigEndian.Uint64(b) > uint64(len(b)-levelSize) {
			return fmt.Errorf("%w: length of level %d", errWindows, level)
		}
		size := int(binary.BigEndian.Uint64(b))
		b = b[levelSize:]
		if level < len(l.windows) {
			if err := l.windows[level].Restore(b[:size]); err != nil {
				return fmt.Errorf("level %d: %w", level, err)
			}
		}
		b = b[size:]
	}
	return nil
}
