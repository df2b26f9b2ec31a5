package rules

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// Rules that are meant to hurt get an error that says why.
func TestHostileRules(t *testing.T) {
	bomb := "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := 1; i < 12; i++ {
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10))
	}
	many := func(n int, f func(i int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(f(i))
		}
		return b.String()
	}
	selections := many(300, func(i int) string { return fmt.Sprintf("s%d: {f: %d}\n", i, i) })
	for name, c := range map[string]struct{ text, want string }{
		"alias bomb":       {bomb, "YAML nodes in the document"},
		"alias of itself":  {"a: &a [*a]", "anchor 'a' value contains itself|may not contain itself"},
		"depth":            {"a: " + strings.Repeat("[", 10_000), "exceeded|depth|nested"},
		"size":             {strings.Repeat("#", 9<<20), "the limit is 8388608 bytes"},
		"documents":        {strings.Repeat("---\n", 1_000_000), "file of 1000000 documents"},
		"parentheses":      {ruleWith("r", "s: {f: 1}\ncondition: "+strings.Repeat("(", 5000)+"s"+strings.Repeat(")", 5000)), "nested more than 100 deep"},
		"nots":             {ruleWith("r", "s: {f: 1}\ncondition: "+strings.Repeat("not ", 4000)+"s"), "nested more than 100 deep"},
		"long condition":   {ruleWith("r", "s: {f: 1}\ncondition: s"+strings.Repeat(" and s", 5000)), "condition of"},
		"exploding of":     {ruleWith("r", selections+"condition: 1 of s*"+strings.Repeat(" and 1 of s*", 1000)), "the condition comes to 300300 tests"},
		"many values":      {ruleWith("r", "s: {f: ["+strings.Repeat("x,", 30_000)+"]}\ncondition: s"), "more than 20000 values"},
		"huge value":       {ruleWith("r", "s: {f: '"+strings.Repeat("x", 100_000)+"'}\ncondition: s"), "value of 100000 bytes"},
		"huge regex":       {ruleWith("r", "s: {f|re: '"+strings.Repeat("x", 10_000)+"'}\ncondition: s"), "regular expression of 10000 bytes"},
		"exploding regex":  {ruleWith("r", "s: {f|re: '((a{100}){100}){100}'}\ncondition: s"), "invalid repeat count|instructions"},
		"deep regex":       {ruleWith("r", "s: {f|re: '"+strings.Repeat("(", 2000)+strings.Repeat(")", 2000)+"'}\ncondition: s"), "nests too deeply"},
		"exploding expand": {ruleWith("r", "s: {f|expand: '%p%%p%%p%%p%%p%'}\ncondition: s"), "placeholders expand to more than"},
		"deep field":       {ruleWith("r", "s: {"+strings.Repeat("a.", 5000)+"a: 1}\ncondition: s"), "parts"},
		"many steps":       {"title: x\ncorrelation: {type: temporal, rules: [" + many(100, func(i int) string { return fmt.Sprintf("r%d,", i) }) + "], timespan: 5m}", "a correlation of 100 rules"},
		"too many errors":  {strings.Repeat("---\nnonsense\n", 1000), "too many errors"},
		"not UTF-8":        {"title: \xff\xfe", "not YAML"},
		"k of n explodes":  {many(40, func(i int) string { return ruleWith(fmt.Sprintf("r%d", i), "s: {f: 1}\ncondition: s") + "---\n" }) + "title: x\ncorrelation: {type: temporal, rules: [" + many(40, func(i int) string { return fmt.Sprintf("r%d,", i) }) + "], timespan: 5m, condition: {gte: 20}}", "combinations"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, diags := Compile([]Source{{Name: "h.yml", Data: []byte(c.text)}}, Options{Placeholders: map[string][]string{"p": make([]string, 20)}})
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
			for _, want := range strings.Split(c.want, "|") {
				if err := diags.Err(); err != nil && strings.Contains(err.Error(), want) {
					return
				}
			}
			t.Errorf("want %q, got %.500v", c.want, diags)
		})
	}
}

// Thousands of texts that are parts of each other, on text that contains most of
// them: the cost is that of the text and the texts, not of their occurrences.
func TestOverlappingTexts(t *testing.T) {
	var b strings.Builder
	b.WriteString("s:\n  f|contains:\n")
	for i := range 1500 {
		fmt.Fprintf(&b, "    - %s\n", strings.Repeat("a", i+1))
	}
	b.WriteString("t:\n  f|endswith:\n")
	for i := range 1500 {
		fmt.Fprintf(&b, "    - %s\n", strings.Repeat("a", i+1))
	}
	b.WriteString("condition: s and t")
	m := compileOK(t, Options{}, ruleWith("r", b.String())).NewMatcher()
	if !matches(m, `{"f":"`+strings.Repeat("a", 1<<20)+`"}`) {
		t.Error("does not match")
	}
}

func TestHugeArrays(t *testing.T) {
	m := compileOK(t, Options{}, ruleWith("r", "s: {f: x}\nref: {f|fieldref: g}\ncondition: s or ref")).NewMatcher()
	array := "[" + strings.Repeat("1,", 200_000) + "1]"
	if matches(m, `{"f":`+array+`,"g":"y"}`) {
		t.Error("matches")
	}
	if m.Truncated() != 1 {
		t.Errorf("%d events counted as truncated", m.Truncated())
	}
	matches(m, `{"f":[`+strings.Repeat("1,", 1000)+`1],"g":[`+strings.Repeat("2,", 1000)+`2]}`)
	if m.Truncated() != 2 {
		t.Errorf("%d events counted as truncated", m.Truncated())
	}
	if matches(m, `{"f":"y"}`); cap(m.values) > keepValues {
		t.Error("the memory of a huge event is kept")
	}
}

func TestDeepMessage(t *testing.T) {
	m := compileOK(t, Options{}, ruleWith("r", "s: {f.g: x}\ncondition: s"), ruleWith("k", "s: [needle]\ncondition: s")).NewMatcher()
	deep := strings.Repeat(`{"f":`, 100_000)
	if matches(m, deep) {
		t.Error("matches")
	}
	if !matches(m, strings.Repeat("[", 100_000)+"needle") {
		t.Error("the keyword is not seen")
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	docs := append(baseRules(),
		ruleWith("strings", "s: {f|contains: [x, y], g|re: 'z[0-9]+', h|cidr: 10.0.0.0/8, i|gt: 5, j: 'a*b?c', 'k|cased': Q}\ncondition: 1 of s"),
		ruleWith("lazy", "s: {i|gt: 5}\nt: {n|hour: 3}\nu: {n|fieldref: l}\nv: {h|cidr: 10.0.0.0/8}\nw: {g|re: '[0-9]{3}x'}\ncondition: 1 of s or t or u or v or w"),
		ruleWith("words", "s: [needle, 'hay*stack']\ncondition: s"),
		correlationWith("x", "correlation: {type: event_count, rules: [a], group-by: [tocsin.device, clientId], timespan: 5m, condition: {gte: 3}}"),
	)
	set := compileOK(t, Options{}, docs...)
	m := set.NewMatcher()
	events := []schemas.Event{
		{Source: []byte("iot"), Device: []byte("d"), Message: []byte(`{"f":"no","g":"caf\u00e9 ÄÖ","h":"192.0.2.1","i":1.0,"j":["b",{"x":1}],"k":"q","l":{"m":[]},"n":"2026-11-20 10:00:00.000","clientId":"c"}`)},
		{Source: []byte("iot"), Message: []byte(`{"f":"broken`)},
		{Source: []byte("iot"), Message: []byte("plain text")},
		{Source: []byte("cloudtrail"), Message: []byte(`{"f":"d"}`)},
		{Source: []byte("unheard of"), Message: []byte(`{"f":"d"}`)},
	}
	for i := range events {
		ev := &events[i]
		if got := m.Match(ev); len(got) > 0 {
			t.Fatalf("%s matches %s", ev.Message, set.Rules[got[0]].Name)
		}
		if n := testing.AllocsPerRun(200, func() { m.Match(ev) }); n != 0 {
			t.Errorf("%s: %v allocations", ev.Message, n)
		}
	}
	match := &schemas.Event{Source: []byte("iot"), Device: []byte("d"), Message: []byte(`{"f":"a","clientId":"c"}`)}
	var values [][]byte
	if n := testing.AllocsPerRun(200, func() {
		for range m.Match(match) {
			values = m.AppendValues(values[:0], set.Correlations[0].Steps[0].Group[1])
		}
	}); n != 0 {
		t.Errorf("%v allocations for an event that matches", n)
	}
	if len(values) != 1 || string(values[0]) != "c" {
		t.Errorf("%q", values)
	}
}

func TestMatchersAreIndependent(t *testing.T) {
	set := compileOK(t, Options{}, baseRules()...)
	done := make(chan int)
	for g := range 4 {
		go func() {
			m := set.NewMatcher()
			n := 0
			for i := range 500 {
				source := []string{"iot", "cloudtrail", fmt.Sprint("other", g, i)}[i%3]
				n += len(m.Match(&schemas.Event{Source: []byte(source), Message: []byte(`{"f":"a"}`)}))
				n += len(m.MatchAs(LogSource{Product: "aws", Service: fmt.Sprint(i)}, &schemas.Event{Message: []byte(`{"f":"c"}`)}))
			}
			done <- n
		}()
	}
	for range 4 {
		if n := <-done; n != 167 {
			t.Errorf("%d matches", n)
		}
	}
}

// An event after four billion others must not see their stamps.
func TestEpochWraps(t *testing.T) {
	m := compileOK(t, Options{}, ruleWith("r", "s: {f: x}\nt: {g|re: '^y'}\ncondition: s and t")).NewMatcher()
	for _, epoch := range []uint32{0, 1<<32 - 3} {
		m.epoch = epoch
		for range 4 {
			if !matches(m, `{"f":"x","g":"y"}`) || matches(m, `{"f":"y","g":"y"}`) || matches(m, `{}`) {
				t.Fatalf("wrong near epoch %d", m.epoch)
			}
		}
	}
}
