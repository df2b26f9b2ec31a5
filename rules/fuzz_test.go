package rules

import (
	"bytes"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/schemas"
)

// FuzzCompile: no file makes the compiler panic or hang; what comes out can be
// matched.
func FuzzCompile(f *testing.F) {
	for _, doc := range append(baseRules(),
		correlationWith("x", "correlation: {type: temporal, rules: [a, b], timespan: 5m, condition: a and not b}"),
		correlationWith("y", "correlation: {type: value_count, rules: [a], group-by: [g], aliases: {g: {a: f}}, timespan: 5m, condition: {gte: 2, field: [f]}}"),
		"title: f\nfilter: {rules: any, s: {u: x}, condition: not s}",
		ruleWith("m", "s: {f|re|i: 'a(b|c)*', g|windash|contains: ' -e', h|base64offset|contains: abc, i|cidr: 10.0.0.0/8}\nk: [a, 'b*']\ncondition: all of s* or 1 of k"),
		"a: &a [*a]", "a: &a b\nc: *a", "---\n---\n", "%YAML 1.2\n---\na: b", "{[}", "\xff\xfe", "- a",
	) {
		f.Add([]byte(doc))
	}
	ev := &schemas.Event{Source: []byte("iot"), Message: []byte(`{"f":"abcb","g":"x /e","i":"10.1.1.1"}`)}
	f.Fuzz(func(t *testing.T, data []byte) {
		set, diags := Compile([]Source{{Name: "fuzz.yml", Data: data}}, Options{Limits: Limits{FileBytes: 1 << 16}})
		for _, d := range diags {
			if d.Message == "" || d.File != "fuzz.yml" {
				t.Errorf("empty diagnostic %#v", d)
			}
		}
		m := set.NewMatcher()
		for _, i := range m.MatchAs(AnyLogSource, ev) {
			_ = set.Rules[i]
		}
		for _, c := range set.Correlations {
			for _, step := range c.Steps {
				if step.Rule < 0 && step.Correlation < 0 {
					t.Error("a step leads nowhere")
				}
			}
		}
	})
}

func FuzzCondition(f *testing.F) {
	for _, s := range []string{"a and not (b or 1 of c*)", "all of them", "not", "((", "a b", "1 of", "a|b"} {
		f.Add(s)
	}
	limits := Limits{}.withDefaults()
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCondition(text, &limits)
		if (c == nil) == (err == nil) {
			t.Fatal("neither a condition nor an error")
		}
		if err != nil && (err.column < 0 || err.column > len(text)) {
			t.Errorf("column %d of %d", err.column, len(text))
		}
	})
}

// FuzzWildcard holds the pattern matcher against a translation to a regular
// expression.
func FuzzWildcard(f *testing.F) {
	for _, s := range [][2]string{{"a*b", "axxb"}, {"*a?c*", "xabcx"}, {`\*\\*`, `*\x`}, {"??", "äö"}, {"*a*a*a*b", "aaaaaaaa"}, {"K*", "\u212ax"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, p, s string) {
		if len(p) > 100 || len(s) > 1000 || strings.ToValidUTF8(p, "") != p || strings.ToValidUTF8(s, "") != s {
			t.Skip()
		}
		for _, fold := range []bool{false, true} {
			pattern, text := parsePattern(p).normal(), []byte(s)
			if fold {
				pattern, text = pattern.fold(), appendFold(nil, s)
			}
			if got, want := pattern.match(text, fold), sigmaRegexp(p, false, false, fold).MatchString(s); got != want {
				t.Errorf("%q on %q, fold %t: got %t, want %t", p, s, fold, got, want)
			}
		}
		if parsePattern(parsePattern(p).String()).String() != parsePattern(p).String() {
			t.Errorf("%q does not survive writing and reading", p)
		}
	})
}

// FuzzMatch: no message makes the matcher panic, keywords see any text, and the
// envelope is seen whatever the message.
func FuzzMatch(f *testing.F) {
	for _, s := range []string{`{"f":"a"}`, `{"f":{"g":[1,{"h":null}]}}`, `{"f":"\ud800\u0041"}`, "{", `[[[[`, `"`, `{"f":1e999}`, "\xff{}", `{"f":"` + strings.Repeat("a", 100)} {
		f.Add([]byte(s))
	}
	set, diags := compileText(Options{},
		ruleWith("env", "s: {tocsin.device: pump}\ncondition: s"),
		ruleWith("key", "s: [needle]\ncondition: s"),
		ruleWith("fields", "s: {f|contains: a, f.g: '*', f.g.h: null, f.g|re: '[0-9]+', f|fieldref: g, f|gt: 1, f|cidr: 10.0.0.0/8, f|hour: 3, f|cased|contains: A, f.g.h.i: '*a?b*'}\ncondition: 1 of s"),
		ruleWith("many", "s: [{f|contains: a}, {f|re: 'b+'}, {f.g|endswith: c}, {f|fieldref|contains: g}, {g|lt: 4}, {f|cidr: 10.0.0.0/8}, {g|year: 2026}, {g: '*ä?'}]\ncondition: s"),
	)
	if err := diags.Err(); err != nil {
		f.Fatal(err)
	}
	m := set.NewMatcher()
	f.Fuzz(func(t *testing.T, message []byte) {
		ev := &schemas.Event{Source: []byte("iot"), Device: []byte("pump"), Message: message}
		before := bytes.Clone(message)
		seen := map[string]bool{}
		for _, i := range m.Match(ev) {
			seen[set.Rules[i].Name] = true
		}
		if !seen["env"] {
			t.Error("the envelope was not seen")
		}
		if bytes.Contains(bytes.ToLower(message), []byte("needle")) && !seen["key"] {
			t.Error("the keyword was not seen")
		}
		for i := range set.fields {
			m.AppendValues(nil, FieldID(i))
		}
		if !bytes.Equal(before, message) {
			t.Error("the message was changed")
		}
	})
}

func FuzzTestFile(f *testing.F) {
	f.Add([]byte("tests: [{name: a, events: [{message: {a: 1}, repeat: 2}], matches: [[a]], none: true}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, diags := ParseTestFile(Source{Name: "f.test.yml", Data: data})
		if (file == nil) != (diags.Errors() > 0) {
			t.Error("neither a file nor an error")
		}
	})
}
