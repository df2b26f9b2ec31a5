package rules

import (
	"strings"
	"unicode/utf8"
)

// pattern is a Sigma string: literal text and wildcards.
type pattern struct {
	parts []part
}

type part struct {
	kind partKind
	text string // of partText, never empty
}

type partKind uint8

const (
	partText partKind = iota
	partStar          // * any number of characters
	partOne           // ? one character
	partDash          // windash: one of the five dashes
)

// parsePattern reads the escapes of a Sigma string: \* and \? are literal, \\
// is one backslash, and a backslash before anything else is itself. So \\*
// is a backslash and a wildcard, and three backslashes are two.
func parsePattern(s string) pattern {
	var p pattern
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			p.parts = append(p.parts, part{partText, text.String()})
			text.Reset()
		}
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '\\':
			if i+1 < len(s) && (s[i+1] == '*' || s[i+1] == '?' || s[i+1] == '\\') {
				i++
			}
			text.WriteByte(s[i])
		case '*':
			flush()
			p = p.appendStar()
		case '?':
			flush()
			p.parts = append(p.parts, part{kind: partOne})
		default:
			text.WriteByte(c)
		}
	}
	flush()
	return p
}

func literalPattern(s string) pattern {
	if s == "" {
		return pattern{}
	}
	return pattern{[]part{{partText, s}}}
}

// appendStar ends p with a wildcard; two in a row are one.
func (p pattern) appendStar() pattern {
	if n := len(p.parts); n > 0 && p.parts[n-1].kind == partStar {
		return p
	}
	return pattern{append(p.parts[:len(p.parts):len(p.parts)], part{kind: partStar})}
}

func (p pattern) prependStar() pattern {
	if len(p.parts) > 0 && p.parts[0].kind == partStar {
		return p
	}
	return pattern{append([]part{{kind: partStar}}, p.parts...)}
}

// hasWildcard reports whether p is more than literal text.
func (p pattern) hasWildcard() bool {
	return len(p.parts) > 1 || len(p.parts) == 1 && p.parts[0].kind != partText
}

// text returns the literal text of a pattern without wildcards.
func (p pattern) text() string {
	if len(p.parts) == 0 {
		return ""
	}
	return p.parts[0].text
}

// fold returns p with its text folded.
func (p pattern) fold() pattern {
	q := pattern{make([]part, len(p.parts))}
	for i, part := range p.parts {
		part.text = foldString(part.text)
		q.parts[i] = part
	}
	return q
}

// normal returns p with neighbouring texts joined and wildcards in a canonical
// order (? before *), so that equal patterns look equal.
func (p pattern) normal() pattern {
	var q pattern
	for i := 0; i < len(p.parts); i++ {
		at := p.parts[i]
		n := len(q.parts)
		switch {
		case at.kind == partText && at.text == "":
		case at.kind == partText && n > 0 && q.parts[n-1].kind == partText:
			q.parts[n-1].text += at.text
		case at.kind == partStar && n > 0 && q.parts[n-1].kind == partStar:
		case at.kind == partOne && n > 0 && q.parts[n-1].kind == partStar:
			q.parts[n-1] = at
			q.parts = append(q.parts, part{kind: partStar})
		default:
			q.parts = append(q.parts, at)
		}
	}
	return q
}

// String writes p as a Sigma string; partDash as the class it stands for.
func (p pattern) String() string {
	var b strings.Builder
	for _, part := range p.parts {
		switch part.kind {
		case partStar:
			b.WriteByte('*')
		case partOne:
			b.WriteByte('?')
		case partDash:
			b.WriteString("{dash}")
		default:
			for i := 0; i < len(part.text); i++ {
				if c := part.text[i]; c == '*' || c == '?' || c == '\\' {
					b.WriteByte('\\')
				}
				b.WriteByte(part.text[i])
			}
		}
	}
	return b.String()
}

// dashes are what windash takes for one another.
var dashes = [...]string{"-", "/", "\u2013", "\u2014", "\u2015"}

// dashLen returns the length of the dash that s begins with, or 0.
func dashLen(s []byte) int {
	for _, d := range dashes {
		if len(s) >= len(d) && string(s[:len(d)]) == d {
			return len(d)
		}
	}
	return 0
}

// match reports whether the whole of s is what p describes. With fold, p must
// be folded and s ASCII or folded. The last * that was passed is where matching
// goes on after a mismatch; earlier ones need not be revisited, since whatever
// they could give up the last one can take. So the cost is at most
// len(s) * len(p).
func (p pattern) match(s []byte, fold bool) bool {
	i, at := 0, 0
	star, mark := -1, 0
	for {
		if at < len(p.parts) && p.parts[at].kind == partStar {
			at++
			if at == len(p.parts) {
				return true
			}
			star, mark = at, i
			continue
		}
		if at == len(p.parts) && i == len(s) {
			return true
		}
		if at < len(p.parts) {
			if n := p.parts[at].step(s[i:], fold); n >= 0 {
				i += n
				at++
				continue
			}
		}
		if star < 0 || mark >= len(s) {
			return false
		}
		mark += runeLen(s[mark:])
		i, at = mark, star
	}
}

// step returns how much of the beginning of s the part takes, -1 if it does not
// match there.
func (t part) step(s []byte, fold bool) int {
	switch t.kind {
	case partOne:
		if len(s) == 0 {
			return -1
		}
		return runeLen(s)
	case partDash:
		if n := dashLen(s); n > 0 {
			return n
		}
		return -1
	}
	if len(s) < len(t.text) {
		return -1
	}
	if fold {
		if !equalFold(s[:len(t.text)], t.text) {
			return -1
		}
	} else if string(s[:len(t.text)]) != t.text {
		return -1
	}
	return len(t.text)
}

// runeLen is the length of the first character of s, which is not empty; a byte
// that is not UTF-8 is one character.
func runeLen(s []byte) int {
	if s[0] < utf8.RuneSelf {
		return 1
	}
	_, n := utf8.DecodeRune(s)
	return n
}
