package correlate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"slices"

	"github.com/tocsin-io/tocsin/internal/watermark"
	"github.com/tocsin-io/tocsin/schemas"
)

// DetectionID identifies a detection: a hash of rule, group and the event that
// opened it.
type DetectionID [16]byte

// String returns the ID as 32 lower-case hex digits.
func (id DetectionID) String() string { return hex.EncodeToString(id[:]) }

// episodeID is the ID of the nth episode that opener opens, from 0. There is a
// second one only where a late event cuts an episode in two behind the event that
// opened it: the earlier part keeps the ID.
func episodeID(rule string, group string, opener schemas.EventID, n int) DetectionID {
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s%d:%s", len(rule), rule, len(group), group)
	h.Write(opener[:])
	if n > 0 {
		fmt.Fprintf(h, "/%d", n)
	}
	return DetectionID(h.Sum(nil)[:16])
}

// EpisodeKind is what happened to an episode.
type EpisodeKind uint8

// What Drain reports.
const (
	EpisodeOpened    EpisodeKind = iota
	EpisodeUpdated               // it has grown
	EpisodeClosed                // it grows no more, unless late events come
	EpisodeMerged                // late events made it part of another one
	EpisodeRetracted             // a late event has shown it wrong, or suppressed it
)

var episodeKindNames = [...]string{"opened", "updated", "closed", "merged", "retracted"}

// String returns the kind in lower case.
func (k EpisodeKind) String() string { return episodeKindNames[k] }

// Episode is a change of an episode, as Drain reports it.
type Episode struct {
	Correlation int32
	Kind        EpisodeKind
	ID          DetectionID
	Group       []byte
	Count       int64 // contributing events
	First, Last int64 // times of the first and the last of them, Unix milliseconds
	// Satisfied is the time of the last event of the first satisfied window.
	Satisfied  int64
	Revision   int64 // from 1, grows with every report about this ID
	Evidence   []EvidenceEvent
	Complete   bool // Evidence names all contributing events
	MergedInto DetectionID
}

// EvidenceEvent is a contributing event.
type EvidenceEvent struct {
	ID   schemas.EventID
	Time int64
	Step int32
	Blob []byte // Match.Evidence
}

type episodeState uint8

const (
	episodeOpen episodeState = iota
	episodeClosed
	episodeMerged
	episodeRetracted
)

// episode is a run of contributing events of a group. Those that are still in
// the group carry its serial; of those that are gone some are kept as evidence.
type episode struct {
	id          DetectionID
	serial      uint16
	state       episodeState
	suppressed  bool
	reported    bool // opened towards the outside
	changed     bool // since the last report
	pending     uint8
	first, last int64
	satisfied   int64
	count       int64
	revision    int64
	reportedAt  int64
	mergedInto  DetectionID

	gone      int64 // contributing events that the group no longer has
	goneLast  int64
	goneID    schemas.EventID
	firsts    []keptEvent
	lasts     []keptEvent // a ring, oldest at lastsAt
	lastsAt   int
	frozen    []EvidenceEvent
	frozenAll bool
}

// keptEvent is evidence of an event that the group no longer has.
type keptEvent struct {
	id   schemas.EventID
	time int64
	blob uint32
	step uint8
}

func (ep *episode) active() bool { return ep.state == episodeOpen || ep.state == episodeClosed }

// keep notes a contributing event that the group is about to drop. They come in
// the order of time, so the first ones are the episode's first ones.
func (ep *episode) keep(w *Windows, evidence int, e *entry) {
	if ep.gone > 0 && ep.goneID == e.id {
		return // another step of the same event
	}
	ep.gone++
	ep.goneID, ep.goneLast = e.id, e.time
	k := keptEvent{id: e.id, time: e.time, blob: e.blob, step: e.step}
	w.blobs.retain(k.blob)
	ring := evidence / 2
	switch {
	case len(ep.firsts) < evidence:
		ep.firsts = append(ep.firsts, k)
	case ring == 0:
		w.blobs.release(k.blob)
	case len(ep.lasts) < ring:
		ep.lasts = append(ep.lasts, k)
	default:
		w.blobs.release(ep.lasts[ep.lastsAt].blob)
		ep.lasts[ep.lastsAt] = k
		ep.lastsAt = (ep.lastsAt + 1) % ring
	}
}

func (ep *episode) release(w *Windows) {
	for _, k := range ep.firsts {
		w.blobs.release(k.blob)
	}
	for _, k := range ep.lasts {
		w.blobs.release(k.blob)
	}
	ep.firsts, ep.lasts, ep.lastsAt = nil, nil, 0
}

// join returns the one episode that events from t0 to t1 belong to: a new one,
// the one that they extend, or what becomes of several that they connect.
func (g *group) join(w *Windows, t0, t1 int64, opener entry) *episode {
	var into *episode
	slack := g.rule.slack
	for _, ep := range g.episodes {
		if !ep.active() || ep.last+slack < t0 || ep.first-slack > t1 {
			continue
		}
		if into == nil {
			into = ep
			continue
		}
		// episodes are in the order of their beginnings, so into began first.
		g.merge(w, into, ep)
	}
	if into == nil {
		into = g.open(w, t0, t1, opener)
	}
	return into
}

// open begins an episode. One that was retracted and turns out right after all
// comes back, so that its revisions go on.
func (g *group) open(w *Windows, t0, t1 int64, opener entry) *episode {
	ep := new(episode)
	for n := 0; ; n++ {
		ep.id = episodeID(g.rule.c.ID, g.key, opener.id, n)
		old := g.byID(ep.id)
		if old == nil {
			break
		}
		if !old.active() {
			ep.revision = old.revision
			old.release(w)
			g.episodes = slices.DeleteFunc(g.episodes, func(x *episode) bool { return x == old })
			break
		}
	}
	for {
		g.serial++
		if g.serial != 0 && g.episode(g.serial) == nil {
			break
		}
	}
	ep.serial, ep.first, ep.last, ep.satisfied = g.serial, t0, t1, t1
	g.episodes = append(g.episodes, ep)
	g.sortEpisodes()
	if g.rule.suppress > 0 {
		ep.suppressed = true // until suppress has looked at it
	} else {
		w.report(g, ep, EpisodeOpened)
	}
	return ep
}

func (g *group) byID(id DetectionID) *episode {
	for _, ep := range g.episodes {
		if ep.id == id {
			return ep
		}
	}
	return nil
}

func (g *group) sortEpisodes() {
	slices.SortStableFunc(g.episodes, func(a, b *episode) int {
		if a.first != b.first {
			if a.first < b.first {
				return -1
			}
			return 1
		}
		return bytes.Compare(a.id[:], b.id[:])
	})
}

// merge makes from a part of into, which began earlier.
func (g *group) merge(w *Windows, into, from *episode) {
	for i := g.head; i < len(g.entries); i++ {
		if g.entries[i].ep == from.serial {
			g.entries[i].ep = into.serial
		}
	}
	into.count += from.count
	into.first, into.last = min(into.first, from.first), max(into.last, from.last)
	into.adopt(w, g.rule.evidence, from)
	into.changed = true
	from.state, from.mergedInto = episodeMerged, into.id
	if from.reported && !from.suppressed {
		w.report(g, from, EpisodeMerged)
	}
}

// adopt takes over what from kept of its gone events.
func (ep *episode) adopt(w *Windows, evidence int, from *episode) {
	if from.gone == 0 {
		return
	}
	kept := append(ep.kept(), from.kept()...)
	slices.SortStableFunc(kept, func(a, b keptEvent) int {
		if a.time != b.time {
			if a.time < b.time {
				return -1
			}
			return 1
		}
		return bytes.Compare(a.id[:], b.id[:])
	})
	gone := ep.gone + from.gone
	ep.firsts, ep.lasts, ep.lastsAt = nil, nil, 0
	for i := range kept {
		e := entry{id: kept[i].id, time: kept[i].time, blob: kept[i].blob, step: kept[i].step}
		ep.gone = 0 // two episodes have no event in common
		ep.keep(w, evidence, &e)
		w.blobs.release(e.blob)
	}
	ep.gone = gone
	if from.goneLast >= ep.goneLast {
		ep.goneLast, ep.goneID = from.goneLast, from.goneID
	}
	from.firsts, from.lasts, from.lastsAt, from.gone = nil, nil, 0, 0
}

// kept returns the kept events in the order of time.
func (ep *episode) kept() []keptEvent {
	out := slices.Clone(ep.firsts)
	for i := range ep.lasts {
		out = append(out, ep.lasts[(ep.lastsAt+i)%len(ep.lasts)])
	}
	return out
}

// grow notes that the episode has more events, from t0 to t1.
func (ep *episode) grow(w *Windows, g *group, t0, t1 int64) {
	if t0 < ep.first {
		ep.first = t0
		g.sortEpisodes()
	}
	ep.last = max(ep.last, t1)
	ep.touch(w, g)
}

// touch has a changed episode reported, now or when an update is due.
func (ep *episode) touch(w *Windows, g *group) {
	ep.changed = true
	if ep.state == episodeClosed {
		if w.mark > ep.last+g.rule.span {
			w.report(g, ep, EpisodeClosed)
		} else {
			ep.state = episodeOpen
			w.report(g, ep, EpisodeUpdated)
		}
	}
	g.resuppress(w)
}

// settle closes the episode or has an update reported, when that is due.
func (ep *episode) settle(w *Windows, g *group) {
	if ep.state != episodeOpen {
		return
	}
	end := ep.last + g.rule.span
	if w.hooks.closeEarly {
		end = ep.last
	}
	switch {
	case w.mark > end:
		ep.state = episodeClosed
		w.report(g, ep, EpisodeClosed)
	case ep.changed && w.mark > ep.reportedAt+w.opts.UpdateInterval.Milliseconds():
		w.report(g, ep, EpisodeUpdated)
	}
}

// nextWake returns the watermark beyond which settle or forget has work to do.
func (ep *episode) nextWake(w *Windows, r *windowRule) int64 {
	if ep.state != episodeOpen {
		return ep.forgetAt(w, r)
	}
	at := ep.last + r.span
	if w.hooks.closeEarly {
		at = ep.last
	}
	if ep.changed {
		at = min(at, ep.reportedAt+w.opts.UpdateInterval.Milliseconds())
	}
	return at
}

// forgetAt is the watermark beyond which no event can change the episode. A late
// event may make others contribute that lie up to a timespan before it, and
// these may lie a timespan behind the episode.
func (ep *episode) forgetAt(w *Windows, r *windowRule) int64 {
	if w.hooks.closeEarly {
		return ep.last
	}
	return ep.last + r.span + r.retain
}

// forget drops the episodes that nothing can change any more.
func (g *group) forget(w *Windows) {
	g.episodes = slices.DeleteFunc(g.episodes, func(ep *episode) bool {
		if ep.state == episodeOpen || w.mark <= ep.forgetAt(w, g.rule) {
			return false
		}
		if g.rule.suppress > 0 && ep.active() && !ep.suppressed {
			g.quietUntil = max(g.quietUntil, ep.last+g.rule.span+g.rule.suppress)
		}
		for i := range w.changed {
			if w.changed[i].episode == ep {
				w.changed[i].freeze(w)
			}
		}
		ep.release(w)
		return true
	})
	if g.quietUntil == math.MinInt64 || w.mark <= g.quietForgetAt(w) {
		return
	}
	for _, ep := range g.episodes {
		if ep.first <= g.quietUntil {
			return // it may be looked at again
		}
	}
	g.quietUntil = math.MinInt64
}

// quietForgetAt is the watermark beyond which no episode can begin that
// quietUntil suppresses.
func (g *group) quietForgetAt(w *Windows) int64 { return g.quietUntil + g.rule.retain }

// resuppress decides anew which episodes are suppressed: those that begin too
// soon after the end of one that is not. It is a function of the episodes, not
// of the order in which they were found.
func (g *group) resuppress(w *Windows) {
	if g.rule.suppress == 0 {
		return
	}
	quiet := g.quietUntil
	for _, ep := range g.episodes {
		if !ep.active() {
			continue
		}
		suppressed := quiet != math.MinInt64 && ep.first <= quiet
		if !suppressed {
			quiet = max(quiet, ep.last+g.rule.span+g.rule.suppress)
		}
		if suppressed == ep.suppressed {
			continue
		}
		if suppressed {
			if ep.reported {
				w.report(g, ep, EpisodeRetracted)
			}
			ep.suppressed = true
			continue
		}
		ep.suppressed = false
		w.report(g, ep, EpisodeOpened)
		if ep.state == episodeClosed {
			w.report(g, ep, EpisodeClosed)
		}
	}
}

// change is an episode that Drain has to report.
type change struct {
	group   *group
	episode *episode
}

// freeze takes the evidence out of a group that is about to go.
func (c *change) freeze(w *Windows) {
	if c.episode.frozen == nil {
		c.episode.frozen, c.episode.frozenAll = c.group.evidence(w, c.episode)
	}
}

// report has a change reported by the next Drain; several changes of one kind
// are one.
func (w *Windows) report(g *group, ep *episode, kind EpisodeKind) {
	ep.changed = false
	if ep.suppressed {
		return
	}
	if ep.pending == 0 {
		w.changed = append(w.changed, change{g, ep})
	}
	ep.pending |= 1 << kind
	ep.reportedAt = w.mark
	if w.mark == watermark.None {
		ep.reportedAt = ep.last
	}
	if kind == EpisodeOpened {
		ep.reported = true
	}
}

// Drain calls fn for every change since the last Drain, in the order in which
// they came up. The Episode and its memory are valid during the call only, and
// fn must not call a method that changes w.
func (w *Windows) Drain(fn func(*Episode)) {
	for i := 0; i < len(w.changed); i++ {
		g, ep := w.changed[i].group, w.changed[i].episode
		out := Episode{
			Correlation: g.rule.index, ID: ep.id, Group: []byte(g.key),
			Count: ep.count, First: ep.first, Last: ep.last, Satisfied: ep.satisfied, MergedInto: ep.mergedInto,
		}
		if ep.frozen != nil {
			out.Evidence, out.Complete = ep.frozen, ep.frozenAll
		} else {
			out.Evidence, out.Complete = g.evidence(w, ep)
		}
		kinds := ep.pending
		if kinds&(1<<EpisodeUpdated) != 0 && kinds != 1<<EpisodeUpdated {
			kinds &^= 1 << EpisodeUpdated // another kind says all that it does
		}
		ep.pending, ep.frozen, ep.changed = 0, nil, false
		for kind := EpisodeOpened; kind <= EpisodeRetracted; kind++ {
			if kinds&(1<<kind) == 0 {
				continue
			}
			ep.revision++
			out.Kind, out.Revision = kind, ep.revision
			fn(&out)
		}
	}
	clear(w.changed)
	w.changed = w.changed[:0]
}

// evidence returns the first and the last contributing events, up to the rule's
// bound, and whether that is all of them.
func (g *group) evidence(w *Windows, ep *episode) (out []EvidenceEvent, complete bool) {
	limit := g.rule.evidence
	add := func(list []EvidenceEvent, id schemas.EventID, time int64, step uint8, blob uint32) []EvidenceEvent {
		if n := len(list); n > 0 && list[n-1].ID == id {
			return list // another step of the same event
		}
		return append(list, EvidenceEvent{ID: id, Time: time, Step: int32(step), Blob: []byte(w.blobs.text[blob])})
	}
	heads := limit
	if ep.count > int64(limit) {
		heads = limit - limit/2
	}
	for _, k := range ep.firsts {
		if len(out) < heads {
			out = add(out, k.id, k.time, k.step, k.blob)
		}
	}
	i := g.head
	for ; i < len(g.entries) && len(out) < heads; i++ {
		if e := &g.entries[i]; e.ep == ep.serial {
			out = add(out, e.id, e.time, e.step, e.blob)
		}
	}
	if int64(len(out)) == ep.count || ep.count <= int64(limit) {
		return out, int64(len(out)) == ep.count
	}
	var tail []EvidenceEvent
	for j := len(g.entries) - 1; j >= i && len(tail) < limit/2; j-- {
		if e := &g.entries[j]; e.ep == ep.serial {
			tail = add(tail, e.id, e.time, e.step, e.blob)
		}
	}
	older := ep.kept()
	for j := len(older) - 1; j >= heads && len(tail) < limit/2; j-- {
		k := &older[j]
		tail = add(tail, k.id, k.time, k.step, k.blob)
	}
	slices.Reverse(tail)
	return append(out, tail...), false
}
