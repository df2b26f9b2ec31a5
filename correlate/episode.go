package correlate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"slices"
	"strconv"

	"github.com/tocsin-io/tocsin/schemas"
)

// DetectionID identifies a detection: a hash of rule, group and the event that
// opened it.
type DetectionID [16]byte

// String returns the ID as 32 lower-case hex digits.
func (id DetectionID) String() string { return hex.EncodeToString(id[:]) }

// appendEpisodeText appends what the ID of an episode is the hash of, but for
// opener and number.
func appendEpisodeText(dst []byte, rule string, g *group) []byte {
	dst = strconv.AppendInt(dst, int64(len(rule)), 10)
	dst = append(append(dst, ':'), rule...)
	size := int(g.keyLen)
	if g.keyLen == longKey {
		size = len(g.more.key)
	}
	dst = strconv.AppendInt(dst, int64(size), 10)
	return g.appendKey(append(dst, ':'))
}

// episodeID is the ID of the nth episode that opener opens, from 0. There is a
// second one only where a late event cuts an episode in two behind the event that
// opened it: the earlier part keeps the ID.
func (w *Windows) episodeID(g *group, opener schemas.EventID, n int) DetectionID {
	text := append(appendEpisodeText(w.scratch[:0], g.rule.c.ID, g), opener[:]...)
	if n > 0 {
		text = strconv.AppendInt(append(text, '/'), int64(n), 10)
	}
	w.scratch = text
	sum := sha256.Sum256(text)
	return DetectionID(sum[:16])
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

	gone     int64 // contributing events that the group no longer has
	goneLast int64
	goneID   schemas.EventID
	firsts   []keptEvent
	lasts    []keptEvent // a ring, oldest at lastsAt
	lastsAt  int
}

func (ep *episode) active() bool { return ep.state == episodeOpen || ep.state == episodeClosed }

// join returns the one episode that events from t0 to t1 belong to: a new one,
// the one that they extend, or what becomes of several that they connect.
func (g *group) join(w *Windows, t0, t1 int64, opener *entry) *episode {
	var into *episode
	slack := g.rule.slack
	for _, ep := range g.episodes() {
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
func (g *group) open(w *Windows, t0, t1 int64, opener *entry) *episode {
	more := g.extra()
	ep := w.newEpisode()
	for n := 0; ; n++ {
		ep.id = w.episodeID(g, opener.id, n)
		old := g.byID(ep.id)
		if old == nil {
			break
		}
		if !old.active() {
			ep.revision = old.revision
			more.episodes = slices.DeleteFunc(more.episodes, func(x *episode) bool { return x == old })
			w.forgetEpisode(g, old)
			break
		}
	}
	for {
		more.serial++
		if more.serial != 0 && g.episode(more.serial) == nil {
			break
		}
	}
	ep.serial, ep.first, ep.last, ep.satisfied = more.serial, t0, t1, t1
	more.episodes = append(more.episodes, ep)
	g.sortEpisodes()
	if g.rule.suppress > 0 {
		ep.suppressed = true // until suppress has looked at it
	} else {
		w.report(g, ep, EpisodeOpened)
	}
	return ep
}

func (g *group) byID(id DetectionID) *episode {
	for _, ep := range g.episodes() {
		if ep.id == id {
			return ep
		}
	}
	return nil
}

func (g *group) sortEpisodes() {
	if len(g.episodes()) < 2 {
		return
	}
	slices.SortStableFunc(g.more.episodes, func(a, b *episode) int {
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
	for i, n := 0, g.len(); i < n; i++ {
		if g.at(i).ep == from.serial {
			g.assign(i, into.serial)
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
	if g.more == nil {
		return
	}
	more := g.more
	more.episodes = slices.DeleteFunc(more.episodes, func(ep *episode) bool {
		if ep.state == episodeOpen || w.mark <= ep.forgetAt(w, g.rule) {
			return false
		}
		if g.rule.suppress > 0 && ep.active() && !ep.suppressed {
			more.quietUntil = max(more.quietUntil, ep.last+g.rule.span+g.rule.suppress)
		}
		w.forgetEpisode(g, ep)
		return true
	})
	if len(more.episodes) == 0 {
		more.episodes = nil
	}
	// An event that the watermark lets pass yet begins no episode before that.
	if more.quietUntil == math.MinInt64 || w.mark <= more.quietUntil+g.rule.retain {
		return
	}
	for _, ep := range more.episodes {
		if ep.first <= more.quietUntil {
			return // it may be looked at again
		}
	}
	more.quietUntil = math.MinInt64
}

// newEpisode returns an empty episode.
func (w *Windows) newEpisode() *episode {
	if n := len(w.spare); n > 0 {
		ep := w.spare[n-1]
		w.spare = w.spare[:n-1]
		return ep
	}
	return new(episode)
}

// forgetEpisode gives back what an episode of g holds. What Drain has yet to say
// of it stays until then.
func (w *Windows) forgetEpisode(g *group, ep *episode) {
	if ep.pending != 0 {
		for i := range w.changed {
			if w.changed[i].episode == ep {
				w.changed[i].freeze(w)
			}
		}
	}
	ep.release(w)
	if ep.pending == 0 && len(w.spare) < maxSpare {
		firsts, lasts := ep.firsts[:0], ep.lasts[:0]
		*ep = episode{firsts: firsts, lasts: lasts}
		w.spare = append(w.spare, ep)
	}
}

// maxSpare bounds the episodes that are kept to be used again.
const maxSpare = 1024
