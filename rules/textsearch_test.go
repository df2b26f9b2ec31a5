package rules

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// Both ways to look for many texts at once find exactly what strings finds.
func TestTextSearch(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	word := func(letters string, n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = letters[r.IntN(len(letters))]
		}
		return string(b)
	}
	for _, letters := range []string{"ab", "abc \\.-", "abcdefghijklmnopqrstuvwxyz@[`{\x00 \xc3\xa4"} {
		for round := range 30 {
			n := []int{1, 5, 48, 300}[round%4]
			texts := make([]acText, n)
			hits := make([]planHit, n)
			for i := range texts {
				length := 1 + r.IntN(8)
				if r.IntN(20) == 0 {
					length = 250 + r.IntN(20)
				}
				texts[i] = acText{word(letters, length), []literalOp{litContains, litPrefix, litSuffix}[r.IntN(3)], hitID(i)}
				hits[i].pred = predID(i)
			}
			grams, rest := newGramIndex(texts)
			if grams == nil {
				t.Fatalf("%d texts, grams: %t", n, grams != nil)
			}
			whole := newAutomaton(texts)
			var partial *automaton
			if len(rest) > 0 {
				partial = newAutomaton(rest)
			}
			for epoch := range uint32(60) {
				text := word(letters, r.IntN(40))
				if r.IntN(2) == 0 {
					text += texts[r.IntN(n)].text
				}
				if r.IntN(2) == 0 {
					text = texts[r.IntN(n)].text + text
				}
				shown := []byte(text)
				if r.IntN(2) == 0 {
					shown = []byte(strings.ToUpper(text)) // ASCII only
					if !isASCII(shown) {
						shown = []byte(text)
					}
				}
				search := func(f func(m *Matcher)) []uint32 {
					m := &Matcher{epoch: 2 * (epoch + 1), states: make([]uint32, n), plan: &plan{hits: hits}}
					f(m)
					return m.states
				}
				byAutomaton := search(func(m *Matcher) {
					whole.scan(shown, make([]uint32, len(whole.outputs)), m.epoch, m)
				})
				byGrams := search(func(m *Matcher) {
					if grams != nil {
						grams.scan(shown, m)
					}
					if partial != nil {
						partial.scan(shown, make([]uint32, len(partial.outputs)), m.epoch, m)
					}
				})
				for i, want := range texts {
					found := map[literalOp]func(s, sub string) bool{
						litContains: strings.Contains, litPrefix: strings.HasPrefix, litSuffix: strings.HasSuffix,
					}[want.op](text, want.text)
					if (byAutomaton[i] == 2*epoch+3) != found || (byGrams[i] == 2*epoch+3) != found {
						t.Fatalf("%q (op %d) in %q: automaton %t, grams %t, want %t", want.text, want.op, shown, byAutomaton[i] == 2*epoch+3, byGrams[i] == 2*epoch+3, found)
					}
				}
			}
		}
	}
}

func TestEqualTable(t *testing.T) {
	var texts []literal
	var hits []hitID
	for i := range 500 {
		texts = append(texts, literal{op: litEqual, text: fmt.Sprintf("value-%d", i/2), number: i%2 == 1})
		hits = append(hits, hitID(i))
	}
	table := newEqualTable(texts, hits)
	for i := range 250 {
		e := table.find([]byte(fmt.Sprintf("VALUE-%d", i)))
		if e == nil || len(e.hits) != 2 || len(e.numbers) != 1 || e.numbers[0] != hitID(2*i+1) {
			t.Fatalf("value-%d: %+v", i, e)
		}
	}
	for _, s := range []string{"", "value-", "value-250", "walue-1", strings.Repeat("x", 100)} {
		if table.find([]byte(s)) != nil {
			t.Errorf("%q is found", s)
		}
	}
}
