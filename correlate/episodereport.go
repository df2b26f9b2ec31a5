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
	rule    *windowRule
	group   *group // nil when it is gone, or has forgotten the episode
	episode *episode
	// What the group had to say, when it is nil.
	key      []byte
	evidence []EvidenceEvent
	complete bool
}

// freeze takes out of a group what there is to say before it forgets that.
func (c *change) freeze(w *Windows) {
	if c.group == nil {
		return
	}
	c.key = c.group.appendKey(nil)
	c.evidence, c.complete = c.group.evidence(w, c.episode, nil)
	c.group = nil
}

// report has a change reported by the next Drain; several changes of one kind
// are one.
func (w *Windows) report(g *group, ep *episode, kind EpisodeKind) {
	ep.changed = false
	if ep.suppressed {
		return
	}
	if ep.pending == 0 {
		w.changed = append(w.changed, change{rule: g.rule, group: g, episode: ep})
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
	w.redecide()
	for i := 0; i < len(w.changed); i++ {
		c := &w.changed[i]
		ep := c.episode
		out := &w.drained
		*out = Episode{
			Correlation: c.rule.index, ID: ep.id, Group: out.Group[:0], Evidence: out.Evidence[:0],
			Count: ep.count, First: ep.first, Last: ep.last, Satisfied: ep.satisfied, MergedInto: ep.mergedInto,
		}
		if g := c.group; g != nil {
			out.Group = g.appendKey(out.Group)
			out.Evidence, out.Complete = g.evidence(w, ep, out.Evidence)
		} else {
			out.Group = append(out.Group, c.key...)
			out.Evidence, out.Complete = append(out.Evidence, c.evidence...), c.complete
		}
		kinds := ep.pending
		if kinds&(1<<EpisodeUpdated) != 0 && kinds != 1<<EpisodeUpdated {
			kinds &^= 1 << EpisodeUpdated // another kind says all that it does
		}
		ep.pending, ep.changed = 0, false
		for kind := EpisodeOpened; kind <= EpisodeRetracted; kind++ {
			if kinds&(1<<kind) == 0 {
				continue
			}
			ep.revision++
			out.Kind, out.Revision = kind, ep.revision
			fn(out)
		}
	}
	if len(w.changed) == 0 {
		return
	}
	clear(w.drained.Evidence[:cap(w.drained.Evidence)]) // it must not keep blobs alive
	clear(w.changed)
	w.changed = w.changed[:0]
}
