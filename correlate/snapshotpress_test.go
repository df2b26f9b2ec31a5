package correlate

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// encodeSnapshot makes one snapshot, in memory of its own.
func encodeSnapshot(h *snapshotHeader, windows []byte) ([]byte, error) {
	press := newSnapshotPress()
	if err := press.take(h, func(b []byte) []byte { return append(b, windows...) }); err != nil {
		return nil, err
	}
	return press.pack(), nil
}

func TestSnapshotPressIsReused(t *testing.T) {
	press := newSnapshotPress()
	for _, size := range []int{1 << 20, 10, 0, 300_000} {
		windows := bytes.Repeat([]byte("state "), size/6)
		h := &snapshotHeader{Topic: "t", Partition: 3, Next: int64(size)}
		if err := press.take(h, func(b []byte) []byte { return append(b, windows...) }); err != nil {
			t.Fatal(err)
		}
		b := press.pack()
		got, state, err := decodeSnapshot(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(h, got); diff != "" {
			t.Error(diff)
		}
		if !bytes.Equal(state, windows) {
			t.Errorf("%d bytes of state came back as %d", len(windows), len(state))
		}
	}
}

func FuzzDecodeSnapshot(f *testing.F) {
	seed, err := encodeSnapshot(&snapshotHeader{Topic: "t", Next: 5}, []byte("windows"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(snapshotMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, _, err := decodeSnapshot(b)
		if err == nil && h == nil {
			t.Error("neither a snapshot nor an error")
		}
	})
}
