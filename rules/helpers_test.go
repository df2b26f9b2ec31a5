package rules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/schemas"
)

// compileOK compiles documents that must be right.
func compileOK(tb testing.TB, opts Options, docs ...string) *Set {
	tb.Helper()
	set, diags := compileText(opts, docs...)
	if err := diags.Err(); err != nil {
		tb.Fatal(err)
	}
	return set
}

func compileText(opts Options, docs ...string) (*Set, Diagnostics) {
	return Compile([]Source{{Name: "test.yml", Data: []byte(strings.Join(docs, "\n---\n"))}}, opts)
}

// ruleWith is a rule of ours with the given detection.
func ruleWith(name, detection string) string {
	return fmt.Sprintf(`title: %[1]s
name: %[1]s
id: %[2]s
logsource:
  product: aws
  service: iot
detection:
%[3]s
`, name, testID(name), indent(detection, "  "))
}

// testID makes a UUID of a name.
func testID(name string) string {
	h := uint64(14695981039346656037)
	for _, c := range []byte(name) {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return fmt.Sprintf("00000000-0000-4000-8000-%012x", h&0xffffffffffff)
}

func indent(s, by string) string {
	return by + strings.ReplaceAll(strings.Trim(s, "\n"), "\n", "\n"+by)
}

// matches reports whether the only rule of the set matches a message.
func matches(m *Matcher, message string) bool {
	return len(m.Match(&schemas.Event{Source: []byte(schemas.SourceIoT), Message: []byte(message)})) > 0
}
