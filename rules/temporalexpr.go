package rules

// ExprEval evaluates e; present says whether a step has an event in the window.
// A nil e is never evaluated: it asks for all steps, which the caller knows.
func ExprEval(e *TemporalExpr, present func(step int) bool) bool {
	switch e.Op {
	case ExprStep:
		return present(e.Step)
	case ExprNot:
		return !ExprEval(e.Args[0], present)
	case ExprOr:
		for _, a := range e.Args {
			if ExprEval(a, present) {
				return true
			}
		}
		return false
	default:
		for _, a := range e.Args {
			if !ExprEval(a, present) {
				return false
			}
		}
		return true
	}
}
