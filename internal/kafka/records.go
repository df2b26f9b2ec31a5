package kafka

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/segmentio/kafka-go/compress"
)

// maxBatchBytes bounds a decompressed batch: what a few kilobytes from the network may turn into.
const maxBatchBytes = 256 << 20

// FetchedRecord is one record read from a partition. Its slices belong to the [FetchBuffer] it was read with and are valid
// until that buffer's next use.
type FetchedRecord struct {
	Offset     int64
	Time       time.Time
	Key, Value []byte
	Headers    []Header
}

// abortedTransaction is an entry of a fetch response's list of aborted transactions: batches of the producer at or after the
// offset do not count, up to the producer's abort marker.
type abortedTransaction struct {
	producerID  int64
	firstOffset int64
}

// recordDecoder turns the raw record set of a fetch response into records. It reuses all memory between calls.
//
// kafka-go's own decoder is not used: it hides the last offset of a batch, without which a reader of a compacted topic whose
// batch lost its newest records (or all of them) asks for the same batch for ever.
type recordDecoder struct {
	records []FetchedRecord
	headers []Header
	plain   []byte // decompressed batches, back to back
	shrink  shrinker
	names   map[string]string
	aborted []abortedTransaction // transactions active at the current position
}

// decode appends the records of set at or after offset to d.records. It returns the offset to fetch next, which is offset
// itself if the set holds no complete batch. On a corrupt batch, what came before it is kept and next points at it;
// skipTo is the offset after it, as far as its header can be believed.
func (d *recordDecoder) decode(set []byte, offset int64, aborted []abortedTransaction) (next, skipTo int64, err error) {
	if d.shrink.after(len(d.plain), cap(d.plain)) {
		d.plain = nil
		clear(d.records[:cap(d.records)]) // they refer to it
	}
	d.records, d.headers, d.plain, d.aborted = d.records[:0], d.headers[:0], d.plain[:0], d.aborted[:0]
	next = offset
	be := binary.BigEndian
	for len(set) >= batchHeaderSize {
		base := int64(be.Uint64(set[batchBaseOffset:]))
		length := int64(int32(be.Uint32(set[batchLength:])))
		last := base + int64(int32(be.Uint32(set[batchLastOffsetDelta:])))
		magic := set[batchMagic]
		corrupt := func(format string, args ...any) (int64, int64, error) {
			return next, max(last, next) + 1, fmt.Errorf("%w at offset %d: %s", ErrCorrupt, base, fmt.Sprintf(format, args...))
		}
		if magic != 2 {
			// Kafka 4 rejects and Kafka 0.11+ does not write the older formats; Tocsin's topics cannot hold them.
			last = next
			return corrupt("message format %d", magic)
		}
		if length < batchHeaderSize-logOverhead {
			last = next
			return corrupt("length %d", length)
		}
		end := logOverhead + length
		if end > int64(len(set)) {
			break // the response was cut at its size limit; the next fetch starts here
		}
		batch := set[:end]
		set = set[end:]
		if last < next {
			continue // wholly before the offset asked for
		}
		if crc32.Checksum(batch[batchAttributes:], castagnoli) != be.Uint32(batch[batchCRC:]) {
			return corrupt("checksum mismatch")
		}
		attributes := int16(be.Uint16(batch[batchAttributes:]))
		producerID := int64(be.Uint64(batch[batchProducerID:]))
		for len(aborted) > 0 && aborted[0].firstOffset <= last {
			d.aborted = append(d.aborted, aborted[0])
			aborted = aborted[1:]
		}
		switch {
		case attributes&attrControl != 0:
			d.endTransaction(producerID)
		case attributes&attrTransactional != 0 && d.isAborted(producerID):
		default:
			kept := len(d.records)
			if derr := d.decodeBatch(batch, attributes, base, next); derr != nil {
				d.records = d.records[:kept]
				return corrupt("%v", derr)
			}
		}
		next = last + 1
	}
	return next, next, nil
}

func (d *recordDecoder) isAborted(producerID int64) bool {
	for _, a := range d.aborted {
		if a.producerID == producerID {
			return true
		}
	}
	return false
}

// endTransaction ends one aborted transaction of a producer at its marker; a commit marker finds none.
func (d *recordDecoder) endTransaction(producerID int64) {
	for i, a := range d.aborted {
		if a.producerID == producerID {
			d.aborted = append(d.aborted[:i], d.aborted[i+1:]...)
			return
		}
	}
}

func (d *recordDecoder) decodeBatch(batch []byte, attributes int16, base, from int64) error {
	be := binary.BigEndian
	count := int(int32(be.Uint32(batch[batchRecordCount:])))
	baseTime := int64(be.Uint64(batch[batchBaseTimestamp:]))
	maxTime := int64(be.Uint64(batch[batchMaxTimestamp:]))
	body := batch[batchHeaderSize:]
	if count < 0 {
		return fmt.Errorf("%d records", count)
	}
	if code := attributes & attrCompressionMask; code != 0 && count > 0 {
		var err error
		if body, err = d.decompress(compress.Compression(code), body); err != nil {
			return err
		}
	}
	for range count {
		size, rest, ok := readVarint(body)
		if !ok || size < 0 || size > int64(len(rest)) {
			return fmt.Errorf("record length %d with %d bytes left", size, len(rest))
		}
		record := rest[:size]
		body = rest[size:]
		if err := d.decodeRecord(record, base, from, baseTime, maxTime, attributes&attrLogAppendTime != 0); err != nil {
			return err
		}
	}
	return nil
}

func (d *recordDecoder) decodeRecord(b []byte, base, from, baseTime, maxTime int64, logAppendTime bool) error {
	if len(b) < 1 {
		return io.ErrUnexpectedEOF
	}
	b = b[1:] // attributes, unused
	timeDelta, b, ok1 := readVarint(b)
	offsetDelta, b, ok2 := readVarint(b)
	key, b, ok3 := readVarBytes(b)
	value, b, ok4 := readVarBytes(b)
	headerCount, b, ok5 := readVarint(b)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || headerCount < 0 || headerCount > int64(len(b)) {
		return io.ErrUnexpectedEOF
	}
	r := FetchedRecord{Offset: base + offsetDelta, Key: key, Value: value}
	if logAppendTime {
		r.Time = time.UnixMilli(maxTime)
	} else {
		r.Time = time.UnixMilli(baseTime + timeDelta)
	}
	if headerCount > 0 {
		first := len(d.headers)
		for range headerCount {
			var name, v []byte
			var ok bool
			if name, b, ok = readVarBytes(b); !ok {
				return io.ErrUnexpectedEOF
			}
			if v, b, ok = readVarBytes(b); !ok {
				return io.ErrUnexpectedEOF
			}
			d.headers = append(d.headers, Header{Key: d.intern(name), Value: v})
		}
		// A later append may move d.headers; this slice then keeps the old array, which stays valid.
		r.Headers = d.headers[first:len(d.headers):len(d.headers)]
	}
	if r.Offset >= from {
		d.records = append(d.records, r)
	}
	return nil
}

// intern keeps the few header names that a topic uses instead of allocating one per record.
func (d *recordDecoder) intern(name []byte) string {
	if s, ok := d.names[string(name)]; ok {
		return s
	}
	const maxNames = 256
	s := string(name)
	if d.names == nil {
		d.names = make(map[string]string)
	}
	if len(d.names) < maxNames {
		d.names[s] = s
	}
	return s
}

// decompress appends the decompressed body to d.plain and returns it. Growing d.plain moves it, but slices into the old
// array stay valid, so earlier records are safe.
func (d *recordDecoder) decompress(code compress.Compression, body []byte) ([]byte, error) {
	codec := code.Codec()
	if codec == nil {
		return nil, fmt.Errorf("unknown compression %d", code)
	}
	r := codec.NewReader(bytes.NewReader(body))
	defer r.Close()
	first := len(d.plain)
	if cap(d.plain)-first < 2*len(body) {
		grown := make([]byte, 0, max(2*cap(d.plain), 4*len(body), 64<<10))
		d.plain, first = grown, 0
	}
	for {
		if len(d.plain) == cap(d.plain) {
			grown := make([]byte, len(d.plain)-first, 2*cap(d.plain))
			copy(grown, d.plain[first:])
			d.plain, first = grown, 0
		}
		n, err := r.Read(d.plain[len(d.plain):cap(d.plain)])
		d.plain = d.plain[:len(d.plain)+n]
		if err == io.EOF {
			return d.plain[first:], nil
		}
		if err != nil {
			return nil, fmt.Errorf("decompress %s: %w", codec.Name(), err)
		}
		if len(d.plain)-first > maxBatchBytes {
			return nil, fmt.Errorf("batch decompresses to more than %d bytes", maxBatchBytes)
		}
	}
}

func readVarint(b []byte) (v int64, rest []byte, ok bool) {
	v, n := binary.Varint(b)
	if n <= 0 {
		return 0, b, false
	}
	return v, b[n:], true
}

func readVarBytes(b []byte) (v, rest []byte, ok bool) {
	n, b, ok := readVarint(b)
	if !ok || n > int64(len(b)) {
		return nil, b, false
	}
	if n < 0 {
		return nil, b, true
	}
	return b[:n:n], b[n:], true
}
