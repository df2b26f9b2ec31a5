package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/protocol"
)

var codecs = map[string]compress.Codec{
	"none": nil, "gzip": &compress.GzipCodec, "snappy": &compress.SnappyCodec, "lz4": &compress.Lz4Codec, "zstd": &compress.ZstdCodec,
}

func someRecords() []Record {
	at := time.UnixMilli(1_700_000_000_123)
	return []Record{
		{Key: []byte("key"), Value: []byte("value"), Time: at},
		{Value: []byte{}, Time: at.Add(-time.Minute), Headers: []Header{{Key: "a", Value: []byte("1")}, {Key: "", Value: nil}}},
		{Key: []byte{}, Time: at.Add(time.Hour), Headers: []Header{{Key: "a", Value: []byte{}}}},
		{Key: bytes.Repeat([]byte("k"), 300), Value: bytes.Repeat([]byte("value "), 50_000), Time: at},
	}
}

// encodeBatch returns a record set with one batch, as a broker would hand it out: without the length prefix, and with the
// offset filled in.
func encodeBatch(t testing.TB, codec compress.Codec, base int64, recs ...Record) []byte {
	t.Helper()
	e := batchEncoder{codec: codec}
	for i := range recs {
		e.append(&recs[i], time.Now())
	}
	set, err := e.finish(producerSession{id: 4711, epoch: 3}, 99)
	if err != nil {
		t.Fatal(err)
	}
	if n := binary.BigEndian.Uint32(set); int(n) != len(set)-4 {
		t.Fatalf("length prefix %d of %d bytes", n, len(set))
	}
	batch := bytes.Clone(set[4:])
	binary.BigEndian.PutUint64(batch, uint64(base))
	return batch
}

// edit changes a batch and makes its checksum right again.
func edit(batch []byte, change func(b []byte)) []byte {
	b := bytes.Clone(batch)
	change(b)
	binary.BigEndian.PutUint32(b[batchCRC:], crc32.Checksum(b[batchAttributes:], castagnoli))
	return b
}

func fetched(base int64, recs []Record) []FetchedRecord {
	out := make([]FetchedRecord, len(recs))
	for i, r := range recs {
		out[i] = FetchedRecord{Offset: base + int64(i), Time: r.Time, Key: r.Key, Value: r.Value, Headers: r.Headers}
	}
	return out
}

func TestBatchReadByKafkaGo(t *testing.T) {
	for name, codec := range codecs {
		t.Run(name, func(t *testing.T) {
			want := someRecords()
			batch := encodeBatch(t, codec, 0, want...)
			var set protocol.RecordSet
			if _, err := set.ReadFrom(bytes.NewReader(binary.BigEndian.AppendUint32(nil, uint32(len(batch))))); err == nil && set.Records != nil {
				t.Fatal("read records from a length alone")
			}
			prefixed := append(binary.BigEndian.AppendUint32(nil, uint32(len(batch))), batch...)
			if _, err := set.ReadFrom(bytes.NewBuffer(prefixed)); err != nil {
				t.Fatal(err)
			}
			stream, ok := set.Records.(*protocol.RecordStream)
			if !ok || len(stream.Records) != 1 {
				t.Fatalf("records are %T", set.Records)
			}
			b := stream.Records[0].(*protocol.RecordBatch)
			if b.ProducerID != 4711 || b.ProducerEpoch != 3 || b.BaseSequence != 99 {
				t.Errorf("producer %d epoch %d sequence %d", b.ProducerID, b.ProducerEpoch, b.BaseSequence)
			}
			for i, w := range want {
				r, err := set.Records.ReadRecord()
				if err != nil {
					t.Fatal(err)
				}
				key, _ := protocol.ReadAll(r.Key)
				value, _ := protocol.ReadAll(r.Value)
				got := Record{Key: key, Value: value, Time: r.Time}
				for _, h := range r.Headers {
					got.Headers = append(got.Headers, Header(h))
				}
				if diff := cmp.Diff(w, got, cmp.Comparer(bytes.Equal)); diff != "" {
					t.Errorf("record %d: %s", i, diff)
				}
			}
		})
	}
}

func TestDecodeReadsWhatKafkaGoWrites(t *testing.T) {
	for name, codec := range codecs {
		t.Run(name, func(t *testing.T) {
			want := someRecords()
			records := make([]protocol.Record, len(want))
			for i, r := range want {
				records[i] = protocol.Record{Time: r.Time, Key: protocol.NewBytes(r.Key), Value: protocol.NewBytes(r.Value)}
				for _, h := range r.Headers {
					records[i].Headers = append(records[i].Headers, protocol.Header(h))
				}
			}
			set := protocol.RecordSet{Version: 2, Records: protocol.NewRecordReader(records...)}
			if codec != nil {
				set.Attributes = protocol.Attributes(codec.Code())
			}
			var b bytes.Buffer
			if _, err := set.WriteTo(&b); err != nil {
				t.Fatal(err)
			}
			var d recordDecoder
			next, _, err := d.decode(b.Bytes()[4:], 0, nil)
			if err != nil || next != int64(len(want)) {
				t.Fatalf("next %d: %v", next, err)
			}
			if diff := cmp.Diff(fetched(0, want), d.records, cmp.Comparer(bytes.Equal)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDecodeRecordSets(t *testing.T) {
	be := binary.BigEndian
	recs := func(values ...string) []Record {
		r := make([]Record, len(values))
		for i, v := range values {
			r[i] = Record{Value: []byte(v), Time: time.UnixMilli(1)}
		}
		return r
	}
	plain := func(base int64, values ...string) []byte {
		return encodeBatch(t, &compress.Lz4Codec, base, recs(values...)...)
	}
	transactional := func(producer int64, base int64, values ...string) []byte {
		return edit(plain(base, values...), func(b []byte) {
			b[batchAttributes+1] |= attrTransactional
			be.PutUint64(b[batchProducerID:], uint64(producer))
		})
	}
	marker := func(producer int64, base int64) []byte {
		return edit(encodeBatch(t, nil, base, recs("marker")...), func(b []byte) {
			b[batchAttributes+1] |= attrTransactional | attrControl
			be.PutUint64(b[batchProducerID:], uint64(producer))
		})
	}
	// compacted returns a batch whose newest records are gone, as the log cleaner leaves it: the last offset stays.
	compacted := func(batch []byte, lastOffsetDelta int) []byte {
		return edit(batch, func(b []byte) { be.PutUint32(b[batchLastOffsetDelta:], uint32(lastOffsetDelta)) })
	}
	emptied := func(base int64, lastOffsetDelta int) []byte {
		return edit(encodeBatch(t, nil, base)[:batchHeaderSize], func(b []byte) { be.PutUint32(b[batchLastOffsetDelta:], uint32(lastOffsetDelta)) })
	}
	join := func(batches ...[]byte) []byte { return bytes.Join(batches, nil) }
	for _, test := range []struct {
		name     string
		set      []byte
		offset   int64
		aborted  []abortedTransaction
		want     []string
		wantNext int64
		wantSkip int64 // set: corrupt
	}{
		{name: "nothing", offset: 7, wantNext: 7},
		{name: "two batches", set: join(plain(7, "a", "b"), plain(9, "c")), offset: 7, want: []string{"a", "b", "c"}, wantNext: 10},
		{name: "starts inside a batch", set: join(plain(7, "a", "b"), plain(9, "c")), offset: 8, want: []string{"b", "c"}, wantNext: 10},
		{name: "batch before the offset", set: join(plain(5, "x", "y"), plain(7, "a")), offset: 7, want: []string{"a"}, wantNext: 8},
		{name: "cut off in a batch", set: join(plain(7, "a"), plain(8, "b")[:70]), offset: 7, want: []string{"a"}, wantNext: 8},
		{name: "cut off in a header", set: join(plain(7, "a"), plain(8, "b")[:30]), offset: 7, want: []string{"a"}, wantNext: 8},
		{name: "newest records compacted away", set: compacted(plain(7, "a"), 4), offset: 7, want: []string{"a"}, wantNext: 12},
		{name: "only compacted away", set: compacted(plain(7, "a"), 4), offset: 8, wantNext: 12},
		{name: "emptied batch", set: join(emptied(7, 2), plain(10, "a")), offset: 7, want: []string{"a"}, wantNext: 11},
		{name: "hole between batches", set: join(plain(7, "a"), plain(20, "b")), offset: 7, want: []string{"a", "b"}, wantNext: 21},
		{name: "only a marker", set: marker(1, 7), offset: 7, wantNext: 8},
		{
			name: "committed and aborted transactions", offset: 7, wantNext: 16, want: []string{"a", "d", "e"},
			set: join(transactional(1, 7, "a"), transactional(2, 8, "b", "c"), plain(10, "d"), marker(1, 11), transactional(2, 12, "x"), marker(2, 13),
				transactional(2, 14, "e"), marker(2, 15)),
			aborted: []abortedTransaction{{producerID: 2, firstOffset: 8}},
		},
		{name: "aborted before the fetch began", set: transactional(2, 9, "x"), offset: 9, wantNext: 10, aborted: []abortedTransaction{{producerID: 2, firstOffset: 3}}},
		{name: "wrong checksum", set: join(plain(7, "a"), corruptLast(plain(8, "b", "c"))), offset: 7, want: []string{"a"}, wantNext: 8, wantSkip: 10},
		{name: "old message format", set: edit(plain(7, "a"), func(b []byte) { b[batchMagic] = 1 }), offset: 7, wantNext: 7, wantSkip: 8},
		{name: "unknown compression", set: edit(plain(7, "a"), func(b []byte) { b[batchAttributes+1] = 7 }), offset: 7, wantNext: 7, wantSkip: 8},
		{name: "more records than bytes", set: edit(plain(7, "a"), func(b []byte) { be.PutUint32(b[batchRecordCount:], 9) }), offset: 7, wantNext: 7, wantSkip: 8},
		{name: "negative count", set: edit(plain(7, "a"), func(b []byte) { be.PutUint32(b[batchRecordCount:], math.MaxUint32) }), offset: 7, wantNext: 7, wantSkip: 8},
		{name: "tiny length", set: edit(plain(7, "a"), func(b []byte) { be.PutUint32(b[batchLength:], 3) }), offset: 7, wantNext: 7, wantSkip: 8},
	} {
		t.Run(test.name, func(t *testing.T) {
			var d recordDecoder
			next, skipTo, err := d.decode(test.set, test.offset, test.aborted)
			if (test.wantSkip != 0) != errors.Is(err, ErrCorrupt) {
				t.Fatalf("error %v", err)
			}
			if test.wantSkip != 0 && skipTo != test.wantSkip {
				t.Errorf("skip to %d, want %d", skipTo, test.wantSkip)
			}
			var got []string
			for _, r := range d.records {
				got = append(got, string(r.Value))
			}
			if diff := cmp.Diff(test.want, got); diff != "" || next != test.wantNext {
				t.Errorf("next %d, want %d %s", next, test.wantNext, diff)
			}
		})
	}
}

func corruptLast(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)-1] ^= 1
	return b
}

func TestDecodeReusesMemory(t *testing.T) {
	var set []byte
	for i := range 10 {
		set = append(set, encodeBatch(t, &compress.Lz4Codec, int64(i*100), manyRecords(100)...)...)
	}
	var d recordDecoder
	decode := func() {
		if next, _, err := d.decode(set, 0, nil); err != nil || next != 1000 || len(d.records) != 1000 {
			t.Fatalf("next %d, %d records: %v", next, len(d.records), err)
		}
	}
	decode()
	decode()
	// What is left is per batch: the decompressor and its reader.
	if allocs := testing.AllocsPerRun(10, decode); allocs > 100 {
		t.Errorf("%v allocations for 1000 records in 10 batches", allocs)
	}
}

func manyRecords(n int) []Record {
	recs := make([]Record, n)
	for i := range recs {
		recs[i] = Record{Key: []byte("device-000001"), Value: bytes.Repeat([]byte("0123456789"), 30), Time: time.UnixMilli(int64(i))}
	}
	return recs
}

func TestEncodeReusesMemory(t *testing.T) {
	recs := manyRecords(1000)
	e := batchEncoder{codec: &compress.Lz4Codec}
	encode := func() {
		e.reset()
		for i := range recs {
			e.append(&recs[i], time.Time{})
		}
		if _, err := e.finish(producerSession{}, 0); err != nil {
			t.Fatal(err)
		}
	}
	encode()
	if allocs := testing.AllocsPerRun(10, encode); allocs > 20 {
		t.Errorf("%v allocations for a batch of 1000 records", allocs)
	}
	for i := range recs {
		e.reset()
		e.append(&recs[i], time.Time{})
		if limit := recordSizeLimit(&recs[i]); len(e.records) > limit {
			t.Fatalf("record of %d bytes, limit %d", len(e.records), limit)
		}
	}
}

func TestSequenceWraps(t *testing.T) {
	for _, test := range []struct {
		seq  int32
		n    int
		want int32
	}{{0, 1, 1}, {math.MaxInt32, 1, 0}, {math.MaxInt32 - 1, 1, math.MaxInt32}, {math.MaxInt32 - 4, 10, 5}} {
		if got := nextSequence(test.seq, test.n); got != test.want {
			t.Errorf("nextSequence(%d, %d) = %d, want %d", test.seq, test.n, got, test.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, codec := range codecs {
		f.Add(encodeBatch(f, codec, 5, someRecords()[:3]...), int64(5))
	}
	f.Add(append(encodeBatch(f, nil, 0, manyRecords(3)...), encodeBatch(f, nil, 3, manyRecords(2)...)...), int64(1))
	f.Fuzz(func(t *testing.T, set []byte, offset int64) {
		// A right checksum lets the fuzzer reach what lies behind it.
		if len(set) >= batchHeaderSize {
			set = edit(set, func([]byte) {})
		}
		if offset < 0 || offset > math.MaxInt64/2 {
			return
		}
		var d recordDecoder
		next, skipTo, err := d.decode(set, offset, []abortedTransaction{{producerID: 1, firstOffset: 0}})
		if next < offset {
			t.Errorf("next %d is before %d", next, offset)
		}
		if err != nil && skipTo <= next {
			t.Errorf("a corrupt batch at %d would be skipped to %d", next, skipTo)
		}
		for _, r := range d.records {
			if r.Offset < offset {
				t.Errorf("record at %d, before %d", r.Offset, offset)
			}
		}
	})
}

func FuzzFetchResponse(f *testing.F) {
	f.Add([]byte{
		0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 9,
		0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 255, 255, 255, 255, 0, 0, 0, 1, 7,
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		x := fetchExchange{correlation: 1, partition: 2}
		if err := x.parseResponse(b); err == nil && len(x.recordSet) > len(b) {
			t.Error("record set outside of the response")
		}
	})
}
