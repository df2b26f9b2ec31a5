package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// takeoverWithin bounds the wait for another correlator.
const takeoverWithin = 2 * time.Minute

// takeover kills a correlator and measures how long it takes until a detection
// comes from one of its partitions again: one of an event that was sent after the
// kill, so that the dead one cannot have made it. It is started again afterwards.
func (c *cluster) takeover(ctx context.Context, l *load, victim int) (took time.Duration, err error) {
	p := c.stages[fmt.Sprintf("correlate-%d", victim+1)]
	has, err := c.balanced(ctx, p)
	if err != nil {
		return 0, err
	}
	run := ctx // of the probes: they are repeated until they are acknowledged
	ctx, cancel := context.WithTimeout(ctx, takeoverWithin)
	defer cancel()
	var (
		mu    sync.Mutex
		sent  = map[string]bool{}
		found = make(chan time.Time, 1)
	)
	if err := c.tail(ctx, func(f *schemas.Finding) {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range f.FindingInfo.RelatedEvents {
			if sent[e.UID] {
				select {
				case found <- time.Now():
				default:
				}
			}
		}
	}); err != nil {
		return 0, err
	}
	p.kill()
	killed := time.Now()
	defer func() {
		if err == nil {
			err = p.start(run)
		}
	}()
	every := time.NewTicker(100 * time.Millisecond)
	defer every.Stop()
	for {
		for partition := range has {
			id, err := l.probe(run, deviceOf("probe", partition, partitions))
			if err != nil {
				return 0, err
			}
			mu.Lock()
			sent[id.String()] = true
			mu.Unlock()
		}
		select {
		case at := <-found:
			return at.Sub(killed), nil
		case <-every.C:
		case <-ctx.Done():
			return 0, errors.New("no detection from its partitions")
		}
	}
}

// balanced waits until every correlator has a part of the partitions, and returns
// those of one.
func (c *cluster) balanced(ctx context.Context, p *program) (map[int]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, takeoverWithin)
	defer cancel()
	for {
		has, err := p.partitions(ctx)
		if err == nil && len(has) == partitions/correlators {
			return has, nil
		}
		sleep(ctx, 200*time.Millisecond)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("a correlator has %d of %d partitions: %w", len(has), partitions, errors.Join(err, ctx.Err()))
		}
	}
}

// tail calls fn for what comes into tocsin.detections from now on, until ctx ends.
func (c *cluster) tail(ctx context.Context, fn func(*schemas.Finding)) error {
	n, err := c.client.Partitions(ctx, schemas.TopicDetections)
	if err != nil {
		return err
	}
	for p := range n {
		at, err := c.client.LastOffset(ctx, schemas.TopicDetections, p)
		if err != nil {
			return err
		}
		go func() {
			var buf kafka.FetchBuffer
			for ctx.Err() == nil {
				batch, err := c.client.FetchFrom(ctx, schemas.TopicDetections, p, at, &buf)
				if err != nil {
					sleep(ctx, 100*time.Millisecond)
					continue
				}
				for i := range batch.Records {
					var f schemas.Finding
					if json.Unmarshal(batch.Records[i].Value, &f) == nil {
						fn(&f)
					}
				}
				at = batch.Next
			}
		}()
	}
	return nil
}
