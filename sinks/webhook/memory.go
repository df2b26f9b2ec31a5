package webhook

import (
	"strconv"
	"strings"

	"github.com/tocsin-io/tocsin/internal/kafka"
)

// maxArrived bounds the offsets that a memory is believed to hold.
const maxArrived = kafka.MaxNote / 2

// Memory returns the offsets from next on whose messages have been dealt with. A
// message that the receiver does not take keeps the committed offset where it is;
// those behind it that were taken would be sent again after a restart.
func (p *partition) Memory(next int64) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var arrived []int64
	for _, s := range p.pending {
		if s.done && s.offset >= next {
			arrived = append(arrived, s.offset)
		}
	}
	return encodeMemory(next, arrived)
}

// Recall takes what an earlier owner of the partition remembered.
func (p *partition) Recall(memory string) {
	for _, offset := range decodeMemory(memory) {
		if p.arrived == nil {
			p.arrived = map[int64]bool{}
		}
		p.arrived[offset] = true
	}
}

// encodeMemory writes ascending offsets as "v1:next:d.d.d", each the distance to
// the one before, in base 36. What does not fit is left out, the last first.
func encodeMemory(next int64, arrived []int64) string {
	if len(arrived) == 0 {
		return ""
	}
	b := strconv.AppendInt([]byte("v1:"), next, 10)
	separator := byte(':')
	for _, offset := range arrived {
		// A number has at most 13 digits of base 36.
		if len(b)+14 > kafka.MaxNote {
			break
		}
		b = strconv.AppendInt(append(b, separator), offset-next, 36)
		next, separator = offset, '.'
	}
	return string(b)
}

// decodeMemory is encodeMemory's inverse. What is not a memory, such as a note that
// another program left with its commit, is none.
func decodeMemory(memory string) (arrived []int64) {
	head, list, ok := strings.Cut(strings.TrimPrefix(memory, "v1:"), ":")
	at, err := strconv.ParseInt(head, 10, 64)
	if !ok || !strings.HasPrefix(memory, "v1:") || err != nil || at < 0 {
		return nil
	}
	for d := range strings.SplitSeq(list, ".") {
		n, err := strconv.ParseInt(d, 36, 64)
		if err != nil || n < 0 || at+n < at || len(arrived) == maxArrived {
			return nil
		}
		at += n
		arrived = append(arrived, at)
	}
	return arrived
}
