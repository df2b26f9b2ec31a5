package schemas

import (
	"encoding/binary"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// MatchBatchReader walks an encoded MatchBatch. It is not safe for concurrent use.
type MatchBatchReader struct {
	SourcePartition int
	Watermark       int64
	Idle            bool

	rest         []byte
	correlations []uint64
	run          runReader
	err          error
}

// Reset starts on b, which the reader and its matches alias, and reads the
// fields before the first match.
func (r *MatchBatchReader) Reset(b []byte) error {
	*r = MatchBatchReader{rest: b, correlations: r.correlations[:0], run: runReader{values: r.run.values[:0]}}
	for len(r.rest) > 0 {
		num, typ, n := protowire.ConsumeTag(r.rest)
		if n < 0 {
			return r.fail(n)
		}
		if num == fieldMBMatches || num == fieldMBRuns {
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
	for r.err == nil {
		if r.run.next(m) {
			return true
		}
		if r.run.malformed {
			r.err = fmt.Errorf("%w: a run whose columns do not fit together", ErrMatchBatchMalformed)
			return false
		}
		if len(r.rest) == 0 {
			return false
		}
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
		if typ != protowire.BytesType {
			continue
		}
		value, _ := protowire.ConsumeBytes(field)
		switch num {
		case fieldMBMatches:
			return r.decode(value, m) == nil
		case fieldMBRuns:
			index := r.run.reset(value)
			if !r.run.malformed {
				r.run.match.Correlation = r.correlation(index)
			}
		}
	}
	return false
}

// Err returns why Next stopped early, nil at a clean end.
func (r *MatchBatchReader) Err() error { return r.err }

func (r *MatchBatchReader) fail(code int) error {
	r.err = fmt.Errorf("%w: %w", ErrMatchBatchMalformed, protowire.ParseError(code))
	return r.err
}

// correlation returns the hash of index; it fails for one that nobody listed.
func (r *MatchBatchReader) correlation(index uint64) uint64 {
	if index >= uint64(len(r.correlations)) {
		r.err = fmt.Errorf("%w: correlation %d of %d", ErrMatchBatchMalformed, index, len(r.correlations))
		return 0
	}
	return r.correlations[index]
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
			case fieldMatchIndex:
				m.Index = uint32(v)
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
	m.Correlation = r.correlation(index)
	return r.err
}
