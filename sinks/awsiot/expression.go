package awsiot

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/schemas"
)

// levels are Sigma's, by rank.
var levels = []string{"informational", "low", "medium", "high", "critical"}

// Expression is a condition on the rule of a detection.
type Expression struct{ terms []term }

type term struct {
	field string // id, title, tag, level, or "" for id, name or title
	value string // lower case; * stands for anything
	rank  int    // of a level, with atLeast
	least bool
}

// ParseExpression reads a condition: terms joined by " && ". A term is one of
//
//	level>=high  level=critical
//	tag=attack.initial-access  tag=tocsin.respond.*
//	title=Shared certificate*
//	id=6f0e...
//	6f0e...          (the ID, the name or the title of the rule)
//
// Letters compare without case; * stands for anything.
func ParseExpression(s string) (Expression, error) {
	var e Expression
	for part := range strings.SplitSeq(s, "&&") {
		t, err := parseTerm(strings.TrimSpace(part))
		if err != nil {
			return Expression{}, fmt.Errorf("%q: %w", s, err)
		}
		e.terms = append(e.terms, t)
	}
	return e, nil
}

func parseTerm(s string) (term, error) {
	field, value, ok := strings.Cut(s, "=")
	if !ok {
		if s == "" || strings.Trim(s, "*") == "" || strings.ContainsAny(s, "<>") {
			return term{}, fmt.Errorf("want an ID, a title, or a term like level>=high; for every rule, level>=informational")
		}
		return term{value: strings.ToLower(s)}, nil
	}
	field, least := strings.CutSuffix(strings.TrimSpace(field), ">")
	t := term{field: strings.TrimSpace(field), value: strings.ToLower(strings.TrimSpace(value)), least: least}
	switch t.field {
	case "level":
		if t.rank = slices.Index(levels, t.value); t.rank < 0 {
			return term{}, fmt.Errorf("level %q is not one of %s", t.value, strings.Join(levels, ", "))
		}
	case "id", "title", "tag":
		if least || t.value == "" {
			return term{}, fmt.Errorf("want %s=VALUE", t.field)
		}
	default:
		return term{}, fmt.Errorf("%q is not one of id, title, tag, level", t.field)
	}
	return t, nil
}

// Match reports whether the rule of f fulfils the condition.
func (e Expression) Match(f *schemas.Finding) bool {
	for _, t := range e.terms {
		if !t.match(f) {
			return false
		}
	}
	return len(e.terms) > 0
}

func (t term) match(f *schemas.Finding) bool {
	is := func(s string) bool { return glob(t.value, strings.ToLower(s)) }
	switch t.field {
	case "level":
		rank := slices.Index(levels, f.Unmapped.RuleLevel)
		return rank == t.rank || t.least && rank > t.rank
	case "id":
		return is(f.FindingInfo.Analytic.UID)
	case "title":
		return is(f.FindingInfo.Title)
	case "tag":
		return slices.ContainsFunc(f.Unmapped.RuleTags, is)
	}
	return is(f.FindingInfo.Analytic.UID) || is(f.Unmapped.RuleName) || is(f.FindingInfo.Title)
}

// glob reports whether s is what pattern describes, in which * stands for any
// text. It takes time in proportion to the product of their lengths at worst.
func glob(pattern, s string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	s, ok := strings.CutPrefix(s, first)
	if !ok || !star {
		return ok && s == ""
	}
	for {
		part, more, star := strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(s, part)
		}
		// The first place is as good as any: a later one leaves less to match.
		at := strings.Index(s, part)
		if at < 0 {
			return false
		}
		s, rest = s[at+len(part):], more
	}
}
