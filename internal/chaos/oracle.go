package chaos

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// evidenceBound is Sigma attribute tocsin.evidence's default: a detection with
// more events does not name all of them.
const evidenceBound = 20

// outcome is what a detection must end as, whatever happened on the way.
type outcome struct {
	Rule, Group string
	First, Last int64
	Count       int64
	Evidence    string // IDs, sorted; "" if they are too many
}

func (o outcome) String() string {
	return fmt.Sprintf("%s %q %d..%d, %d events %.200s", o.Rule, o.Group, o.First, o.Last, o.Count, o.Evidence)
}

func newOutcome(rule, group string, first, last int64, ids []string, count int64) outcome {
	o := outcome{Rule: rule, Group: group, First: first, Last: last, Count: count}
	if len(ids) <= evidenceBound {
		slices.Sort(ids)
		o.Evidence = strings.Join(ids, " ")
	}
	return o
}

// oracle evaluates all rules by brute force over a set of events.
func oracle(events []*event) []outcome {
	var out []outcome
	for _, e := range events {
		if e.kind == revoked {
			out = append(out, newOutcome("revoked", e.device, e.time, e.time, []string{e.id.String()}, 1))
		}
	}
	for i := range rules {
		r := &rules[i]
		groups := map[string][]*event{}
		for _, e := range events {
			if slices.Contains(r.steps, e.kind) {
				groups[r.group(e)] = append(groups[r.group(e)], e)
			}
		}
		for name, group := range groups {
			out = append(out, r.episodes(name, group)...)
		}
	}
	return out
}

// episodes finds the runs of contributing events of one group.
func (r *rule) episodes(name string, group []*event) (out []outcome) {
	slices.SortFunc(group, func(a, b *event) int {
		return cmp.Or(cmp.Compare(a.time, b.time), strings.Compare(a.id.String(), b.id.String()))
	})
	span := r.span.Milliseconds()
	contributes := map[*event]bool{}
	for _, first := range group {
		var window []*event // all that is in [first, first+span]
		for _, e := range group {
			if e.time >= first.time && e.time <= first.time+span {
				window = append(window, e)
			}
		}
		switch {
		case r.holds == nil:
			r.chain(first, window, contributes)
		case r.begins(first.kind) && r.holds(window):
			for _, e := range window {
				contributes[e] = true
			}
		}
	}
	var run []*event
	report := func() {
		if len(run) == 0 {
			return
		}
		var ids []string
		for _, e := range run {
			ids = append(ids, e.id.String())
		}
		out = append(out, newOutcome(r.id, name, run[0].time, run[len(run)-1].time, ids, int64(len(run))))
	}
	for _, e := range group {
		if !contributes[e] {
			continue
		}
		if n := len(run); n > 0 && e.time-run[n-1].time > span {
			report()
			run = nil
		}
		run = append(run, e)
	}
	report()
	return out
}

// chain marks the events of every pair of the two steps, in order, that begins
// with first.
func (r *rule) chain(first *event, window []*event, contributes map[*event]bool) {
	if first.kind != r.steps[0] {
		return
	}
	for _, e := range window {
		if e.kind == r.steps[1] {
			contributes[first], contributes[e] = true, true
		}
	}
}
