package rules

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"
)

// compileRegex compiles a pattern by RE2, whose cost is linear in the text, and
// bounds the size of its program.
func compileRegex(expr string, limits *Limits) (re *regex, hint string, err error) {
	if len(expr) > limits.RegexBytes {
		return nil, fmt.Sprintf("shorten it to %d bytes", limits.RegexBytes), fmt.Errorf("regular expression of %d bytes", len(expr))
	}
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		for _, look := range []string{"(?=", "(?!", "(?<=", "(?<!"} {
			if strings.Contains(expr, look) {
				return nil, "look-around is not in RE2, which matches in linear time; use a second selection with not", err
			}
		}
		return nil, "the syntax is RE2's (no back references, look-around or possessive quantifiers)", err
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, "", err
	}
	if len(prog.Inst) > limits.RegexInstructions {
		return nil, "use smaller repetition counts", fmt.Errorf("regular expression needs %d instructions, the limit is %d", len(prog.Inst), limits.RegexInstructions)
	}
	compiled, err := regexp.Compile(expr)
	return &regex{compiled, leastLength(tree), requiredRun(tree)}, "", err
}

// requiredLiterals returns folded texts one of which is in everything that expr
// matches, or nil if none are known. They are looked for together with all other
// literals, so that the regular expression itself runs rarely.
func requiredLiterals(expr string) []string {
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil
	}
	return requiredTexts(tree.Simplify())
}

// textSet is a set of folded alternatives; nil knows nothing.
type textSet []string

// maxTexts bounds the alternatives that are followed.
const maxTexts = 32

// shortest is the length of the shortest alternative: what the set filters out
// depends on the worst of them.
func (t textSet) shortest() int {
	if len(t) == 0 {
		return 0
	}
	least := len(t[0])
	for _, s := range t {
		least = min(least, len(s))
	}
	return least
}

func (t textSet) betterThan(u textSet) bool {
	if a, b := t.shortest(), u.shortest(); a != b {
		return a > b
	}
	return t.shortest() > 0 && len(t) < len(u)
}

// requiredTexts returns texts one of which is in everything that re matches.
func requiredTexts(re *syntax.Regexp) textSet {
	if all := exactTexts(re); all.shortest() > 0 {
		return all
	}
	switch re.Op {
	case syntax.OpCapture, syntax.OpPlus:
		return requiredTexts(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return requiredTexts(re.Sub[0])
		}
	case syntax.OpAlternate:
		var all textSet
		for _, sub := range re.Sub {
			set := requiredTexts(sub)
			if set == nil || len(all)+len(set) > maxTexts {
				return nil
			}
			all = append(all, set...)
		}
		return all
	case syntax.OpConcat:
		return requiredInConcat(re.Sub)
	}
	return nil
}

// requiredInConcat looks for the best of the runs of parts whose texts are
// known, and of the other parts.
func requiredInConcat(subs []*syntax.Regexp) textSet {
	var best textSet
	run := textSet{""}
	flush := func() {
		if run.betterThan(best) {
			best = run
		}
		run = textSet{""}
	}
	for _, sub := range subs {
		set := exactTexts(sub)
		if set == nil {
			flush()
			if set := requiredTexts(sub); set.betterThan(best) {
				best = set
			}
			continue
		}
		next := product(run, set)
		if next == nil {
			flush()
			next = set
		}
		run = next
	}
	flush()
	return best
}

// product returns each of a followed by each of b, nil if these are too many.
func product(a, b textSet) textSet {
	if len(a)*len(b) > maxTexts {
		return nil
	}
	out := make(textSet, 0, len(a)*len(b))
	for _, s := range a {
		for _, t := range b {
			out = append(out, s+t)
		}
	}
	return out
}

// exactTexts returns all folded texts that re matches, nil if they are too many
// or not known. Assertions such as ^ and \b are the empty text.
func exactTexts(re *syntax.Regexp) textSet {
	switch re.Op {
	case syntax.OpLiteral:
		// U+FFFD also matches any byte that is not UTF-8.
		if slices.Contains(re.Rune, utf8.RuneError) {
			return nil
		}
		return textSet{foldRunes(re.Rune)}
	case syntax.OpCharClass:
		return classTexts(re.Rune)
	case syntax.OpEmptyMatch, syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return textSet{""}
	case syntax.OpCapture:
		return exactTexts(re.Sub[0])
	case syntax.OpQuest:
		if set := exactTexts(re.Sub[0]); set != nil && len(set) < maxTexts {
			return append(textSet{""}, set...)
		}
	case syntax.OpAlternate:
		var all textSet
		for _, sub := range re.Sub {
			set := exactTexts(sub)
			if set == nil || len(all)+len(set) > maxTexts {
				return nil
			}
			all = append(all, set...)
		}
		return all
	case syntax.OpConcat:
		run := textSet{""}
		for _, sub := range re.Sub {
			set := exactTexts(sub)
			if set == nil {
				return nil
			}
			if run = product(run, set); run == nil {
				return nil
			}
		}
		return run
	}
	return nil
}

// maxClass bounds the members of a character class that is written out.
const maxClass = 8

func classTexts(ranges []rune) textSet {
	var set textSet
	for i := 0; i+1 < len(ranges); i += 2 {
		for r := ranges[i]; r <= ranges[i+1]; r++ {
			s := string(foldRune(r))
			if r == utf8.RuneError {
				return nil
			}
			if !slices.Contains(set, s) {
				set = append(set, s)
			}
			if len(set) > maxClass {
				return nil
			}
		}
	}
	return set
}

func foldRunes(rs []rune) string {
	out := make([]rune, len(rs))
	for i, r := range rs {
		out[i] = foldRune(r)
	}
	return string(out)
}

// leastLength returns the length in bytes of the shortest text that re matches.
func leastLength(re *syntax.Regexp) int {
	const most = 1 << 20
	switch re.Op {
	case syntax.OpLiteral:
		return len(re.Rune)
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return 1
	case syntax.OpCapture, syntax.OpPlus:
		return leastLength(re.Sub[0])
	case syntax.OpRepeat:
		return min(most, re.Min*leastLength(re.Sub[0]))
	case syntax.OpAlternate:
		least := most
		for _, sub := range re.Sub {
			least = min(least, leastLength(sub))
		}
		return least
	case syntax.OpConcat:
		sum := 0
		for _, sub := range re.Sub {
			sum = min(most, sum+leastLength(sub))
		}
		return sum
	}
	return 0
}

// regex is a compiled regular expression.
type regex struct {
	*regexp.Regexp
	least int      // length of the shortest match
	run   *byteRun // that every match has, or nil
}

func (r *regex) match(text []byte) bool {
	return len(text) >= r.least && (r.run == nil || r.run.occurs(text)) && r.Match(text)
}
