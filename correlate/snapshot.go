package correlate

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/watermark"
	"github.com/tocsin-io/tocsin/schemas"
)

const (
	// snapshotChunk keeps a record of tocsin.state well below Kafka's default
	// limit of 1 MiB.
	snapshotChunk = 512 << 10
	// snapshotSlots is how many snapshots of a partition are kept. A worker that
	// was superseded and does not know it yet may write one or two more: with
	// three slots neither can spoil the only good snapshot.
	snapshotSlots = 3
	// maxSnapshot bounds what a restore may inflate to.
	maxSnapshot = 4 << 30

	snapshotMagic = "TSNAP2\n"
)

var errSnapshotTorn = errors.New("snapshot is incomplete or damaged")

// snapshotHeader is what a snapshot says besides the windows. Next is the
// first input offset whose effect is not in it.
type snapshotHeader struct {
	Topic     string           `json:"topic"`
	Partition int              `json:"partition"`
	Next      int64            `json:"next"`
	Lanes     *watermark.State `json:"lanes,omitempty"`
	Sources   []snapshotSource `json:"sources,omitempty"`
	Results   [][]int64        `json:"results,omitempty"` // as sourceMarks has them
	Mark      int64            `json:"mark"`
}

type snapshotSource struct {
	Heard     bool  `json:"heard"`
	Idle      bool  `json:"idle"`
	Watermark int64 `json:"watermark"`
}

// snapshotPress is the memory for making one snapshot. A process has a few of
// them, whatever the number of its partitions.
type snapshotPress struct {
	raw, packed []byte
	zstd        *zstd.Encoder
}

func newSnapshotPress() *snapshotPress {
	// What repeats in a snapshot repeats close by; a larger window finds little
	// more and is zeroed every time.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // options that do not fit together
	}
	return &snapshotPress{zstd: enc}
}

// grow makes room for a snapshot of about size bytes before compression. New
// memory costs several times what is written into it: whoever calls take should
// not wait for that.
func (p *snapshotPress) grow(size int) {
	p.raw = make([]byte, 0, size+size/4)
	const page = 4096
	for i := 0; i < cap(p.raw); i += page {
		p.raw[:cap(p.raw)][i] = 0
	}
}

// take copies header and windows; appendWindows appends the windows' state.
func (p *snapshotPress) take(h *snapshotHeader, appendWindows func([]byte) []byte) error {
	head, err := json.Marshal(h)
	if err != nil {
		return err
	}
	p.raw = append(p.raw[:0], snapshotMagic...)
	p.raw = binary.BigEndian.AppendUint32(p.raw, uint32(len(head)))
	p.raw = append(p.raw, head...)
	p.raw = appendWindows(p.raw)
	return nil
}

// pack returns what take copied in one compressed piece, which is valid until the
// next call.
func (p *snapshotPress) pack() []byte {
	p.packed = p.zstd.EncodeAll(p.raw, p.packed[:0])
	return p.packed
}

// decodeSnapshot reads what pack returns.
func decodeSnapshot(compressed []byte) (*snapshotHeader, []byte, error) {
	r, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxSnapshot), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	raw, err := r.DecodeAll(compressed, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errSnapshotTorn, err)
	}
	rest, ok := strings.CutPrefix(string(raw[:min(len(raw), len(snapshotMagic))]), snapshotMagic)
	if !ok || rest != "" || len(raw) < len(snapshotMagic)+4 {
		return nil, nil, fmt.Errorf("%w: not a snapshot", errSnapshotTorn)
	}
	raw = raw[len(snapshotMagic):]
	n := binary.BigEndian.Uint32(raw)
	if uint64(n) > uint64(len(raw)-4) {
		return nil, nil, fmt.Errorf("%w: header of %d bytes", errSnapshotTorn, n)
	}
	h := new(snapshotHeader)
	if err := json.Unmarshal(raw[4:4+n], h); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errSnapshotTorn, err)
	}
	return h, raw[4+n:], nil
}

// manifest is the record that makes a snapshot complete. It is written when
// all its chunks are acknowledged.
type manifest struct {
	Sequence uint64 `json:"sequence"`
	Writer   string `json:"writer"` // tells two workers with the same sequence apart
	First    int64  `json:"first"`  // offset of the first chunk
	Chunks   int    `json:"chunks"`
	Size     int    `json:"size"` // of all chunks, bytes
	CRC      uint32 `json:"crc"`  // CRC-32C of all chunks
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// stateStore keeps snapshots in a compacted topic. Partition p of the state
// topic holds those of partition p of every input topic.
//
// Nothing but the newest records is read on restore, however long the log is:
// the manifest is found from the end, and names the offset of its chunks.
type stateStore struct {
	client   *kafka.Client
	producer *kafka.Producer
	topic    string
}

// snapshotKey names the owner of a snapshot.
type snapshotKey struct {
	topic     string
	partition int
}

func (k snapshotKey) String() string { return fmt.Sprintf("%s/%d", k.topic, k.partition) }

func (k snapshotKey) manifestKey(sequence uint64) []byte {
	return fmt.Appendf(nil, "%s/manifest/%d", k, sequence%snapshotSlots)
}

func (k snapshotKey) chunkKey(sequence uint64, chunk int) []byte {
	return fmt.Appendf(nil, "%s/chunk/%d/%d", k, sequence%snapshotSlots, chunk)
}

// save writes a snapshot and returns when it is complete in Kafka.
func (s *stateStore) save(ctx context.Context, key snapshotKey, sequence uint64, writer string, snapshot []byte) error {
	m := manifest{
		Sequence: sequence, Writer: writer, First: -1,
		Size: len(snapshot), CRC: crc32.Checksum(snapshot, castagnoli),
	}
	prefix := chunkPrefix(writer, sequence)
	var mu sync.Mutex
	var failed error
	pending := 1 // for the loop itself
	written := make(chan struct{})
	settle := func() {
		if pending--; pending == 0 {
			close(written)
		}
	}
	for rest := snapshot; len(rest) > 0 || m.Chunks == 0; m.Chunks++ {
		n := min(len(rest), snapshotChunk)
		value := append(append(make([]byte, 0, len(prefix)+n), prefix...), rest[:n]...)
		rest = rest[n:]
		mu.Lock()
		pending++
		mu.Unlock()
		rec := kafka.Record{Key: key.chunkKey(sequence, m.Chunks), Value: value}
		s.producer.ProduceAsync(ctx, s.topic, key.partition, rec, func(offset int64, err error) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && offset < 0:
				err = errors.New("the broker no longer knows the offset of a chunk") // the manifest must name it
				fallthrough
			case err != nil:
				failed = cmp.Or(failed, err)
			case m.First < 0 || offset < m.First:
				m.First = offset
			}
			settle()
		})
	}
	mu.Lock()
	settle()
	mu.Unlock()
	// The producer tries for as long as Kafka is away, a revoked worker must not.
	select {
	case <-written:
	case <-ctx.Done():
		return fmt.Errorf("snapshot of %s: %w", key, ctx.Err())
	}
	if failed != nil {
		return fmt.Errorf("snapshot of %s: %w", key, failed)
	}
	value, err := json.Marshal(&m)
	if err != nil {
		return err
	}
	err = s.producer.Produce(ctx, s.topic, key.partition, kafka.Record{Key: key.manifestKey(sequence), Value: value})
	if err != nil {
		return fmt.Errorf("manifest of %s: %w", key, err)
	}
	return nil
}

// load calls use for the newest complete snapshot and, as long as that reports
// false, for the ones before. It reports whether one was used. One that is
// incomplete or damaged is passed over.
func (s *stateStore) load(ctx context.Context, key snapshotKey, use func(snapshot []byte, sequence uint64) bool) (bool, error) {
	last, err := s.client.LastOffset(ctx, s.topic, key.partition)
	if err != nil {
		return false, err
	}
	first, err := s.client.FirstOffset(ctx, s.topic, key.partition)
	if err != nil {
		return false, err
	}
	// Manifests stand after their chunks, so a window at the end that grows
	// backwards meets the newest first.
	for end, size := last, int64(16); end > first; size *= 4 {
		start := max(first, end-size)
		found, err := s.manifests(ctx, key, start, end)
		if err != nil {
			return false, err
		}
		for i := len(found) - 1; i >= 0; i-- {
			snapshot, err := s.chunks(ctx, key, &found[i], last)
			if errors.Is(err, errSnapshotTorn) {
				continue
			}
			if err != nil {
				return false, err
			}
			if use(snapshot, found[i].Sequence) {
				return true, nil
			}
		}
		end = start
	}
	return false, nil
}

// manifests returns those of key in offsets [start, end), oldest first.
func (s *stateStore) manifests(ctx context.Context, key snapshotKey, start, end int64) ([]manifest, error) {
	prefix := key.String() + "/manifest/"
	var found []manifest
	err := s.scan(ctx, key.partition, start, end, func(r *kafka.FetchedRecord) (bool, error) {
		if !strings.HasPrefix(string(r.Key), prefix) {
			return true, nil
		}
		var m manifest
		if json.Unmarshal(r.Value, &m) == nil {
			found = append(found, m)
		}
		return true, nil
	})
	return found, err
}

// chunks reads the chunks that m names.
func (s *stateStore) chunks(ctx context.Context, key snapshotKey, m *manifest, end int64) ([]byte, error) {
	if m.First < 0 || m.Size < 0 || m.Size > maxSnapshot || m.Chunks != max(1, (m.Size+snapshotChunk-1)/snapshotChunk) {
		return nil, errSnapshotTorn
	}
	prefix := string(chunkPrefix(m.Writer, m.Sequence))
	var out []byte
	next := 0
	err := s.scan(ctx, key.partition, m.First, end, func(r *kafka.FetchedRecord) (bool, error) {
		if string(r.Key) != string(key.chunkKey(m.Sequence, next)) {
			return true, nil
		}
		chunk, ok := strings.CutPrefix(string(r.Value), prefix)
		if !ok {
			return true, nil // another worker's, in the same slot
		}
		out = append(out, chunk...)
		next++
		return next < m.Chunks, nil
	})
	if err != nil {
		return nil, err
	}
	if next < m.Chunks || len(out) != m.Size || crc32.Checksum(out, castagnoli) != m.CRC {
		return nil, errSnapshotTorn
	}
	return out, nil
}

// scan calls fn for the records in offsets [start, end) until it returns false.
func (s *stateStore) scan(ctx context.Context, partition int, start, end int64, fn func(*kafka.FetchedRecord) (bool, error)) error {
	var buf kafka.FetchBuffer
	for next := start; next < end; {
		batch, err := s.client.FetchFrom(ctx, s.topic, partition, next, &buf)
		switch {
		case errors.Is(err, kafka.ErrOffsetOutOfRange):
			return nil // they are gone
		case errors.Is(err, kafka.ErrCorrupt) && batch.Next > next:
			next = batch.Next // as good as gone
			continue
		case err != nil:
			return err
		}
		for i := range batch.Records {
			if batch.Records[i].Offset >= end {
				return nil
			}
			more, err := fn(&batch.Records[i])
			if err != nil || !more {
				return err
			}
		}
		if batch.Next == next && batch.CaughtUp {
			return nil // compaction took the rest
		}
		next = batch.Next
	}
	return nil
}

func chunkPrefix(writer string, sequence uint64) []byte {
	b := fmt.Appendf(nil, "%s/", writer)
	return binary.BigEndian.AppendUint64(b, sequence)
}

// StateTopic describes the topic that snapshots need.
func StateTopic(partitions, replication int) kafka.TopicSpec {
	return kafka.TopicSpec{
		Name: schemas.TopicState, Partitions: partitions, ReplicationFactor: replication, Compacted: true,
		Extra: map[string]string{"segment.bytes": "67108864", "min.cleanable.dirty.ratio": "0.2"},
	}
}
