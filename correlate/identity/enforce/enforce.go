// Package enforce closes the gap that AWS IoT leaves: it does not look at
// revocation lists, so a certificate that its CA has revoked goes on to connect
// until somebody revokes it in AWS IoT, too.
//
// An Enforcer only asks: it appends a request for each such certificate to
// tocsin.actions, as the bindings of rules do, and the awsiot sink that the
// request names acts. So dry run, the share of the fleet that may be touched in an
// hour, the breaker, the allow-list, approval and AWS's quotas are those of the
// sink, together for all that it does. Without a sink nothing is asked: then the
// registry's RevokedByCAStillActive events, and the metric, are the report.
package enforce

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/actionlog"
	"github.com/tocsin-io/tocsin/internal/telemetry"
	"github.com/tocsin-io/tocsin/schemas"
)

// Registry knows the certificates.
type Registry interface {
	// RevokedActive returns up to limit certificates that their CA has revoked and
	// the broker takes as ACTIVE, and how many there are.
	RevokedActive(limit int) (some []schemas.Certificate, all int)
}

// Log takes requests; *actionlog.Log is one. Append must return only when the
// record is acknowledged.
type Log interface {
	Append(ctx context.Context, a *schemas.Action) error
}

// Options of an Enforcer. Log is needed if there is a Sink.
type Options struct {
	// Sink is the name of the awsiot sink that revokes; empty to report only.
	Sink string
	Log  Log
	// Interval is the time between two rounds; Poke makes one begin at once.
	// Default 15 min.
	Interval time.Duration
	// RetryAfter is when a certificate is asked for again that is still active: the
	// breaker was open, or the call failed. Default 6 h.
	RetryAfter time.Duration
	// MaxRequests bounds the requests of a round. What is more waits for the next
	// one. Default 1000.
	MaxRequests int
	// Now is the clock. Default time.Now.
	Now        func() time.Time
	Registerer prometheus.Registerer
	Logger     *zap.Logger
}

// Enforcer asks for the revocation of certificates.
type Enforcer struct {
	opts    Options
	poke    chan struct{}
	asked   map[string]string // by certificate ID: the ID of the last request
	active  prometheus.Gauge
	request prometheus.Counter
	waiting prometheus.Gauge
}

// maxLooked bounds the certificates of one round, and so the memory.
const maxLooked = 100_000

// New returns an Enforcer.
func New(o Options) *Enforcer {
	if o.Interval <= 0 {
		o.Interval = 15 * time.Minute
	}
	if o.RetryAfter <= 0 {
		o.RetryAfter = 6 * time.Hour
	}
	if o.MaxRequests <= 0 {
		o.MaxRequests = 1000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	gauge := func(name, help string) prometheus.Gauge {
		return telemetry.Register(o.Registerer, prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help}))
	}
	return &Enforcer{
		opts: o, poke: make(chan struct{}, 1), asked: make(map[string]string),
		active:  gauge("tocsin_registry_revoked_active", "Certificates that their CA has revoked and the broker takes as active."),
		waiting: gauge("tocsin_registry_revocations_waiting", "Of these, those whose revocation waits for the next round because the last one was full."),
		request: telemetry.Register(o.Registerer, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tocsin_registry_revocation_requests_total", Help: "Revocations at the broker that were asked for because the CA has revoked.",
		})),
	}
}

// Poke has the next round begin at once: something was revoked. It never blocks.
func (e *Enforcer) Poke() {
	select {
	case e.poke <- struct{}{}:
	default: // one is waiting to be seen already
	}
}

// Run does rounds until ctx ends. Only one Enforcer of a fleet should run: that of
// the active registry. Two would ask twice, with the same IDs.
func (e *Enforcer) Run(ctx context.Context, r Registry) error {
	ticker := time.NewTicker(e.opts.Interval)
	defer ticker.Stop()
	for {
		if err := e.round(ctx, r); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-e.poke:
		}
	}
}

// round asks for all certificates that were not asked for lately.
func (e *Enforcer) round(ctx context.Context, r Registry) error {
	certs, all := r.RevokedActive(maxLooked)
	e.active.Set(float64(all))
	if e.opts.Sink == "" {
		return nil
	}
	slices.SortFunc(certs, func(a, b schemas.Certificate) int {
		return cmp.Or(cmp.Compare(urgency(&a), urgency(&b)), a.Revoked.Time.Compare(b.Revoked.Time), cmp.Compare(a.ID, b.ID))
	})
	asked := make(map[string]string, len(certs)) // what is not a candidate any more is forgotten
	now := e.opts.Now().UTC()
	requests, waiting := 0, 0
	for i := range certs {
		c := &certs[i]
		id := e.id(c, now)
		switch {
		case e.asked[c.ID] == id:
		case requests == e.opts.MaxRequests:
			waiting++
			continue
		default:
			if err := e.opts.Log.Append(ctx, e.action(c, id, now)); err != nil {
				return fmt.Errorf("ask for the revocation of certificate %s: %w", c.ID, err)
			}
			requests++
			e.request.Inc()
		}
		asked[c.ID] = id
	}
	e.asked = asked
	e.waiting.Set(float64(waiting))
	if requests > 0 {
		e.opts.Logger.Info("asked for the revocation of certificates that their CA has revoked",
			zap.String("sink", e.opts.Sink), zap.Int("certificates", requests), zap.Int("waiting", waiting))
	}
	return nil
}

// urgency puts stolen keys first.
func urgency(c *schemas.Certificate) int {
	switch c.Revoked.Reason {
	case "keyCompromise", "cACompromise", "aACompromise":
		return 0
	}
	return 1
}

// id is that of a request. It stays the same for RetryAfter, so that a restart
// asks for nothing twice, and is another one after that: a sink does nothing twice
// under one ID. The hours begin at another moment for each certificate, or all of
// a list would be asked for again at once.
func (e *Enforcer) id(c *schemas.Certificate, now time.Time) string {
	since := now.Sub(c.Revoked.Time) / e.opts.RetryAfter
	return actionlog.ID(e.opts.Sink, fmt.Sprintf("revoked by its CA %d, try %d", c.Revoked.Time.Unix(), since), schemas.KindRevoke, "cert:"+c.ID)
}

func (e *Enforcer) action(c *schemas.Certificate, id string, now time.Time) *schemas.Action {
	a := &schemas.Action{
		ID: id, Time: now, Requested: now, Sink: e.opts.Sink, Kind: schemas.KindRevoke, State: schemas.ActionRequested,
		Rule: RuleTitle, CertificateID: c.ID,
		Reason: fmt.Sprintf("its CA revoked the certificate on %s (%s): %s",
			c.Revoked.Time.UTC().Format(time.RFC3339), cmp.Or(c.Revoked.Reason, "unspecified"), c.Revoked.Source),
	}
	// With several there is none that the certificate belongs to more than to others.
	if len(c.ClientIDs) == 1 {
		a.ClientID, a.Device = c.ClientIDs[0], c.ClientIDs[0]
	}
	if len(c.Things) == 1 {
		a.Thing = c.Things[0]
	}
	return a
}

// RuleTitle is what actions give as the rule that asked for them.
const RuleTitle = "Revoked by its CA"
