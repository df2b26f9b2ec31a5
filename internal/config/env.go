package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// expander replaces ${VAR} and ${VAR:default} in scalars. $${ stands for a
// literal ${. A variable that is set but empty counts as set.
type expander struct {
	getenv  func(string) (string, bool)
	missing []string // variables that are not set and have no default
}

var errUnclosed = errors.New("${ without a closing }; write $${ for a literal ${")

// expand returns s with its references replaced and whether there were any.
// It never looks into what a variable holds.
func (e *expander) expand(s string) (string, bool, error) {
	if !strings.Contains(s, "${") {
		return s, false, nil
	}
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, "${")
		if !ok {
			b.WriteString(s)
			return b.String(), true, nil
		}
		if escaped, ok := strings.CutSuffix(before, "$"); ok {
			b.WriteString(escaped + "${")
			s = after
			continue
		}
		b.WriteString(before)
		ref, rest, ok := strings.Cut(after, "}")
		if !ok {
			return "", false, errUnclosed
		}
		name, fallback, hasDefault := strings.Cut(ref, ":")
		if !isEnvName(name) {
			return "", false, fmt.Errorf("${%s}: not a variable name; write ${NAME} or ${NAME:default}, $${ for a literal ${", ref)
		}
		switch v, set := e.getenv(name); {
		case set:
			b.WriteString(v)
		case hasDefault:
			b.WriteString(fallback)
		case !slices.Contains(e.missing, name):
			e.missing = append(e.missing, name)
		}
		s = rest
	}
}

func isEnvName(s string) bool {
	for i, c := range []byte(s) {
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
