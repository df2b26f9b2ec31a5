package clickhouse

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/google/uuid"
)

// The Native format, as HTTP inserts have it: number of columns, number of
// rows, and for each column its name, its type and its values.
// https://clickhouse.com/docs/interfaces/formats/Native
//
// It is written here and not by the driver because the driver builds every
// block anew: three copies of each byte, in buffers that grow by doubling. That
// cost more than all the rest of the sink.

const (
	nativeChunk = 256 << 10 // bytes that are encoded at a time, give or take a row
	nativeRows  = 512       // rows between two looks at the size
)

// parts is how many runs of values a column has in the Native format: a
// Nullable has its null map first, an Array its offsets, a Map is an array of
// keys and one of values.
func (c *values[T]) parts() int {
	switch any(c.v).(type) {
	case []*int32, [][]string, [][]uuid.UUID:
		return 2
	case []map[string]string:
		return 3
	}
	return 1
}

// appendNative appends one part of the values in [from, to).
func (c *values[T]) appendNative(dst []byte, part, from, to int) []byte {
	le := binary.LittleEndian
	switch v := any(c.v).(type) {
	case []string:
		for _, s := range v[from:to] {
			dst = appendString(dst, s)
		}
	case []int64:
		for _, n := range v[from:to] {
			dst = le.AppendUint64(dst, uint64(n))
		}
	case []uint64:
		for _, n := range v[from:to] {
			dst = le.AppendUint64(dst, n)
		}
	case []uint32:
		for _, n := range v[from:to] {
			dst = le.AppendUint32(dst, n)
		}
	case []uint8:
		dst = append(dst, v[from:to]...)
	case []bool:
		for _, b := range v[from:to] {
			dst = append(dst, oneIf(b))
		}
	case []uuid.UUID:
		for i := range v[from:to] {
			dst = appendUUID(dst, &v[from+i])
		}
	case []*int32:
		for _, n := range v[from:to] {
			switch {
			case part == 0:
				dst = append(dst, oneIf(n == nil))
			case n == nil:
				dst = le.AppendUint32(dst, 0)
			default:
				dst = le.AppendUint32(dst, uint32(*n))
			}
		}
	case [][]string:
		if part == 0 {
			return appendOffsets(dst, v, from, to, func(a []string) int { return len(a) })
		}
		for _, a := range v[from:to] {
			for _, s := range a {
				dst = appendString(dst, s)
			}
		}
	case [][]uuid.UUID:
		if part == 0 {
			return appendOffsets(dst, v, from, to, func(a []uuid.UUID) int { return len(a) })
		}
		for _, a := range v[from:to] {
			for i := range a {
				dst = appendUUID(dst, &a[i])
			}
		}
	case []map[string]string:
		if part == 0 {
			return appendOffsets(dst, v, from, to, func(m map[string]string) int { return len(m) })
		}
		for _, m := range v[from:to] {
			for _, key := range slices.Sorted(maps.Keys(m)) { // the same order for keys and values
				if part == 1 {
					dst = appendString(dst, key)
				} else {
					dst = appendString(dst, m[key])
				}
			}
		}
	default:
		panic(fmt.Sprintf("column %s: no Native encoding of %T", c.name, v)) // a column that no test has sent
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// appendUUID writes two little-endian halves, the first one first.
func appendUUID(dst []byte, id *uuid.UUID) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, binary.BigEndian.Uint64(id[:8]))
	return binary.LittleEndian.AppendUint64(dst, binary.BigEndian.Uint64(id[8:]))
}

// appendOffsets writes where each array ends, counted from the first row's.
func appendOffsets[E any](dst []byte, v []E, from, to int, size func(E) int) []byte {
	end := 0
	for i, e := range v[:to] {
		if end += size(e); i >= from {
			dst = binary.LittleEndian.AppendUint64(dst, uint64(end))
		}
	}
	return dst
}

func oneIf(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// nativeReader encodes a block as it is read.
type nativeReader struct {
	mu      sync.Mutex // held while the block is looked at
	stopped bool

	block  *block
	frames *compress.Writer // nil: none
	buf    []byte           // encoded, before compression
	rest   []byte           // ready to be read

	column, part, row int
	begun             bool
}

// Read implements io.Reader.
func (r *nativeReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return 0, io.ErrClosedPipe
	}
	for len(r.rest) == 0 {
		r.buf = r.encode(r.buf[:0])
		if len(r.buf) == 0 {
			return 0, io.EOF
		}
		r.rest = r.buf
		if r.frames != nil {
			if err := r.frames.Compress(r.buf); err != nil {
				return 0, err
			}
			r.rest = r.frames.Data
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// stop ends all reading. The HTTP transport may go on with a request's body in
// a goroutine of its own after the request has failed; the block must be left
// alone from then on.
func (r *nativeReader) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
}

// encode appends the next chunk, nothing at the end.
func (r *nativeReader) encode(dst []byte) []byte {
	columns := r.block.table.columns()
	if !r.begun {
		r.begun = true
		dst = binary.AppendUvarint(dst, uint64(len(columns)))
		dst = binary.AppendUvarint(dst, uint64(r.block.rows))
	}
	for len(dst) < nativeChunk && r.column < len(columns) {
		c := columns[r.column]
		if r.part == 0 && r.row == 0 {
			name, chType := c.meta()
			dst = appendString(appendString(dst, name), chType)
		}
		to := min(r.row+nativeRows, r.block.rows)
		dst = c.appendNative(dst, r.part, r.row, to)
		if r.row = to; r.row < r.block.rows {
			continue
		}
		r.row = 0
		if r.part++; r.part == c.parts() {
			r.part = 0
			r.column++
		}
	}
	return dst
}
