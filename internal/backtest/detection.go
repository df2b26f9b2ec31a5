package backtest

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// Detection is what is left of a detection when all events have been seen. Its
// JSON form is a line of tocsin backtest --format json.
type Detection struct {
	// Change is set in comparisons with a baseline: added, lost or changed.
	Change   Change            `json:"change,omitempty"`
	ID       string            `json:"detection_id"`
	Rule     string            `json:"rule"` // the name, or the ID where there is none
	RuleID   string            `json:"rule_id"`
	Title    string            `json:"title"`
	Level    string            `json:"level"`
	Group    map[string]string `json:"group,omitempty"`
	First    time.Time         `json:"first"`
	Last     time.Time         `json:"last"`
	Count    int64             `json:"count"`
	Evidence []string          `json:"evidence"` // event IDs
	// Complete: Evidence names all contributing events.
	Complete bool `json:"evidence_complete"`
	// Was is the baseline's detection of one that changed.
	Was *Detection `json:"was,omitempty"`
}

// GroupText writes the group as name=value, in the order of the names.
func (d *Detection) GroupText() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(d.Group)) {
		parts = append(parts, name+"="+d.Group[name])
	}
	return strings.Join(parts, " ")
}

func newDetection(f *schemas.Finding) Detection {
	d := Detection{
		ID: f.FindingInfo.UID, Rule: cmp.Or(f.Unmapped.RuleName, f.FindingInfo.Analytic.UID), RuleID: f.FindingInfo.Analytic.UID,
		Title: f.FindingInfo.Title, Level: f.Unmapped.RuleLevel, Group: f.Unmapped.Group,
		First: time.UnixMilli(f.StartTime).UTC(), Last: time.UnixMilli(f.EndTime).UTC(),
		Count: f.Count, Evidence: []string{}, Complete: f.Unmapped.EvidenceComplete,
	}
	for _, e := range f.Evidences {
		d.Evidence = append(d.Evidence, e.Data.EventID)
	}
	return d
}

// maxDetections bounds what a Collector holds.
const maxDetections = 1 << 20

// Collector keeps the last state of every detection. Its zero value is empty.
type Collector struct {
	latest map[string]Detection
	// Dropped counts findings about detections beyond the bound.
	Dropped int64
}

// Add takes the next finding.
func (c *Collector) Add(f *schemas.Finding) {
	if c.latest == nil {
		c.latest = map[string]Detection{}
	}
	uid := f.FindingInfo.UID
	if f.StatusID == schemas.StatusSuppressed {
		// Merged into another one, or taken back.
		delete(c.latest, uid)
		return
	}
	if _, known := c.latest[uid]; !known && len(c.latest) >= maxDetections {
		c.Dropped++
		return
	}
	c.latest[uid] = newDetection(f)
}

// Detections returns what is left, in the order of time.
func (c *Collector) Detections() []Detection {
	out := slices.Collect(maps.Values(c.latest))
	slices.SortFunc(out, compare)
	return out
}

func compare(a, b Detection) int {
	return cmp.Or(a.First.Compare(b.First), a.Last.Compare(b.Last), cmp.Compare(a.Rule, b.Rule),
		cmp.Compare(a.GroupText(), b.GroupText()), cmp.Compare(a.ID, b.ID))
}
