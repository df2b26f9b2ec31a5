package correlate

import (
	"encoding/binary"
	"testing"
)

func detectionNumber(n int) (id DetectionID) {
	binary.BigEndian.PutUint64(id[:], uint64(n)*0x9e3779b97f4a7c15)
	return id
}

// TestRecentIDs: within the time nothing is forgotten and nothing taken for
// another, beyond it memory is given back.
func TestRecentIDs(t *testing.T) {
	var r recentIDs
	const each, keep = 100, 1000
	for n := range 5 * maxRecentIDs / 4 {
		mark := int64(n / each)
		if !r.add(detectionNumber(n), mark, keep) {
			t.Fatalf("%d is taken for another", n)
		}
		// Not longer ago than one generation holds.
		if old := n - min(n, maxRecentIDs-1); r.add(detectionNumber(old), mark, keep) {
			t.Fatalf("at %d: %d is forgotten", n, old)
		}
		if len(r.now) > maxRecentIDs || len(r.before) > maxRecentIDs {
			t.Fatalf("%d and %d are held", len(r.now), len(r.before))
		}
	}
	var quiet recentIDs
	quiet.add(detectionNumber(1), 0, keep)
	quiet.add(detectionNumber(2), keep, keep)
	if quiet.add(detectionNumber(1), keep, keep) {
		t.Error("forgotten before its time")
	}
	quiet.add(detectionNumber(3), keep+1, keep)
	quiet.add(detectionNumber(4), 3*keep, keep)
	if !quiet.add(detectionNumber(1), 3*keep, keep) {
		t.Error("never forgotten")
	}
}
