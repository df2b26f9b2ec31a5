package correlate

import (
	"github.com/tocsin-io/tocsin/internal/watermark"
	"github.com/tocsin-io/tocsin/schemas"
)

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
