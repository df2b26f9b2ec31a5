package correlate

import "math"

// resuppress decides anew which episodes are suppressed: those that begin too
// soon after the end of one that is not. It is a function of the episodes, not
// of the order in which they were found.
func (g *group) resuppress(w *Windows) {
	if g.rule.suppress == 0 {
		return
	}
	quiet := g.quietUntil()
	for _, ep := range g.episodes() {
		if !ep.active() {
			continue
		}
		suppressed := quiet != math.MinInt64 && ep.first <= quiet
		if !suppressed {
			quiet = max(quiet, ep.last+g.rule.span+g.rule.suppress)
		}
		if suppressed == ep.suppressed {
			continue
		}
		if suppressed {
			if ep.reported {
				w.report(g, ep, EpisodeRetracted)
			}
			ep.suppressed = true
			continue
		}
		ep.suppressed = false
		w.report(g, ep, EpisodeOpened)
		if ep.state == episodeClosed {
			w.report(g, ep, EpisodeClosed)
		}
	}
}
