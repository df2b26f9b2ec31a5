package correlate

import "github.com/tocsin-io/tocsin/schemas"

// OuterMatches returns what an opened episode is to the correlations that refer
// to its own: an event at the end of its first satisfied window, with the
// detection's ID. Where the outer group asks for something that the inner one
// does not have, the result takes no part.
func (w *Windows) OuterMatches(e *Episode) []Match {
	inner := w.set.Correlations[e.Correlation]
	values, err := DecodeTuple(e.Group)
	if err != nil {
		return nil
	}
	var out []Match
	for _, use := range inner.Uses {
		outer := w.set.Correlations[use.Correlation]
		step := &outer.Steps[use.Step]
		var group []byte
		ok := true
		for _, from := range step.GroupFrom {
			if from < 0 || from >= len(values) {
				ok = false
				break
			}
			group = AppendTuple(group, values[from])
		}
		if !ok {
			continue
		}
		m := Match{
			Correlation: int32(use.Correlation), Step: int32(use.Step),
			Time: e.Satisfied, ID: schemas.EventID(e.ID), Group: group,
		}
		if n := len(e.Evidence); n > 0 {
			m.Evidence = e.Evidence[n-1].Blob
		}
		out = append(out, m)
	}
	return out
}
