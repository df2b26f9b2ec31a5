package correlate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/rules"
)

// envInt reads a number that replays or sizes a random test.
func envInt(t *testing.T, name string, byDefault uint64) uint64 {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return byDefault
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestRandomAgainstOracle: random rules, events, orders, watermarks and crashes;
// the final detections must be the oracle's. TOCSIN_SEED replays one case,
// TOCSIN_CASES says how many are tried.
func TestRandomAgainstOracle(t *testing.T) {
	cases := envInt(t, "TOCSIN_CASES", 5000)
	seed, replay := uint64(0), os.Getenv("TOCSIN_SEED") != ""
	if replay {
		seed, cases = envInt(t, "TOCSIN_SEED", 0), 1
	} else {
		seed = rand.Uint64() >> 16
	}
	failures := 0
	for i := range cases {
		s := randomScript(seed + i)
		// What never ends cannot be shrunk, only named.
		watchdog := time.AfterFunc(20*time.Second, func() { panic(fmt.Sprintf("TOCSIN_SEED=%d does not end:\n%s", seed+i, s)) })
		diffs := runScript(s, testHooks{})
		watchdog.Stop()
		if len(diffs) == 0 {
			continue
		}
		s = shrink(s, func(s *script) bool { return len(runScript(s, testHooks{})) > 0 })
		t.Errorf("TOCSIN_SEED=%d:\n%s\nshrunk to:\n%s%s", seed+i, joinLines(diffs), s, joinLines(runScript(s, testHooks{})))
		if failures++; failures == 3 {
			t.Fatalf("three failures in %d cases", i+1)
		}
	}
}

func joinLines(lines []string) (out string) {
	for _, l := range lines[:min(len(lines), 8)] {
		out += "  " + l + "\n"
	}
	return out
}

// runScript returns all that is wrong.
func runScript(s *script, hooks testHooks) (wrong []string) {
	r := newRunner(s, nil)
	r.hooks = hooks
	r.ordered = len(s.ops) <= 60
	at := 0
	r.fail = func(format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf("line %d: ", at+2)+fmt.Sprintf(format, args...))
	}
	for at = range s.ops {
		r.step(&s.ops[at])
	}
	r.finish()
	return wrong
}

// randomScript makes a script of which every event that is not late may arrive
// when it does, and every watermark is one that the rest of the events allows.
func randomScript(seed uint64) *script {
	rng := rand.New(rand.NewPCG(seed, 1))
	unit := []int64{1, 1, 1000}[rng.IntN(3)]
	c := randomRule(rng, unit)
	span := c.Timespan.Milliseconds()
	s := &script{rule: c, opts: WindowOptions{Lateness: time.Duration(1+rng.Int64N(3*span)) * time.Millisecond}}
	if rng.IntN(3) > 0 {
		s.opts.UpdateInterval = time.Duration(1+rng.Int64N(span)) * time.Millisecond
	}
	pending := randomEvents(rng, c, unit)
	var done []op
	mark := int64(math.MinInt64)
	lateness := s.opts.Lateness.Milliseconds()
	// How far the order of arrival may run against that of event time: from none
	// to as far as the lateness allows.
	disorder := rng.Int64N(2 * (span + lateness))
	if rng.IntN(4) == 0 {
		disorder = 0
	}
	for len(pending) > 0 {
		oldest := int64(math.MaxInt64)
		for _, p := range pending {
			oldest = min(oldest, p.event.time)
		}
		var ready []int
		for i, p := range pending {
			if p.event.time <= oldest+disorder {
				ready = append(ready, i)
			}
		}
		switch rng.IntN(12) {
		case 0, 1:
			// The furthest that what is still to come allows, or any nearer.
			next := oldest + lateness
			if rng.IntN(2) == 0 {
				next -= rng.Int64N(lateness + span)
			}
			if next >= mark || rng.IntN(4) == 0 {
				done = append(done, op{kind: "advance", time: next})
				mark = max(mark, next)
			}
			continue
		case 2:
			if len(done) > 0 && rng.IntN(2) == 0 {
				// Delivered again; late by now, or known.
				if o := done[rng.IntN(len(done))]; o.kind == "event" {
					done = append(done, o)
				}
				continue
			}
		case 3:
			if mark > math.MinInt64/2 && rng.IntN(3) == 0 {
				e := pending[rng.IntN(len(pending))].event
				e.name, e.time = fmt.Sprintf("late%d", len(done)), mark-lateness-1-rng.Int64N(span+1)
				done = append(done, op{kind: "event", event: e})
				continue
			}
		}
		i := ready[rng.IntN(len(ready))]
		done = append(done, pending[i])
		pending = slices.Delete(pending, i, i+1)
	}
	s.ops = randomCrashes(rng, done)
	return s
}

// randomCrashes puts snapshots and restores in, each followed again by what
// came since the snapshot.
func randomCrashes(rng *rand.Rand, ops []op) []op {
	if rng.IntN(2) == 0 {
		return ops
	}
	for round := 1; round <= 1+rng.IntN(2); round++ {
		from := rng.IntN(len(ops) + 1)
		to := from + rng.IntN(min(len(ops)-from, 10)+1)
		if slices.ContainsFunc(ops[from:to], func(o op) bool { return o.kind == "snapshot" || o.kind == "restore" }) {
			continue
		}
		// A second snapshot between an earlier one and its restore would be
		// what that one restores from.
		inside := 0
		for _, o := range ops[:from] {
			switch o.kind {
			case "snapshot":
				inside++
			case "restore":
				inside--
			}
		}
		if inside != 0 {
			continue
		}
		repeat := slices.Clone(ops[from:to])
		for i := range repeat {
			repeat[i].round, repeat[i].repeat = round, true
		}
		ops = slices.Concat(ops[:from], []op{{kind: "snapshot", round: round}}, ops[from:to],
			[]op{{kind: "restore", round: round}}, repeat, ops[to:])
	}
	return ops
}

func randomRule(rng *rand.Rand, unit int64) *rules.Correlation {
	c := &rules.Correlation{
		Meta: rules.Meta{ID: "rule", Name: "rule", Hash: 1}, Alerts: true, Local: true, GroupBy: []string{"g"},
		Type:     rules.CorrelationType(rng.IntN(8)),
		Timespan: time.Duration((1+rng.Int64N(100))*unit) * time.Millisecond,
		Evidence: []int{20, 20, 1, 2, 3, 5, 100}[rng.IntN(7)],
	}
	c.Steps = make([]rules.Step, 1+rng.IntN(4))
	if rng.IntN(4) == 0 {
		c.Suppress = time.Duration((1+rng.Int64N(150))*unit) * time.Millisecond
	}
	if rng.IntN(4) == 0 {
		c.Realert = rules.RealertEach
	}
	switch c.Type {
	case rules.Temporal:
		if rng.IntN(3) > 0 {
			c.Expr = randomExpr(rng, len(c.Steps))
		}
		return c
	case rules.TemporalOrdered:
		return c
	case rules.ValuePercentile:
		c.Condition.Percentile = []float64{1, 25, 50, 90, 95, 99.5, 100}[rng.IntN(7)]
	}
	ops := []rules.Operator{rules.GTE, rules.GTE, rules.GTE, rules.GT, rules.LT, rules.LTE, rules.EQ, rules.NEQ}
	bound := func() rules.Bound {
		return rules.Bound{Op: ops[rng.IntN(len(ops))], Value: float64(1 + rng.IntN(6))}
	}
	c.Condition.Bounds = []rules.Bound{bound()}
	if rng.IntN(3) == 0 {
		c.Condition.Bounds = append(c.Condition.Bounds, bound())
	}
	if c.Type == rules.ValueAvg && rng.IntN(2) == 0 {
		c.Condition.Bounds[0].Value += 0.5
	}
	return c
}

// randomExpr names every step at least once.
func randomExpr(rng *rand.Rand, steps int) *rules.TemporalExpr {
	var nodes []*rules.TemporalExpr
	for i := range steps + rng.IntN(2) {
		nodes = append(nodes, &rules.TemporalExpr{Op: rules.ExprStep, Step: i % steps})
	}
	for {
		i := rng.IntN(len(nodes))
		if rng.IntN(4) == 0 {
			nodes[i] = &rules.TemporalExpr{Op: rules.ExprNot, Args: []*rules.TemporalExpr{nodes[i]}}
		}
		if len(nodes) == 1 {
			break
		}
		n := min(2+rng.IntN(2), len(nodes))
		rng.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		o := []rules.ExprOp{rules.ExprAnd, rules.ExprOr}[rng.IntN(2)]
		nodes = append(nodes[n:], &rules.TemporalExpr{Op: o, Args: slices.Clone(nodes[:n])})
	}
	if positiveSteps(nodes[0]) == 0 {
		// A window must begin with something.
		return &rules.TemporalExpr{Op: rules.ExprStep, Step: 0}
	}
	return nodes[0]
}

// randomEvents makes one op for each match, in no order.
func randomEvents(rng *rand.Rand, c *rules.Correlation, unit int64) []op {
	span := c.Timespan.Milliseconds()
	base := []int64{0, 1_000_000, 1_700_000_000_000}[rng.IntN(3)]
	n := 1 + rng.IntN(24)
	groups := 1 + rng.IntN(3)
	width := span * (1 + rng.Int64N(8))
	var times []int64
	var out []op
	for i := range n {
		at := base + rng.Int64N(width+1)/unit*unit
		if len(times) > 0 {
			switch rng.IntN(5) {
			case 0: // a tie
				at = times[rng.IntN(len(times))]
			case 1: // exactly a timespan apart, or just more
				at = times[rng.IntN(len(times))] + span + rng.Int64N(2)
			}
		}
		times = append(times, at)
		e := scriptEvent{
			name: fmt.Sprintf("e%d", i), time: at, group: fmt.Sprintf("g%d", rng.IntN(groups)),
			value: fmt.Sprintf("v%d", rng.IntN(4)), number: float64(rng.IntN(7)), hasNum: rng.IntN(8) > 0,
		}
		switch rng.IntN(12) {
		case 0:
			e.value = "-"
		case 1:
			e.value = ""
		case 2:
			e.number = -e.number
		}
		if c.Type < rules.ValueSum || c.Type >= rules.Temporal {
			e.hasNum, e.number = false, 0
		}
		steps := 1
		if rng.IntN(4) == 0 {
			steps = 1 + rng.IntN(len(c.Steps))
		}
		for _, step := range rng.Perm(len(c.Steps))[:steps] {
			e.step = step
			out = append(out, op{kind: "event", event: e})
		}
		if rng.IntN(12) == 0 {
			// The same event in another group, as one with an array has it.
			e.group = fmt.Sprintf("g%d", rng.IntN(groups))
			out = append(out, op{kind: "event", event: e})
		}
	}
	return out
}

// shrink leaves out what the failure does not need.
func shrink(s *script, fails func(*script) bool) *script {
	for changed := true; changed; {
		changed = false
		try := func(drop func(*op) bool) {
			t := &script{rule: s.rule, opts: s.opts}
			for _, o := range s.ops {
				if !drop(&o) {
					t.ops = append(t.ops, o)
				}
			}
			if len(t.ops) < len(s.ops) && fails(t) {
				s, changed = t, true
			}
		}
		for round := 1; round <= 2; round++ {
			try(func(o *op) bool { return o.repeat && o.round == round || o.round == round && o.kind != "event" })
		}
		names := make(map[string]bool)
		for _, o := range slices.Clone(s.ops) {
			if o.kind == "event" && !names[o.event.name] {
				names[o.event.name] = true
				try(func(p *op) bool { return p.kind == "event" && p.event.name == o.event.name })
				try(func(p *op) bool {
					return p.kind == "event" && p.event.name == o.event.name && p.event.step == o.event.step
				})
			}
			if o.kind == "advance" {
				try(func(p *op) bool { return p.kind == "advance" && p.time == o.time })
			}
		}
		// One delivery of several.
		if !slices.ContainsFunc(s.ops, func(o op) bool { return o.kind == "restore" }) {
			for i := 0; i < len(s.ops); i++ {
				k := -1
				try(func(*op) bool { k++; return k == i })
			}
		}
	}
	return s
}
