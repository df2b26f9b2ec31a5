package schemas

import (
	"encoding/binary"
	"math"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/encoding/protowire"
)

func groupHash(group []byte) uint64 { return xxhash.Sum64(group) }

// runColumns is the memory for encoding a run.
type runColumns struct {
	times, ids, offsets, indexes, values, value, numbers []byte
	seen                                                 map[string]uint64 // values: their number from 1
}

func (c *runColumns) reset() {
	c.times, c.ids, c.offsets, c.indexes = c.times[:0], c.ids[:0], c.offsets[:0], c.indexes[:0]
	c.values, c.value, c.numbers = c.values[:0], c.value[:0], c.numbers[:0]
	if c.seen == nil {
		c.seen = make(map[string]uint64)
	}
	clear(c.seen)
}

// appendRun appends r as a MatchRun.
func (b *MatchBatchEncoder) appendRun(dst []byte, r *matchRun) []byte {
	c := &b.columns
	c.reset()
	valued := false
	var time, offset int64
	var index uint32
	for k := r.first; k >= 0; k = b.matches[k].next {
		m := &b.matches[k]
		c.times = protowire.AppendVarint(c.times, protowire.EncodeZigZag(m.Time-time))
		c.ids = append(c.ids, m.ID[:]...)
		c.offsets = protowire.AppendVarint(c.offsets, protowire.EncodeZigZag(m.Offset-offset))
		c.indexes = protowire.AppendVarint(c.indexes, protowire.EncodeZigZag(int64(int32(m.Index-index))))
		time, offset, index = m.Time, m.Offset, m.Index
		number, ok := c.seen[string(m.Value)]
		if !ok {
			c.seen[string(m.Value)] = uint64(len(c.seen) + 1)
			c.values = protowire.AppendTag(c.values, fieldRunValues, protowire.BytesType)
			c.values = protowire.AppendBytes(c.values, m.Value)
		}
		c.value = protowire.AppendVarint(c.value, number)
		valued = valued || len(m.Value) > 0
		if m.HasNumber {
			c.numbers = binary.LittleEndian.AppendUint64(c.numbers, math.Float64bits(m.Number))
		}
	}
	if !valued {
		c.values, c.value = c.values[:0], c.value[:0]
	}
	first := &b.matches[r.first]
	s := b.scratch[:0]
	s = appendVarint(s, fieldRunCorrelation, uint64(r.correlation))
	s = appendVarint(s, fieldRunStep, uint64(first.Step))
	s = appendBytes(s, fieldRunGroup, first.Group)
	s = appendBytes(s, fieldRunTimes, c.times)
	s = appendBytes(s, fieldRunIDs, c.ids)
	s = appendBytes(s, fieldRunOffsets, c.offsets)
	s = appendBytes(s, fieldRunIndexes, c.indexes)
	s = append(s, c.values...)
	s = appendBytes(s, fieldRunValue, c.value)
	s = appendBytes(s, fieldRunNumbers, c.numbers)
	b.scratch = s
	dst = protowire.AppendTag(dst, fieldMBRuns, protowire.BytesType)
	return protowire.AppendBytes(dst, s)
}

// runReader walks the matches of one run.
type runReader struct {
	match                            Match // what they have in common, and the last one's numbers
	ids, times, offsets, indexes     []byte
	value, numbers                   []byte
	values                           [][]byte
	unused                           int // the first of values that has not come up
	hasValues, hasNumbers, malformed bool
}

// reset starts on an encoded run and returns the index of its correlation.
func (r *runReader) reset(b []byte) (correlation uint64) {
	*r = runReader{values: r.values[:0]}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		size := -1
		if n >= 0 {
			size = protowire.ConsumeFieldValue(num, typ, b[n:])
		}
		if size < 0 {
			r.malformed = true
			return 0
		}
		field := b[n : n+size]
		b = b[n+size:]
		switch typ {
		case protowire.VarintType:
			v, _ := protowire.ConsumeVarint(field)
			switch num {
			case fieldRunCorrelation:
				correlation = v
			case fieldRunStep:
				r.match.Step = uint32(v)
			}
		case protowire.BytesType:
			v, _ := protowire.ConsumeBytes(field)
			switch num {
			case fieldRunGroup:
				r.match.Group = v
			case fieldRunTimes:
				r.times = v
			case fieldRunIDs:
				r.ids = v
			case fieldRunOffsets:
				r.offsets = v
			case fieldRunIndexes:
				r.indexes = v
			case fieldRunValues:
				r.values = append(r.values, v)
			case fieldRunValue:
				r.value, r.hasValues = v, true
			case fieldRunNumbers:
				r.numbers, r.hasNumbers = v, true
			}
		}
	}
	return correlation
}

// next decodes the next match. After false, malformed tells bad bytes from the
// end.
func (r *runReader) next(m *Match) bool {
	if len(r.ids) == 0 || r.malformed {
		return false
	}
	if len(r.ids) < len(r.match.ID) {
		r.malformed = true
		return false
	}
	copy(r.match.ID[:], r.ids)
	r.ids = r.ids[len(r.match.ID):]
	r.match.Time += r.delta(&r.times)
	r.match.Offset += r.delta(&r.offsets)
	r.match.Index += uint32(r.delta(&r.indexes))
	if r.hasValues {
		r.match.Value = r.nextValue()
	}
	if r.hasNumbers {
		if len(r.numbers) < 8 {
			r.malformed = true
			return false
		}
		r.match.HasNumber, r.match.Number = true, math.Float64frombits(binary.LittleEndian.Uint64(r.numbers))
		r.numbers = r.numbers[8:]
	}
	*m = r.match
	return !r.malformed
}

func (r *runReader) varint(column *[]byte) uint64 {
	v, n := protowire.ConsumeVarint(*column)
	if n < 0 {
		r.malformed = true
		return 0
	}
	*column = (*column)[n:]
	return v
}

func (r *runReader) delta(column *[]byte) int64 { return protowire.DecodeZigZag(r.varint(column)) }

func (r *runReader) nextValue() []byte {
	n := r.varint(&r.value)
	if n == 0 {
		r.unused++
		n = uint64(r.unused)
	}
	if n > uint64(len(r.values)) {
		r.malformed = true
		return nil
	}
	v := r.values[n-1]
	if len(v) == 0 {
		return nil
	}
	return v
}
