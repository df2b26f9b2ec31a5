package behavior

import (
	"time"

	"github.com/tocsin-io/tocsin/internal/watermark"
	"github.com/tocsin-io/tocsin/schemas"
)

const (
	// maxLanes bounds the lanes that are watched for silence.
	maxLanes = 256
	// leastLanePause is what counts as a pause of a lane.
	leastLanePause = 10 * time.Second
	// fewestLaneBatches is what a lane must have brought before it can be silent.
	fewestLaneBatches = 20
	// laneMemory is how long a lane without events is known.
	laneMemory = 7 * 24 * time.Hour
)

// lane is what a partition has seen of a source and input shard.
type lane struct {
	name   string // "" for one that is not watched
	track  *watermark.Lane
	newest int64 // largest event time, Unix milliseconds
	last   int64 // largest ingest time, Unix milliseconds
	gap    float32
	seen   int64 // batches
}

// arrived notes a batch by the clock of ingest.
func (l *lane) arrived(ingested int64) {
	l.seen++
	if ingested <= l.last {
		return
	}
	if l.last > 0 {
		if gap := float32(ingested-l.last) / 1000; gap >= float32(leastLanePause.Seconds()) {
			weight := float32(0.1)
			if gap > l.gap {
				weight = 0.5
			}
			l.gap += weight * (gap - l.gap)
		}
	}
	l.last = ingested
}

func (l *lane) share() schemas.LaneShare {
	return schemas.LaneShare{Last: timeOf(l.last), Newest: timeOf(l.newest), UsualGapSeconds: float64(l.gap), Seen: l.seen}
}
