package correlate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/watermark"
	"github.com/tocsin-io/tocsin/schemas"
)

func (c *cluster) store() *stateStore {
	return &stateStore{client: c.client, producer: c.producer, topic: schemas.TopicState}
}

// loaded returns the snapshot that load finds, and its sequence.
func loaded(t testing.TB, s snapshotStore, key snapshotKey) (snapshot []byte, sequence uint64) {
	t.Helper()
	found, err := s.load(t.Context(), key, func(b []byte, n uint64) bool {
		snapshot, sequence = bytes.Clone(b), n
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if !found && snapshot != nil {
		t.Error("used, and not found")
	}
	return snapshot, sequence
}

func randomBytes(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func TestSnapshotsOfAnySizeComeBack(t *testing.T) {
	t.Parallel()
	dir, err := newStateDir(filepath.Join(t.TempDir(), "made", "anew"))
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]snapshotStore{"topic": fakeCluster(t, 1).store(), "directory": dir, "S3": newBucket(t).store()} {
		t.Run(name, func(t *testing.T) { testSnapshotsOfAnySize(t, s) })
	}
}

func testSnapshotsOfAnySize(t *testing.T, s snapshotStore) {
	key := snapshotKey{schemas.TopicEvents, 0}
	if b, _ := loaded(t, s, key); b != nil {
		t.Errorf("%d bytes from an empty topic", len(b))
	}
	for i, size := range []int{0, 1, snapshotChunk - 1, snapshotChunk, snapshotChunk + 1, 5*snapshotChunk + 7, 3} {
		want := randomBytes(uint64(i), size)
		sequence := uint64(i + 1)
		if err := s.save(t.Context(), key, sequence, "writer", want); err != nil {
			t.Fatal(err)
		}
		got, n := loaded(t, s, key)
		if !bytes.Equal(got, want) || n != sequence {
			t.Errorf("size %d: %d bytes of sequence %d came back", size, len(got), n)
		}
	}
	if b, _ := loaded(t, s, snapshotKey{schemas.TopicMatches, 0}); b != nil {
		t.Error("the other topic's worker finds a snapshot")
	}
}

// TestNewestSnapshotAmongMany: other workers of the partition number write between
// the chunks and manifests of one.
func TestNewestSnapshotAmongMany(t *testing.T) {
	t.Parallel()
	k := fakeCluster(t, 12)
	keys := []snapshotKey{{schemas.TopicEvents, 1}, {schemas.TopicMatches, 1}}
	var wg sync.WaitGroup
	last := make([][]byte, len(keys))
	for i, key := range keys {
		wg.Go(func() {
			for sequence := range uint64(40) {
				last[i] = randomBytes(sequence*10+uint64(i), int(sequence)*40_000)
				if err := k.store().save(t.Context(), key, sequence+1, fmt.Sprint("writer-", i), last[i]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for i, key := range keys {
		if got, n := loaded(t, k.store(), key); !bytes.Equal(got, last[i]) || n != 40 {
			t.Errorf("%s: %d bytes of sequence %d", key, len(got), n)
		}
	}
	// The last one of events/1 lies far behind what matches/1 writes from now on.
	for sequence := range uint64(60) {
		if err := k.store().save(t.Context(), keys[1], 41+sequence, "writer-1", []byte("small")); err != nil {
			t.Fatal(err)
		}
	}
	if got, n := loaded(t, k.store(), keys[0]); !bytes.Equal(got, last[0]) || n != 40 {
		t.Errorf("%d bytes of sequence %d", len(got), n)
	}
	// Partition 1 is no prefix of partition 11.
	if b, _ := loaded(t, k.store(), snapshotKey{schemas.TopicEvents, 11}); b != nil {
		t.Error("events/11 finds the snapshot of events/1")
	}
}

// TestTornSnapshotFallsBack: the newest snapshot is damaged in every way that a
// crash or a superseded worker can; the one before is used.
func TestTornSnapshotFallsBack(t *testing.T) {
	t.Parallel()
	key := snapshotKey{schemas.TopicEvents, 0}
	good := randomBytes(1, 3*snapshotChunk)
	bad := randomBytes(2, 2*snapshotChunk)
	chunk := func(writer string, sequence uint64, n int) kafka.Record {
		data := bad[n*snapshotChunk : (n+1)*snapshotChunk]
		return kafka.Record{Key: key.chunkKey(sequence, n), Value: append(chunkPrefix(writer, sequence), data...)}
	}
	whole := func(first int64) manifest {
		return manifest{Sequence: 2, Writer: "w", First: first, Chunks: 2, Size: len(bad), CRC: crc32.Checksum(bad, castagnoli)}
	}
	for name, damage := range map[string]func(put func(...kafka.Record), end int64) any{
		"nothing but the first chunk": func(put func(...kafka.Record), _ int64) any {
			put(chunk("w", 2, 0))
			return nil
		},
		"no manifest": func(put func(...kafka.Record), _ int64) any {
			put(chunk("w", 2, 0), chunk("w", 2, 1))
			return nil
		},
		"a chunk is missing": func(put func(...kafka.Record), end int64) any {
			put(chunk("w", 2, 0))
			return whole(end)
		},
		"another worker's chunk": func(put func(...kafka.Record), end int64) any {
			put(chunk("w", 2, 0), chunk("v", 2, 1))
			return whole(end)
		},
		"of another sequence": func(put func(...kafka.Record), end int64) any {
			put(chunk("w", 2, 0), chunk("w", 5, 1))
			return whole(end)
		},
		"wrong checksum": func(put func(...kafka.Record), end int64) any {
			put(chunk("w", 2, 0), chunk("w", 2, 1))
			m := whole(end)
			m.CRC++
			return m
		},
		"wrong size": func(put func(...kafka.Record), end int64) any {
			put(chunk("w", 2, 0), chunk("w", 2, 1))
			m := whole(end)
			m.Size--
			return m
		},
		"wrong first offset": func(put func(...kafka.Record), end int64) any {
			put(chunk("w", 2, 0), chunk("w", 2, 1))
			return whole(end + 1)
		},
		"first offset beyond the end": func(put func(...kafka.Record), end int64) any {
			put(chunk("w", 2, 0), chunk("w", 2, 1))
			return whole(end + 1000)
		},
		"numbers that cannot be": func(put func(...kafka.Record), end int64) any {
			put(chunk("w", 2, 0), chunk("w", 2, 1))
			m := whole(end)
			m.Chunks, m.Size = -1, 1<<62
			return m
		},
		"a manifest that is no JSON": func(put func(...kafka.Record), _ int64) any {
			put(chunk("w", 2, 0), chunk("w", 2, 1))
			return []byte("{")
		},
		"a manifest of nothing": func(func(...kafka.Record), int64) any { return struct{}{} },
	} {
		t.Run(name, func(t *testing.T) {
			k := fakeCluster(t, 1)
			s := k.store()
			if err := s.save(t.Context(), key, 1, "w", good); err != nil {
				t.Fatal(err)
			}
			put := func(recs ...kafka.Record) {
				if err := k.producer.Produce(t.Context(), schemas.TopicState, 0, recs...); err != nil {
					t.Fatal(err)
				}
			}
			switch m := damage(put, k.ends(schemas.TopicState)[0]).(type) {
			case nil:
			case []byte:
				put(kafka.Record{Key: key.manifestKey(2), Value: m})
			default:
				value, err := json.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				put(kafka.Record{Key: key.manifestKey(2), Value: value})
			}
			if got, n := loaded(t, s, key); !bytes.Equal(got, good) || n != 1 {
				t.Errorf("%d bytes of sequence %d", len(got), n)
			}
			// The next one takes the place of the damaged one.
			if err := s.save(t.Context(), key, 2, "x", bad); err != nil {
				t.Fatal(err)
			}
			if got, n := loaded(t, s, key); !bytes.Equal(got, bad) || n != 2 {
				t.Errorf("afterwards: %d bytes of sequence %d", len(got), n)
			}
		})
	}
}

// TestUnusableSnapshotFallsBack: a snapshot that is whole and that this program
// cannot read, as one of another version, must not stop its partition for ever.
func TestUnusableSnapshotFallsBack(t *testing.T) {
	t.Parallel()
	set := compileRules(t, fleetRules)
	events := fleetEvents(9, 1500, 30*time.Minute)
	k := fakeCluster(t, 2)
	k.open()
	first := k.start(set)
	k.send(1, events[:len(events)/2])
	k.quiet()
	first.stop(t)
	wrongTopic, err := encodeSnapshot(&snapshotHeader{Topic: "other", Next: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	wrongWindows, err := encodeSnapshot(&snapshotHeader{Topic: schemas.TopicEvents, Next: 1}, []byte{0, 0, 0, 0, 0, 0, 0, 200, 1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	wrongVersion, err := encodeSnapshot(&snapshotHeader{Topic: schemas.TopicEvents, Next: 1}, []byte{0, 0, 0, 0, 0, 0, 0, 5, 99, 1, 2, 3, 4})
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range [][]byte{[]byte("no zstd"), wrongTopic, wrongWindows, wrongVersion} {
		// None in the slot of the good one: slots are what compaction leaves.
		if err := k.store().save(t.Context(), snapshotKey{schemas.TopicEvents, 0}, uint64(1000+i), "other", b); err != nil {
			t.Fatal(err)
		}
	}
	second := k.start(set)
	k.send(2, events[len(events)/2:])
	k.close(fleetStart + (30 * time.Minute).Milliseconds())
	k.quiet()
	k.check(expected(t, set, events))
	if ok, missing := second.metric(t, "tocsin_correlate_restores_total", "ok"), second.metric(t, "tocsin_correlate_restores_total", "missing"); ok != 4 || missing != 0 {
		t.Errorf("%v partitions restored, %v without a snapshot", ok, missing)
	}
}

// TestNoSnapshotAtAll: without its state a correlator goes on where the group was
// and says so.
func TestNoSnapshotAtAll(t *testing.T) {
	t.Parallel()
	set := compileRules(t, fleetRules)
	k := fakeCluster(t, 2)
	k.open()
	first := k.start(set)
	k.send(1, fleetEvents(10, 500, 5*time.Minute))
	k.quiet()
	first.stop(t)
	k.recreate(schemas.TopicState)
	before := len(k.detections())
	second := k.start(set)
	k.send(2, []*schemas.Event{{
		ID: schemas.EventID{1}, Time: fleetStart, IngestTime: fleetStart, Source: []byte("cloudtrail"), Device: []byte("x"), Message: []byte(`{"eventName":"SetV2LoggingOptions"}`),
	}})
	k.quiet()
	if n := second.metric(t, "tocsin_correlate_restores_total", "missing"); n != 4 {
		t.Errorf("%v partitions without a snapshot", n)
	}
	if got := len(k.detections()); got != before+1 {
		t.Errorf("%d detections more, not one: it did not start at the committed offsets", got-before)
	}
}

// TestOldSnapshotAndReplay: whichever snapshot a partition is restored from, the
// rest of the log gives the same in the end.
func TestOldSnapshotAndReplay(t *testing.T) {
	t.Parallel()
	set := compileRules(t, fleetRules)
	events := fleetEvents(11, 2000, 30*time.Minute)
	k := fakeCluster(t, 3)
	k.open()
	first := k.start(set)
	k.send(1, events[:len(events)/2])
	k.quiet()
	old := make(map[snapshotKey][]byte)
	for _, topic := range []string{schemas.TopicEvents, schemas.TopicMatches} {
		for p := range k.partitions {
			key := snapshotKey{topic, p}
			old[key], _ = loaded(t, k.store(), key)
		}
	}
	k.send(2, events[len(events)/2:])
	k.close(fleetStart + (30 * time.Minute).Milliseconds())
	k.quiet()
	first.stop(t)
	want := expected(t, set, events)
	ids := slices.Sorted(maps.Keys(k.check(want)))
	// A superseded worker wrote last: in the order of the log its snapshot is the
	// newest.
	for key, b := range old {
		if err := k.store().save(t.Context(), key, 10_000, "superseded", b); err != nil {
			t.Fatal(err)
		}
	}
	records := len(k.detections())
	k.start(set)
	await(t, time.Minute, func() string {
		if n := len(k.detections()); n == records {
			return "nothing was done again"
		}
		return ""
	})
	k.quiet()
	// The commits are where they were: wait for the replay itself.
	await(t, time.Minute, func() string {
		return difference(outcomes(last(k.detections())), want)
	})
	if diff := cmp.Diff(ids, slices.Sorted(maps.Keys(k.check(want)))); diff != "" {
		t.Errorf("IDs after the replay (-before +after):\n%s", diff)
	}
}

// TestFewerRecordsAfterACrash: what is done again may take fewer records than the
// first time, when idle lanes had ended an episode early. The newest state must
// win nevertheless.
func TestFewerRecordsAfterACrash(t *testing.T) {
	t.Parallel()
	set := compileRules(t, fleetRules)
	k := fakeCluster(t, 1)
	k.open()
	first := k.start(set, func(o *Options) { o.Watermark.Idle = 100 * time.Millisecond })
	k.quiet()
	key := snapshotKey{schemas.TopicEvents, 0}
	old, _ := loaded(t, k.store(), key)
	n := byte(0)
	send := func(seconds int64, source string) {
		n++
		at := fleetStart + seconds*1000
		k.send(uint64(n), []*schemas.Event{{
			ID: schemas.EventID{n}, Time: at, IngestTime: at, Source: []byte(source), Account: []byte("1"), Device: []byte("pump"),
			Message: []byte(`{"eventType":"Connect","status":"Failure"}`),
		}})
	}
	newestOf := func() (newest *schemas.Finding, records int) {
		for _, f := range k.detections() {
			if f.FindingInfo.Analytic.UID != "c-refusals" {
				continue
			}
			records++
			if newest == nil || f.Unmapped.Revision >= newest.Unmapped.Revision {
				newest = f
			}
		}
		return newest, records
	}
	state := func(status string, count int64) {
		t.Helper()
		await(t, time.Minute, func() string {
			f, _ := newestOf()
			if f == nil || f.Status != status || f.Count != count {
				return fmt.Sprintf("want %s with %d events: %+v", status, count, f)
			}
			return ""
		})
	}
	// CloudTrail's lane is far ahead; the other one is idle after a moment, and the
	// episode ends.
	send(600, schemas.SourceCloudTrail)
	for i := range int64(3) {
		send(i, schemas.SourceIoT)
	}
	state("Resolved", 3)
	for i := range int64(3) {
		send(3+i, schemas.SourceIoT)
		state("Resolved", 4+i)
	}
	k.quiet()
	first.stop(t)
	if err := k.store().save(t.Context(), key, 10_000, "superseded", old); err != nil {
		t.Fatal(err)
	}
	_, before := newestOf()
	k.start(set)
	send(6, schemas.SourceIoT)
	k.close(fleetStart)
	state("Resolved", 7)
	if _, after := newestOf(); after-before >= before {
		t.Errorf("%d records at first and %d again: this shows nothing", before, after-before)
	}
}

// TestSaveGivesUpWithItsContext: the producer never does, but a worker whose
// partition is revoked must.
func TestSaveGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	k := fakeCluster(t, 1)
	away := k.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1})
	defer away.Remove()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := k.store().save(ctx, snapshotKey{schemas.TopicEvents, 0}, 1, "w", make([]byte, 3*snapshotChunk)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestSnapshotEncoding(t *testing.T) {
	h := &snapshotHeader{
		Topic: "a", Partition: 3, Next: 1 << 40, Mark: watermark.None,
		Lanes:   &watermark.State{Mark: 5, Lanes: map[string]int64{"x": 7}},
		Sources: []snapshotSource{{Heard: true, Watermark: watermark.None}},
		Results: [][]int64{{1, watermark.None}, nil},
	}
	for _, windows := range [][]byte{nil, []byte("windows"), make([]byte, 1<<20)} {
		b, err := encodeSnapshot(h, windows)
		if err != nil {
			t.Fatal(err)
		}
		got, rest, err := decodeSnapshot(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(h, got); diff != "" || !bytes.Equal(rest, windows) {
			t.Errorf("%d bytes of windows: %s", len(windows), diff)
		}
		for _, torn := range [][]byte{nil, b[:len(b)-1], b[1:], append(bytes.Clone(b), 0)} {
			if _, _, err := decodeSnapshot(torn); err == nil && len(torn) > 0 {
				t.Errorf("%d of %d bytes decode", len(torn), len(b))
			}
		}
	}
}
