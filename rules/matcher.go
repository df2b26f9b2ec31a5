package rules

import "github.com/tocsin-io/tocsin/schemas"

type program struct{}

// Matcher matches events against a Set. It is for one goroutine.
type Matcher struct{ set *Set }

// NewMatcher returns a matcher with memory of its own.
func (s *Set) NewMatcher() *Matcher { return &Matcher{set: s} }

// Match returns the rules that match ev as indexes into Set.Rules, ascending,
// with ev's log source being product aws, service ev.Source. The slice is valid
// until the next call.
func (m *Matcher) Match(ev *schemas.Event) []int32 { return nil }

// MatchAs is Match for an event of another log source.
func (m *Matcher) MatchAs(ls LogSource, ev *schemas.Event) []int32 { return nil }

// AppendValues appends the values of f in the event that was matched last:
// scalars as strings (numbers and booleans as their JSON text), the elements of
// arrays one by one, nothing for null or an absent field. The values alias the
// event or the matcher and are valid until the next Match.
func (m *Matcher) AppendValues(dst [][]byte, f FieldID) [][]byte { return dst }

// FieldName returns the name that f stands for, as rules write it.
func (s *Set) FieldName(f FieldID) string { return s.fields[f] }
