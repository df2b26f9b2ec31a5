package rules

import (
	"regexp/syntax"
	"unicode/utf8"
)

// byteRun says that everything that a regular expression matches has n bytes of
// a set one after the other, as in [0-9a-f]{64}. It is quickly seen that a text
// has none.
type byteRun struct {
	in [256]bool
	n  int
}

// minRun is the least length that is worth a look.
const minRun = 8

// requiredRun returns the longest run that re requires, nil if there is none.
func requiredRun(re *syntax.Regexp) *byteRun {
	switch re.Op {
	case syntax.OpCapture, syntax.OpPlus:
		return requiredRun(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min < 1 {
			return nil
		}
		if sub := re.Sub[0]; sub.Op == syntax.OpCharClass && re.Min >= minRun {
			r := &byteRun{n: re.Min}
			for i := 0; i+1 < len(sub.Rune); i += 2 {
				for c := sub.Rune[i]; c <= min(sub.Rune[i+1], utf8.RuneSelf-1); c++ {
					r.in[c] = true
				}
				if sub.Rune[i+1] >= utf8.RuneSelf {
					for b := utf8.RuneSelf; b < len(r.in); b++ {
						r.in[b] = true
					}
				}
			}
			return r
		}
		return requiredRun(re.Sub[0])
	case syntax.OpConcat:
		var best *byteRun
		for _, sub := range re.Sub {
			if r := requiredRun(sub); r != nil && (best == nil || r.n > best.n) {
				best = r
			}
		}
		return best
	}
	return nil
}

// occurs reports whether text has the run.
func (r *byteRun) occurs(text []byte) bool {
	for from := 0; from+r.n <= len(text); {
		at := from + r.n - 1
		for at >= from && r.in[text[at]] {
			at--
		}
		if at < from {
			return true
		}
		from = at + 1
	}
	return false
}
