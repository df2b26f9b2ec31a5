package correlate

import (
	"math"
	"unsafe"

	"github.com/tocsin-io/tocsin/rules"
)

// group is the live events of one group, and its episodes. It is two cache lines,
// which lie beside each other.
type group struct {
	rule *windowRule // nil while the group is unused
	// Times of the first and the last entry, if there is one: an event in order
	// need not look at the others to find its place.
	oldest, newest int64
	entryList
	keyLen uint8 // of a key that is in short, or longKey
	short  [shortKey]byte
	more   *groupMore // nil while a group has nothing of it
	wakeAt int64      // the watermark at which it must be looked at
	used   uint64     // tick of the last use; later ones are greater
	hash   uint32     // of rule and key
	index  uint32     // in groupSlab
}

// shortKey is how long a key may be that is kept in the group itself: a device
// ID, an address.
const shortKey = 31

// longKey says that the key is in groupMore: whether it is must be known without
// looking there, which is another cache miss for every event.
const longKey = 255

// groupMore is what not every group has.
type groupMore struct {
	key string // one that is too long for group.short
	// episodes in the order of their first events.
	episodes []*episode
	serial   uint16 // last episode number given out
	// decided is the watermark up to which deferred windows have been decided.
	decided int64
	// coveredUntil is the end of the last satisfied window that began with an event
	// that is gone by now.
	coveredUntil int64
	// undecided: late events have changed windows that were decided already.
	undecided bool
	// quietUntil: episodes that begin until then are suppressed, by a reported one
	// that is forgotten by now.
	quietUntil int64
	index      *windowIndex
}

const (
	entrySize     = int64(unsafe.Sizeof(entry{}))
	groupOverhead = int64(unsafe.Sizeof(group{}) + unsafe.Sizeof(wakeItem{}) + 2*8) // and its slots in the table
)

// setKey gives an unused group its key.
func (g *group) setKey(key []byte) {
	if len(key) <= shortKey {
		g.keyLen = uint8(copy(g.short[:], key))
		return
	}
	g.keyLen, g.extra().key = longKey, string(key)
}

// hasKey reports whether the group has this key.
func (g *group) hasKey(key []byte) bool {
	if g.keyLen == longKey {
		return g.more.key == string(key)
	}
	return string(g.short[:g.keyLen]) == string(key)
}

// appendKey appends the tuple of the group-by values.
func (g *group) appendKey(dst []byte) []byte {
	if g.keyLen == longKey {
		return append(dst, g.more.key...)
	}
	return append(dst, g.short[:g.keyLen]...)
}

// values returns the group-by values.
func (g *group) values() (out []string) {
	values, _ := DecodeTuple(g.appendKey(nil)) // the windows hold no group that is not a tuple
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}

func (g *group) extra() *groupMore {
	if g.more == nil {
		g.more = &groupMore{quietUntil: math.MinInt64, decided: math.MinInt64, coveredUntil: math.MinInt64}
	}
	return g.more
}

func (g *group) episodes() []*episode {
	if g.more == nil {
		return nil
	}
	return g.more.episodes
}

// covered reports whether e lies in a satisfied window that began with an event
// that is gone by now.
func (g *group) covered(e *entry) bool { return g.more != nil && e.time <= g.more.coveredUntil }

func (g *group) quietUntil() int64 {
	if g.more == nil {
		return math.MinInt64
	}
	return g.more.quietUntil
}

func (g *group) release(w *Windows, e *entry) {
	w.blobs.release(e.blob)
	if g.rule.c.Type == rules.ValueCount {
		w.blobs.release(uint32(e.value))
	}
}

// position returns where e belongs, and whether the group has it already. For
// anything but temporal correlations an event is one entry, whatever step it
// came by.
func (g *group) position(e *entry) (at int, known bool) {
	n := g.len()
	if n == 0 || g.newest < e.time {
		return n, false
	}
	at = g.search(e)
	same := func(i int) bool {
		return i >= 0 && i < n && g.at(i).time == e.time && g.at(i).id == e.id
	}
	if g.rule.c.Type == rules.Temporal || g.rule.c.Type == rules.TemporalOrdered {
		return at, same(at) && g.at(at).step == e.step
	}
	return at, same(at) || same(at-1)
}

func (g *group) insert(w *Windows, at int, e *entry) {
	before := g.capacity()
	g.entryList.insert(at, e)
	w.entryMemory += g.capacity() - before
	if at == 0 {
		g.oldest = e.time
	}
	if g.len()-1 == at {
		g.newest = e.time
	}
	w.stats.Events++
}

// first returns the rank of the first entry at t or later.
func (g *group) first(t int64) int { return g.search(&entry{time: t}) }

// expire drops the entries that no window can need any more. now is the time of
// the event at hand.
func (g *group) expire(w *Windows, now int64) {
	limit := w.mark - g.rule.retain
	if w.mark == math.MinInt64 {
		limit = math.MinInt64
	}
	if w.hooks.evictByArrival {
		limit = now - g.rule.span
	}
	n := g.len()
	if n == 0 || g.oldest >= limit {
		return
	}
	gone := 0
	for gone < n && g.at(gone).time < limit {
		g.expireOne(w, gone)
		gone++
	}
	before := g.capacity()
	g.removeFirst(gone)
	w.entryMemory += g.capacity() - before
	w.stats.Events -= gone
	if gone < n {
		g.oldest = g.at(0).time
	}
	if g.more != nil && g.more.index != nil {
		if g.many == nil {
			g.more.index = nil
		} else {
			g.more.index.profile.expire(g.oldest)
		}
	}
}

// expireOne does what must be done before entry i, the first that is left, goes.
func (g *group) expireOne(w *Windows, i int) {
	e := g.at(i)
	if e.begins {
		// An event that comes later and lies in that window is too late, and what is
		// left lies behind its beginning.
		more := g.extra()
		more.coveredUntil = max(more.coveredUntil, e.time+g.rule.span)
	}
	if e.ep != 0 {
		if ep := g.episode(e.ep); ep != nil {
			ep.keep(w, g.rule.evidence, e)
		}
	}
	if g.more != nil && g.more.index != nil {
		g.more.index.expire(e)
	}
	g.release(w, e)
}

// episode returns the episode with this number.
func (g *group) episode(serial uint16) *episode {
	for _, ep := range g.episodes() {
		if ep.serial == serial {
			return ep
		}
	}
	return nil
}

// nextWake returns the watermark beyond which there is something to do.
func (g *group) nextWake(w *Windows) int64 {
	at := int64(math.MaxInt64)
	n := g.len()
	if n > 0 {
		// Not the first entry: a busy group expires its entries as it goes.
		at = g.newest + g.rule.retain
		if g.rule.deferred {
			if i := g.firstUndecided(); i < n {
				at = min(at, g.at(i).time+g.rule.span)
			}
		}
	}
	episodes := g.episodes()
	for _, ep := range episodes {
		at = min(at, ep.nextWake(w, g.rule))
	}
	if quiet := g.quietUntil(); quiet != math.MinInt64 && n == 0 && len(episodes) == 0 {
		at = min(at, quiet+g.rule.retain)
	}
	return at
}

// settle does what the watermark has made due.
func (g *group) settle(w *Windows) {
	if g.rule.deferred {
		g.decide(w)
	}
	for _, ep := range g.episodes() {
		ep.settle(w, g)
	}
	g.expire(w, w.mark)
	g.forget(w)
}

// dead reports whether nothing of the group can matter any more.
func (g *group) dead() bool {
	return g.len() == 0 && len(g.episodes()) == 0 && g.quietUntil() == math.MinInt64
}
