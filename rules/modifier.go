package rules

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// operand is a value of a detection item while its modifiers are applied, from
// left to right.
type operand struct {
	kind operandKind
	raw  string // as written

	pattern pattern // opdString
	cased   bool    // opdString, opdFieldRef
	encoded bool    // opdString: went through an encoding

	number float64 // opdNumber, opdCompare
	truth  bool    // opdBool, opdExists

	regex string // opdRegex
	flags string

	prefix netip.Prefix // opdCIDR
	ref    literalOp    // opdFieldRef: raw is the field's name

	part timePart // opdTime, opdCompare
	op   Operator // opdCompare

	alternatives []operand // opdAlternatives: any of them, also under all
}

type operandKind uint8

const (
	opdString operandKind = iota
	opdNumber
	opdBool
	opdNull
	opdRegex
	opdCIDR
	opdFieldRef
	opdTime
	opdCompare
	opdExists
	opdAlternatives
)

var operandNames = [...]string{
	"a string", "a number", "a boolean", "null", "a regular expression", "a network",
	"a field reference", "a time part", "a comparison", "a boolean", "alternatives",
}

// modifierError is why a chain of modifiers is not legal, and what would be.
type modifierError struct{ what, hint string }

func (e *modifierError) Error() string { return e.what }

func illegal(hint, format string, args ...any) error {
	return &modifierError{fmt.Sprintf(format, args...), hint}
}

// modifierNames are the 31 of Sigma v2.1.0.
var modifierNames = []string{
	"all", "base64", "base64offset", "cased", "cidr", "contains", "day", "endswith", "exists",
	"expand", "fieldref", "gt", "gte", "hour", "i", "lt", "lte", "m", "minute", "month", "neq",
	"re", "s", "startswith", "utf16", "utf16be", "utf16le", "week", "wide", "windash", "year",
}

// modifiers is a chain after the ones that concern the whole item were taken
// out.
type modifiers struct {
	chain []string
	all   bool // every value must match
	neq   bool // the item must not match
}

func parseModifiers(names []string) (modifiers, error) {
	var m modifiers
	for i, name := range names {
		switch {
		case !slices.Contains(modifierNames, name):
			return m, illegal(nearest(name, modifierNames), "unknown modifier %q", name)
		case slices.Contains(names[:i], name) && !isFlag(name):
			return m, illegal("name it once", "modifier %q twice", name)
		case name == "all":
			m.all = true
		case name == "neq":
			m.neq = true
		default:
			m.chain = append(m.chain, name)
		}
	}
	if m.neq && slices.ContainsFunc(m.chain, func(name string) bool { return name == "exists" || comparisons[name] != nil }) {
		return m, illegal("exists: false, or the opposite comparison, says the same", "neq cannot be combined with %q", strings.Join(m.chain, "|"))
	}
	if m.all && slices.Contains(m.chain, "exists") {
		return m, illegal("leave all out", "all cannot be combined with exists")
	}
	return m, nil
}

func isFlag(name string) bool { return name == "i" || name == "m" || name == "s" }

func opOf(op Operator) *Operator { return &op }

var comparisons = map[string]*Operator{"gt": opOf(GT), "gte": opOf(GTE), "lt": opOf(LT), "lte": opOf(LTE)}

// apply runs one value through the chain.
func (m modifiers) apply(v operand, opts *Options) (operand, error) {
	for _, name := range m.chain {
		var err error
		if v, err = applyModifier(name, v, opts); err != nil {
			return v, err
		}
	}
	return v, nil
}

func applyModifier(name string, v operand, opts *Options) (operand, error) {
	if v.kind == opdAlternatives {
		out := operand{kind: opdAlternatives, raw: v.raw}
		for _, alt := range v.alternatives {
			alt, err := applyModifier(name, alt, opts)
			if err != nil {
				return v, err
			}
			if alt.kind == opdAlternatives {
				out.alternatives = append(out.alternatives, alt.alternatives...)
			} else {
				out.alternatives = append(out.alternatives, alt)
			}
			if len(out.alternatives) > opts.Limits.Expansions {
				return v, illegal("split the rule", "value expands to more than %d alternatives", opts.Limits.Expansions)
			}
		}
		return out, nil
	}
	if part, ok := timeParts[name]; ok {
		if v.kind != opdNumber || v.number != float64(int(v.number)) {
			return v, illegal("write an integer", "%s needs an integer, not %s", name, operandNames[v.kind])
		}
		v.kind, v.part = opdTime, part
		return v, nil
	}
	if op := comparisons[name]; op != nil {
		if v.kind != opdNumber && v.kind != opdTime {
			return v, illegal("write a number, without quotes", "%s needs a number, not %s", name, operandNames[v.kind])
		}
		v.kind, v.op = opdCompare, *op
		return v, nil
	}
	switch name {
	case "exists":
		if v.kind != opdBool {
			return v, illegal("write true or false", "exists needs a boolean, not %s", operandNames[v.kind])
		}
		v.kind = opdExists
		return v, nil
	case "i", "m", "s":
		if v.kind != opdRegex {
			return v, illegal("write re|"+name, "flag %s without a regular expression before it", name)
		}
		v.flags += name
		return v, nil
	case "contains", "startswith", "endswith":
		return applyPosition(name, v)
	}
	// The rest take strings; a number or boolean is one as it is written.
	switch v.kind {
	case opdNumber, opdBool:
		v = operand{kind: opdString, raw: v.raw, pattern: literalPattern(v.raw)}
	case opdString:
	case opdFieldRef:
		if name == "cased" {
			v.cased = true
			return v, nil
		}
		fallthrough
	default:
		return v, illegal("", "%s cannot follow what made the value %s", name, operandNames[v.kind])
	}
	switch name {
	case "cased":
		v.cased = true
		return v, nil
	case "windash":
		return applyWindash(v), nil
	case "expand":
		return applyExpand(v, opts)
	case "fieldref":
		return applyFieldRef(v)
	case "re", "cidr":
		if v.encoded || v.cased || v.raw != "" && v.pattern.String() != parsePattern(v.raw).String() {
			return v, illegal("write "+name+" first", "%s must be the first modifier", name)
		}
		if name == "re" {
			return operand{kind: opdRegex, raw: v.raw, regex: v.raw}, nil
		}
		return applyCIDR(v)
	}
	return applyEncoding(name, v)
}

func applyPosition(name string, v operand) (operand, error) {
	switch v.kind {
	case opdNumber, opdBool:
		v = operand{kind: opdString, raw: v.raw, pattern: literalPattern(v.raw)}
	case opdFieldRef:
		if v.ref != litEqual {
			return v, illegal("use one of them", "%s after another of contains, startswith, endswith", name)
		}
		v.ref = map[string]literalOp{"contains": litContains, "startswith": litPrefix, "endswith": litSuffix}[name]
		return v, nil
	case opdString:
	default:
		return v, illegal("", "%s needs a string, not %s", name, operandNames[v.kind])
	}
	if name != "endswith" {
		v.pattern = v.pattern.appendStar()
	}
	if name != "startswith" {
		v.pattern = v.pattern.prependStar()
	}
	return v, nil
}

func applyWindash(v operand) operand {
	var parts []part
	for _, p := range v.pattern.parts {
		if p.kind == partText {
			parts = append(parts, expandDashes(p.text)...)
		} else {
			parts = append(parts, p)
		}
	}
	v.pattern.parts = parts
	return v
}

var placeholder = regexp.MustCompile(`%([\w.-]+)%`)

// applyExpand replaces the placeholders %name%; \% is a literal percent sign. A
// placeholder's values are Sigma strings themselves.
func applyExpand(v operand, opts *Options) (operand, error) {
	done := []pattern{{}}
	extend := func(with ...pattern) error {
		if len(done)*len(with) > opts.Limits.Expansions {
			return illegal("give fewer values", "placeholders expand to more than %d values", opts.Limits.Expansions)
		}
		var next []pattern
		for _, d := range done {
			for _, w := range with {
				next = append(next, pattern{append(d.parts[:len(d.parts):len(d.parts)], w.parts...)})
			}
		}
		done = next
		return nil
	}
	for _, p := range v.pattern.parts {
		if p.kind != partText {
			if err := extend(pattern{[]part{p}}); err != nil {
				return v, err
			}
			continue
		}
		rest := p.text
		for rest != "" {
			at := placeholder.FindStringSubmatchIndex(rest)
			if i := strings.Index(rest, `\%`); i >= 0 && (at == nil || i < at[0]) {
				if err := extend(literalPattern(rest[:i] + "%")); err != nil {
					return v, err
				}
				rest = rest[i+2:]
				continue
			}
			if at == nil {
				if err := extend(literalPattern(rest)); err != nil {
					return v, err
				}
				break
			}
			name := rest[at[2]:at[3]]
			values := opts.Placeholders[name]
			if len(values) == 0 {
				return v, illegal("give its values in the placeholder file", "no value for placeholder %%%s%%", name)
			}
			with := []pattern{}
			for _, s := range values {
				with = append(with, parsePattern(s))
			}
			if err := extend(literalPattern(rest[:at[0]])); err != nil {
				return v, err
			}
			if err := extend(with...); err != nil {
				return v, err
			}
			rest = rest[at[1]:]
		}
	}
	if len(done) == 1 {
		v.pattern, v.encoded = done[0], true
		return v, nil
	}
	out := operand{kind: opdAlternatives, raw: v.raw}
	for _, p := range done {
		out.alternatives = append(out.alternatives, operand{kind: opdString, raw: v.raw, pattern: p, cased: v.cased, encoded: true})
	}
	return out, nil
}

// applyFieldRef takes wildcards at the ends, which contains, startswith or
// endswith may have put there before, for these modifiers.
func applyFieldRef(v operand) (operand, error) {
	out := operand{kind: opdFieldRef, raw: v.raw, cased: v.cased}
	parts := v.pattern.parts
	n := len(parts)
	switch {
	case n == 3 && parts[0].kind == partStar && parts[2].kind == partStar:
		out.ref, parts = litContains, parts[1:2]
	case n == 2 && parts[1].kind == partStar:
		out.ref, parts = litPrefix, parts[:1]
	case n == 2 && parts[0].kind == partStar:
		out.ref, parts = litSuffix, parts[1:]
	}
	if len(parts) != 1 || parts[0].kind != partText {
		return v, illegal("write the name of a field", "fieldref needs a field name without wildcards, not %q", v.raw)
	}
	return out, nil
}

func applyCIDR(v operand) (operand, error) {
	prefix, err := netip.ParsePrefix(v.raw)
	if err != nil {
		addr, err := netip.ParseAddr(v.raw)
		if err != nil || addr.Zone() != "" {
			return v, illegal("write address/bits, such as 10.0.0.0/8 or 2001:db8::/32", "%q is not a network", v.raw)
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	if prefix.Masked() != prefix {
		return v, illegal("write "+prefix.Masked().String(), "%q has bits set that its mask hides", v.raw)
	}
	if prefix.Addr().Is4In6() {
		if prefix.Bits() < 96 {
			return v, illegal("write the IPv4 network", "%q mixes IPv4 and IPv6", v.raw)
		}
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	return operand{kind: opdCIDR, raw: v.raw, prefix: prefix}, nil
}

func applyEncoding(name string, v operand) (operand, error) {
	if name == "base64" || name == "base64offset" {
		if v.pattern.hasWildcard() {
			return v, illegal("put contains after "+name, "%s cannot encode wildcards", name)
		}
		s := v.pattern.text()
		v.encoded = true
		if name == "base64" {
			v.pattern = literalPattern(base64.StdEncoding.EncodeToString([]byte(s)))
			return v, nil
		}
		if len(s) < 2 {
			return v, illegal("give at least two bytes", "%q is too short for base64offset", s)
		}
		out := operand{kind: opdAlternatives, raw: v.raw}
		for _, enc := range base64Offsets(s) {
			out.alternatives = append(out.alternatives, operand{kind: opdString, raw: v.raw, pattern: literalPattern(enc), cased: v.cased, encoded: true})
		}
		return out, nil
	}
	parts := slices.Clone(v.pattern.parts)
	for i, p := range parts {
		switch p.kind {
		case partText:
			parts[i].text = encodeUTF16(p.text, name == "utf16be")
		case partDash:
			return v, illegal("put windash last", "windash cannot be encoded")
		}
	}
	if name == "utf16" {
		parts = append([]part{{partText, "\xff\xfe"}}, parts...)
	}
	v.pattern, v.encoded = pattern{parts}.normal(), true
	return v, nil
}

// nearest hints at the known name that name is a misspelling of, or lists them.
func nearest(name string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		if d := editDistance(strings.ToLower(name), strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	if len(known) > 40 {
		return ""
	}
	return "known are " + strings.Join(known, ", ")
}

// editDistance is Levenshtein's, cut off for long names.
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
