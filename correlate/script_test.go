package correlate

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// script is a rule and what happens to its windows. Its text form is that of
// testdata; a failed random test prints it.
type script struct {
	rule *rules.Correlation
	opts WindowOptions
	ops  []op
}

// op is one line of a script.
type op struct {
	kind  string // event, advance, snapshot, restore, detections, final, stats
	event scriptEvent
	time  int64 // of advance, milliseconds
	// round counts the restores: the shrinker drops a snapshot, its restore and
	// what was repeated after it together.
	round  int
	repeat bool // of what came between a snapshot and its restore
}

// scriptEvent is one match. The same name is the same event.
type scriptEvent struct {
	name   string
	time   int64
	step   int
	group  string // values, comma-separated; "-": no group-by
	value  string // values, comma-separated; "-": missing
	number float64
	hasNum bool
}

func (e *scriptEvent) match() Match {
	m := Match{
		Step: int32(e.step), Time: e.time, ID: eventID(e.name), Group: scriptTuple(e.group),
		Number: e.number, HasNumber: e.hasNum, Evidence: []byte("of " + e.name),
	}
	if e.value != "-" {
		m.Value = scriptTuple(e.value)
	}
	return m
}

func eventID(name string) schemas.EventID { return schemas.NewEventID([]byte(name)) }

func scriptTuple(s string) []byte {
	if s == "-" {
		return []byte{}
	}
	var parts [][]byte
	for _, p := range strings.Split(s, ",") {
		parts = append(parts, []byte(p))
	}
	return AppendTuple([]byte{}, parts...)
}

// set wraps the rule as the compiler would.
func (s *script) set() *rules.Set {
	set := &rules.Set{Correlations: []*rules.Correlation{s.rule}}
	for i := range s.rule.Steps {
		s.rule.Steps[i] = rules.Step{Name: stepName(i), Rule: i, Correlation: -1}
		set.Rules = append(set.Rules, &rules.Rule{
			Meta: rules.Meta{Name: stepName(i), Hash: uint64(i) + 100},
			Uses: []rules.Use{{Correlation: 0, Step: i}},
		})
	}
	return set
}

func (s *script) windows() *Windows {
	return NewWindows(s.set(), func(*rules.Correlation) bool { return true }, s.opts)
}

func stepName(i int) string { return string(rune('a' + i)) }

// seconds writes milliseconds as seconds, exactly.
func seconds(millis int64) string {
	if millis%1000 == 0 {
		return strconv.FormatInt(millis/1000, 10)
	}
	sign := ""
	if millis < 0 {
		sign, millis = "-", -millis
	}
	return strings.TrimRight(fmt.Sprintf("%s%d.%03d", sign, millis/1000, millis%1000), "0")
}

func parseSeconds(s string) (int64, error) {
	f, err := strconv.ParseFloat(s, 64)
	return int64(math.Round(f * 1000)), err
}

var operatorsByName = map[string]rules.Operator{
	"gt": rules.GT, "gte": rules.GTE, "lt": rules.LT, "lte": rules.LTE, "eq": rules.EQ, "neq": rules.NEQ,
}

var typeNames = [...]string{
	rules.EventCount: "event_count", rules.ValueCount: "value_count", rules.ValueSum: "value_sum", rules.ValueAvg: "value_avg",
	rules.ValuePercentile: "value_percentile", rules.ValueMedian: "value_median", rules.Temporal: "temporal",
	rules.TemporalOrdered: "temporal_ordered",
}

// parseScript reads the text form.
func parseScript(text string) (*script, error) {
	s := &script{}
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if err := s.parseLine(words); err != nil {
			return nil, fmt.Errorf("line %d: %q: %w", i+1, line, err)
		}
	}
	if s.rule == nil {
		return nil, fmt.Errorf("no rule")
	}
	return s, nil
}

func (s *script) parseLine(words []string) error {
	switch words[0] {
	case "rule":
		return s.parseRule(words[1:])
	case "event":
		steps := "a"
		e := scriptEvent{group: "g"}
		for _, w := range words[1:] {
			k, v, _ := strings.Cut(w, "=")
			var err error
			switch k {
			case "t":
				e.time, err = parseSeconds(v)
			case "id":
				e.name = v
			case "step":
				steps = v
			case "group":
				e.group = v
			case "value":
				e.value = v
			case "number":
				e.hasNum = true
				e.number, err = strconv.ParseFloat(v, 64)
			default:
				err = fmt.Errorf("unknown key %q", k)
			}
			if err != nil {
				return err
			}
		}
		if e.name == "" {
			e.name = fmt.Sprintf("t%s", seconds(e.time))
		}
		if e.value == "" && s.rule != nil && s.rule.Type == rules.ValueCount {
			e.value = "-"
		}
		for _, r := range steps {
			e.step = int(r - 'a')
			s.ops = append(s.ops, op{kind: "event", event: e})
		}
	case "advance":
		t, err := parseSeconds(words[1])
		if err != nil {
			return err
		}
		s.ops = append(s.ops, op{kind: "advance", time: t})
	case "snapshot", "restore", "detections", "final", "stats":
		s.ops = append(s.ops, op{kind: words[0]})
	default:
		return fmt.Errorf("unknown command")
	}
	return nil
}

func (s *script) parseRule(words []string) error {
	c := &rules.Correlation{Meta: rules.Meta{ID: "rule", Name: "rule", Hash: 1}, Alerts: true, Local: true, GroupBy: []string{"g"}, Evidence: 20}
	steps := 1
	for _, w := range words {
		k, v, _ := strings.Cut(w, "=")
		var err error
		switch k {
		case "type":
			i := slices.Index(typeNames[:], v)
			if i < 0 {
				return fmt.Errorf("unknown type %q", v)
			}
			c.Type = rules.CorrelationType(i)
		case "timespan":
			c.Timespan, err = time.ParseDuration(v)
		case "steps":
			steps, err = strconv.Atoi(v)
		case "expr":
			c.Expr, err = parseScriptExpr(v)
		case "percentile":
			c.Condition.Percentile, err = strconv.ParseFloat(v, 64)
		case "suppress":
			c.Suppress, err = time.ParseDuration(v)
		case "realert":
			c.Realert = rules.RealertEach
		case "evidence":
			c.Evidence, err = strconv.Atoi(v)
		case "lateness":
			s.opts.Lateness, err = time.ParseDuration(v)
		case "update":
			s.opts.UpdateInterval, err = time.ParseDuration(v)
		case "maxgroups":
			s.opts.MaxGroups, err = strconv.Atoi(v)
		case "maxevents":
			s.opts.MaxEvents, err = strconv.Atoi(v)
		default:
			o, ok := operatorsByName[k]
			if !ok {
				return fmt.Errorf("unknown key %q", k)
			}
			var f float64
			f, err = strconv.ParseFloat(v, 64)
			c.Condition.Bounds = append(c.Condition.Bounds, rules.Bound{Op: o, Value: f})
		}
		if err != nil {
			return err
		}
	}
	c.Steps = make([]rules.Step, steps)
	s.rule = c
	return nil
}

// parseScriptExpr reads prefix notation without spaces: and(a,not(b)).
func parseScriptExpr(v string) (*rules.TemporalExpr, error) {
	x, rest, err := scriptExpr(v)
	if err == nil && rest != "" {
		err = fmt.Errorf("%q after the expression", rest)
	}
	return x, err
}

var exprOps = map[string]rules.ExprOp{"and": rules.ExprAnd, "or": rules.ExprOr, "not": rules.ExprNot}

func scriptExpr(v string) (*rules.TemporalExpr, string, error) {
	end := strings.IndexAny(v, "(,)")
	if end < 0 {
		end = len(v)
	}
	name, rest := v[:end], v[end:]
	o, isOp := exprOps[name]
	if !isOp {
		if len(name) != 1 {
			return nil, "", fmt.Errorf("no expression at %q", v)
		}
		return &rules.TemporalExpr{Op: rules.ExprStep, Step: int(name[0] - 'a')}, rest, nil
	}
	x := &rules.TemporalExpr{Op: o}
	for sep := "("; ; sep = "," {
		if rest == "" || rest[:1] != sep {
			break
		}
		arg, r, err := scriptExpr(rest[1:])
		if err != nil {
			return nil, "", err
		}
		x.Args, rest = append(x.Args, arg), r
	}
	if rest == "" || rest[0] != ')' {
		return nil, "", fmt.Errorf("no ) at %q", rest)
	}
	return x, rest[1:], nil
}

func exprText(x *rules.TemporalExpr) string {
	if x.Op == rules.ExprStep {
		return stepName(x.Step)
	}
	var args []string
	for _, a := range x.Args {
		args = append(args, exprText(a))
	}
	for name, o := range exprOps {
		if o == x.Op {
			return name + "(" + strings.Join(args, ",") + ")"
		}
	}
	return "?"
}

// String is parseScript's inverse.
func (s *script) String() string {
	var b strings.Builder
	c := s.rule
	fmt.Fprintf(&b, "rule type=%s timespan=%s steps=%d", typeNames[c.Type], c.Timespan, len(c.Steps))
	for _, bound := range c.Condition.Bounds {
		fmt.Fprintf(&b, " %s=%v", bound.Op, bound.Value)
	}
	if c.Type == rules.ValuePercentile {
		fmt.Fprintf(&b, " percentile=%v", c.Condition.Percentile)
	}
	if c.Expr != nil {
		fmt.Fprintf(&b, " expr=%s", exprText(c.Expr))
	}
	if c.Suppress > 0 {
		fmt.Fprintf(&b, " suppress=%s", c.Suppress)
	}
	if c.Realert == rules.RealertEach {
		b.WriteString(" realert=each")
	}
	fmt.Fprintf(&b, " evidence=%d", c.Evidence)
	if s.opts.Lateness > 0 {
		fmt.Fprintf(&b, " lateness=%s", s.opts.Lateness)
	}
	if s.opts.UpdateInterval > 0 {
		fmt.Fprintf(&b, " update=%s", s.opts.UpdateInterval)
	}
	b.WriteString("\n")
	for i := range s.ops {
		o := &s.ops[i]
		switch o.kind {
		case "event":
			e := &o.event
			fmt.Fprintf(&b, "event t=%s id=%s step=%s group=%s", seconds(e.time), e.name, stepName(e.step), e.group)
			if c.Type == rules.ValueCount {
				fmt.Fprintf(&b, " value=%s", e.value)
			}
			if e.hasNum {
				fmt.Fprintf(&b, " number=%v", e.number)
			}
			b.WriteString("\n")
		case "advance":
			fmt.Fprintf(&b, "advance %s\n", seconds(o.time))
		default:
			b.WriteString(o.kind + "\n")
		}
	}
	return b.String()
}

// reported is what has been drained, by ID in the latest state.
type reported struct {
	episodes []Episode // everything, in order
	latest   map[DetectionID]Episode
	highest  map[DetectionID]int64
	names    map[DetectionID]string // d1, d2, ... in order of appearance
}

func newReported() *reported {
	return &reported{latest: map[DetectionID]Episode{}, highest: map[DetectionID]int64{}, names: map[DetectionID]string{}}
}

func (r *reported) name(id DetectionID) string {
	if _, ok := r.names[id]; !ok {
		r.names[id] = fmt.Sprintf("d%d", len(r.names)+1)
	}
	return r.names[id]
}

// live are the detections that a user is left with.
func (r *reported) live() []Episode {
	var out []Episode
	for _, e := range r.latest {
		if e.Kind != EpisodeMerged && e.Kind != EpisodeRetracted {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b Episode) int {
		return cmp.Or(cmp.Compare(string(a.Group), string(b.Group)), cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	return out
}

// keep copies what Drain lends.
func keep(e *Episode) Episode {
	k := *e
	k.Group = slices.Clone(e.Group)
	k.Evidence = slices.Clone(e.Evidence)
	for i := range k.Evidence {
		k.Evidence[i].Blob = slices.Clone(k.Evidence[i].Blob)
	}
	return k
}

// runner carries a script out. Violations of what holds at every moment go to
// fail.
type runner struct {
	s       *script
	hooks   testHooks
	w       *Windows
	r       *reported
	fail    func(format string, args ...any)
	ordered bool // check what must hold after every step, too

	taken    []Match // what takes part so far
	mark     int64
	snapshot []byte
	atSnap   int
	markSnap int64
	restored bool
}

func newRunner(s *script, fail func(string, ...any)) *runner {
	return &runner{s: s, w: s.windows(), r: newReported(), fail: fail, mark: math.MinInt64}
}

func (r *runner) lateness() int64 {
	if r.s.opts.Lateness == 0 {
		return (10 * time.Minute).Milliseconds()
	}
	return r.s.opts.Lateness.Milliseconds()
}

// step carries one operation out and drains.
func (r *runner) step(o *op) {
	r.w.hooks = r.hooks
	switch o.kind {
	case "event":
		m := o.event.match()
		if r.mark == math.MinInt64 || m.Time >= r.mark-r.lateness() {
			r.taken = append(r.taken, m)
		}
		sent := m
		sent.Group, sent.Value, sent.Evidence = slices.Clone(m.Group), slices.Clone(m.Value), slices.Clone(m.Evidence)
		r.w.Add(&sent)
		// The memory is the caller's again.
		for _, b := range [][]byte{sent.Group, sent.Value, sent.Evidence} {
			for i := range b {
				b[i] = 0xff
			}
		}
	case "advance":
		r.mark = max(r.mark, o.time)
		r.w.Advance(o.time)
	case "snapshot":
		r.snapshot, r.atSnap, r.markSnap = r.w.AppendSnapshot([]byte("head"))[4:], len(r.taken), r.mark
	case "restore":
		r.w = r.s.windows()
		r.w.hooks = r.hooks
		b := slices.Clone(r.snapshot)
		if err := r.w.Restore(b); err != nil {
			r.fail("restore: %v", err)
		}
		for i := range b {
			b[i] = 0xff
		}
		r.taken, r.mark, r.restored = r.taken[:r.atSnap], r.markSnap, true
	}
	seen := len(r.r.episodes)
	r.w.Drain(func(e *Episode) { r.r.take(keep(e), r.restored, r.fail) })
	r.w.Drain(func(e *Episode) { r.fail("drained twice: %v of %x", e.Kind, e.ID) })
	if r.ordered {
		r.checkNow(r.r.episodes[seen:], o.kind)
	}
}

// take notes an episode and checks it against what was said of it before. After
// a restore the same may be said again.
func (r *reported) take(e Episode, again bool, fail func(string, ...any)) {
	old, known := r.latest[e.ID]
	r.name(e.ID)
	over := known && (old.Kind == EpisodeMerged || old.Kind == EpisodeRetracted)
	switch {
	case again:
	case e.Kind == EpisodeOpened && known && !over:
		fail("%s opened twice", r.names[e.ID])
	case e.Kind != EpisodeOpened && !known:
		fail("%s is %v and was never opened", r.names[e.ID], e.Kind)
	case known && e.Revision <= old.Revision:
		fail("%s: revision %d after %d", r.names[e.ID], e.Revision, old.Revision)
	}
	if e.First > e.Last || e.Count < 1 {
		fail("%s is %v with %d events from %d to %d", r.names[e.ID], e.Kind, e.Count, e.First, e.Last)
	}
	for _, ev := range e.Evidence {
		if !strings.HasPrefix(string(ev.Blob), "of ") || eventID(string(ev.Blob[3:])) != ev.ID {
			fail("%s: evidence %x has blob %q", r.names[e.ID], ev.ID, ev.Blob)
		}
	}
	r.latest[e.ID] = e
	r.highest[e.ID] = max(r.highest[e.ID], e.Revision)
	r.episodes = append(r.episodes, e)
}

// immediate: more events can only make the condition truer.
func immediate(c *rules.Correlation) bool {
	switch c.Type {
	case rules.TemporalOrdered:
		return true
	case rules.Temporal:
		return !hasNot(c.Expr)
	case rules.EventCount, rules.ValueCount, rules.ValueSum:
		return !slices.ContainsFunc(c.Condition.Bounds, func(b rules.Bound) bool { return b.Op != rules.GT && b.Op != rules.GTE })
	default:
		return false
	}
}

// checkNow compares with the oracle at this moment: nothing is reported that is
// not known, and what is known is reported.
func (r *runner) checkNow(fresh []Episode, kind string) {
	c, decided := *r.s.rule, int64(math.MaxInt64)
	if !immediate(&c) {
		decided = r.mark
	}
	known := oracle(&c, r.taken, decided)
	c.Suppress = 0
	all := oracle(&c, r.taken, decided)
	inside := func(e *Episode, d *oracleDetection) bool {
		return string(e.Group) == d.Group && d.First <= e.First && e.Last <= d.Last
	}
	for i := range fresh {
		e := &fresh[i]
		if e.Kind == EpisodeOpened && !slices.ContainsFunc(all, func(d oracleDetection) bool { return inside(e, &d) }) {
			r.fail("%s opened with %d..%d, which nothing known by then justifies", r.r.names[e.ID], e.First, e.Last)
		}
	}
	if r.restored || !immediate(&c) && kind != "advance" {
		return // what was said before the restore is still there, too
	}
	live := r.r.live()
	for i := range known {
		d := &known[i]
		// What a late event cut off may be reported as cut with the next update.
		if !slices.ContainsFunc(live, func(e Episode) bool {
			return inside(&e, d) || !immediate(&c) && string(e.Group) == d.Group && e.First <= d.Last && d.First <= e.Last
		}) {
			r.fail("nothing is reported of %s %d..%d, which is known at watermark %d", groupText([]byte(d.Group)), d.First, d.Last, r.mark)
		}
	}
}

func groupText(b []byte) string {
	values, err := DecodeTuple(b)
	if err != nil {
		return fmt.Sprintf("%x", b)
	}
	var parts []string
	for _, v := range values {
		parts = append(parts, string(v))
	}
	return strings.Join(parts, ",")
}

// finish advances past everything and compares what is left with the oracle.
func (r *runner) finish() {
	end := r.mark
	if end == math.MinInt64 {
		end = 0
	}
	for _, m := range r.taken {
		end = max(end, m.Time)
	}
	end += 4*(r.s.rule.Timespan.Milliseconds()+r.lateness()) + r.s.rule.Suppress.Milliseconds() + time.Hour.Milliseconds()
	r.ordered = false
	r.step(&op{kind: "advance", time: end})
	for _, diff := range r.compare() {
		r.fail("%s", diff)
	}
}

// compare returns how the live detections differ from the oracle's.
func (r *runner) compare() (diffs []string) {
	differ := func(format string, args ...any) { diffs = append(diffs, fmt.Sprintf(format, args...)) }
	want, live := oracle(r.s.rule, r.taken, math.MaxInt64), r.r.live()
	for i := range max(len(want), len(live)) {
		switch {
		case i >= len(want):
			differ("not expected: %s", r.episodeText(&live[i]))
			continue
		case i >= len(live):
			differ("missing: group=%s count=%d first=%s last=%s", groupText([]byte(want[i].Group)), len(want[i].Events), seconds(want[i].First), seconds(want[i].Last))
			continue
		}
		e, d := &live[i], &want[i]
		if string(e.Group) != d.Group || e.First != d.First || e.Last != d.Last || e.Count != int64(len(d.Events)) {
			differ("got %s\nwant group=%s count=%d first=%s last=%s", r.episodeText(e), groupText([]byte(d.Group)), len(d.Events), seconds(d.First), seconds(d.Last))
			continue
		}
		if e.Kind != EpisodeClosed {
			differ("not closed: %s", r.episodeText(e))
		}
		if e.Revision != r.r.highest[e.ID] {
			differ("revision %d of the last state is below %d: %s", e.Revision, r.r.highest[e.ID], r.episodeText(e))
		}
		if diff := evidenceDiffers(e, d, r.s.rule.Evidence); diff != "" {
			differ("%s: %s", diff, r.episodeText(e))
		}
	}
	return diffs
}

// evidenceDiffers: evidence is the first contributing events and the last ones.
func evidenceDiffers(e *Episode, d *oracleDetection, limit int) string {
	if e.Complete != (len(d.Events) <= limit) {
		return fmt.Sprintf("complete is %v with %d events", e.Complete, len(d.Events))
	}
	if want := min(limit, len(d.Events)); len(e.Evidence) != want {
		return fmt.Sprintf("evidence of %d events, not %d", len(e.Evidence), want)
	}
	head := 0
	for head < len(e.Evidence) && e.Evidence[head].ID == d.Events[head] {
		head++
	}
	for i, ev := range e.Evidence[head:] {
		if ev.ID != d.Events[len(d.Events)-len(e.Evidence)+head+i] {
			return fmt.Sprintf("evidence %d is %s, neither of the first nor of the last ones", head+i, ev.Blob)
		}
	}
	if n := len(d.Events); n > limit && limit > 1 && (e.Evidence[0].ID != d.Events[0] || e.Evidence[limit-1].ID != d.Events[n-1]) {
		return "evidence without the first or the last event"
	}
	return ""
}

func (r *runner) episodeText(e *Episode) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %v group=%s count=%d first=%s last=%s rev=%d evidence=", r.r.name(e.ID), e.Kind, groupText(e.Group), e.Count,
		seconds(e.First), seconds(e.Last), e.Revision)
	for i, ev := range e.Evidence {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString(strings.TrimPrefix(string(ev.Blob), "of "))
	}
	if !e.Complete {
		b.WriteString(" incomplete")
	}
	if e.Kind == EpisodeMerged {
		fmt.Fprintf(&b, " into=%s", r.r.name(e.MergedInto))
	}
	return b.String()
}

func TestScriptText(t *testing.T) {
	for _, text := range []string{
		"rule type=event_count timespan=1m0s steps=1 gte=4 lt=9.5 suppress=1s realert=each evidence=20 lateness=1s\nevent t=1.005 id=e1 step=a group=g\nevent t=-0.5 id=e1 step=b group=g,h\nadvance 3\nsnapshot\nrestore\n",
		"rule type=temporal timespan=60ms steps=3 expr=and(a,not(or(b,c))) evidence=3\nevent t=1700000000.001 id=e step=c group=x\nfinal\n",
		"rule type=value_percentile timespan=1s steps=1 gt=3 percentile=95 evidence=20\nevent t=1 id=e step=a group=x number=-2.5\n",
	} {
		s, err := parseScript(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.String(); got != text {
			t.Errorf("got\n%swant\n%s", got, text)
		}
	}
}
