package rules

import "time"

// Limits bound what rules may cost: hostile or generated ones give an error
// instead of using up memory or time. A field that is zero takes the default.
type Limits struct {
	FileBytes         int           // one source; default 8 MiB
	Documents         int           // of one source; default 20,000
	YAMLNodes         int           // one document, aliases expanded; default 200,000
	YAMLDepth         int           // default 64
	ConditionBytes    int           // default 16 KiB
	ConditionDepth    int           // parentheses and nots; default 100
	RuleTests         int           // predicates that a rule's condition comes to; default 20,000
	ValueBytes        int           // one string in a detection; default 64 KiB
	RegexBytes        int           // default 8 KiB
	RegexInstructions int           // of RE2's program; default 20,000
	Expansions        int           // alternatives that one value expands to; default 10,000
	FieldSegments     int           // dots in a field name, plus one; default 24
	CorrelationSteps  int           // rules that a correlation refers to; default 64
	Timespan          time.Duration // default 366 days
	Evidence          int           // tocsin.evidence; default 1,000
	Diagnostics       int           // of one source; default 100
}

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.FileBytes, 8<<20)
	def(&l.Documents, 20_000)
	def(&l.YAMLNodes, 200_000)
	def(&l.YAMLDepth, 64)
	def(&l.ConditionBytes, 16<<10)
	def(&l.ConditionDepth, 100)
	def(&l.RuleTests, 20_000)
	def(&l.ValueBytes, 64<<10)
	def(&l.RegexBytes, 8<<10)
	def(&l.RegexInstructions, 20_000)
	def(&l.Expansions, 10_000)
	def(&l.FieldSegments, 24)
	def(&l.CorrelationSteps, 64)
	def(&l.Evidence, 1000)
	def(&l.Diagnostics, 100)
	if l.Timespan <= 0 {
		l.Timespan = 366 * 24 * time.Hour
	}
	return l
}
