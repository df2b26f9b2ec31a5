package correlate

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/rules"
)

// TestLargeGroupsAgainstOracle is TestRandomAgainstOracle for groups of hundreds
// of events, which are kept in other ways than small ones: in blocks, with an
// index of their windows.
func TestLargeGroupsAgainstOracle(t *testing.T) {
	cases := envInt(t, "TOCSIN_LARGE_CASES", 60)
	seed := envInt(t, "TOCSIN_SEED", rand.Uint64()>>16)
	for i := range cases {
		s := largeScript(seed + i)
		if diffs := runScript(s, testHooks{}); len(diffs) > 0 {
			t.Fatalf("TOCSIN_SEED=%d TOCSIN_LARGE_CASES=1: %d events of %s\n%s", seed+i, len(s.ops), (&script{rule: s.rule, opts: s.opts}).String(), joinLines(diffs))
		}
	}
}

// largeScript makes a script of one group with hundreds of events: most in order,
// others up to the lateness behind, with the watermark going along.
func largeScript(seed uint64) *script {
	rng := rand.New(rand.NewPCG(seed, 2))
	c := randomRule(rng, 1)
	c.Timespan = time.Duration(20+rng.IntN(400)) * time.Millisecond
	if c.Suppress > 0 {
		c.Suppress = time.Duration(1+rng.IntN(1000)) * time.Millisecond
	}
	distinct := 1 + rng.IntN(60)
	if c.Type < rules.Temporal {
		for i := range c.Condition.Bounds {
			c.Condition.Bounds[i].Value = float64(1 + rng.IntN(1+distinct))
		}
	} else if len(c.Steps) < 2 {
		c.Steps = make([]rules.Step, 2)
		c.Expr = nil
	}
	lateness := int64(50 + rng.IntN(2000))
	s := &script{rule: c, opts: WindowOptions{Lateness: time.Duration(lateness) * time.Millisecond, UpdateInterval: 10 * time.Millisecond}}
	now, mark := int64(1_000_000), int64(0)
	n := 200 + rng.IntN(500)
	if rng.IntN(20) == 0 {
		n = 4000
	}
	if c.Type == rules.TemporalOrdered {
		n = 200 // the oracle tries every chain
		c.Steps = c.Steps[:2]
	}
	pace := int64(1 + rng.IntN(12))
	for i := range n {
		now += rng.Int64N(pace)
		if rng.IntN(150) == 0 {
			now += c.Timespan.Milliseconds() * 2
		}
		e := scriptEvent{name: fmt.Sprintf("e%d", i), time: now, group: "g", step: rng.IntN(len(c.Steps))}
		if rng.IntN(5) == 0 {
			e.time = max(now-rng.Int64N(lateness), mark-lateness)
		}
		switch {
		case c.Type == rules.ValueCount:
			e.value = fmt.Sprint("v", rng.IntN(distinct))
		case c.Type > rules.ValueCount && c.Type < rules.Temporal:
			e.number, e.hasNum = float64(rng.IntN(7)), true
		}
		if c.Type >= rules.Temporal && rng.IntN(3) > 0 {
			e.step = 0 // some steps are rarer than others
		}
		s.ops = append(s.ops, op{kind: "event", event: e})
		if rng.IntN(40) == 0 {
			mark = max(mark, now-rng.Int64N(100))
			s.ops = append(s.ops, op{kind: "advance", time: mark})
		}
		if rng.IntN(100) == 0 {
			s.ops = append(s.ops, op{kind: "snapshot"}, op{kind: "restore"})
		}
	}
	return s
}
