package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"time"

	"github.com/pierrec/lz4/v4"
	"github.com/segmentio/kafka-go/compress"
)

// Record is one record to produce. Key and Value may be nil, which Kafka keeps apart from empty.
type Record struct {
	Key, Value []byte
	Headers    []Header
	// Time is the record's timestamp; the zero value takes the time at which it is sent.
	Time time.Time
}

// Header is a record header.
type Header struct {
	Key   string
	Value []byte
}

// Layout of a record batch, magic 2 (https://kafka.apache.org/documentation/#recordbatch), all integers big-endian. Offsets
// are from the start of the batch.
const (
	batchBaseOffset      = 0
	batchLength          = 8 // int32, counts from the next field
	batchLeaderEpoch     = 12
	batchMagic           = 16
	batchCRC             = 17 // CRC-32C of everything from batchAttributes
	batchAttributes      = 21
	batchLastOffsetDelta = 23
	batchBaseTimestamp   = 27
	batchMaxTimestamp    = 35
	batchProducerID      = 43
	batchProducerEpoch   = 51
	batchBaseSequence    = 53
	batchRecordCount     = 57
	batchHeaderSize      = 61
	logOverhead          = batchLeaderEpoch // base offset and length, present for every magic
)

const (
	attrCompressionMask = 0x07
	attrLogAppendTime   = 0x08
	attrTransactional   = 0x10
	attrControl         = 0x20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// producerSession identifies an idempotent producer towards the brokers.
type producerSession struct {
	id    int64
	epoch int16
}

// nextSequence adds n records to a sequence number, which wraps from 2^31-1 to 0.
func nextSequence(seq int32, n int) int32 {
	return int32((int64(seq) + int64(n)) & math.MaxInt32)
}

// batchEncoder builds record batches. It keeps its buffers between batches and is not safe for concurrent use.
type batchEncoder struct {
	codec   compress.Codec // nil: no compression
	lz4     *lz4.Writer    // instead of codec's writer, once used
	records []byte         // the records before compression
	out     bytes.Buffer
	n       int
	base    int64 // timestamp of the first record, ms
	newest  int64
}

// reset starts a new batch.
func (e *batchEncoder) reset() {
	e.records = e.records[:0]
	e.n = 0
}

// recordSizeLimit bounds the encoded size of r from above.
func recordSizeLimit(r *Record) int {
	const lengths = 2*binary.MaxVarintLen64 + 4*binary.MaxVarintLen32 // deltas; record, key, value lengths and header count
	size := 1 + lengths + len(r.Key) + len(r.Value)
	for i := range r.Headers {
		size += 2*binary.MaxVarintLen32 + len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return size
}

// append adds a record. now is its timestamp if it has none.
func (e *batchEncoder) append(r *Record, now time.Time) {
	t := r.Time
	if t.IsZero() {
		t = now
	}
	ms := t.UnixMilli()
	if e.n == 0 {
		e.base, e.newest = ms, ms
	}
	e.newest = max(e.newest, ms)

	size := 1 + varintLen(ms-e.base) + varintLen(int64(e.n)) + varBytesLen(r.Key) + varBytesLen(r.Value) + varintLen(int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		size += varintLen(int64(len(h.Key))) + len(h.Key) + varBytesLen(h.Value)
	}
	b := binary.AppendVarint(e.records, int64(size))
	b = append(b, 0) // record attributes, unused
	b = binary.AppendVarint(b, ms-e.base)
	b = binary.AppendVarint(b, int64(e.n))
	b = appendVarBytes(b, r.Key)
	b = appendVarBytes(b, r.Value)
	b = binary.AppendVarint(b, int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		b = binary.AppendVarint(b, int64(len(h.Key)))
		b = append(b, h.Key...)
		b = appendVarBytes(b, h.Value)
	}
	e.records = b
	e.n++
}

// finish encodes the batch with the producer's session and the sequence number of its first record. The result is preceded
// by its own length as an int32, as the produce request wants it, and is valid until the next finish.
func (e *batchEncoder) finish(session producerSession, sequence int32) ([]byte, error) {
	var header [4 + batchHeaderSize]byte
	e.out.Reset()
	e.out.Write(header[:])
	attributes := int16(0)
	if e.codec == nil {
		e.out.Write(e.records)
	} else {
		attributes |= int16(e.codec.Code())
		w := e.compressor()
		_, err := w.Write(e.records)
		if err = errors.Join(err, w.Close()); err != nil {
			return nil, fmt.Errorf("compress record batch with %s: %w", e.codec.Name(), err)
		}
	}
	set := e.out.Bytes()
	batch := set[4:]
	be := binary.BigEndian
	be.PutUint32(set, uint32(len(batch)))
	be.PutUint32(batch[batchLength:], uint32(len(batch)-logOverhead))
	be.PutUint32(batch[batchLeaderEpoch:], math.MaxUint32) // -1: the broker fills it in
	batch[batchMagic] = 2
	be.PutUint16(batch[batchAttributes:], uint16(attributes))
	be.PutUint32(batch[batchLastOffsetDelta:], uint32(e.n-1))
	be.PutUint64(batch[batchBaseTimestamp:], uint64(e.base))
	be.PutUint64(batch[batchMaxTimestamp:], uint64(e.newest))
	be.PutUint64(batch[batchProducerID:], uint64(session.id))
	be.PutUint16(batch[batchProducerEpoch:], uint16(session.epoch))
	be.PutUint32(batch[batchBaseSequence:], uint32(sequence))
	be.PutUint32(batch[batchRecordCount:], uint32(e.n))
	be.PutUint32(batch[batchCRC:], crc32.Checksum(batch[batchAttributes:], castagnoli))
	return set, nil
}

// compressor returns a writer that compresses to e.out. For lz4 it is our own: kafka-go's uses blocks of 4 MiB, and makes
// every reader of the topic allocate as much.
func (e *batchEncoder) compressor() io.WriteCloser {
	if e.codec.Code() != int8(compress.Lz4) {
		return e.codec.NewWriter(&e.out)
	}
	if e.lz4 == nil {
		e.lz4 = lz4.NewWriter(nil)
		// The options are valid, which is all that can go wrong.
		_ = e.lz4.Apply(lz4.BlockSizeOption(lz4.Block256Kb), lz4.ChecksumOption(false))
	}
	e.lz4.Reset(&e.out)
	return e.lz4
}

// detach gives the last finished batch's memory away: a request that was abandoned while a connection may still be reading it
// must not see the next batch being written.
func (e *batchEncoder) detach() { e.out = bytes.Buffer{} }

func varintLen(v int64) int {
	u := uint64(v)<<1 ^ uint64(v>>63)
	n := 1
	for u >= 0x80 {
		u >>= 7
		n++
	}
	return n
}

func varBytesLen(b []byte) int {
	if b == nil {
		return 1 // -1
	}
	return varintLen(int64(len(b))) + len(b)
}

func appendVarBytes(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(b))), b...)
}
