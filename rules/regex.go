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
func compileRegex(expr string, limits *Limits) (re *regexp.Regexp, hint string, err error) {
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
	re, err = regexp.Compile(expr)
	return re, "", err
}

// requiredLiterals returns folded texts one of which is in everything that expr
// matches, or nil if none are known. They are looked for together with all other
// literals, so that the regular expression itself runs rarely.
func requiredLiterals(expr string) []string {
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil
	}
	best := literalSet(tree.Simplify())
	if best.worth() < 2 {
		return nil
	}
	return best
}

// literals is a set of alternatives; nil knows nothing.
type literals []string

// maxRequired bounds the alternatives of one regular expression.
const maxRequired = 32

// worth is the length of the shortest alternative: what the set filters out
// depends on the worst of them.
func (l literals) worth() int {
	if len(l) == 0 || len(l) > maxRequired {
		return 0
	}
	least := len(l[0])
	for _, s := range l {
		least = min(least, len(s))
	}
	return least
}

func literalSet(re *syntax.Regexp) literals {
	switch re.Op {
	case syntax.OpLiteral:
		if s, ok := singleText(re); ok {
			return literals{s}
		}
	case syntax.OpCapture, syntax.OpPlus:
		return literalSet(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return literalSet(re.Sub[0])
		}
	case syntax.OpAlternate:
		var all literals
		for _, sub := range re.Sub {
			set := literalSet(sub)
			if set == nil {
				return nil
			}
			all = append(all, set...)
			if len(all) > maxRequired {
				return nil
			}
		}
		return all
	case syntax.OpConcat:
		// Runs of literals and single-letter classes such as [Pp] are one text.
		var best literals
		var run strings.Builder
		flush := func() {
			if run.Len() > 0 {
				if set := (literals{run.String()}); set.worth() > best.worth() {
					best = set
				}
				run.Reset()
			}
		}
		for _, sub := range re.Sub {
			if s, ok := singleText(sub); ok {
				run.WriteString(s)
				continue
			}
			flush()
			if set := literalSet(sub); set.worth() > best.worth() {
				best = set
			}
		}
		flush()
		return best
	}
	return nil
}

// singleText returns the only folded text that re matches.
func singleText(re *syntax.Regexp) (string, bool) {
	switch re.Op {
	case syntax.OpLiteral:
		// U+FFFD also matches any byte that is not UTF-8.
		return foldRunes(re.Rune), !slices.Contains(re.Rune, utf8.RuneError)
	case syntax.OpCapture:
		return singleText(re.Sub[0])
	case syntax.OpCharClass:
		// All members fold to one: [Pp], or [kK\x{212A}].
		text, n := rune(-1), 0
		for i := 0; i+1 < len(re.Rune); i += 2 {
			for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
				if n++; n > 4 {
					return "", false
				}
				if f := foldRune(r); text >= 0 && f != text {
					return "", false
				} else {
					text = f
				}
			}
		}
		if text < 0 || text == utf8.RuneError {
			return "", false
		}
		return string(text), true
	}
	return "", false
}

func foldRunes(rs []rune) string {
	out := make([]rune, len(rs))
	for i, r := range rs {
		out[i] = foldRune(r)
	}
	return string(out)
}
