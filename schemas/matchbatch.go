package schemas

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// The field numbers of match.proto.
const (
	fieldMBPartition    protowire.Number = 1
	fieldMBWatermark    protowire.Number = 2
	fieldMBIdle         protowire.Number = 3
	fieldMBCorrelations protowire.Number = 4
	fieldMBMatches      protowire.Number = 5

	fieldMatchOffset      protowire.Number = 1
	fieldMatchCorrelation protowire.Number = 2
	fieldMatchStep        protowire.Number = 3
	fieldMatchTime        protowire.Number = 4
	fieldMatchID          protowire.Number = 5
	fieldMatchGroup       protowire.Number = 6
	fieldMatchValue       protowire.Number = 7
	fieldMatchNumber      protowire.Number = 8
	fieldMatchEvidence    protowire.Number = 9
)

// ErrMatchBatchMalformed is in the chain of every error about bytes that are
// not a MatchBatch.
var ErrMatchBatchMalformed = errors.New("malformed MatchBatch")

// Match is one event that matched one step of a correlation, for one group.
// The byte slices alias the buffer that it was decoded from.
type Match struct {
	Offset      int64  // of the event's record in its partition
	Correlation uint64 // rules.Meta.Hash
	Step        uint32
	Time        int64 // event time, Unix milliseconds
	ID          EventID
	Group       []byte
	Value       []byte
	HasNumber   bool
	Number      float64
	Evidence    []byte
}

// MatchBatchEncoder builds the value of one tocsin.matches record. The zero
// value is ready; it is not safe for concurrent use.
type MatchBatchEncoder struct {
	matches      []byte
	scratch      []byte
	correlations []uint64
	n            int
}

// Append adds m, copying what it needs.
func (b *MatchBatchEncoder) Append(m *Match) {
	index := -1
	for i, c := range b.correlations {
		if c == m.Correlation {
			index = i
			break
		}
	}
	if index < 0 {
		index = len(b.correlations)
		b.correlations = append(b.correlations, m.Correlation)
	}
	s := b.scratch[:0]
	s = appendVarint(s, fieldMatchOffset, uint64(m.Offset))
	s = appendVarint(s, fieldMatchCorrelation, uint64(index))
	s = appendVarint(s, fieldMatchStep, uint64(m.Step))
	s = appendVarint(s, fieldMatchTime, uint64(m.Time))
	s = appendBytes(s, fieldMatchID, m.ID[:])
	s = appendBytes(s, fieldMatchGroup, m.Group)
	s = appendBytes(s, fieldMatchValue, m.Value)
	if m.HasNumber {
		s = protowire.AppendTag(s, fieldMatchNumber, protowire.Fixed64Type)
		s = protowire.AppendFixed64(s, math.Float64bits(m.Number))
	}
	s = appendBytes(s, fieldMatchEvidence, m.Evidence)
	b.scratch = s
	b.matches = protowire.AppendTag(b.matches, fieldMBMatches, protowire.BytesType)
	b.matches = protowire.AppendBytes(b.matches, s)
	b.n++
}

// Len returns the number of matches, Size the bytes that they take.
func (b *MatchBatchEncoder) Len() int { return b.n }

// Size returns the encoded bytes of the matches so far.
func (b *MatchBatchEncoder) Size() int { return len(b.matches) }

// AppendTo appends the encoded batch to dst. With no matches it is a heartbeat
// that carries the watermark alone.
func (b *MatchBatchEncoder) AppendTo(dst []byte, sourcePartition int, watermark int64, idle bool) []byte {
	dst = appendVarint(dst, fieldMBPartition, uint64(sourcePartition))
	dst = appendVarint(dst, fieldMBWatermark, protowire.EncodeZigZag(watermark))
	if idle {
		dst = appendVarint(dst, fieldMBIdle, 1)
	}
	if len(b.correlations) > 0 {
		dst = protowire.AppendTag(dst, fieldMBCorrelations, protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(8*len(b.correlations)))
		for _, c := range b.correlations {
			dst = binary.LittleEndian.AppendUint64(dst, c)
		}
	}
	return append(dst, b.matches...)
}

// Reset empties the encoder and keeps its memory.
func (b *MatchBatchEncoder) Reset() {
	b.matches, b.correlations, b.n = b.matches[:0], b.correlations[:0], 0
}

// MatchBatchReader walks an encoded MatchBatch. It is not safe for concurrent use.
type MatchBatchReader struct {
	SourcePartition int
	Watermark       int64
	Idle            bool

	rest         []byte
	correlations []uint64
	err          error
}

// Reset starts on b, which the reader and its matches alias, and reads the
// fields before the first match.
func (r *MatchBatchReader) Reset(b []byte) error {
	*r = MatchBatchReader{rest: b, correlations: r.correlations[:0]}
	for len(r.rest) > 0 {
		num, typ, n := protowire.ConsumeTag(r.rest)
		if n < 0 {
			return r.fail(n)
		}
		if num == fieldMBMatches {
			return nil
		}
		value := r.rest[n:]
		size := protowire.ConsumeFieldValue(num, typ, value)
		if size < 0 {
			return r.fail(size)
		}
		r.rest = value[size:]
		switch {
		case num == fieldMBCorrelations && typ == protowire.BytesType:
			packed, _ := protowire.ConsumeBytes(value)
			for ; len(packed) >= 8; packed = packed[8:] {
				r.correlations = append(r.correlations, binary.LittleEndian.Uint64(packed))
			}
		case typ == protowire.VarintType:
			v, _ := protowire.ConsumeVarint(value)
			switch num {
			case fieldMBPartition:
				r.SourcePartition = int(uint32(v))
			case fieldMBWatermark:
				r.Watermark = protowire.DecodeZigZag(v)
			case fieldMBIdle:
				r.Idle = v != 0
			}
		}
	}
	return nil
}

// Next decodes the next match into m, overwriting all of it. After false, Err
// tells a clean end from bad bytes.
func (r *MatchBatchReader) Next(m *Match) bool {
	for len(r.rest) > 0 && r.err == nil {
		num, typ, n := protowire.ConsumeTag(r.rest)
		if n < 0 {
			return r.fail(n) == nil
		}
		size := protowire.ConsumeFieldValue(num, typ, r.rest[n:])
		if size < 0 {
			return r.fail(size) == nil
		}
		field := r.rest[n : n+size]
		r.rest = r.rest[n+size:]
		if num != fieldMBMatches || typ != protowire.BytesType {
			continue
		}
		value, _ := protowire.ConsumeBytes(field)
		return r.decode(value, m) == nil
	}
	return false
}

// Err returns why Next stopped early, nil at a clean end.
func (r *MatchBatchReader) Err() error { return r.err }

func (r *MatchBatchReader) fail(code int) error {
	r.err = fmt.Errorf("%w: %w", ErrMatchBatchMalformed, protowire.ParseError(code))
	return r.err
}

func (r *MatchBatchReader) decode(b []byte, m *Match) error {
	*m = Match{}
	index := uint64(0)
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return r.fail(n)
		}
		size := protowire.ConsumeFieldValue(num, typ, b[n:])
		if size < 0 {
			return r.fail(size)
		}
		field := b[n : n+size]
		b = b[n+size:]
		switch typ {
		case protowire.VarintType:
			v, _ := protowire.ConsumeVarint(field)
			switch num {
			case fieldMatchOffset:
				m.Offset = int64(v)
			case fieldMatchCorrelation:
				index = v
			case fieldMatchStep:
				m.Step = uint32(v)
			case fieldMatchTime:
				m.Time = int64(v)
			}
		case protowire.Fixed64Type:
			if num == fieldMatchNumber {
				v, _ := protowire.ConsumeFixed64(field)
				m.HasNumber, m.Number = true, math.Float64frombits(v)
			}
		case protowire.BytesType:
			v, _ := protowire.ConsumeBytes(field)
			switch num {
			case fieldMatchID:
				copy(m.ID[:], v)
			case fieldMatchGroup:
				m.Group = v
			case fieldMatchValue:
				m.Value = v
			case fieldMatchEvidence:
				m.Evidence = v
			}
		}
	}
	if index >= uint64(len(r.correlations)) {
		r.err = fmt.Errorf("%w: correlation %d of %d", ErrMatchBatchMalformed, index, len(r.correlations))
		return r.err
	}
	m.Correlation = r.correlations[index]
	return nil
}
