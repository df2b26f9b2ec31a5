// Package backoff is how long to wait before something is tried again, and the
// waiting.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Delay returns the time before retry number attempt (0 is the first): it
// doubles from first up to limit, less up to half of it at random, so that those
// who failed together do not come back together.
func Delay(attempt int, first, limit time.Duration) time.Duration {
	d := limit
	if attempt < 30 && first<<attempt < limit && first<<attempt > 0 {
		d = first << attempt
	}
	return d/2 + rand.N(d/2+1)
}

// Sleep waits for d or until ctx ends, whose error it returns then.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
