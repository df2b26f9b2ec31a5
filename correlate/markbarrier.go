package correlate

import "github.com/tocsin-io/tocsin/internal/watermark"

// markBarrier says what a partition of tocsin.matches may be told of event time
// here: only a watermark before which nothing is left that Kafka has not
// acknowledged. A record that is refused for good is sent again by a worker that
// starts over; if a later record to the same partition, which was on its way
// already, told a watermark beyond it, it would come back too late.
//
// Records are counted in the order in which they are sent to the partition, from
// 1. The barrier stands behind one of them; once that is acknowledged, so is all
// before it, and the watermark that held then may be told.
type markBarrier struct {
	safe   int64 // may be told
	mark   int64 // may be told once record number behind is acknowledged
	behind uint64
}

func newMarkBarrier() markBarrier { return markBarrier{safe: watermark.None, mark: watermark.None} }

// raise says that all that precedes mark is among the first sent records. A
// barrier that still stands is left where it is: with records always on their
// way, one that moved along with them would never be passed.
func (b *markBarrier) raise(sent, acked uint64, mark int64) {
	if acked < b.behind {
		return
	}
	b.safe = b.mark
	b.mark, b.behind = mark, sent
	b.pass(acked)
}

// pass returns the watermark that may be told when the first acked records are
// acknowledged.
func (b *markBarrier) pass(acked uint64) int64 {
	if acked >= b.behind {
		b.safe = b.mark
	}
	return b.safe
}
