package correlate

import (
	"github.com/tocsin-io/tocsin/internal/watermark"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// ReplayOptions of a Replay. The zero value is what a live partition does.
type ReplayOptions struct {
	Windows   WindowOptions
	Watermark watermark.Options
	// LogSource is what events are taken to be of; nil: their own.
	LogSource *rules.LogSource
	// Reorder is how many matches are held back to be put into the order of event
	// time before they reach the windows. As long as all of them fit, no event is
	// late, in whatever order they come. 0: windows see events as they come.
	Reorder int
	// Version of the program, for detections.
	Version string
}

// ReplayStats counts what a Replay did.
type ReplayStats struct {
	Events  int64 // given to Event
	Matched int64 // of these, matched a rule
	Windows Stats
	// Ignored are matches that took no part in a correlation, by reason.
	Ignored map[string]int64
}

// Replay is the correlator without Kafka: events go in, findings come out. It
// is the same matcher, the same windows and the same findings as a partition's,
// with the windows of all groups in one place. It is for one goroutine.
type Replay struct {
	set     *rules.Set
	opts    ReplayOptions
	found   func(*schemas.Finding)
	feeder  *feeder
	windows *Windows
	tracker *watermark.Tracker
	lane    *watermark.Lane
	held    heldMatches
	stats   ReplayStats

	onEpisode func(*Episode) // episode as a value that is made once
	// nested are matches for outer correlations, held until Drain has returned:
	// the windows must not change under it.
	nested []Match
}

// NewReplay returns a Replay that calls found for every finding: the states of
// one detection have the same FindingInfo.UID and ascending revisions. The
// finding is the callee's to keep.
func NewReplay(set *rules.Set, opts ReplayOptions, found func(*schemas.Finding)) *Replay {
	everywhere := func(*rules.Correlation) bool { return true }
	r := &Replay{
		set: set, opts: opts, found: found,
		windows: NewWindows(set, everywhere, opts.Windows),
		tracker: watermark.New(opts.Watermark),
		stats:   ReplayStats{Ignored: map[string]int64{}},
	}
	r.lane = r.tracker.Lane(nil)
	r.feeder = newFeeder(set, func(reason string) { r.stats.Ignored[reason]++ })
	r.feeder.as = opts.LogSource
	r.onEpisode = r.episode
	return r
}

// Event takes the next event and returns the detection rules that it matches,
// as indexes into Set.Rules, valid until the next call. Nothing of ev is kept.
func (r *Replay) Event(ev *schemas.Event) []int32 {
	r.stats.Events++
	sane := r.lane.Observe(ev.Time, ev.IngestTime)
	matched, matches := r.feeder.match(ev, sane)
	if len(matched) > 0 {
		r.stats.Matched++
	}
	for _, i := range matched {
		if rule := r.set.Rules[i]; rule.Alerts {
			f := matchFinding(rule, ev)
			r.found(f.finding(r.opts.Version))
		}
	}
	if r.opts.Reorder > 0 {
		for i := range matches {
			r.held.add(&matches[i])
		}
		if r.held.len() >= r.opts.Reorder {
			r.release(r.held.len() / 2)
		}
		return matched
	}
	for i := range matches {
		r.windows.Add(&matches[i])
	}
	r.advance(r.tracker.Watermark())
	return matched
}

// Finish says that no more events come: what is held back is released, and time
// goes on until every window is decided and every episode closed.
func (r *Replay) Finish() {
	r.release(r.held.len())
	r.drain()
	for at, ok := r.windows.nextWake(); ok; at, ok = r.windows.nextWake() {
		r.windows.Advance(at + 1)
		r.drain()
	}
}

// Flush lets the windows see what is held back, without time going on.
func (r *Replay) Flush() {
	r.release(r.held.len())
	r.drain()
}

// Stats returns what was done so far.
func (r *Replay) Stats() ReplayStats {
	s := r.stats
	s.Windows = r.windows.Stats()
	return s
}

// Groups describes the groups of a correlation, which is given by its index in
// Set.Correlations, as they are now.
func (r *Replay) Groups(correlation int) []GroupState { return r.windows.groupStates(correlation) }

// release hands the n earliest held matches to the windows, in the order of
// time. The watermark follows them: what comes after and is older than the
// allowed lateness is late.
func (r *Replay) release(n int) {
	r.held.release(n, func(m *Match) {
		r.advance(m.Time)
		r.windows.Add(m)
	})
}

// advance moves the windows to the watermark, stopping wherever something is to
// be decided: the result of an inner correlation is an event of that time for the
// outer one, and must not be late because time went on by hours at once.
func (r *Replay) advance(mark int64) {
	r.drain()
	for {
		at, ok := r.windows.nextWake()
		if !ok || at+1 >= mark {
			break
		}
		r.windows.Advance(at + 1)
		r.drain()
	}
	r.windows.Advance(mark)
	r.drain()
}

// drain reports what changed. An episode that feeds another correlation may
// change that one too, hence the loop; rules refer to each other without cycles,
// so it ends.
func (r *Replay) drain() {
	for {
		r.windows.Drain(r.onEpisode)
		if len(r.nested) == 0 {
			return
		}
		for i := range r.nested {
			r.windows.Add(&r.nested[i])
		}
		clear(r.nested)
		r.nested = r.nested[:0]
	}
}

func (r *Replay) episode(ep *Episode) {
	c := r.set.Correlations[ep.Correlation]
	if len(c.Uses) > 0 && ep.Kind == EpisodeOpened {
		r.nested = append(r.nested, r.windows.OuterMatches(ep)...)
	}
	if c.Alerts {
		f := episodeFinding(c, ep)
		r.found(f.finding(r.opts.Version))
	}
}
