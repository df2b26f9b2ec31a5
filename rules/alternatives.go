package rules

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gaissmai/bart"
)

// alternatives collects values any of which may match. All plain texts become
// one predicate.
type alternatives struct {
	parser *detectionParser
	field  string
	folded []literal
	cidr   []netip.Prefix
	others []*node
}

func (a *alternatives) node() *node {
	var args []*node
	if len(a.folded) > 0 {
		args = append(args, leaf(newLiterals(a.field, predLiterals, a.folded)))
	}
	if len(a.cidr) > 0 {
		args = append(args, leaf(newCIDR(a.field, a.cidr)))
	}
	return or(append(args, a.others...)...)
}

func (a *alternatives) test(p *predicate) { a.others = append(a.others, leaf(p)) }

func (a *alternatives) add(v operand) error {
	if a.field == keywordField {
		switch v.kind {
		case opdString, opdRegex, opdAlternatives:
		case opdNumber, opdBool:
			v = operand{kind: opdString, raw: v.raw, pattern: literalPattern(v.raw)}
		default:
			return illegal("name a field", "a keyword cannot be %s", operandNames[v.kind])
		}
	}
	switch v.kind {
	case opdString:
		return a.addPattern(v)
	case opdNumber:
		a.folded = append(a.folded, literal{op: litEqual, text: foldString(v.raw), number: true})
	case opdBool:
		a.folded = append(a.folded, literal{op: litEqual, text: strconv.FormatBool(v.truth)})
	case opdNull:
		a.test(&predicate{field: a.field, kind: predNull})
	case opdExists:
		n := leaf(&predicate{field: a.field, kind: predExists})
		if !v.truth {
			n = not(n)
		}
		a.others = append(a.others, n)
	case opdRegex:
		return a.addRegex(v)
	case opdCIDR:
		a.cidr = append(a.cidr, v.prefix)
	case opdTime:
		a.test(&predicate{field: a.field, kind: predCompare, part: v.part, op: EQ, number: v.number})
	case opdCompare:
		a.test(&predicate{field: a.field, kind: predCompare, part: v.part, op: v.op, number: v.number})
	case opdFieldRef:
		if hint, what := checkField(v.raw, &a.parser.opts.Limits); what != "" {
			return illegal(hint, "%s", what)
		}
		a.test(&predicate{field: a.field, kind: predFieldRef, ref: v.raw, refOp: v.ref, cased: v.cased})
	case opdAlternatives:
		for _, alt := range v.alternatives {
			if err := a.add(alt); err != nil {
				return err
			}
		}
	}
	return nil
}

// addPattern turns what is no more than a text at one end, or anywhere, into a
// literal. Other wildcards are tested behind literals that they require.
func (a *alternatives) addPattern(v operand) error {
	p := v.pattern
	if a.field == keywordField {
		p = p.prependStar().appendStar()
	}
	p = p.normal()
	for _, p := range unrollDashes(p) {
		if l, ok := asLiteral(p); ok {
			folded := literal{op: l.op, text: foldString(l.text)}
			if !v.cased {
				a.folded = append(a.folded, folded)
				continue
			}
			a.others = append(a.others, and(
				leaf(newLiterals(a.field, predLiterals, []literal{folded})),
				leaf(newLiterals(a.field, predCased, []literal{l}))))
			continue
		}
		if len(p.parts) == 1 && p.parts[0].kind == partStar {
			a.test(&predicate{field: a.field, kind: predAny})
			continue
		}
		test := &predicate{field: a.field, kind: predWildcard, pattern: p, cased: v.cased}
		if !v.cased {
			test.pattern = p.fold()
		}
		args := []*node{}
		if l, ok := requiredLiteral(p); ok {
			args = append(args, leaf(newLiterals(a.field, predLiterals, []literal{l})))
		}
		a.others = append(a.others, and(append(args, leaf(test))...))
	}
	return nil
}

// maxUnrolled bounds the variants that a pattern with dashes is written out as;
// with more it stays a wildcard pattern.
const maxUnrolled = 25

func unrollDashes(p pattern) []pattern {
	n := 1
	for _, part := range p.parts {
		if part.kind == partDash {
			if n *= len(dashes); n > maxUnrolled {
				return []pattern{p}
			}
		}
	}
	out := []pattern{{}}
	for _, at := range p.parts {
		if at.kind != partDash {
			for i := range out {
				out[i].parts = append(out[i].parts, at)
			}
			continue
		}
		var next []pattern
		for _, q := range out {
			for _, d := range dashes {
				next = append(next, pattern{append(slices.Clone(q.parts), part{partText, d})})
			}
		}
		out = next
	}
	for i := range out {
		out[i] = out[i].normal()
	}
	return out
}

// asLiteral returns a normal pattern as a literal if it is one.
func asLiteral(p pattern) (literal, bool) {
	star := func(i int) bool { return p.parts[i].kind == partStar }
	text := func(i int) bool { return p.parts[i].kind == partText }
	switch n := len(p.parts); {
	case n == 0:
		return literal{op: litEqual}, true
	case n == 1 && text(0):
		return literal{op: litEqual, text: p.parts[0].text}, true
	case n == 2 && text(0) && star(1):
		return literal{op: litPrefix, text: p.parts[0].text}, true
	case n == 2 && star(0) && text(1):
		return literal{op: litSuffix, text: p.parts[1].text}, true
	case n == 3 && star(0) && text(1) && star(2):
		return literal{op: litContains, text: p.parts[1].text}, true
	}
	return literal{}, false
}

// requiredLiteral returns the longest text of a wildcard pattern, folded, and
// where it must be.
func requiredLiteral(p pattern) (literal, bool) {
	best := literal{}
	for i, part := range p.parts {
		if part.kind != partText || len(part.text) <= len(best.text) {
			continue
		}
		best = literal{op: litContains, text: part.text}
		switch i {
		case 0:
			best.op = litPrefix
		case len(p.parts) - 1:
			best.op = litSuffix
		}
	}
	best.text = foldString(best.text)
	return best, best.text != ""
}

func (a *alternatives) addRegex(v operand) error {
	expr := v.regex
	if v.flags != "" {
		flags := []byte(v.flags)
		slices.Sort(flags)
		expr = "(?" + string(slices.Compact(flags)) + ")" + expr
	}
	re := a.parser.regexes[expr]
	if re == nil {
		if !utf8.ValidString(expr) {
			return illegal("", "the regular expression is not UTF-8")
		}
		var hint string
		var err error
		re, hint, err = compileRegex(expr, &a.parser.opts.Limits)
		if err != nil {
			return illegal(hint, "%s", err.Error())
		}
		a.parser.regexes[expr] = re
	}
	test := leaf(&predicate{field: a.field, kind: predRegex, regex: re})
	if required := requiredLiterals(expr); required != nil {
		var ls []literal
		for _, s := range required {
			ls = append(ls, literal{op: litContains, text: s})
		}
		test = and(leaf(newLiterals(a.field, predLiterals, ls)), test)
	}
	a.others = append(a.others, test)
	return nil
}

func newCIDR(field string, prefixes []netip.Prefix) *predicate {
	p := &predicate{field: field, kind: predCIDR, cidr: new(bart.Lite)}
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int { return strings.Compare(a.String(), b.String()) })
	p.prefixes = slices.Compact(prefixes)
	for _, prefix := range p.prefixes {
		p.cidr.Insert(prefix)
	}
	return p
}
