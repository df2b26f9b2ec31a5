package rules

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tocsin-io/tocsin/schemas"
)

func correlationWith(name, body string) string {
	return fmt.Sprintf("title: %[1]s\nname: %[1]s\nid: %[2]s\n%[3]s", name, testID(name), body)
}

// baseRules are a and b of iot, c of cloudtrail.
func baseRules() []string {
	c := strings.Replace(ruleWith("c", "s: {f: c}\ncondition: s"), "service: iot", "service: cloudtrail", 1)
	return []string{ruleWith("a", "s: {f: a}\ncondition: s"), ruleWith("b", "s: {f: b}\ncondition: s"), c}
}

func compileCorrelation(t *testing.T, body string) (*Set, *Correlation) {
	t.Helper()
	set := compileOK(t, Options{}, append(baseRules(), correlationWith("x", body))...)
	return set, set.Correlations[len(set.Correlations)-1]
}

func TestCorrelations(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want Correlation
	}{
		"event_count": {
			"correlation: {type: event_count, rules: [a], group-by: [tocsin.device], timespan: 90s, condition: {gte: 10}}",
			Correlation{Type: EventCount, Timespan: 90 * time.Second, GroupBy: []string{"tocsin.device"}, Local: true, Condition: Condition{Bounds: []Bound{{GTE, 10}}}},
		},
		"range": {
			"correlation: {type: event_count, rules: a, timespan: 1h, condition: {gt: 100, lte: 200}}",
			Correlation{Type: EventCount, Timespan: time.Hour, Condition: Condition{Bounds: []Bound{{GT, 100}, {LTE, 200}}}},
		},
		"value_count": {
			"correlation: {type: value_count, rules: [a, b], group-by: sourceIp, timespan: 1d, condition: {gte: 5, field: [clientId, user.name]}}",
			Correlation{Type: ValueCount, Timespan: 24 * time.Hour, GroupBy: []string{"sourceIp"}, Condition: Condition{Bounds: []Bound{{GTE, 5}}}},
		},
		"value_sum":    {"correlation: {type: value_sum, rules: [a], timespan: 1w, condition: {gt: 1.5, field: n}}", Correlation{Type: ValueSum, Timespan: 7 * 24 * time.Hour, Condition: Condition{Bounds: []Bound{{GT, 1.5}}}}},
		"value_avg":    {"correlation: {type: value_avg, rules: [a], timespan: 1M, condition: {lt: 1, field: n}}", Correlation{Type: ValueAvg, Timespan: 30 * 24 * time.Hour, Condition: Condition{Bounds: []Bound{{LT, 1}}}}},
		"value_median": {"correlation: {type: value_median, rules: [a], timespan: 1y, condition: {neq: 1, field: n}}", Correlation{Type: ValueMedian, Timespan: 365 * 24 * time.Hour, Condition: Condition{Bounds: []Bound{{NEQ, 1}}}}},
		"value_percentile": {
			"correlation: {type: value_percentile, rules: [a], timespan: 5m, condition: {lte: 7, field: n, percentile: 99.9}}",
			Correlation{Type: ValuePercentile, Timespan: 5 * time.Minute, Condition: Condition{Bounds: []Bound{{LTE, 7}}, Percentile: 99.9}},
		},
		"temporal":         {"correlation: {type: temporal, rules: [a, b], timespan: 5m}", Correlation{Type: Temporal, Timespan: 5 * time.Minute}},
		"temporal of all":  {"correlation: {type: temporal, rules: [a, b], timespan: 5m, condition: {gte: 2}}", Correlation{Type: Temporal, Timespan: 5 * time.Minute}},
		"temporal_ordered": {"correlation: {type: temporal_ordered, rules: [a, b], timespan: 5m, condition: {gt: 1}}", Correlation{Type: TemporalOrdered, Timespan: 5 * time.Minute}},
		"boolean": {
			"correlation: {type: temporal, rules: [a, b, c], timespan: 5m, condition: a and (b or not c)}",
			Correlation{Type: Temporal, Timespan: 5 * time.Minute, Expr: &TemporalExpr{Op: ExprAnd, Args: []*TemporalExpr{
				{Step: 0}, {Op: ExprOr, Args: []*TemporalExpr{{Step: 1}, {Op: ExprNot, Args: []*TemporalExpr{{Step: 2}}}}},
			}}},
		},
		"attributes": {
			"tocsin.suppress: 1h\ntocsin.realert: each\ntocsin.evidence: 5\nlevel: high\ncorrelation: {type: event_count, rules: [a], timespan: 5m, condition: {eq: 3}}",
			Correlation{Type: EventCount, Timespan: 5 * time.Minute, Condition: Condition{Bounds: []Bound{{EQ, 3}}}, Suppress: time.Hour, Realert: RealertEach, Evidence: 5, Meta: Meta{Level: LevelHigh}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, got := compileCorrelation(t, c.body)
			c.want.Alerts = true
			if c.want.Evidence == 0 {
				c.want.Evidence = defaultEvidence
			}
			if c.want.Level == 0 {
				c.want.Level = LevelMedium
			}
			if got.Level != c.want.Level {
				t.Errorf("level %s", got.Level)
			}
			if d := cmp.Diff(&c.want, got, cmpopts.IgnoreFields(Correlation{}, "Meta", "Steps")); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestCorrelationOfK(t *testing.T) {
	_, c := compileCorrelation(t, "correlation: {type: temporal, rules: [a, b, c], timespan: 5m, condition: {gte: 2}}")
	for mask := range 8 {
		n := mask&1 + mask>>1&1 + mask>>2
		if got := ExprEval(c.Expr, func(step int) bool { return mask>>step&1 == 1 }); got != (n >= 2) {
			t.Errorf("%03b: %t", mask, got)
		}
	}
}

func TestCorrelationFields(t *testing.T) {
	set, c := compileCorrelation(t, `correlation:
  type: value_count
  rules: [a, c]
  group-by: [who, tocsin.device]
  timespan: 5m
  aliases:
    who: {a: clientId, c: userIdentity.userName}
  condition: {gte: 3, field: [sourceIp, who]}`)
	names := func(fields []FieldID) string {
		var out []string
		for _, f := range fields {
			out = append(out, set.FieldName(f))
		}
		return strings.Join(out, " ")
	}
	if !c.Local {
		t.Error("grouped by the device, yet not local")
	}
	want := []string{"clientId tocsin.device", "sourceIp clientId", "userIdentity.userName tocsin.device", "sourceIp userIdentity.userName"}
	got := []string{names(c.Steps[0].Group), names(c.Steps[0].Values), names(c.Steps[1].Group), names(c.Steps[1].Values)}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	m := set.NewMatcher()
	ev := &schemas.Event{
		Source: []byte("cloudtrail"), Device: []byte("dev"),
		Message: []byte(`{"f":"c","userIdentity":{"userName":["al\u0069ce",1,true,null,{"x":1},[2.50]]},"sourceIp":{"no":"scalar"}}`),
	}
	if d := cmp.Diff([]int32{2}, m.Match(ev)); d != "" {
		t.Fatal(d)
	}
	values := func(f FieldID) []string {
		var out []string
		for _, v := range m.AppendValues(nil, f) {
			out = append(out, string(v))
		}
		return out
	}
	if d := cmp.Diff([]string{"alice", "1", "true", "2.50"}, values(c.Steps[1].Group[0])); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"dev"}, values(c.Steps[1].Group[1])); d != "" {
		t.Error(d)
	}
	if got := values(c.Steps[1].Values[0]); got != nil {
		t.Errorf("an object has values %q", got)
	}
	if got := values(FieldID(1000)); got != nil {
		t.Errorf("an unknown field has values %q", got)
	}
	m.Match(&schemas.Event{Source: []byte("iot"), Message: []byte(`{}`)})
	if got := values(c.Steps[1].Group[0]); got != nil {
		t.Errorf("values %q of an older event", got)
	}
}

func TestNestedCorrelations(t *testing.T) {
	const outer = `correlation:
  type: temporal_ordered
  rules: [inner, b]
  group-by: [id]
  aliases: {id: {inner: tocsin.device, b: tocsin.device}}
  timespan: 1h
generate: true`
	const inner = "correlation: {type: event_count, rules: [a], group-by: [user, tocsin.device], timespan: 5m, condition: {gte: 3}}"
	// The outer one comes first in the file, and refers by ID.
	docs := append(baseRules(), correlationWith("outer", strings.Replace(outer, "[inner, b]", "["+testID("inner")+", b]", 1)), correlationWith("inner", inner))
	set := compileOK(t, Options{}, docs...)
	in, out := set.Correlations[0], set.Correlations[1]
	if in.Name != "inner" || out.Name != "outer" {
		t.Fatalf("order %s, %s", in.Name, out.Name)
	}
	if !in.Local || !out.Local {
		t.Errorf("local: %t, %t", in.Local, out.Local)
	}
	if !in.Alerts || !out.Alerts || !set.Rules[1].Alerts || set.Rules[0].Alerts || !set.Rules[2].Alerts {
		t.Error("generate makes the rules of outer, and no others, alert")
	}
	if d := cmp.Diff([]Use{{Correlation: 1, Step: 0}}, in.Uses); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]Use{{Correlation: 1, Step: 1}}, set.Rules[1].Uses); d != "" {
		t.Error(d)
	}
	step := out.Steps[0]
	if step.Rule != -1 || step.Correlation != 0 {
		t.Errorf("%+v", step)
	}
	if d := cmp.Diff([]int{1}, step.GroupFrom); d != "" {
		t.Error(d)
	}
}

func TestLocal(t *testing.T) {
	for body, want := range map[string]bool{
		"correlation: {type: event_count, rules: [a], group-by: [x, tocsin.device], timespan: 5m, condition: {gte: 3}}":                                               true,
		"correlation: {type: event_count, rules: [a], group-by: [clientId], timespan: 5m, condition: {gte: 3}}":                                                       false,
		"correlation: {type: event_count, rules: [a], timespan: 5m, condition: {gte: 3}}":                                                                             false,
		"correlation: {type: temporal, rules: [a, b], group-by: [d], aliases: {d: {a: tocsin.device, b: tocsin.device}}, timespan: 5m}":                               true,
		"correlation: {type: temporal, rules: [a, b], group-by: [d], aliases: {d: {a: tocsin.device, b: other}}, timespan: 5m}":                                       false,
		"correlation: {type: temporal, rules: [a, b], group-by: [d, e], aliases: {d: {a: tocsin.device, b: x}, e: {a: y, b: tocsin.device}}, timespan: 5m}":           false,
		"correlation: {type: temporal, rules: [a, b], group-by: [tocsin.device], aliases: {tocsin.device: {a: tocsin.client_id, b: tocsin.client_id}}, timespan: 5m}": false,
	} {
		if _, c := compileCorrelation(t, body); c.Local != want {
			t.Errorf("%s: local is %t", body, c.Local)
		}
	}
}

func TestBrokenCorrelations(t *testing.T) {
	for body, want := range map[string]string{
		"correlation: []":                         "correlation is a list, not a mapping",
		"correlation: {rules: [a], timespan: 5m}": "the correlation has no type",
		"correlation: {type: event_cuont, rules: [a], timespan: 5m, condition: {gte: 1}}":                               `did you mean "event_count"?`,
		"correlation: {type: event_count, timespan: 5m, condition: {gte: 1}}":                                           "the correlation has no rules",
		"correlation: {type: event_count, rules: [], timespan: 5m, condition: {gte: 1}}":                                "the list of rules is empty",
		"correlation: {type: event_count, rules: [A], timespan: 5m, condition: {gte: 1}}":                               `there is no rule "A"; did you mean "a"?`,
		"correlation: {type: event_count, rules: [a, a], timespan: 5m, condition: {gte: 1}}":                            "refers to a rule that is already in the list",
		"correlation: {type: event_count, rules: [a], condition: {gte: 1}}":                                             "the correlation has no timespan",
		"correlation: {type: event_count, rules: [a], timespan: 5, condition: {gte: 1}}":                                `"5" is not a timespan`,
		"correlation: {type: event_count, rules: [a], timespan: 0s, condition: {gte: 1}}":                               `timespan "0s" is zero`,
		"correlation: {type: event_count, rules: [a], timespan: 2y, condition: {gte: 1}}":                               "exceeds the limit of 366 days",
		"correlation: {type: event_count, rules: [a], timespan: 9999999999999s, condition: {gte: 1}}":                   "is not a timespan",
		"correlation: {type: event_count, rules: [a], timespan: 5m}":                                                    "needs a condition",
		"correlation: {type: event_count, rules: [a], timespan: 5m, condition: {}}":                                     "the condition has no bound",
		"correlation: {type: event_count, rules: [a], timespan: 5m, condition: {gte: '1'}}":                             "write a number, without quotes",
		"correlation: {type: event_count, rules: [a], timespan: 5m, condition: {gteq: 1}}":                              `did you mean "gte"?`,
		"correlation: {type: event_count, rules: [a], timespan: 5m, condition: {gt: 5, lt: 4}}":                         "no value satisfies the condition",
		"correlation: {type: event_count, rules: [a], timespan: 5m, condition: {gte: 5, field: x}}":                     "use value_count",
		"correlation: {type: event_count, rules: [a], timespan: 5m, condition: a}":                                      "cannot have a boolean condition",
		"correlation: {type: value_count, rules: [a], timespan: 5m, condition: {gte: 5}}":                               "needs a field",
		"correlation: {type: value_sum, rules: [a], timespan: 5m, condition: {gte: 5, field: [a, b]}}":                  "has one field",
		"correlation: {type: value_percentile, rules: [a], timespan: 5m, condition: {gte: 5, field: a}}":                "needs a percentile",
		"correlation: {type: value_percentile, rules: [a], timespan: 5m, condition: {gte: 5, field: a, percentile: 0}}": "give a number above 0",
		"correlation: {type: value_sum, rules: [a], timespan: 5m, condition: {gte: 5, field: a, percentile: 9}}":        "has no percentile",
		"correlation: {type: temporal, rules: [a, b], timespan: 5m, condition: {gte: 3}}":                               "cannot have this condition",
		"correlation: {type: temporal, rules: [a, b], timespan: 5m, condition: {lt: 1}}":                                "cannot have this condition",
		"correlation: {type: temporal_ordered, rules: [a, b], timespan: 5m, condition: {gte: 1}}":                       "use type temporal",
		"correlation: {type: temporal, rules: [a, b], timespan: 5m, condition: a and d}":                                `"d" is not among the rules`,
		"correlation: {type: temporal, rules: [a, b], timespan: 5m, condition: not a or b}":                             "the condition holds without any event",
		"correlation: {type: temporal, rules: [a, b], timespan: 5m, group-by: [x, x]}":                                  `"x" twice in group-by`,
		"correlation: {type: temporal, rules: [a, b], timespan: 5m, group-by: [x], aliases: {x: {a: f}}}":               `alias "x" has no field for rule "b"`,
		"correlation: {type: temporal, rules: [a], timespan: 5m, group-by: [x], aliases: {x: {a: f, q: f}}}":            `names "q", which is not among the rules`,
		"correlation: {type: temporal, rules: [a], timespan: 5m, group-by: [tocsin.devise]}":                            `did you mean "tocsin.device"?`,
		"correlation: {type: temporal, rules: [a], timespan: 5m, groupby: [x]}":                                         `did you mean "group-by"?`,
		"correlation: {type: temporal, rules: [x], timespan: 5m}":                                                       "a correlation cannot depend on its own result",
		"generate: maybe\ncorrelation: {type: temporal, rules: [a], timespan: 5m}":                                      "generate is a string",
		"tocsin.supress: 1h\ncorrelation: {type: temporal, rules: [a], timespan: 5m}":                                   `did you mean "tocsin.suppress"?`,
		"tocsin.evidence: -1\ncorrelation: {type: temporal, rules: [a], timespan: 5m}":                                  "give a number from 0 to 1000",
		"tocsin.realert: often\ncorrelation: {type: temporal, rules: [a], timespan: 5m}":                                "use episode or each",
		"level: urgent\ncorrelation: {type: temporal, rules: [a], timespan: 5m}":                                        `unknown level "urgent"`,
	} {
		set, diags := compileText(Options{}, append(baseRules(), correlationWith("x", body))...)
		if err := diags.Err(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", body, err, want)
		}
		if len(set.Correlations) != 0 || len(set.Rules) != 3 {
			t.Errorf("%s: %d rules, %d correlations", body, len(set.Rules), len(set.Correlations))
		}
	}
}

// What refers to a rule that is wrong is left out with it, and the other rules
// that it refers to do not begin to alert because of that.
func TestLeftOutTogether(t *testing.T) {
	bad := ruleWith("bad", "s: {f|nonsense: a}\ncondition: s")
	set, diags := compileText(Options{}, append(baseRules(), bad,
		correlationWith("x", "correlation: {type: temporal, rules: [a, bad], timespan: 5m}"),
		correlationWith("y", "correlation: {type: temporal, rules: [x, b], timespan: 5m}"),
		correlationWith("p", "correlation: {type: temporal, rules: [q], timespan: 5m}"),
		correlationWith("q", "correlation: {type: temporal, rules: [p], timespan: 5m}"),
		correlationWith("ok", "correlation: {type: temporal, rules: [c], timespan: 5m}"),
	)...)
	text := diags.Err().Error()
	for _, want := range []string{`unknown modifier`, `rule "bad" was left out`, `rule "x" was left out`, `"p" refers back`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s lacks %q", text, want)
		}
	}
	if len(set.Correlations) != 1 || set.Correlations[0].Name != "ok" || len(set.Rules) != 3 {
		t.Fatalf("%d rules, %d correlations", len(set.Rules), len(set.Correlations))
	}
	for _, r := range set.Rules {
		if r.Alerts {
			t.Errorf("%s alerts by itself", r.Name)
		}
	}
}

func TestDuplicateNames(t *testing.T) {
	set, diags := compileText(Options{}, ruleWith("a", "s: {f: a}\ncondition: s"), ruleWith("a", "s: {f: b}\ncondition: s"))
	if err := diags.Err(); err == nil || !strings.Contains(err.Error(), "is taken by the rule at test.yml:1") {
		t.Error(err)
	}
	if len(set.Rules) != 1 {
		t.Errorf("%d rules", len(set.Rules))
	}
}

func TestFilters(t *testing.T) {
	filter := func(body string) string { return "title: f\n" + body }
	for name, c := range map[string]struct {
		filter  string
		yes, no []string // messages for rule a of baseRules
	}{
		"exclusion": {"filter: {rules: [a], s: {u: admin}, condition: not s}", []string{`{"f":"a","u":"x"}`}, []string{`{"f":"a","u":"admin"}`}},
		"by ID":     {"filter: {rules: " + testID("a") + ", s: {u: admin}, condition: not s}", []string{`{"f":"a"}`}, []string{`{"f":"a","u":"admin"}`}},
		"selection": {"filter: {rules: [a, b], s: {u: admin}, condition: s}", []string{`{"f":"a","u":"admin"}`}, []string{`{"f":"a"}`}},
		"any":       {"logsource: {product: aws}\nfilter: {rules: any, s: {u: admin}, condition: not s}", []string{`{"f":"a"}`}, []string{`{"f":"a","u":"admin"}`}},
		"other log": {"logsource: {product: aws, service: cloudtrail}\nfilter: {rules: any, s: {u: admin}, condition: not s}", []string{`{"f":"a","u":"admin"}`}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			set := compileOK(t, Options{}, append(baseRules(), filter(c.filter))...)
			m := set.NewMatcher()
			for _, message := range c.yes {
				if !matches(m, message) {
					t.Errorf("does not match %s", message)
				}
			}
			for _, message := range c.no {
				if matches(m, message) {
					t.Errorf("matches %s", message)
				}
			}
			plain := compileOK(t, Options{}, baseRules()...)
			if changed := set.Rules[0].Hash != plain.Rules[0].Hash; changed != (c.no != nil) {
				t.Errorf("hash changed: %t", changed)
			}
		})
	}
	for body, want := range map[string]string{
		"filter: {s: {u: x}, condition: s}":               "the filter has no rules",
		"filter: {rules: [zz], s: {u: x}, condition: s}":  `there is no rule "zz"`,
		"filter: {rules: [x], s: {u: x}, condition: s}":   `"x" is a correlation`,
		"filter: {rules: [a], s: {u: x}}":                 "has no condition",
		"filter: {rules: [a], s: {u|y: x}, condition: s}": "unknown modifier",
		"filter: {rules: [{}], s: {u: x}, condition: s}":  "referred to by a mapping",
		"filter: a": "filter is a string",
	} {
		_, diags := compileText(Options{}, append(baseRules(), correlationWith("x", "correlation: {type: temporal, rules: [a], timespan: 5m}"), filter(body))...)
		if err := diags.Err(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", body, err, want)
		}
	}
}

func TestHash(t *testing.T) {
	hashes := func(docs ...string) [2]uint64 {
		set := compileOK(t, Options{}, docs...)
		return [2]uint64{set.Rules[0].Hash, set.Correlations[0].Hash}
	}
	rule := func(detection, extra string) string { return ruleWith("a", detection) + extra }
	corr := func(body string) string { return correlationWith("x", body) }
	const (
		detection = "s: {f: [a, b]}\ncondition: s"
		body      = "correlation: {type: event_count, rules: [a], group-by: [u], timespan: 5m, condition: {gte: 3}}"
	)
	base := hashes(rule(detection, ""), corr(body))
	for name, same := range map[string][2]uint64{
		"order of values":   hashes(rule("s: {f: [b, a]}\ncondition: s", ""), corr(body)),
		"level and name":    hashes(rule(detection, "level: high\nauthor: me"), corr("level: low\ntocsin.suppress: 1h\n"+body)),
		"name of selection": hashes(rule("other: {f: [a, b]}\ncondition: other", ""), corr(body)),
	} {
		if same != base {
			t.Errorf("%s changes the hash", name)
		}
	}
	for name, other := range map[string][2]uint64{
		"value":    hashes(rule("s: {f: [a, c]}\ncondition: s", ""), corr(body)),
		"field":    hashes(rule("s: {g: [a, b]}\ncondition: s", ""), corr(body)),
		"modifier": hashes(rule("s: {f|contains: [a, b]}\ncondition: s", ""), corr(body)),
		"not":      hashes(rule("s: {f: [a, b]}\ncondition: not s", ""), corr(body)),
	} {
		if other[0] == base[0] || other[1] == base[1] {
			t.Errorf("%s does not change the hashes", name)
		}
	}
	for name, other := range map[string][2]uint64{
		"timespan": hashes(rule(detection, ""), corr(strings.Replace(body, "5m", "6m", 1))),
		"bound":    hashes(rule(detection, ""), corr(strings.Replace(body, "gte: 3", "gte: 4", 1))),
		"operator": hashes(rule(detection, ""), corr(strings.Replace(body, "gte: 3", "gt: 3", 1))),
		"group":    hashes(rule(detection, ""), corr(strings.Replace(body, "[u]", "[v]", 1))),
		"no group": hashes(rule(detection, ""), corr(strings.Replace(body, "[u]", "[]", 1))),
	} {
		if other[0] != base[0] || other[1] == base[1] {
			t.Errorf("%s changes the wrong hashes", name)
		}
	}
}

func TestStrict(t *testing.T) {
	set, diags := compileText(Options{Strict: true}, append(baseRules(), "nonsense")...)
	if diags.Errors() != 1 || len(set.Rules) != 0 {
		t.Errorf("%d errors, %d rules", diags.Errors(), len(set.Rules))
	}
	set.NewMatcher().Match(&schemas.Event{})
}
