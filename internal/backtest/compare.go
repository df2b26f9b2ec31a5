package backtest

import "slices"

// Change is what became of a detection.
type Change string

// The changes.
const (
	Added   Change = "added"
	Lost    Change = "lost"
	Changed Change = "changed"
)

// subject is what two detections must have in common to be about the same
// thing.
type subject struct{ rule, group string }

// Compare returns what differs between the detections of a baseline and those
// of now, in the order of time. Detections of one rule and group whose intervals
// overlap are the same one, each for one other: when a rule changes so does what
// opens an episode, and with it the detection ID.
func Compare(baseline, now []Detection) []Detection {
	old := map[subject][]int{}
	for i := range baseline {
		d := &baseline[i]
		key := subject{d.RuleID, d.GroupText()}
		old[key] = append(old[key], i)
	}
	taken := make([]bool, len(baseline))
	var out []Detection
	for _, d := range now {
		same := -1
		for _, i := range old[subject{d.RuleID, d.GroupText()}] {
			if b := &baseline[i]; !taken[i] && !b.First.After(d.Last) && !d.First.After(b.Last) {
				same, taken[i] = i, true
				break
			}
		}
		switch {
		case same < 0:
			d.Change = Added
		case baseline[same].equal(&d):
			continue
		default:
			d.Change = Changed
			d.Was = &baseline[same]
		}
		out = append(out, d)
	}
	for i, d := range baseline {
		if !taken[i] {
			d.Change = Lost
			out = append(out, d)
		}
	}
	slices.SortStableFunc(out, compare)
	return out
}

// equal compares what was found; IDs may differ.
func (d *Detection) equal(o *Detection) bool {
	return d.Count == o.Count && d.First.Equal(o.First) && d.Last.Equal(o.Last) && slices.Equal(d.Evidence, o.Evidence)
}
