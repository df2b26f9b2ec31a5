package behavior

import (
	"math"

	"github.com/tocsin-io/tocsin/schemas"
)

const (
	// leastDeviation is what any device is allowed of log(1+value): without it the
	// first failure of a device that never had one would be infinitely unusual.
	leastDeviation = 0.25
	// clampDeviations bounds what one value teaches.
	clampDeviations = 3
	// fewestLearned is how many intervals a baseline needs, however long the device
	// has been known.
	fewestLearned = 24
	// maxScore bounds the score, which else may be as large as the deviation is small.
	maxScore = 1000
)

// baseline is the usual value of one metric: exponentially weighted mean and mean
// absolute deviation of log(1+value).
type baseline struct{ mean, deviation float32 }

// learn adds a value; n is how many it holds already, weight that of the newest one
// when there are many. The first ones weigh equally.
func (b *baseline) learn(v uint32, n uint32, weight float64) {
	y, mean, deviation := math.Log1p(float64(v)), float64(b.mean), float64(b.deviation)
	w := max(weight, 1/float64(n+1))
	if n >= fewestLearned {
		room := clampDeviations * max(deviation, leastDeviation)
		y = max(mean-room, min(mean+room, y))
	}
	if n > 0 {
		deviation += w * (math.Abs(y-mean) - deviation)
	}
	b.mean, b.deviation = float32(mean+w*(y-mean)), float32(deviation)
}

// score returns by how many deviations v is above what is usual, negative below.
func (b *baseline) score(v uint32) float64 {
	s := (math.Log1p(float64(v)) - float64(b.mean)) / max(float64(b.deviation), leastDeviation)
	return max(-maxScore, min(maxScore, s))
}

// usual returns the mean as a value of the metric.
func (b *baseline) usual() float64 { return math.Expm1(float64(b.mean)) }

func (b *baseline) record() schemas.Baseline {
	return schemas.Baseline{Mean: float64(b.mean), Deviation: float64(b.deviation)}
}

// restoreBaseline takes a record over unless it holds what cannot be learned.
func restoreBaseline(r schemas.Baseline) baseline {
	const largest = 23 // log(1+2^32) and a little
	if !(r.Mean >= 0 && r.Mean <= largest && r.Deviation >= 0 && r.Deviation <= largest) {
		return baseline{}
	}
	return baseline{mean: float32(r.Mean), deviation: float32(r.Deviation)}
}
