package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	kgo "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// fetchVersion is the one version of the Fetch API that is spoken: Kafka 2.3 (2019) and newer have it, Kafka 4 still does.
const fetchVersion = 11

// fetchExchange is a Fetch request for one partition together with its response. kafka-go's transport routes it to the
// partition's leader like its own requests and then lets it talk to the connection itself (protocol.RawExchanger), which
// puts the raw record set into memory that is reused, and keeps the list of aborted transactions.
//
// An exchange that was abandoned because its context ended may still be written to by the connection's goroutine. It and
// its buffer must then be left alone.
type fetchExchange struct {
	clientID    string
	topic       string
	partition   int32
	offset      int64
	minBytes    int32
	maxBytes    int32
	maxWaitMs   int32
	version     int16
	correlation int32

	raw    []byte // request first, then the response; grows as needed
	shrink shrinker

	code             kgo.Error
	highWatermark    int64
	lastStableOffset int64
	aborted          []abortedTransaction
	recordSet        []byte // within raw
}

var (
	_ protocol.BrokerMessage = (*fetchExchange)(nil)
	_ protocol.RawExchanger  = (*fetchExchange)(nil)
)

// ApiKey implements protocol.Message.
func (f *fetchExchange) ApiKey() protocol.ApiKey { return protocol.Fetch }

// Broker implements protocol.BrokerMessage: it routes to the leader.
func (f *fetchExchange) Broker(cluster protocol.Cluster) (protocol.Broker, error) {
	topic, ok := cluster.Topics[f.topic]
	if !ok {
		return protocol.Broker{}, protocol.NewErrNoTopic(f.topic)
	}
	partition, ok := topic.Partitions[f.partition]
	if !ok {
		return protocol.Broker{}, protocol.NewErrNoPartition(f.topic, f.partition)
	}
	leader, ok := cluster.Brokers[partition.Leader]
	if !ok {
		return protocol.Broker{}, protocol.NewErrNoLeader(f.topic, f.partition)
	}
	return leader, nil
}

// Required implements protocol.RawExchanger. It also notes the version that both sides know.
func (f *fetchExchange) Required(versions map[protocol.ApiKey]int16) bool {
	f.version = versions[protocol.Fetch]
	return true
}

// RawExchange implements protocol.RawExchanger: it writes the request and reads the whole response.
func (f *fetchExchange) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	if f.version < fetchVersion {
		return nil, fmt.Errorf("broker speaks Fetch up to v%d: Kafka 2.3 or newer is needed: %w", f.version, kgo.UnsupportedVersion)
	}
	f.correlation++
	if f.shrink.after(len(f.raw), cap(f.raw)) {
		f.raw, f.recordSet = nil, nil
	}
	f.raw = f.appendRequest(f.raw[:0])
	if _, err := rw.Write(f.raw); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(rw, size[:]); err != nil {
		return nil, noEOF(err)
	}
	n := int(int32(binary.BigEndian.Uint32(size[:])))
	if n < 4 || n > maxBatchBytes {
		return nil, fmt.Errorf("fetch response of %d bytes", n)
	}
	if cap(f.raw) < n {
		f.raw = make([]byte, n+n/4)
	}
	f.raw = f.raw[:n]
	if _, err := io.ReadFull(rw, f.raw); err != nil {
		return nil, noEOF(err)
	}
	if err := f.parseResponse(f.raw); err != nil {
		return nil, fmt.Errorf("fetch response: %w", err)
	}
	return f, nil
}

// noEOF turns the end of a connection in the middle of an exchange into an error that cannot be taken for the end of data.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (f *fetchExchange) appendRequest(b []byte) []byte {
	be := binary.BigEndian
	str := func(b []byte, s string) []byte { return append(be.AppendUint16(b, uint16(len(s))), s...) }
	none := ^uint32(0) // -1
	b = append(b, 0, 0, 0, 0)
	b = be.AppendUint16(b, uint16(protocol.Fetch))
	b = be.AppendUint16(b, fetchVersion)
	b = be.AppendUint32(b, uint32(f.correlation))
	b = str(b, f.clientID)
	b = be.AppendUint32(b, none) // replica ID: a consumer
	b = be.AppendUint32(b, uint32(f.maxWaitMs))
	b = be.AppendUint32(b, uint32(f.minBytes))
	b = be.AppendUint32(b, uint32(f.maxBytes))
	b = append(b, byte(kgo.ReadCommitted))
	b = be.AppendUint32(b, 0)    // session ID
	b = be.AppendUint32(b, none) // session epoch: no session
	b = be.AppendUint32(b, 1)
	b = str(b, f.topic)
	b = be.AppendUint32(b, 1)
	b = be.AppendUint32(b, uint32(f.partition))
	b = be.AppendUint32(b, none) // current leader epoch: unknown
	b = be.AppendUint64(b, uint64(f.offset))
	b = be.AppendUint64(b, ^uint64(0)) // log start offset: followers only
	b = be.AppendUint32(b, uint32(f.maxBytes))
	b = be.AppendUint32(b, 0) // forgotten topics
	b = str(b, "")            // rack
	be.PutUint32(b, uint32(len(b)-4))
	return b
}

// parseResponse reads a response without its length prefix. f.recordSet refers to b.
func (f *fetchExchange) parseResponse(b []byte) error {
	r := wireReader{b: b}
	f.aborted, f.recordSet = f.aborted[:0], nil
	if id := r.int32(); id != f.correlation && r.err == nil {
		return fmt.Errorf("correlation ID %d, want %d", id, f.correlation)
	}
	r.int32() // throttle time; the broker enforces it itself by not reading from us
	code := r.int16()
	r.int32() // session ID
	if code != 0 && r.err == nil {
		f.code = kgo.Error(code)
		return nil
	}
	if n := r.int32(); n != 1 && r.err == nil {
		return fmt.Errorf("%d topics, want 1", n)
	}
	r.bytes(int(r.int16())) // topic
	if n := r.int32(); n != 1 && r.err == nil {
		return fmt.Errorf("%d partitions, want 1", n)
	}
	if p := r.int32(); p != f.partition && r.err == nil {
		return fmt.Errorf("partition %d, want %d", p, f.partition)
	}
	f.code = kgo.Error(r.int16())
	f.highWatermark = r.int64()
	f.lastStableOffset = r.int64()
	r.int64()             // log start offset
	for range r.int32() { // -1 for none
		if r.err != nil {
			break
		}
		f.aborted = append(f.aborted, abortedTransaction{producerID: r.int64(), firstOffset: r.int64()})
	}
	r.int32() // preferred read replica: none, as no rack is named
	if n := r.int32(); n > 0 {
		f.recordSet = r.bytes(int(n))
	}
	return r.err
}

// wireReader reads big-endian fields; after the first that does not fit, err is set and zeros are returned.
type wireReader struct {
	b   []byte
	err error
}

func (r *wireReader) bytes(n int) []byte {
	if r.err == nil && (n < 0 || n > len(r.b)) {
		r.err = io.ErrUnexpectedEOF
	}
	if r.err != nil {
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *wireReader) int16() int16 {
	if b := r.bytes(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *wireReader) int32() int32 {
	if b := r.bytes(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (r *wireReader) int64() int64 {
	if b := r.bytes(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}
