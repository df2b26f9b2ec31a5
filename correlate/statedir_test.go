package correlate

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// TestDamagedStateFileFallsBack: the newest snapshot is damaged in every way that
// a crash or a disk can; the one before is used.
func TestDamagedStateFileFallsBack(t *testing.T) {
	t.Parallel()
	key := snapshotKey{schemas.TopicMatches, 1}
	good, bad := randomBytes(1, 300_000), randomBytes(2, 200_000)
	for name, damage := range map[string]func(b []byte) []byte{
		"empty":           func([]byte) []byte { return nil },
		"cut":             func(b []byte) []byte { return b[:len(b)-1] },
		"cut in the head": func(b []byte) []byte { return b[:10] },
		"longer":          func(b []byte) []byte { return append(b, 0) },
		"one bit":         func(b []byte) []byte { b[len(b)/2] ^= 4; return b },
		"no head":         func(b []byte) []byte { return b[bytes.IndexByte(b, '\n'):] },
	} {
		t.Run(name, func(t *testing.T) {
			s, err := newStateDir(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			for sequence, b := range [][]byte{good, bad} {
				if err := s.save(t.Context(), key, uint64(sequence+1), "w", b); err != nil {
					t.Fatal(err)
				}
			}
			b, err := os.ReadFile(s.path(key, 2))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(s.path(key, 2), damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, n := loaded(t, s, key); !bytes.Equal(got, good) || n != 1 {
				t.Errorf("%d bytes of sequence %d", len(got), n)
			}
		})
	}
}

func TestStateDir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := newStateDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	key := snapshotKey{schemas.TopicEvents, 1}
	for sequence := range uint64(7) {
		if err := s.save(t.Context(), key, sequence, "w", []byte{byte(sequence)}); err != nil {
			t.Fatal(err)
		}
	}
	// Half a file of a process that was killed, and one of partition 11.
	left, other := s.path(key, 1)+".123.tmp", s.path(snapshotKey{schemas.TopicEvents, 11}, 1)+".123.tmp"
	for _, name := range []string{left, other} {
		if err := os.WriteFile(name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var seen []byte
	found, err := s.load(t.Context(), key, func(b []byte, _ uint64) bool {
		seen = append(seen, b...)
		return b[0] == 5
	})
	if err != nil || !found || !bytes.Equal(seen, []byte{6, 5}) {
		t.Errorf("looked at %v, found %v, %v", seen, found, err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a crash left is still there: %v", err)
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("of another partition: %v", err)
	}
	if b, _ := loaded(t, s, snapshotKey{schemas.TopicEvents, 11}); b != nil {
		t.Error("partition 11 finds the snapshot of partition 1")
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := s.save(ended, key, 8, "w", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("saved after the end: %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.save(t.Context(), key, 9, "w", nil); err == nil {
		t.Error("saved without a directory")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newStateDir(file); err == nil {
		t.Error("a file is taken for a directory")
	}
}

// TestStateInADirectory: correlators that keep their state in a directory take
// partitions over from each other, and leave tocsin.state alone.
func TestStateInADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	second := testStateElsewhere(t, func(o *Options) { o.StateDir = dir }, nil)
	if ok := second.metric(t, "tocsin_correlate_restores_total", "ok"); ok != 4 {
		t.Errorf("%v partitions restored", ok)
	}
}

// testStateElsewhere has two correlators with that place for their state do a
// third and the rest of the work, after each other, and checks what they found. It
// calls meanwhile, unless that is nil, before the last third, and returns the
// second correlator, which still runs.
func testStateElsewhere(t *testing.T, place func(*Options), meanwhile func()) *runningCorrelator {
	t.Helper()
	set := compileRules(t, fleetRules)
	events := fleetEvents(12, 1500, 30*time.Minute)
	third := len(events) / 3
	k := fakeCluster(t, 2)
	k.open()
	first := k.start(set, place)
	k.send(1, events[:third])
	k.quiet()
	first.stop(t)
	second := k.start(set, place)
	k.send(2, events[third:2*third])
	k.quiet()
	if meanwhile != nil {
		meanwhile()
	}
	k.send(3, events[2*third:])
	k.close(fleetStart + (30 * time.Minute).Milliseconds())
	k.quiet()
	k.check(expected(t, set, events))
	if missing := second.metric(t, "tocsin_correlate_restores_total", "missing"); missing != 0 {
		t.Errorf("%v partitions started without a snapshot", missing)
	}
	k.read(schemas.TopicState, func(p int, r *kafka.FetchedRecord) { t.Errorf("state/%d@%d", p, r.Offset) })
	return second
}
