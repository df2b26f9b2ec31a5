package rules

import (
	"fmt"
	"strings"
)

// A condition combines names by and, or, not, parentheses and quantified
// patterns. Precedence, from loose to tight: or, and, not, x of.

// condition is a node of a parsed condition.
type condition struct {
	kind   conditionKind
	args   []*condition
	name   string // condName, condOf: the pattern
	all    bool   // condOf: all of, otherwise one of
	column int    // bytes from the start of the text
}

type conditionKind uint8

const (
	condName conditionKind = iota
	condAnd
	condOr
	condNot
	condOf
)

// conditionError is what is wrong with a condition and where.
type conditionError struct {
	column int
	what   string
	hint   string
}

func (e *conditionError) Error() string { return e.what }

// parseCondition parses the text of a condition.
func parseCondition(text string, limits *Limits) (c *condition, err *conditionError) {
	if len(text) > limits.ConditionBytes {
		return nil, &conditionError{0, fmt.Sprintf("condition of %d bytes", len(text)), fmt.Sprintf("the limit is %d", limits.ConditionBytes)}
	}
	if i := strings.IndexByte(text, '|'); i >= 0 {
		return nil, &conditionError{i, "aggregations in conditions are obsolete", "write a correlation rule"}
	}
	p := conditionParser{tokens: tokenize(text), end: len(text), maxDepth: limits.ConditionDepth}
	defer func() {
		// The parser leaves its recursion by a panic of its own type.
		switch r := recover().(type) {
		case nil:
		case *conditionError:
			c, err = nil, r
		default:
			panic(r)
		}
	}()
	c = p.or()
	if t := p.peek(); t.text != "" {
		hint := "join the parts by and or or"
		if t.text == ")" {
			hint = "there is no opening parenthesis for it"
		}
		panic(&conditionError{t.column, fmt.Sprintf("unexpected %q", t.text), hint})
	}
	return c, nil
}

type conditionToken struct {
	text   string
	column int
}

func tokenize(text string) []conditionToken {
	var tokens []conditionToken
	start := -1
	flush := func(end int) {
		if start >= 0 {
			tokens = append(tokens, conditionToken{text[start:end], start})
			start = -1
		}
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case ' ', '\t', '\n', '\r':
			flush(i)
		case '(', ')':
			flush(i)
			tokens = append(tokens, conditionToken{text[i : i+1], i})
		default:
			if start < 0 {
				start = i
			}
		}
	}
	flush(len(text))
	return tokens
}

type conditionParser struct {
	tokens   []conditionToken
	pos      int
	end      int
	depth    int
	maxDepth int
}

func (p *conditionParser) peek() conditionToken {
	if p.pos < len(p.tokens) {
		return p.tokens[p.pos]
	}
	return conditionToken{"", p.end}
}

// accept consumes the next token if it is the operator, in lower or upper case.
func (p *conditionParser) accept(operator string) bool {
	t := p.peek().text
	if t == operator || t == strings.ToUpper(operator) {
		p.pos++
		return true
	}
	return false
}

func (p *conditionParser) fail(t conditionToken, hint, format string, args ...any) {
	panic(&conditionError{t.column, fmt.Sprintf(format, args...), hint})
}

func (p *conditionParser) enter() {
	if p.depth++; p.depth > p.maxDepth {
		p.fail(p.peek(), "", "nested more than %d deep", p.maxDepth)
	}
}

func (p *conditionParser) or() *condition {
	return p.chain("or", condOr, func() *condition { return p.chain("and", condAnd, p.not) })
}

func (p *conditionParser) chain(operator string, kind conditionKind, operand func() *condition) *condition {
	first := operand()
	if !p.accept(operator) {
		return first
	}
	c := &condition{kind: kind, args: []*condition{first}, column: first.column}
	for {
		c.args = append(c.args, operand())
		if !p.accept(operator) {
			return c
		}
	}
}

func (p *conditionParser) not() *condition {
	t := p.peek()
	if !p.accept("not") {
		return p.primary()
	}
	p.enter()
	c := &condition{kind: condNot, args: []*condition{p.not()}, column: t.column}
	p.depth--
	return c
}

func (p *conditionParser) primary() *condition {
	t := p.peek()
	p.pos++
	switch {
	case t.text == "":
		p.fail(t, "name a selection", "the condition ends too early")
	case t.text == ")":
		p.fail(t, "name a selection", "unexpected %q", t.text)
	case t.text == "(":
		p.enter()
		c := p.or()
		if p.peek().text != ")" {
			p.fail(p.peek(), fmt.Sprintf("the opening one is at %d", t.column+1), "missing closing parenthesis")
		}
		p.pos++
		p.depth--
		return c
	case p.peek().text == "of" || p.peek().text == "OF":
		p.pos++
		of := p.peek()
		p.pos++
		if of.text == "" || of.text == "(" || of.text == ")" {
			p.fail(of, "name a pattern or them", "%s of what?", t.text)
		}
		c := &condition{kind: condOf, name: of.text, column: t.column}
		switch strings.ToLower(t.text) {
		case "1", "any":
		case "all":
			c.all = true
		default:
			p.fail(t, "write 1 of, any of or all of", "%q is not a quantifier", t.text)
		}
		return c
	}
	for _, operator := range []string{"and", "or", "of"} {
		if strings.EqualFold(t.text, operator) {
			p.fail(t, "name a selection", "unexpected %q", t.text)
		}
	}
	return &condition{kind: condName, name: t.text, column: t.column}
}

// matchName reports whether a selection's name is what a pattern with * names.
func matchName(name, pattern string) bool {
	if pattern == "them" {
		return !strings.HasPrefix(name, "_")
	}
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return name == pattern
	}
	name, ok := strings.CutPrefix(name, first)
	for ok && rest != "" {
		var middle string
		middle, rest, star = strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(name, middle)
		}
		_, name, ok = strings.Cut(name, middle)
	}
	return ok
}
