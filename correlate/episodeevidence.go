package correlate

import (
	"bytes"
	"slices"

	"github.com/tocsin-io/tocsin/schemas"
)

// keptEvent is evidence of an event that the group no longer has.
type keptEvent struct {
	id   schemas.EventID
	time int64
	blob uint32
	step uint8
}

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
	ep.firsts, ep.lasts, ep.lastsAt = ep.firsts[:0], ep.lasts[:0], 0
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
		out = append(out, *ep.keptAt(len(ep.firsts) + i))
	}
	return out
}

// keptAt returns the ith kept event in the order of time.
func (ep *episode) keptAt(i int) *keptEvent {
	if i < len(ep.firsts) {
		return &ep.firsts[i]
	}
	return &ep.lasts[(ep.lastsAt+i-len(ep.firsts))%len(ep.lasts)]
}

// evidence appends the first and the last contributing events to out, up to the
// rule's bound, and reports whether that is all of them.
func (g *group) evidence(w *Windows, ep *episode, out []EvidenceEvent) (_ []EvidenceEvent, complete bool) {
	limit := g.rule.evidence
	start := len(out)
	add := func(from int, id schemas.EventID, time int64, step uint8, blob uint32) {
		if n := len(out); n > from && out[n-1].ID == id {
			return // another step of the same event
		}
		out = append(out, EvidenceEvent{ID: id, Time: time, Step: int32(step), Blob: w.blobs.text(blob)})
	}
	heads := limit
	if ep.count > int64(limit) {
		heads = limit - limit/2
	}
	for i := range ep.firsts {
		if k := &ep.firsts[i]; len(out)-start < heads {
			add(start, k.id, k.time, k.step, k.blob)
		}
	}
	i, n := 0, g.len()
	for ; i < n && len(out)-start < heads; i++ {
		if e := g.at(i); e.ep == ep.serial {
			add(start, e.id, e.time, e.step, e.blob)
		}
	}
	head := len(out)
	if int64(head-start) == ep.count || ep.count <= int64(limit) {
		return out, int64(head-start) == ep.count
	}
	for j := n - 1; j >= i && len(out)-head < limit/2; j-- {
		if e := g.at(j); e.ep == ep.serial {
			add(head, e.id, e.time, e.step, e.blob)
		}
	}
	for j := len(ep.firsts) + len(ep.lasts) - 1; j >= heads && len(out)-head < limit/2; j-- {
		k := ep.keptAt(j)
		add(head, k.id, k.time, k.step, k.blob)
	}
	slices.Reverse(out[head:])
	return out, false
}
