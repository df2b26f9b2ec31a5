package rules

import "time"

// Set is a compiled set of rules. It is immutable and may be shared.
type Set struct {
	// Rules are the detection rules; a rule's index is what Match returns.
	Rules []*Rule
	// Correlations come after those that they refer to.
	Correlations []*Correlation

	fields  []string // by FieldID
	program *program
}

// FieldID stands for a field name that some rule of a Set reads.
type FieldID int32

// Meta is what a rule says of itself; it travels with its detections.
type Meta struct {
	ID             string // UUID, or the name where there is none
	Name           string
	Title          string
	Description    string
	Status         string
	Author         string
	Date           string
	Modified       string
	Level          Level
	Tags           []string
	References     []string
	FalsePositives []string
	File           string // where it was read from
	Line           int
	// Hash is over everything that decides what the rule finds: the log source and
	// the condition with its filters and placeholder values, or the correlation,
	// its ID and the hashes of what it refers to; not titles, levels, tocsin.suppress,
	// tocsin.realert and tocsin.evidence. A rule whose hash did not change keeps its
	// windows across a reload.
	Hash uint64
}

// Rule is a detection rule.
type Rule struct {
	Meta
	LogSource LogSource
	// Alerts: the rule is a detection by itself, because no correlation refers
	// to it or one that does says generate.
	Alerts bool
	// Uses are the correlation steps that the rule's matches go to.
	Uses []Use
	// Evidence bounds the contributing events named in a detection.
	Evidence int
}

// Use is a place in a correlation.
type Use struct {
	Correlation int // index into Set.Correlations
	Step        int // index into Correlation.Steps
}

// LogSource is Sigma's log source, in lower case; "" matches any.
type LogSource struct {
	Product, Category, Service string
}

// CorrelationType is the kind of a correlation.
type CorrelationType uint8

// Sigma's correlation types, value_median being pySigma's.
const (
	EventCount CorrelationType = iota
	ValueCount
	ValueSum
	ValueAvg
	ValuePercentile
	ValueMedian
	Temporal
	TemporalOrdered
)

// RealertMode is when a group whose condition stays true is reported again.
type RealertMode uint8

const (
	// RealertEpisode gives one detection per episode.
	RealertEpisode RealertMode = iota
	// RealertEach gives one per crossing.
	RealertEach
)

// Correlation is a compiled correlation rule.
type Correlation struct {
	Meta
	Type     CorrelationType
	Steps    []Step
	GroupBy  []string // as written: field names or aliases; none: one group for everything
	Timespan time.Duration
	// Condition is on a window's value; a temporal correlation has no bounds.
	Condition Condition
	// Expr is the boolean condition of a temporal correlation over Steps; nil
	// asks for all of them.
	Expr *TemporalExpr
	// Alerts: it is a detection by itself (nothing refers to it, or generate).
	Alerts bool
	Uses   []Use
	// Local: the group contains tocsin.device, so the windows live where the
	// events are; otherwise matches are re-keyed.
	Local    bool
	Suppress time.Duration // tocsin.suppress
	Realert  RealertMode   // tocsin.realert
	Evidence int           // tocsin.evidence
}

// Step is one rule that a correlation refers to.
type Step struct {
	Name        string // as referred to
	Rule        int    // index into Set.Rules, or -1
	Correlation int    // index into Set.Correlations, or -1
	// Group are the fields of the group key in an event of this step, aliases
	// resolved, in the order of GroupBy. Meaningless when Correlation >= 0: there
	// GroupFrom maps each GroupBy entry to the inner correlation's, -1 if it has none.
	Group     []FieldID
	GroupFrom []int
	// Values are the condition's fields in an event of this step; where
	// Correlation >= 0, ValuesFrom maps them to the inner correlation's GroupBy
	// instead, -1 if it has none.
	Values     []FieldID
	ValuesFrom []int
}

// Condition is the numeric condition of a correlation: the conjunction of its
// bounds. Percentile is of value_percentile, 0 < Percentile <= 100.
type Condition struct {
	Bounds     []Bound
	Percentile float64
}

// Operator compares a window's value with a bound.
type Operator uint8

// Sigma's operators.
const (
	GT Operator = iota
	GTE
	LT
	LTE
	EQ
	NEQ
)

// Bound is one comparison.
type Bound struct {
	Op    Operator
	Value float64
}

// TemporalExpr is a node of a boolean temporal condition.
type TemporalExpr struct {
	Op   ExprOp
	Step int // for ExprStep
	Args []*TemporalExpr
}

// ExprOp is the kind of a TemporalExpr.
type ExprOp uint8

// The nodes of a boolean temporal condition.
const (
	ExprStep ExprOp = iota
	ExprAnd
	ExprOr
	ExprNot
)

// Level is Sigma's level.
type Level uint8

// Sigma's levels; a rule without one is medium.
const (
	LevelInformational Level = iota + 1
	LevelLow
	LevelMedium
	LevelHigh
	LevelCritical
)
