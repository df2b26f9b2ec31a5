package correlate

import (
	"strconv"

	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// maxGroupsPerEvent bounds the groups that one event joins when its group
// fields are arrays.
const maxGroupsPerEvent = 64

// maxTupleBytes bounds a group and a condition's value, in encoded bytes. The
// longest that AWS IoT has, a topic name, has 256; what is longer is somebody's
// message text, of which every value would be a group of its own.
const maxTupleBytes = 4096

// feeder turns an event into what it is to the rules: the detection rules that
// it matches, and a Match for every group of every correlation that it is an
// event of. It knows nothing of where these go. It is for one goroutine and
// reuses its memory; an event that matches nothing costs no allocation.
type feeder struct {
	set     *rules.Set
	matcher *rules.Matcher
	// as is the log source that events are taken to have; nil: their own.
	as *rules.LogSource
	// ignored is called with the reason for which an event that matched takes no
	// part in a correlation.
	ignored func(reason string)

	matches  []Match
	values   [][]byte
	starts   []int
	tuple    [][]byte
	arena    []byte // what the matches point to
	evidence []byte
}

func newFeeder(set *rules.Set, ignored func(reason string)) *feeder {
	return &feeder{set: set, matcher: set.NewMatcher(), ignored: ignored}
}

// match returns the detection rules that ev matches, as indexes into Set.Rules,
// and what follows for the correlations. sane is false for an event whose time
// cannot be right: it takes no part in windows. What is returned is valid until
// the next call and no longer than ev.
func (f *feeder) match(ev *schemas.Event, sane bool) ([]int32, []Match) {
	var matched []int32
	if f.as != nil {
		matched = f.matcher.MatchAs(*f.as, ev)
	} else {
		matched = f.matcher.Match(ev)
	}
	if len(matched) == 0 {
		return nil, nil
	}
	f.matches, f.arena, f.evidence = f.matches[:0], f.arena[:0], f.evidence[:0]
	for _, r := range matched {
		uses := f.set.Rules[r].Uses
		if !sane && len(uses) > 0 {
			f.ignored(ignoredFuture)
			continue
		}
		for _, use := range uses {
			f.use(ev, use)
		}
	}
	return matched, f.matches
}

// use makes ev an event of one correlation step, once for each group.
func (f *feeder) use(ev *schemas.Event, use rules.Use) {
	c := f.set.Correlations[use.Correlation]
	step := &c.Steps[use.Step]
	m := Match{Correlation: int32(use.Correlation), Step: int32(use.Step), Time: ev.Time, ID: ev.ID}

	if len(step.Values) > 0 {
		if reason := f.conditionValue(step, &m); reason != "" {
			f.ignored(reason)
			return
		}
	}
	// The values of all group fields, field after field; starts says where each
	// field's begin.
	f.values, f.starts = f.values[:0], f.starts[:0]
	groups := 1
	for _, field := range step.Group {
		at := len(f.values)
		f.starts = append(f.starts, at)
		f.values = f.matcher.AppendValues(f.values, field)
		if len(f.values) == at {
			f.ignored(ignoredNoGroup)
			return
		}
		groups *= len(f.values) - at
		if groups > maxGroupsPerEvent {
			f.ignored(ignoredManyGroups)
			groups = maxGroupsPerEvent
		}
	}
	if len(f.evidence) == 0 {
		f.evidence = appendEvidence(f.evidence, ev)
	}
	m.Evidence = f.evidence
	for g := range groups {
		f.tuple = f.tuple[:0]
		rest := g
		for i := range step.Group {
			end := len(f.values)
			if i+1 < len(f.starts) {
				end = f.starts[i+1]
			}
			n := end - f.starts[i]
			f.tuple = append(f.tuple, f.values[f.starts[i]+rest%n])
			rest /= n
		}
		if m.Group = f.keep(); len(m.Group) > maxTupleBytes {
			f.ignored(ignoredLongGroup)
			continue
		}
		f.matches = append(f.matches, m)
	}
}

// conditionValue notes what the condition's fields hold: the tuple that
// value_count counts, and the number that sums and percentiles take. It returns
// why the event takes no part, if so.
func (f *feeder) conditionValue(step *rules.Step, m *Match) (ignored string) {
	f.tuple = f.tuple[:0]
	for _, field := range step.Values {
		f.values = f.matcher.AppendValues(f.values[:0], field)
		if len(f.values) == 0 {
			return ignoredNoValue
		}
		f.tuple = append(f.tuple, f.values[0])
	}
	if m.Value = f.keep(); len(m.Value) > maxTupleBytes {
		return ignoredLongValue
	}
	if len(f.tuple) == 1 {
		if n, err := strconv.ParseFloat(string(f.tuple[0]), 64); err == nil {
			m.Number, m.HasNumber = n, true
		}
	}
	return ""
}

// keep encodes the tuple at hand. When the arena grows, what was encoded before
// stays where it is.
func (f *feeder) keep() []byte {
	at := len(f.arena)
	f.arena = AppendTuple(f.arena, f.tuple...)
	return f.arena[at:len(f.arena):len(f.arena)]
}
