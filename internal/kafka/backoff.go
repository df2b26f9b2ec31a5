package kafka

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff returns the delay before retry number attempt (0 is the first): exponential from first to limit, with jitter over
// the upper half so that the partitions of a returning broker do not arrive together.
func backoff(attempt int, first, limit time.Duration) time.Duration {
	d := limit
	if attempt < 30 && first<<attempt < limit && first<<attempt > 0 {
		d = first << attempt
	}
	return d/2 + rand.N(d/2+1)
}

// sleep waits for d or until ctx ends, whose error it returns then.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
