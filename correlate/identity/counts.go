package identity

import (
	"context"
	"maps"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// Counts is what the registry holds: what GET /v1/identities/summary answers.
type Counts struct {
	Time         time.Time               `json:"time"`   // when it was counted
	Active       bool                    `json:"active"` // this instance is the active one
	Complete     bool                    `json:"complete"`
	Certificates int                     `json:"certificates"`
	ByStatus     map[string]int          `json:"by_status"` // as events are stamped; "" for not known
	Described    int                     `json:"described"` // the certificate itself has been read
	Expiring     map[string]int          `json:"expiring"`  // of the live ones, within 7, 30 and 90 days
	Expired      int                     `json:"expired"`   // of the live ones
	WeakKeys     map[string]int          `json:"weak_keys"` // of the live ones, by weakness
	CAs          int                     `json:"cas"`
	Revoked      int                     `json:"revoked_serials"` // that CAs named, with a certificate here or without
	Syncs        map[string]schemas.Sync `json:"syncs"`
}

// expiringWithin are the days that expiry is counted for.
var expiringWithin = []struct {
	days int
	name string
}{{7, "7"}, {30, "30"}, {90, "90"}}

func newCounts(now time.Time) *Counts {
	c := &Counts{Time: now, ByStatus: make(map[string]int), Expiring: make(map[string]int), WeakKeys: make(map[string]int)}
	for _, w := range expiringWithin {
		c.Expiring[w.name] = 0
	}
	return c
}

func (n *Counts) add(c *schemas.Certificate, now time.Time) {
	n.Certificates++
	n.ByStatus[c.StatusAt(now).String()]++
	if !described(c) {
		return
	}
	n.Described++
	if !live(c) {
		return
	}
	if c.Key.Weak != "" {
		n.WeakKeys[c.Key.Weak]++
	}
	left := c.NotAfter.Sub(now)
	if left <= 0 {
		n.Expired++
		return
	}
	for _, w := range expiringWithin {
		if left <= time.Duration(w.days)*24*time.Hour {
			n.Expiring[w.name]++
		}
	}
}

// finish takes what is not counted one by one, and makes the result known. mu of s
// is held.
func (n *Counts) finish(s *Service, active bool) {
	n.Active, n.Complete = active, s.complete()
	n.CAs, n.Revoked = len(s.cas), s.revoked.n
	n.Syncs = maps.Clone(s.syncs)
	s.counts.Store(n)
	s.metrics.show(n)
}

// Summary returns what was counted last. It must not be changed.
func (s *Service) Summary() *Counts { return s.counts.Load() }

// countWhileStandingBy counts in an instance that has no clock to do it.
func (s *Service) countWhileStandingBy(ctx context.Context) {
	ticker := time.NewTicker(s.opts.CheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now().UTC()
		counts := newCounts(now)
		if s.Active() {
			continue
		}
		s.certs.Range(func(c *schemas.Certificate) bool {
			counts.add(c, now)
			return ctx.Err() == nil
		})
		s.mu.Lock()
		if s.term == nil {
			counts.finish(s, false)
		}
		s.mu.Unlock()
	}
}
