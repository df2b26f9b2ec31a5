package schemas

import (
	"encoding/binary"
	"errors"
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
	fieldMBRuns         protowire.Number = 6

	fieldMatchOffset      protowire.Number = 1
	fieldMatchCorrelation protowire.Number = 2
	fieldMatchStep        protowire.Number = 3
	fieldMatchTime        protowire.Number = 4
	fieldMatchID          protowire.Number = 5
	fieldMatchGroup       protowire.Number = 6
	fieldMatchValue       protowire.Number = 7
	fieldMatchNumber      protowire.Number = 8
	fieldMatchEvidence    protowire.Number = 9
	fieldMatchIndex       protowire.Number = 10

	fieldRunCorrelation protowire.Number = 1
	fieldRunStep        protowire.Number = 2
	fieldRunGroup       protowire.Number = 3
	fieldRunTimes       protowire.Number = 4
	fieldRunIDs         protowire.Number = 5
	fieldRunOffsets     protowire.Number = 6
	fieldRunIndexes     protowire.Number = 7
	fieldRunValues      protowire.Number = 8
	fieldRunValue       protowire.Number = 9
	fieldRunNumbers     protowire.Number = 10
)

// ErrMatchBatchMalformed is in the chain of every error about bytes that are
// not a MatchBatch.
var ErrMatchBatchMalformed = errors.New("malformed MatchBatch")

// Match is one event that matched one step of a correlation, for one group.
// The byte slices alias the buffer that it was decoded from.
type Match struct {
	Offset      int64  // of the event's record in its partition
	Index       uint32 // of the event in its record
	Correlation uint64 // rules.Meta.Hash
	Step        uint32
	Time        int64 // event time, Unix milliseconds
	ID          EventID
	Group       []byte
	Value       []byte
	HasNumber   bool
	Number      float64
	// Evidence is what a detection says of the event. Decoded from a run it is
	// empty: the event itself says it, see Offset and Index.
	Evidence []byte
}

// RunLength is the number of matches of one step and group in a batch from
// which on they are sent as a run, without their evidence.
const RunLength = 16

// MatchBatchEncoder builds the value of one tocsin.matches record. The zero
// value is ready; it is not safe for concurrent use.
type MatchBatchEncoder struct {
	matches      []queuedMatch
	runs         []matchRun
	runOf        map[runKey]int32 // index into runs
	arena        []byte
	size         int
	correlations []uint64
	scratch      []byte
	columns      runColumns
}

// queuedMatch is a match that waits for AppendTo, in the list of its run.
type queuedMatch struct {
	Match
	next int32 // -1: the last of its run
}

// matchRun is the matches of one step and group, in the order of Append.
type matchRun struct {
	correlation uint32 // index
	first, last int32
	n           int
	numbers     int // matches that have one
}

type runKey struct {
	correlation, group uint64
	step               uint32
}

// Append adds m, copying what it needs.
func (b *MatchBatchEncoder) Append(m *Match) {
	q := queuedMatch{Match: *m, next: -1}
	at := len(b.arena)
	b.arena = append(append(append(b.arena, m.Group...), m.Value...), m.Evidence...)
	// Should the arena move, what was queued before stays where it is.
	kept := b.arena[at:len(b.arena):len(b.arena)]
	group, value := len(m.Group), len(m.Group)+len(m.Value)
	q.Group, q.Value, q.Evidence = kept[:group:group], kept[group:value:value], kept[value:]
	b.size += len(kept) + 32
	b.link(&q)
	b.matches = append(b.matches, q)
}

// link puts the match that will be the next of matches into its run.
func (b *MatchBatchEncoder) link(q *queuedMatch) {
	index := int32(len(b.matches))
	key := runKey{correlation: q.Correlation, step: q.Step, group: groupHash(q.Group)}
	i, ok := b.runOf[key]
	if ok {
		r := &b.runs[i]
		// Two groups with the same hash: the second goes without a run.
		if ok = string(b.matches[r.first].Group) == string(q.Group); ok {
			b.matches[r.last].next, r.last = index, index
			r.n++
		}
	}
	if !ok {
		i = int32(len(b.runs))
		if b.runOf == nil {
			b.runOf = make(map[runKey]int32)
		}
		b.runOf[key] = i
		b.runs = append(b.runs, matchRun{correlation: b.correlation(q.Correlation), first: index, last: index, n: 1})
	}
	if q.HasNumber {
		b.runs[i].numbers++
	}
}

// correlation returns the index of a correlation's hash.
func (b *MatchBatchEncoder) correlation(hash uint64) uint32 {
	for i, c := range b.correlations {
		if c == hash {
			return uint32(i)
		}
	}
	b.correlations = append(b.correlations, hash)
	return uint32(len(b.correlations) - 1)
}

// Len returns the number of matches.
func (b *MatchBatchEncoder) Len() int { return len(b.matches) }

// Size returns about how many bytes the matches so far take at most.
func (b *MatchBatchEncoder) Size() int { return b.size }

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
	for i := range b.runs {
		r := &b.runs[i]
		// Numbers are a column: all have one or none.
		if r.n >= RunLength && (r.numbers == 0 || r.numbers == r.n) {
			dst = b.appendRun(dst, r)
			continue
		}
		for k := r.first; k >= 0; k = b.matches[k].next {
			b.scratch = appendMatch(b.scratch[:0], &b.matches[k].Match, r.correlation)
			dst = protowire.AppendTag(dst, fieldMBMatches, protowire.BytesType)
			dst = protowire.AppendBytes(dst, b.scratch)
		}
	}
	return dst
}

func appendMatch(s []byte, m *Match, correlation uint32) []byte {
	s = appendVarint(s, fieldMatchOffset, uint64(m.Offset))
	s = appendVarint(s, fieldMatchCorrelation, uint64(correlation))
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
	return appendVarint(s, fieldMatchIndex, uint64(m.Index))
}

// Reset empties the encoder and keeps its memory.
func (b *MatchBatchEncoder) Reset() {
	clear(b.matches) // an arena that was outgrown must not be held
	b.matches, b.runs, b.arena, b.size = b.matches[:0], b.runs[:0], b.arena[:0], 0
	b.correlations = b.correlations[:0]
	clear(b.runOf)
}
