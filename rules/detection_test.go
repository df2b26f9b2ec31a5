package rules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/schemas"
)

// Each case is a detection, the messages that it matches, and those that it
// does not.
func TestDetections(t *testing.T) {
	const abc = "a1: {a: 1}\na2: {b: 1}\nc: {c: 1}\n_d: {d: 1}\n"
	for name, c := range map[string]struct {
		detection string
		yes, no   []string
	}{
		"map is and":        {"s: {a: 1, b: 2}\ncondition: s", []string{`{"a":1,"b":2}`}, []string{`{"a":1}`, `{"b":2}`}},
		"list of maps":      {"s: [{a: 1}, {b: 2, c: 3}]\ncondition: s", []string{`{"a":1}`, `{"b":2,"c":3}`}, []string{`{"b":2}`}},
		"same field twice":  {"s: {a|contains: x, a|endswith: y}\ncondition: s", []string{`{"a":"xy"}`}, []string{`{"a":"x"}`, `{"a":"y"}`}},
		"keywords":          {"s: [Foo Bar, 'a*z']\ncondition: s", []string{`{"x":"say foo bar now"}`, `anything foo bar`, `{"FOO BAR":1}`, `a-to-z`, "\xff foo bar"}, []string{`{"x":"foo  bar"}`, ``, `za`}},
		"keyword scalar":    {"s: secret\ncondition: s", []string{`{"x":"SECRETS"}`}, []string{`{}`}},
		"keyword number":    {"s: [4624]\ncondition: s", []string{`{"id":4624}`, `{"id":"x46241"}`}, []string{`{"id":462}`}},
		"keywords all":      {"s: {'|all': [foo, bar]}\ncondition: s", []string{`bar foo`}, []string{`foo`, `bar`}},
		"keyword regex":     {"s: {'|re': 'fo+ba?r'}\ncondition: s", []string{`xfooobr`}, []string{`FOBAR`, `fbar`}},
		"keyword escapes":   {"s: ['C:\\Windows', 'say \"hi\"']\ncondition: s", []string{`{"p":"C:\\Windows\\x"}`, `{"p":"say \"hi\""}`, `C:\windows`, `{"broken C:\windows`}, []string{`{"p":"C:/Windows"}`}},
		"keyword non-ASCII": {"s: [ÄRGER]\ncondition: s", []string{`{"p":"ärger"}`, `{"p":"\u00e4rger"}`}, []string{`{"p":"arger"}`}},
		"maps and keywords": {"s: [{a: 1}, word]\ncondition: s", []string{`{"a":1}`, `a word`}, []string{`{"a":2}`}},

		"and":             {abc + "condition: a1 and a2", []string{`{"a":1,"b":1}`}, []string{`{"a":1}`}},
		"or":              {abc + "condition: a1 or a2", []string{`{"a":1}`, `{"b":1}`}, []string{`{"c":1}`}},
		"not":             {abc + "condition: not a1", []string{`{}`, `nonsense`}, []string{`{"a":1}`}},
		"not not":         {abc + "condition: not not a1", []string{`{"a":1}`}, []string{`{}`}},
		"precedence":      {abc + "condition: c or a1 and not a2", []string{`{"c":1,"b":1}`, `{"a":1}`}, []string{`{"a":1,"b":1}`, `{}`}},
		"parentheses":     {abc + "condition: (c or a1) and not (a2)", []string{`{"c":1}`, `{"a":1}`}, []string{`{"c":1,"b":1}`}},
		"upper case":      {abc + "condition: a1 AND NOT a2", []string{`{"a":1}`}, []string{`{"a":1,"b":1}`}},
		"list":            {abc + "condition: [a1 and a2, c]", []string{`{"c":1}`, `{"a":1,"b":1}`}, []string{`{"a":1}`}},
		"1 of pattern":    {abc + "condition: 1 of a*", []string{`{"a":1}`, `{"b":1}`}, []string{`{"c":1}`, `{"d":1}`}},
		"any of pattern":  {abc + "condition: any of a*", []string{`{"a":1}`, `{"b":1}`}, []string{`{"c":1}`}},
		"all of pattern":  {abc + "condition: all of a*", []string{`{"a":1,"b":1}`}, []string{`{"a":1}`}},
		"1 of middle":     {abc + "condition: 1 of *1", []string{`{"a":1}`}, []string{`{"b":1}`}},
		"1 of them":       {abc + "condition: 1 of them", []string{`{"c":1}`}, []string{`{"d":1}`}},
		"all of them":     {abc + "condition: all of them", []string{`{"a":1,"b":1,"c":1}`}, []string{`{"a":1,"b":1,"d":1}`}},
		"1 of underscore": {abc + "condition: 1 of _*", []string{`{"d":1}`}, []string{`{"c":1}`}},
		"1 of name":       {abc + "condition: 1 of c", []string{`{"c":1}`}, []string{`{}`}},
		"not 1 of":        {abc + "condition: c and not 1 of a*", []string{`{"c":1}`}, []string{`{"c":1,"b":1}`}},
		"not absent":      {"s: {a: null}\ncondition: not s", []string{`{"a":1}`}, []string{`{}`, `{"a":null}`}},
		"alias":           {"s: &x {a: 1}\nt: *x\ncondition: s and t", []string{`{"a":1}`}, []string{`{}`}},
	} {
		t.Run(name, func(t *testing.T) {
			m := compileOK(t, Options{}, ruleWith("r", c.detection)).NewMatcher()
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
		})
	}
}

func TestBrokenDetections(t *testing.T) {
	for detection, want := range map[string]string{
		"s: {a: 1}":                              "the detection has no condition",
		"condition: s":                           "the detection has no selection",
		"s: {a: 1}\ncondition: t":                `test.yml:9:14: error: condition: there is no selection "t"`,
		"sel: {a: 1}\ncondition: not sle":        `test.yml:9:18: error: condition: there is no selection "sle"; did you mean "sel"?`,
		"s: {a: 1}\ncondition: s and":            "the condition ends too early",
		"s: {a: 1}\ncondition: s s":              `unexpected "s"; join the parts by and or or`,
		"s: {a: 1}\ncondition: (s":               "missing closing parenthesis",
		"s: {a: 1}\ncondition: s)":               "there is no opening parenthesis",
		"s: {a: 1}\ncondition: and":              `unexpected "and"`,
		"s: {a: 1}\ncondition: 2 of s*":          `"2" is not a quantifier; write 1 of, any of or all of`,
		"s: {a: 1}\ncondition: 1 of":             "1 of what?",
		"s: {a: 1}\ncondition: 1 of x*":          `no selection matches "x*"; selections are s`,
		"s: {a: 1}\ncondition: s | count() > 1":  "aggregations in conditions are obsolete; write a correlation rule",
		"s: {a: 1}\ntimeframe: 1m\ncondition: s": "timeframe is obsolete",
		"s: {a: 1}\ncondition: ''":               "the condition ends too early",
		"s: {a: 1}\ncondition: {a: b}":           "a condition is a mapping",
		"s: {a: 1}\ncondition: []":               "the list of conditions is empty",
		"s: {}\ncondition: s":                    `selection "s" is empty`,
		"s: []\ncondition: s":                    `selection "s" is empty`,
		"s: [[a]]\ncondition: s":                 "holds a list in a list",
		"s: null\ncondition: s":                  "a keyword cannot be null",
		"s: {<<: {a: 1}}\ncondition: s":          "merge keys are not supported",
	} {
		set, diags := compileText(Options{}, ruleWith("r", detection))
		if err := diags.Err(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", detection, err, want)
		}
		if len(set.Rules) != 0 {
			t.Errorf("%q: the rule was not left out", detection)
		}
	}
}

func TestWarnings(t *testing.T) {
	const rule = `name: r
logsource: {product: aws}
status: wild
detection:
  s: {a: 1}
  unused: {b: 1}
  condition: s
`
	set, diags := compileText(Options{}, rule)
	if len(set.Rules) != 1 || diags.Err() != nil {
		t.Fatal(diags)
	}
	for _, want := range []string{`unknown status "wild"`, "the rule has no title", `selection "unused" is not used`} {
		if !strings.Contains(fmt.Sprint(diags), want) {
			t.Errorf("%v lacks %q", diags, want)
		}
	}
}

func TestLogSources(t *testing.T) {
	rule := func(name, logsource string) string {
		return fmt.Sprintf("title: %[1]s\nname: %[1]s\nlogsource: {%[2]s}\ndetection: {s: {a: 1}, condition: s}", name, logsource)
	}
	set := compileOK(t, Options{},
		rule("iot", "product: AWS, service: iot"),
		rule("aws", "product: aws"),
		rule("trail", "product: aws, service: cloudtrail"),
		rule("windows", "product: windows, category: process_creation"),
		rule("category", "category: process_creation"),
	)
	m := set.NewMatcher()
	names := func(matched []int32) []string {
		out := []string{}
		for _, i := range matched {
			out = append(out, set.Rules[i].Name)
		}
		return out
	}
	message := []byte(`{"a":1}`)
	for source, want := range map[string][]string{
		schemas.SourceIoT: {"iot", "aws"}, schemas.SourceCloudTrail: {"aws", "trail"}, schemas.SourceGeneric: {"aws"}, "": {"aws"}, "never heard of": {"aws"},
	} {
		if d := cmp.Diff(want, names(m.Match(&schemas.Event{Source: []byte(source), Message: message}))); d != "" {
			t.Errorf("%s: %s", source, d)
		}
	}
	for ls, want := range map[LogSource][]string{
		{Product: "windows", Category: "process_creation"}:                 {"windows", "category"},
		{Product: "windows", Category: "process_creation", Service: "odd"}: {"windows", "category"},
		{Product: "linux", Category: "process_creation"}:                   {"category"},
		{Product: "windows"}: {},
		AnyLogSource:         {"iot", "aws", "trail", "windows", "category"},
	} {
		if d := cmp.Diff(want, names(m.MatchAs(ls, &schemas.Event{Message: message}))); d != "" {
			t.Errorf("%v: %s", ls, d)
		}
	}
	if n := len(set.program.views); n > 7 {
		t.Errorf("%d views: unknown names must share one", n)
	}
}

func TestEnvelopeFields(t *testing.T) {
	full := schemas.Event{
		Source: []byte("iot"), Type: []byte("Connect"), Account: []byte("111122223333"), Region: []byte("eu-west-1"),
		Device: []byte("pump-1"), ClientID: []byte("pump-1"), ThingName: []byte("Pump"), CertificateID: []byte("abc"),
		SourceIP: []byte("198.51.100.7"), RoleSession: []byte("sess"), Outcome: schemas.OutcomeFailure,
		CertificateStatus: schemas.CertRevoked, HasExpiry: true, DaysToExpiry: -3,
		Message: []byte(`{"tocsin.device":"spoofed","tocsin":{"device":"spoofed","region":"spoofed"}}`),
	}
	for item, want := range map[string]bool{
		"tocsin.device: PUMP-1": true, "tocsin.device: spoofed": false, "tocsin.client_id: pump-1": true,
		"tocsin.thing_name: pump": true, "tocsin.certificate_id: abc": true, "tocsin.source_ip|cidr: 198.51.100.0/24": true,
		"tocsin.account: 111122223333": true, "tocsin.region|startswith: eu-": true, "tocsin.source: iot": true,
		"tocsin.event_type: Connect": true, "tocsin.outcome: failure": true, "tocsin.certificate_status: REVOKED": true,
		"tocsin.certificate_days_to_expiry|lt: 0": true, "tocsin.certificate_days_to_expiry: -3": true, "tocsin.role_session|exists: true": true,
	} {
		m := compileOK(t, Options{}, ruleWith("r", "s: {"+item+"}\ncondition: s")).NewMatcher()
		if got := len(m.Match(&full)) == 1; got != want {
			t.Errorf("%s: %t", item, got)
		}
	}
	empty := schemas.Event{Source: []byte("iot"), Message: full.Message}
	for _, name := range envelopeNames() {
		m := compileOK(t, Options{}, ruleWith("r", "s: {"+name+"|exists: true}\ncondition: s")).NewMatcher()
		if got := len(m.Match(&empty)) == 1; got != (name == "tocsin.source") {
			t.Errorf("%s exists: %t", name, got)
		}
	}
}

func TestMatchedRulesAreAscending(t *testing.T) {
	var docs []string
	for i := range 20 {
		// Of every second rule nothing is indexed.
		detection := "s: {a: 1}\ncondition: s"
		if i%2 == 0 {
			detection = "s: {b: 1}\ncondition: not s"
		}
		docs = append(docs, ruleWith(fmt.Sprintf("r%d", i), detection))
	}
	got := compileOK(t, Options{}, docs...).NewMatcher().Match(&schemas.Event{Source: []byte("iot"), Message: []byte(`{"a":1}`)})
	for i, rule := range got {
		if int(rule) != i {
			t.Fatalf("%v", got)
		}
	}
	if len(got) != 20 {
		t.Fatalf("%d rules", len(got))
	}
}

func TestSharedPredicates(t *testing.T) {
	set := compileOK(t, Options{},
		ruleWith("a", "s: {f|contains: [x, y], g: z}\ncondition: s"),
		ruleWith("b", "s: {f|contains: [Y, x]}\nt: {g: z}\ncondition: s or t"),
	)
	if n := len(set.program.preds); n != 2 {
		t.Errorf("%d predicates, want 2: equal ones are shared", n)
	}
}
