package rules

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"
)

// predicate is a test on one field of an event. It holds if it holds for any of
// the field's values, of which there are many where the path goes through
// arrays. Equal predicates of all rules are one: they have the same key.
type predicate struct {
	id    predID // given when the rules are linked
	field string // keywordField for the message
	kind  predKind

	literals []literal      // predLiterals, predCased
	pattern  pattern        // predWildcard; folded unless cased
	cased    bool           // predWildcard, predFieldRef
	regex    *regex         // predRegex
	cidr     *bart.Lite     // predCIDR
	prefixes []netip.Prefix // predCIDR
	part     timePart       // predCompare, 0 for the number itself
	op       Operator       // predCompare
	number   float64        // predCompare
	ref      string         // predFieldRef: the other field
	refID    FieldID
	refOp    literalOp

	fieldID FieldID
}

type predID int32

type predKind uint8

const (
	// predLiterals is resolved while the fields are scanned, the others when a
	// candidate rule asks.
	predLiterals predKind = iota
	predCased             // literals, with regard to case
	predWildcard
	predRegex
	predCIDR
	predCompare
	predFieldRef
	predExists // present, null or not
	predNull   // absent or null
	predAny    // has a value that is not null
)

// keywordField is the name of the pseudo field that keywords look at: the text
// of the message.
const keywordField = ""

// literal is a text and where in a value it has to be.
type literal struct {
	op   literalOp
	text string // folded in predLiterals
	// number: the text stands for a number and is also compared with the
	// canonical form of a number (1.0 is 1).
	number bool
}

type literalOp uint8

const (
	litEqual literalOp = iota
	litContains
	litPrefix
	litSuffix
)

// matches tests a cased literal.
func (l literal) matches(s []byte) bool {
	switch l.op {
	case litContains:
		return strings.Contains(viewString(s), l.text)
	case litPrefix:
		return len(s) >= len(l.text) && string(s[:len(l.text)]) == l.text
	case litSuffix:
		return len(s) >= len(l.text) && string(s[len(s)-len(l.text):]) == l.text
	default:
		return string(s) == l.text
	}
}

// behindText reports whether p, where it is tested, follows a predLiterals
// without which it does not hold.
func (p *predicate) behindText() bool {
	switch p.kind {
	case predCased:
		return true
	case predWildcard:
		_, ok := requiredLiteral(p.pattern)
		return ok
	case predRegex:
		return requiredLiterals(p.regex.String()) != nil
	}
	return false
}

// key identifies what p tests. It is injective: every text is preceded by its
// length.
func (p *predicate) key() string {
	b := appendText(nil, p.field)
	b = append(b, byte(p.kind))
	switch p.kind {
	case predLiterals, predCased:
		for _, l := range p.literals {
			b = append(b, byte(l.op), boolByte(l.number))
			b = appendText(b, l.text)
		}
	case predWildcard:
		b = append(b, boolByte(p.cased))
		for _, part := range p.pattern.parts {
			b = append(b, byte(part.kind))
			b = appendText(b, part.text)
		}
	case predRegex:
		b = appendText(b, p.regex.String())
	case predCIDR:
		for _, prefix := range p.prefixes {
			b = appendText(b, prefix.String())
		}
	case predCompare:
		b = append(b, byte(p.part), byte(p.op))
		b = appendFloat(b, p.number)
	case predFieldRef:
		b = append(b, byte(p.refOp), boolByte(p.cased))
		b = appendText(b, p.ref)
	}
	return string(b)
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// newLiterals returns a predicate that holds if any of ls does. The order of
// the literals and duplicates do not matter.
func newLiterals(field string, kind predKind, ls []literal) *predicate {
	slices.SortFunc(ls, func(a, b literal) int {
		if a.op != b.op {
			return int(a.op) - int(b.op)
		}
		if c := strings.Compare(a.text, b.text); c != 0 {
			return c
		}
		return int(boolByte(a.number)) - int(boolByte(b.number))
	})
	return &predicate{field: field, kind: kind, literals: slices.Compact(ls)}
}
