package rules

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/tocsin-io/tocsin/schemas"
)

// A second evaluator, to hold the first against: it reads a detection as the
// specification describes it, value by value, with encoding/json, regexp and
// strings only. It shares no code with the package.

// naiveRule is a detection as data; yaml writes it for the compiler.
type naiveRule struct {
	names      []string
	selections map[string][]naiveMap // alternatives
	keywords   map[string][]string   // selections that are keyword lists
	condition  string
	eval       func(of func(name string) bool) bool
}

type naiveMap []naiveItem

type naiveItem struct {
	field     string
	modifiers []string
	values    []any // string, int, float64, bool, nil
}

func (r *naiveRule) yaml() string {
	var b strings.Builder
	for _, name := range r.names {
		if words := r.keywords[name]; words != nil {
			fmt.Fprintf(&b, "%s: %s\n", name, yamlFlow(anySlice(words)))
			continue
		}
		fmt.Fprintf(&b, "%s:\n", name)
		for _, m := range r.selections[name] {
			for i, item := range m {
				lead := "    "
				if i == 0 {
					lead = "  - "
				}
				key := strings.Join(append([]string{item.field}, item.modifiers...), "|")
				fmt.Fprintf(&b, "%s%s: %s\n", lead, yamlScalar(key), yamlFlow(item.values))
			}
		}
	}
	fmt.Fprintf(&b, "condition: %s\n", r.condition)
	return b.String()
}

func anySlice(list []string) []any {
	var out []any
	for _, s := range list {
		out = append(out, s)
	}
	return out
}

func yamlFlow(values []any) string {
	var parts []string
	for _, v := range values {
		parts = append(parts, yamlScalar(v))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func yamlScalar(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "'" + strings.ReplaceAll(v, "'", "''") + "'"
	}
	return fmt.Sprint(v)
}

// naiveEvent is a message as encoding/json reads it.
type naiveEvent struct {
	raw  string
	tree any
}

// leafs returns the values at a dotted path, through arrays and keys with dots,
// and whether any key was there.
func leafs(v any, path []string) (out []any, present bool) {
	switch v := v.(type) {
	case []any:
		if len(path) == 0 {
			present = true
		}
		for _, e := range v {
			o, p := leafs(e, path)
			out = append(out, o...)
			present = present || p
		}
		return out, present
	case map[string]any:
		for n := 1; n <= len(path); n++ {
			if child, ok := v[strings.Join(path[:n], ".")]; ok {
				o, p := leafs(child, path[n:])
				out = append(out, o...)
				present = present || p
			}
		}
		if len(path) > 0 {
			return out, present
		}
	}
	if len(path) > 0 {
		return nil, false
	}
	return []any{v}, true
}

func (e *naiveEvent) values(field string) ([]any, bool) {
	return leafs(e.tree, strings.Split(field, "."))
}

// naiveText is how string tests see a value; ok is false for null.
func naiveText(v any) (string, bool) {
	switch v := v.(type) {
	case nil:
		return "", false
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	}
	// The messages of the tests are compact and their keys sorted, as Marshal
	// writes them.
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err)
	}
	return strings.TrimSuffix(b.String(), "\n"), true
}

// sigmaRegexp translates a Sigma string with wildcards into an anchored regular
// expression.
func sigmaRegexp(s string, before, after bool, fold bool) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("(?s)")
	if fold {
		b.WriteString("(?i)")
	}
	b.WriteString("^")
	if before {
		b.WriteString(".*")
	}
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && strings.IndexByte(`*?\`, s[i+1]) >= 0:
			i++
			b.WriteString(regexp.QuoteMeta(s[i : i+1]))
		case s[i] == '*':
			b.WriteString(".*")
		case s[i] == '?':
			b.WriteString(".")
		default:
			n := 1
			for i+n < len(s) && s[i+n]&0xc0 == 0x80 {
				n++
			}
			b.WriteString(regexp.QuoteMeta(s[i : i+n]))
			i += n - 1
		}
	}
	if after {
		b.WriteString(".*")
	}
	return regexp.MustCompile(b.String() + "$")
}

func (e *naiveEvent) item(it naiveItem) bool {
	all, neq := false, false
	for _, m := range it.modifiers {
		all = all || m == "all"
		neq = neq || m == "neq"
	}
	hold := all && !neq
	for _, v := range it.values {
		got := e.value(it, v)
		if all && !neq {
			hold = hold && got
		} else {
			hold = hold || got
		}
	}
	return hold != neq
}

func (e *naiveEvent) value(it naiveItem, want any) bool {
	has := func(name string) bool {
		for _, m := range it.modifiers {
			if m == name {
				return true
			}
		}
		return false
	}
	values, present := e.values(it.field)
	any1 := func(f func(v any) bool) bool {
		for _, v := range values {
			if f(v) {
				return true
			}
		}
		return false
	}
	text := func(f func(s string) bool) bool {
		return any1(func(v any) bool { s, ok := naiveText(v); return ok && f(s) })
	}
	if has("exists") {
		return present == want.(bool)
	}
	for part, of := range map[string]func(time.Time) int{"hour": time.Time.Hour, "year": time.Time.Year} {
		if has(part) {
			return text(func(s string) bool {
				t, err := time.Parse("2006-01-02T15:04:05Z", s)
				return err == nil && of(t) == want.(int)
			})
		}
	}
	for op, holds := range map[string]func(a, b float64) bool{
		"lt": func(a, b float64) bool { return a < b }, "lte": func(a, b float64) bool { return a <= b },
		"gt": func(a, b float64) bool { return a > b }, "gte": func(a, b float64) bool { return a >= b },
	} {
		if has(op) {
			return any1(func(v any) bool {
				s := fmt.Sprint(v)
				switch v.(type) {
				case string, json.Number:
				default:
					return false
				}
				f, err := strconv.ParseFloat(s, 64)
				return err == nil && holds(f, number(want))
			})
		}
	}
	switch {
	case has("re"):
		flags := ""
		if has("i") {
			flags = "(?i)"
		}
		re := regexp.MustCompile(flags + want.(string))
		return text(re.MatchString)
	case has("cidr"):
		prefix := netip.MustParsePrefix(want.(string))
		return any1(func(v any) bool {
			s, ok := v.(string)
			if !ok {
				return false
			}
			addr, err := netip.ParseAddr(s)
			return err == nil && prefix.Contains(addr.Unmap())
		})
	case has("fieldref"):
		others, _ := e.values(want.(string))
		return text(func(s string) bool {
			for _, o := range others {
				t, ok := naiveText(o)
				if !ok {
					continue
				}
				re := sigmaRegexp(strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`).Replace(t), has("contains") || has("endswith"), has("contains") || has("startswith"), !has("cased"))
				if re.MatchString(s) {
					return true
				}
			}
			return false
		})
	}
	switch want := want.(type) {
	case nil:
		if !present {
			return true
		}
		return any1(func(v any) bool { return v == nil })
	case string:
		alternatives := []string{want}
		if has("wide") {
			var b []byte
			for _, u := range utf16.Encode([]rune(want)) {
				b = append(b, byte(u), byte(u>>8))
			}
			alternatives[0] = string(b)
		}
		if has("base64") {
			alternatives[0] = base64.StdEncoding.EncodeToString([]byte(alternatives[0]))
		}
		if has("windash") {
			alternatives = nil
			for _, dash := range []string{"-", "/", "–", "—", "―"} {
				alternatives = append(alternatives, strings.ReplaceAll(want, "-", dash))
			}
		}
		return text(func(s string) bool {
			for _, a := range alternatives {
				if sigmaRegexp(a, has("contains") || has("endswith"), has("contains") || has("startswith"), !has("cased")).MatchString(s) {
					return true
				}
			}
			return false
		})
	case bool:
		return text(func(s string) bool { return strings.EqualFold(s, strconv.FormatBool(want)) })
	}
	plain := fmt.Sprint(want)
	return any1(func(v any) bool {
		if n, ok := v.(json.Number); ok {
			f, err := n.Float64()
			return err == nil && f == number(want)
		}
		s, ok := naiveText(v)
		return ok && s == plain
	})
}

// resolveEscapes replaces every JSON escape, wherever it stands.
func resolveEscapes(raw string) string {
	return jsonEscape.ReplaceAllStringFunc(raw, func(esc string) string {
		var s string
		if err := json.Unmarshal([]byte(`"`+esc+`"`), &s); err != nil {
			panic(err)
		}
		return s
	})
}

var jsonEscape = regexp.MustCompile(`\\(u[0-9a-fA-F]{4}|.)`)

func number(v any) float64 {
	if n, ok := v.(int); ok {
		return float64(n)
	}
	return v.(float64)
}

func (r *naiveRule) matches(e *naiveEvent) bool {
	return r.eval(func(name string) bool {
		for _, word := range r.keywords[name] {
			re := sigmaRegexp(word, true, true, true)
			if re.MatchString(resolveEscapes(e.raw)) {
				return true
			}
		}
		for _, m := range r.selections[name] {
			hold := true
			for _, item := range m {
				hold = hold && e.item(item)
			}
			if hold {
				return true
			}
		}
		return false
	})
}

// The vocabulary is small, so that random rules and events meet.
var (
	naiveFields = []string{"a", "b", "a.b", "a.b.c", "b.a", "c", "c.a"}
	naiveWords  = []string{
		"", "a", "A", "ab", "aB", "abc", "ba", "bab", "b a", "Ä", "ä", "äb", "ß", "K", "k", "\u212a", "ſ", "s", "a\\b", "a*", "a?b", "*",
		"x -e y", "x /e y", "-e", "1", "10", "1.0", "true", "null", "YWI=", "YQBiAA==", "2026-11-20T10:00:00Z", "2025-01-02T23:59:59Z",
		"10.0.0.1", "10.200.0.1", "2001:db8::1", "11.0.0.1", "[1]", "\"b\"", "a\nb",
	}
	naivePatterns = []string{
		"", "a", "AB", "abc", "*", "a*", "*b", "*a*", "a*b", "?b", "a?", "?", "*?b*", "b?b", "a\\*", "a\\?b", "a\\\\*", "a\\b", "ä", "Äb", "k", "S", "ſ*", "ß",
		"10", "1*", "x ?e y", "TRUE", "*\"*", "b a", "**", "a**b", "*a*b*",
	}
	naiveRegexes = []string{"^a", "b$", "a.b", "[aA]b+", "(ab|ba)", "ä", "^$", "x [-/]e", "a?b?c", "K", "(?i)k", "\\d+", "^10\\.", "(a|b)(a|b)", "a(b|c)?$"}
)

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func randomItem(r *rand.Rand) naiveItem {
	it := naiveItem{field: pick(r, naiveFields)}
	n := 1 + r.IntN(3)
	add := func(f func() any) {
		for range n {
			it.values = append(it.values, f())
		}
	}
	switch r.IntN(16) {
	case 0, 1, 2:
		add(func() any { return pick(r, naivePatterns) })
	case 3, 4, 5:
		it.modifiers = []string{pick(r, []string{"contains", "startswith", "endswith"})}
		add(func() any { return pick(r, naivePatterns) })
		if r.IntN(3) == 0 {
			it.modifiers = append(it.modifiers, "cased")
		}
	case 6:
		it.modifiers = []string{"re"}
		if r.IntN(2) == 0 {
			it.modifiers = append(it.modifiers, "i")
		}
		add(func() any { return pick(r, naiveRegexes) })
	case 7:
		it.modifiers = []string{"cidr"}
		add(func() any { return pick(r, []string{"10.0.0.0/8", "10.128.0.0/9", "2001:db8::/32", "0.0.0.0/0"}) })
	case 8:
		it.modifiers = []string{pick(r, []string{"lt", "lte", "gt", "gte"})}
		add(func() any { return pick(r, []any{1, 5, 10, 1.5, -1}) })
	case 9:
		it.modifiers = []string{"exists"}
		it.values = []any{r.IntN(2) == 0}
		return it
	case 10:
		it.modifiers = []string{"fieldref"}
		if op := r.IntN(4); op < 3 {
			it.modifiers = append(it.modifiers, []string{"contains", "startswith", "endswith"}[op])
		}
		if r.IntN(3) == 0 {
			it.modifiers = append(it.modifiers, "cased")
		}
		it.values = []any{pick(r, naiveFields)}
	case 11:
		it.modifiers = []string{pick(r, []string{"hour", "year"})}
		it.values = []any{pick(r, []int{10, 23, 2025, 2026})}
	case 12:
		it.modifiers = pick(r, [][]string{{"base64"}, {"wide", "base64"}, {"windash", "contains"}, {"windash"}, {"cased"}})
		add(func() any { return pick(r, []string{"ab", "x -e y", " -e ", "-e", "a"}) })
	case 13:
		add(func() any { return pick(r, []any{1, 10, 1.5, true, false, 0, -1}) })
	case 14:
		it.values = []any{nil}
	default:
		add(func() any { return pick(r, []any{nil, "a", 1, true, "", "a*b", "10.0.0.1"}) })
	}
	if len(it.modifiers) == 0 || it.modifiers[0] != "lt" && it.modifiers[0] != "lte" && it.modifiers[0] != "gt" && it.modifiers[0] != "gte" {
		if r.IntN(6) == 0 {
			it.modifiers = append(it.modifiers, "neq")
		}
	}
	if r.IntN(5) == 0 {
		it.modifiers = append(it.modifiers, "all")
	}
	return it
}

func randomRule(r *rand.Rand) *naiveRule {
	rule := &naiveRule{selections: map[string][]naiveMap{}, keywords: map[string][]string{}}
	for i := range 1 + r.IntN(4) {
		name := fmt.Sprintf("%s%d", pick(r, []string{"sel", "fil", "_x"}), i)
		rule.names = append(rule.names, name)
		if r.IntN(8) == 0 {
			for range 1 + r.IntN(3) {
				rule.keywords[name] = append(rule.keywords[name], pick(r, []string{"ab", "a*b", "10", "K", "ä", "a\\b", "\"a\"", "x -e", "b?a"}))
			}
			continue
		}
		for range 1 + r.IntN(2) {
			var m naiveMap
			seen := map[string]bool{}
			for range 1 + r.IntN(3) {
				it := randomItem(r)
				key := it.field + "|" + strings.Join(it.modifiers, "|")
				if !seen[key] {
					seen[key] = true
					m = append(m, it)
				}
			}
			rule.selections[name] = append(rule.selections[name], m)
		}
	}
	rule.condition, rule.eval = randomCondition(r, rule.names, 3)
	return rule
}

// randomCondition returns a condition as text and as a function.
func randomCondition(r *rand.Rand, names []string, depth int) (string, func(func(string) bool) bool) {
	if depth == 0 || r.IntN(3) == 0 {
		if r.IntN(3) == 0 {
			prefix := pick(r, []string{"sel", "fil", "_x"})
			var of []string
			for _, name := range names {
				if strings.HasPrefix(name, prefix) {
					of = append(of, name)
				}
			}
			if len(of) > 0 {
				all := r.IntN(2) == 0
				text := pick(r, []string{"1", "any"}) + " of " + prefix + "*"
				if all {
					text = "all of " + prefix + "*"
				}
				return text, func(sel func(string) bool) bool {
					n := 0
					for _, name := range of {
						if sel(name) {
							n++
						}
					}
					return n > 0 && (!all || n == len(of))
				}
			}
		}
		name := pick(r, names)
		return name, func(sel func(string) bool) bool { return sel(name) }
	}
	x, f := randomCondition(r, names, depth-1)
	switch r.IntN(3) {
	case 0:
		return "not (" + x + ")", func(sel func(string) bool) bool { return !f(sel) }
	case 1:
		y, g := randomCondition(r, names, depth-1)
		return "(" + x + ") and (" + y + ")", func(sel func(string) bool) bool { return f(sel) && g(sel) }
	}
	y, g := randomCondition(r, names, depth-1)
	return "(" + x + ") or " + "(" + y + ")", func(sel func(string) bool) bool { return f(sel) || g(sel) }
}

func randomValue(r *rand.Rand, depth int) any {
	switch n := r.IntN(12); {
	case n < 6 || depth == 0:
		return pick(r, naiveWords)
	case n == 6:
		return json.Number(pick(r, []string{"1", "10", "1.0", "-1", "1e1", "0", "-0", "1.5", "100"}))
	case n == 7:
		return pick(r, []any{true, false, nil})
	case n == 8:
		list := []any{}
		for range r.IntN(4) {
			list = append(list, randomValue(r, depth-1))
		}
		return list
	}
	return randomObject(r, depth-1)
}

func randomObject(r *rand.Rand, depth int) map[string]any {
	m := map[string]any{}
	for range r.IntN(4) {
		m[pick(r, []string{"a", "b", "c", "a.b", "b.c", "a.b.c", "x"})] = randomValue(r, depth)
	}
	return m
}

func randomEvent(r *rand.Rand) *naiveEvent {
	text, _ := naiveText(randomObject(r, 3))
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	e := &naiveEvent{raw: text}
	if err := dec.Decode(&e.tree); err != nil {
		panic(err)
	}
	return e
}

// TestAgreesWithNaive compiles random rules together and holds each result
// against the second evaluator.
func TestAgreesWithNaive(t *testing.T) {
	rounds, matched := 25, 0
	if testing.Short() {
		rounds = 10
	}
	seed := uint64(time.Now().UnixNano())
	if *naiveSeed != 0 {
		seed = *naiveSeed
	}
	for round := range rounds {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		rules := make([]*naiveRule, 40)
		docs := make([]string, len(rules))
		for i := range rules {
			rules[i] = randomRule(r)
			docs[i] = ruleWith(fmt.Sprintf("r%d", i), rules[i].yaml())
		}
		set := compileOK(t, Options{}, docs...)
		m := set.NewMatcher()
		for range 100 {
			e := randomEvent(r)
			got := map[int32]bool{}
			for _, i := range m.Match(&schemas.Event{Source: []byte("iot"), Message: []byte(e.raw)}) {
				got[i] = true
				matched++
			}
			for i, rule := range rules {
				if want := rule.matches(e); want != got[int32(i)] {
					t.Fatalf("seed %d: got %t, want %t for message\n%s\nand rule\n%s", seed, got[int32(i)], want, e.raw, rule.yaml())
				}
			}
		}
	}
	if matched == 0 {
		t.Error("no rule matched anything")
	}
}

var naiveSeed = flag.Uint64("naive.seed", 0, "replay a failure of TestAgreesWithNaive")
