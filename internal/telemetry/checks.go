package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// checkTimeout bounds one round of checks: a probe has a timeout of its own,
// often of one second.
const checkTimeout = 900 * time.Millisecond

var errStopping = errors.New("the process is stopping")

// Checks are the named conditions of readiness. The zero value is ready to use
// and, without any check, ready.
type Checks struct {
	mu       sync.Mutex
	checks   []check
	stopping bool
}

type check struct {
	name string
	run  func(context.Context) error
}

// Add registers a condition. run may be called at any time, from several
// goroutines, must heed its context and returns why the process is not ready.
// A later check of the same name takes the place of the earlier one.
func (c *Checks) Add(name string, run func(context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.checks, func(k check) bool { return k.name == name })
	if i >= 0 {
		c.checks[i].run = run
		return
	}
	c.checks = append(c.checks, check{name, run})
}

// Stopping makes the process not ready for good, so that no more traffic is
// sent to it while it drains.
func (c *Checks) Stopping() {
	c.mu.Lock()
	c.stopping = true
	c.mu.Unlock()
}

// result is the outcome of one check; err is nil when it passed.
type result struct {
	name string
	err  error
}

// run runs all checks at once.
func (c *Checks) run(ctx context.Context) ([]result, bool) {
	c.mu.Lock()
	checks := slices.Clone(c.checks)
	stopping := c.stopping
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	results := make([]result, len(checks))
	var wg sync.WaitGroup
	for i, k := range checks {
		wg.Go(func() { results[i] = result{k.name, runCheck(ctx, k)} })
	}
	wg.Wait()
	if stopping {
		results = append(results, result{"running", errStopping})
	}
	ready := !slices.ContainsFunc(results, func(r result) bool { return r.err != nil })
	return results, ready
}

// runCheck answers by the deadline even when the check does not.
func runCheck(ctx context.Context, k check) error {
	done := make(chan error, 1)
	go func() { done <- k.run(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errors.New("no answer in time")
	}
}

// Err returns nil when the process is ready and what keeps it from it otherwise.
func (c *Checks) Err(ctx context.Context) error {
	results, _ := c.run(ctx)
	var problems []error
	for _, r := range results {
		if r.err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", r.name, r.err))
		}
	}
	return errors.Join(problems...)
}

// write lists the results in the form that Kubernetes' own checks have.
func write(w io.Writer, results []result) {
	for _, r := range results {
		if r.err != nil {
			fmt.Fprintf(w, "[-]%s failed: %v\n", r.name, r.err)
		} else {
			fmt.Fprintf(w, "[+]%s ok\n", r.name)
		}
	}
}
