package file

import (
	"bytes"
	"context"
	"time"

	"github.com/tocsin-io/tocsin/internal/backoff"
)

// pace keeps the rates, over the whole Run.
type pace struct {
	lines, bytes float64   // per second; 0: no limit
	next         time.Time // when the next chunk is due
}

// chunkLines is how many lines make a twentieth of a second, so that a slow
// rate is an even one.
func (p *pace) chunkLines() int { return max(int(p.lines/20), min(int(p.lines), 1)) }

// chunkBytes is the same for bytes.
func (p *pace) chunkBytes(most int) int {
	if p.bytes > 0 {
		return max(min(most, int(p.bytes/20)), 1)
	}
	return most
}

func (p *pace) wait(ctx context.Context, data []byte) error {
	var cost float64
	if p.lines > 0 {
		cost = float64(max(bytes.Count(data, []byte{'\n'}), 1)) / p.lines
	}
	if p.bytes > 0 {
		cost = max(cost, float64(len(data))/p.bytes)
	}
	if cost == 0 {
		return ctx.Err()
	}
	now := time.Now()
	// Time in which nothing could be delivered is not made up for.
	if p.next.Before(now) {
		p.next = now
	}
	due := p.next
	p.next = due.Add(time.Duration(cost * float64(time.Second)))
	return backoff.Sleep(ctx, due.Sub(now))
}
