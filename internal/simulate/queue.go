package simulate

// entry is something that will happen.
type entry struct {
	at   int64
	who  int32 // device, or -1-actor
	what action
	// The connection that the device had then. A timer of an earlier connection
	// that fires after a quick reconnect must not count.
	connection uint16
}

func (e entry) before(f entry) bool {
	// Ties are broken, or equal seeds would not give equal bytes.
	if e.at != f.at {
		return e.at < f.at
	}
	if e.who != f.who {
		return e.who < f.who
	}
	return e.what < f.what
}

// queue is a heap of entries by time, with four children to a node: it is
// shallower than a binary one, and a fleet's worth of timers does not fit the
// cache.
type queue []entry

func (q *queue) push(e entry) {
	h := append(*q, e)
	i := len(h) - 1
	for i > 0 {
		parent := (i - 1) / 4
		if !e.before(h[parent]) {
			break
		}
		h[i] = h[parent]
		i = parent
	}
	h[i] = e
	*q = h
}

func (q *queue) pop() (entry, bool) {
	h := *q
	if len(h) == 0 {
		return entry{}, false
	}
	top, last := h[0], h[len(h)-1]
	h = h[:len(h)-1]
	*q = h
	i := 0
	for {
		child := 4*i + 1
		if child >= len(h) {
			break
		}
		for c := child + 1; c < min(4*i+5, len(h)); c++ {
			if h[c].before(h[child]) {
				child = c
			}
		}
		if !h[child].before(last) {
			break
		}
		h[i] = h[child]
		i = child
	}
	if len(h) > 0 {
		h[i] = last
	}
	return top, true
}
