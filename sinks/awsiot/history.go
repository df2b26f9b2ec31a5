package awsiot

import (
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// history remembers the actions that have ended: for as long as a detection may be
// acted on, so that none is acted on twice.
type history struct {
	keep, merge time.Duration
	ended       map[string]time.Time // by ID: when it ended
	last        map[string]past      // by kind and target
	pruned      time.Time
}

// past is the last action of a kind on a target.
type past struct {
	id string
	at time.Time
}

// slack is added to the time for which actions are remembered: the clocks of
// detections and of this process differ.
const slack = time.Hour

func newHistory(maxAge, merge time.Duration) *history {
	return &history{keep: max(maxAge, merge) + slack, merge: merge, ended: make(map[string]time.Time), last: make(map[string]past)}
}

// add notes a step.
func (h *history) add(a *schemas.Action) {
	if !a.Final() || a.Kind == schemas.KindBreaker {
		return
	}
	h.ended[a.ID] = a.Time
	// What was not done does not stand in the way of another try.
	if a.State == schemas.ActionDone || a.State == schemas.ActionPlanned || a.State == schemas.ActionRejected {
		key := kindTarget(a)
		if h.last[key].at.Before(a.Time) {
			h.last[key] = past{a.ID, a.Time}
		}
	}
}

// knows reports whether an action has ended.
func (h *history) knows(id string) bool {
	_, ok := h.ended[id]
	return ok
}

// same returns the action by which the same was done to the same target just now.
func (h *history) same(a *schemas.Action, now time.Time) string {
	if p, ok := h.last[kindTarget(a)]; ok && now.Sub(p.at) < h.merge {
		return p.id
	}
	return ""
}

// prune forgets what is too old, now and then.
func (h *history) prune(now time.Time) {
	if now.Sub(h.pruned) < time.Minute {
		return
	}
	h.pruned = now
	for id, t := range h.ended {
		if now.Sub(t) > h.keep {
			delete(h.ended, id)
		}
	}
	for key, p := range h.last {
		if now.Sub(p.at) > h.merge {
			delete(h.last, key)
		}
	}
}
