package rules

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/schemas"
)

// What a matcher learned changes only the cost.
func TestLearnedPlanAgreesWithNaive(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	rules := make([]*naiveRule, 400)
	sources := make([]Source, len(rules))
	for i := range rules {
		rules[i] = randomRule(r)
		name := fmt.Sprintf("r%d", i)
		sources[i] = Source{Name: name, Data: []byte(ruleWith(name, rules[i].yaml()))}
	}
	set, diags := Compile(sources, Options{})
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	m := set.NewMatcher()
	event := func(message string) *schemas.Event {
		return &schemas.Event{Source: []byte("iot"), Message: []byte(message)}
	}
	m.Match(event(`{"a":"ab"}`))
	p := m.plan
	p.left, p.between = 30, 150
	asked := 0
	for range 240 { // a sample, what it teaches, and into the next sample
		e := randomEvent(r)
		got := map[int32]bool{}
		for _, i := range m.Match(event(e.raw)) {
			got[i] = true
		}
		if !p.sampling && p.lazy != nil {
			for _, pred := range p.view.hits {
				if p.lazy[pred] && m.states[pred] == m.epoch|holds {
					asked++
				}
			}
		}
		for i, rule := range rules {
			if want := rule.matches(e); want != got[int32(i)] {
				t.Fatalf("sampling %t: got %t, want %t for message\n%s\nand rule\n%s", p.sampling, got[int32(i)], want, e.raw, rule.yaml())
			}
		}
	}
	if p.learned == nil || p.learned == p.view.index || !p.sampling || asked == 0 {
		t.Errorf("learned %t, sampling %t, %d tests that waited were asked and held", p.learned != nil, p.sampling, asked)
	}

	// An event that asks too much has all its texts looked for.
	p.turn(set.program)
	complete := 0
	for range 20 {
		word := pick(r, naiveWords)
		big := strings.Repeat(word+" x -e ", 1<<15/(len(word)+6))
		text, _ := naiveText(map[string]any{"a": big, "b": big, "c": word, "a.b": big + word})
		got := append([]int32{}, m.Match(event(text))...)
		if m.complete {
			complete++
		}
		if want := set.NewMatcher().Match(event(text)); !cmp.Equal(got, append([]int32{}, want...)) {
			t.Fatalf("%q...: got %v, want %v", text[:50], got, want)
		}
	}
	if complete == 0 {
		t.Error("no event reached the bound")
	}
}

// A sample that shows nothing much better keeps the index.
func TestPlanIsKept(t *testing.T) {
	var docs []string
	for i := range 300 {
		docs = append(docs, ruleWith(fmt.Sprintf("r%d", i), fmt.Sprintf("s: {f|contains: word%d, g|contains: [common, x%d]}\ncondition: s", i, i)))
	}
	set := compileOK(t, Options{}, docs...)
	m := set.NewMatcher()
	match := func(f, g string) {
		m.Match(&schemas.Event{Source: []byte("iot"), Message: []byte(fmt.Sprintf(`{"f":%q,"g":%q}`, f, g))})
	}
	match("", "")
	p := m.plan
	var indexes []*textIndex
	for round := range 3 {
		for p.sampling {
			if round < 2 {
				match("nothing", "common")
			} else { // now f is what is common
				match("word1 word2 word3 word4 word5 word6 word7 word8", "nothing")
			}
		}
		indexes = append(indexes, p.learned)
		p.turn(set.program)
	}
	if indexes[0] != indexes[1] {
		t.Error("the index was built again for the same events")
	}
	if indexes[1] == indexes[2] {
		t.Error("the index is the one for other events")
	}
}

func TestKeywordFilter(t *testing.T) {
	m := compileOK(t, Options{}, ruleWith("r", "s: ['C:\\secret\\kiwi.dll', 'lsadump::', 'Kiwi \"Printer\" x']\ncondition: s")).NewMatcher()
	m.Match(&schemas.Event{Source: []byte("iot")})
	if m.view.absent == nil {
		t.Fatal("no filter")
	}
	pad := strings.Repeat("padding ", 20)
	for message, want := range map[string]bool{
		`{"a":"` + pad + `"}`:                            false,
		`{"a":"` + pad + `lsadump:: x"}`:                 true,
		`{"a":"x` + pad + `LSADUMP:: x"}`:                true,
		`{"a":"` + pad + `lsadump: x"}`:                  false,
		`{"a":"` + pad + `\u006csadump::"}`:              true,
		`{"a":"` + pad + `lsadump\u003a:"}`:              true,
		`{"a":"\u212aiwi \"Printer\" x"}`:                true,
		"{\"a\":\"\u212aiwi \\\"Printer\\\" x\"}":        true,
		`{"a":"` + pad + `Kiwi \"Printer\" x"}`:          true,
		`{"a":"` + pad + `c:\\secret\\kiwi.dll"}`:        true,
		`{"a":"` + pad + `c:\\secret` + "\\/" + `kiwi"}`: false,
		`lsadump::`:                     true,
		pad + `c:\secret\kiwi.dll`:      true,
		pad + `c:\secret\\kiwi.dll`:     false,
		`{"a":"` + pad + `\\u lsadump:`: false,
	} {
		if got := matches(m, message); got != want {
			t.Errorf("%s: %t", message, got)
		}
	}
}

func TestPlainASCII(t *testing.T) {
	for n := range 40 {
		for at := range n {
			text := []byte(strings.Repeat("x", n))
			if !plainASCII(text) {
				t.Fatalf("%q", text)
			}
			text[at] = 0xc3
			if plainASCII(text) {
				t.Errorf("%q", text)
			}
			text[at] = 'u'
			if !plainASCII(text) {
				t.Errorf("%q", text)
			}
			if at > 0 {
				text[at-1] = '\\'
				if plainASCII(text) {
					t.Errorf("%q", text)
				}
			}
		}
	}
}

func TestRequiredRun(t *testing.T) {
	limits := Limits{}.withDefaults()
	for _, c := range []struct {
		expr, text string
		want       bool
	}{
		{`x\s[a-f0-9]{10}$`, "x 0123456789", true},
		{`x\s[a-f0-9]{10}$`, "x 012345678g 123456789", false},
		{`(?i)[a-f0-9]{10}`, "ABCDEF0123", true},
		{`([^a]{8}|b)`, "aaaa", false},
		{`[^a]{8,}`, "\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4", true},
		{`(?:[k]{8}){2}`, "kkkkkkkkkkkkkkkk", true},
		{`(?i)[k]{8}`, strings.Repeat("\u212a", 8), true},
		{`(?:[a-b]{9})?`, "", true},
	} {
		re, _, err := compileRegex(c.expr, &limits)
		if err != nil {
			t.Fatal(err)
		}
		if got := re.match([]byte(c.text)); got != c.want || got != re.Match([]byte(c.text)) {
			t.Errorf("%s in %q: %t", c.expr, c.text, got)
		}
	}
}
