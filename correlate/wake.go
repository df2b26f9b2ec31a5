package correlate

import "math"

// wakeItem says that a group must be looked at when the watermark has passed at.
type wakeItem struct {
	at    int64
	group uint32
}

// before orders items; ties are in the order in which the groups came up, so that
// the same calls find the same.
func (i wakeItem) before(o wakeItem) bool {
	return i.at < o.at || i.at == o.at && i.group < o.group
}

// wakeQueue is a heap of wake items, four children to a node, which are one cache
// line. An item that is not what its group says any more is stale: groups that are
// woken earlier than they were to be, or dropped, leave theirs where they are.
type wakeQueue []wakeItem

func (q *wakeQueue) push(item wakeItem) {
	h := append(*q, item)
	*q = h
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !item.before(h[up]) {
			break
		}
		h[i] = h[up]
		i = up
	}
	h[i] = item
}

// pop drops the first item.
func (q *wakeQueue) pop() {
	h := *q
	item := h[len(h)-1]
	h = h[:len(h)-1]
	*q = h
	if len(h) > 0 {
		h.sink(0, item)
	}
}

// sink puts item at i or below.
func (q wakeQueue) sink(i int, item wakeItem) {
	for {
		child := 4*i + 1
		if child >= len(q) {
			break
		}
		for k := child + 1; k < min(child+4, len(q)); k++ {
			if q[k].before(q[child]) {
				child = k
			}
		}
		if !q[child].before(item) {
			break
		}
		q[i] = q[child]
		i = child
	}
	q[i] = item
}

// neverWake is when a group is looked at that is not in the queue.
const neverWake = int64(math.MinInt64)

// schedule makes sure that the group is looked at when there is something to
// do. An event that only puts that off leaves the queue alone: the group is
// then woken too early once, and not moved at every event.
func (w *Windows) schedule(g *group) {
	at := g.nextWake(w)
	if g.wakeAt != neverWake && at >= g.wakeAt && g.wakeAt >= w.mark {
		return
	}
	g.wakeAt = at
	w.wake.push(wakeItem{at, g.index})
	if len(w.wake) > 4*w.stats.Groups+64 {
		w.sweepWake()
	}
}

// sweepWake drops what is stale.
func (w *Windows) sweepWake() {
	w.wake = w.wake[:0]
	w.groups.each(func(g *group) {
		if g.wakeAt != neverWake {
			w.wake = append(w.wake, wakeItem{g.wakeAt, g.index})
		}
	})
	for i := len(w.wake)/4 + 1; i >= 0; i-- {
		if i < len(w.wake) {
			w.wake.sink(i, w.wake[i])
		}
	}
}

// nextWaking returns the group to be looked at first, nil when none is.
func (w *Windows) nextWaking() *group {
	for len(w.wake) > 0 {
		item := w.wake[0]
		if g := w.groups.at(item.group); g != nil && g.rule != nil && g.wakeAt == item.at {
			return g
		}
		w.wake.pop()
	}
	return nil
}

// nextWake returns the watermark beyond which there is something to decide,
// close or forget; false if nothing is held at all.
func (w *Windows) nextWake() (int64, bool) {
	w.redecide()
	g := w.nextWaking()
	if g == nil {
		return 0, false
	}
	return max(g.wakeAt, w.mark), true
}
