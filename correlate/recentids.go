package correlate

// maxRecentIDs bounds each of the two generations of recentIDs: about 6 MiB for
// both. With more detections than that within the lateness, a repeated one is
// sent again, under the ID that it had.
const maxRecentIDs = 1 << 16

// recentIDs remembers the detections by single events for at least the allowed
// lateness, exactly. It is in no snapshot: after a crash all since then is sent
// again, under the same IDs. For events in windows nothing like it is needed: the
// place of an event in its group is looked for anyway, and tells whether it is
// there already.
type recentIDs struct {
	now, before map[DetectionID]struct{}
	since       int64 // watermark when now was begun
}

// add reports whether id is new. mark is the watermark, keep the time for which
// IDs are remembered, both in milliseconds.
func (r *recentIDs) add(id DetectionID, mark, keep int64) bool {
	if _, ok := r.now[id]; ok {
		return false
	}
	if _, ok := r.before[id]; ok {
		return false
	}
	if r.now == nil || len(r.now) >= maxRecentIDs || mark-r.since > keep {
		r.before, r.now, r.since = r.now, make(map[DetectionID]struct{}), mark
	}
	r.now[id] = struct{}{}
	return true
}
