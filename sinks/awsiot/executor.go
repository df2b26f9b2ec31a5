package awsiot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/actionlog"
	"github.com/tocsin-io/tocsin/internal/backoff"
	"github.com/tocsin-io/tocsin/internal/blastradius"
	"github.com/tocsin-io/tocsin/schemas"
)

const (
	// maxOpen bounds the actions under way: at five calls a second, half an hour of
	// work. Beyond it requests are refused.
	maxOpen = 10_000
	// maxError bounds what is recorded of an error.
	maxError = 1000
	// tickInterval is how often deadlines are looked at.
	tickInterval = time.Second
)

// response is an action under way.
type response struct {
	schemas.Action
	resolved   bool // its things have been asked for
	things     []string
	busy       bool                 // a call is being made for it
	parked     bool                 // started, and behind another, see blocked
	candidates map[string]time.Time // of a rotation: what may be the new certificate, and when to look at it
}

// executor makes the decisions and the calls of a sink. Everything but the calls
// happens on one goroutine, run's; calls and followers hand it functions by do.
type executor struct {
	s       *Sink
	o       *Options
	log     *zap.Logger
	api     *caller
	breaker *blastradius.Breaker
	open    map[string]*response // by ID
	targets map[string]string    // IDs in open, by kind and target
	past    *history
	fleet   *fleet

	events chan func()
	calls  sync.WaitGroup // begun by run's goroutine only
	soft   context.Context
	hard   context.Context
	stopIt context.CancelFunc // ends soft: begin nothing any more
	cut    context.CancelFunc // ends hard: what has begun is the next owner's
	ended  chan struct{}
}

func startExecutor(s *Sink) *executor {
	e := &executor{
		s: s, o: &s.opts, log: s.opts.Logger.With(zap.String("sink", s.opts.Name)), api: newCaller(&s.opts),
		breaker: blastradius.New(s.opts.Limits), open: make(map[string]*response), targets: make(map[string]string),
		past: newHistory(s.opts.MaxAge, s.opts.MergeWithin), fleet: newFleet(s.opts.FleetSize),
		events: make(chan func()), ended: make(chan struct{}),
	}
	e.hard, e.cut = context.WithCancel(context.Background())
	e.soft, e.stopIt = context.WithCancel(e.hard)
	go e.run()
	return e
}

// stop lets the calls under way end and be recorded, for as long as ctx allows.
func (e *executor) stop(ctx context.Context) error {
	e.stopIt()
	select {
	case <-e.ended:
	case <-ctx.Done():
		e.cut()
		// What hangs now is a call: its outcome is not recorded, and so it is made
		// again by the next owner.
	}
	e.cut()
	return ctx.Err()
}

func (e *executor) run() {
	defer close(e.ended)
	var followers sync.WaitGroup
	defer followers.Wait()
	defer e.stopIt()
	for attempt := 0; ; attempt++ {
		err := e.restore(&followers)
		if err == nil {
			if attempt > 0 { // else it would hide what a call says that restore has begun
				e.o.Status.OK()
			}
			break
		}
		if e.soft.Err() != nil {
			return
		}
		e.log.Error("cannot read what was done before; nothing is done until it can be", zap.Error(err))
		e.o.Status.Failed("restore", err)
		if backoff.Sleep(e.soft, e.o.Backoff.Delay(attempt)) != nil {
			return
		}
	}
	e.s.breaker.Store(e.breaker)
	defer e.s.breaker.Store(nil)
	e.tick()
	defer e.o.Metrics.passive(e.o.Name)
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	for {
		select {
		case f := <-e.events:
			f()
		case <-ticker.C:
			e.tick()
		case <-e.soft.Done():
			e.drain()
			return
		}
	}
}

// drain records the outcomes of the calls under way.
func (e *executor) drain() {
	made := make(chan struct{})
	go func() { e.calls.Wait(); close(made) }()
	for {
		select {
		case f := <-e.events:
			f()
		case <-made:
			return
		case <-e.hard.Done():
			return
		}
	}
}

// do runs f on run's goroutine and returns when it has begun, or never will.
func (e *executor) do(f func()) {
	select {
	case e.events <- f:
	case <-e.hard.Done():
	}
}

// call makes calls for r away from run's goroutine, and runs then with their error
// on it. then is not run when the calls were left off because of the stop.
func (e *executor) call(r *response, f func(context.Context) error, then func(error)) {
	if e.soft.Err() != nil {
		return // the next owner goes on from what is in the topic
	}
	r.busy = true
	e.calls.Go(func() {
		err := f(e.soft)
		if err != nil && errors.Is(err, context.Canceled) && e.soft.Err() != nil {
			return
		}
		e.do(func() { r.busy = false; then(err) })
	})
}

// record takes a step: it is in the topic when record returns true.
func (e *executor) record(a *schemas.Action) bool {
	a.Time, a.DryRun = e.o.Now().UTC(), e.o.DryRun
	if err := e.s.log.Append(e.hard, a); err != nil {
		if e.hard.Err() == nil {
			e.s.logger(a).Error("a step could not be recorded; the action is left where it is", zap.String("state", a.State), zap.Error(err))
		}
		return false
	}
	e.o.Metrics.step(a)
	e.past.add(a)
	log := e.s.logger(a).With(zap.String("state", a.State), zap.Bool("dry_run", a.DryRun), zap.String("reason", a.Reason))
	switch {
	case a.State == schemas.ActionFailed:
		log.Error("response", zap.String("code", a.Code), zap.String("error", a.Error))
	case a.State == schemas.ActionRefused && a.Code != codeMerged:
		log.Warn("response", zap.String("code", a.Code))
	default:
		log.Info("response")
	}
	return true
}

// end takes the last step of r.
func (e *executor) end(r *response, state, code, reason string, err error) {
	r.State, r.Code, r.Reason, r.Deadline = state, code, reason, time.Time{}
	if err != nil {
		r.Error = clip(err.Error(), maxError)
	}
	if e.record(&r.Action) {
		e.forget(r)
	}
}

func (e *executor) keep(r *response) {
	e.open[r.ID] = r
	e.targets[kindTarget(&r.Action)] = r.ID
}

func (e *executor) forget(r *response) {
	if e.open[r.ID] != r {
		return // it was never kept
	}
	delete(e.open, r.ID)
	if key := kindTarget(&r.Action); e.targets[key] == r.ID {
		delete(e.targets, key)
	}
	e.fleet.unwatch(r.ID)
	if behind := e.open[e.targets[kindTarget(&schemas.Action{Kind: schemas.KindDisconnect, ClientID: r.ClientID})]]; behind != nil && behind.parked {
		e.perform(behind)
	}
}

// fail ends r with what AWS, or the lack of it, said.
func (e *executor) fail(r *response, err error) {
	code := codeAWSRefused
	var no *refusal
	if errors.As(err, &no) {
		code = no.code
	}
	e.end(r, schemas.ActionFailed, code, map[string]string{
		codeTargetGone: "AWS IoT does not know the target any more",
		codeNotAllowed: "the role of this process may not do it; deploy/iam has the policy",
		codeAWSRefused: "AWS IoT refused the call",
		codeGaveUp:     fmt.Sprintf("AWS IoT did not take the call in %s", e.o.GiveUpAfter),
	}[code], err)
}

// requested takes in what a detection asks for.
func (e *executor) requested(a *schemas.Action) {
	if e.open[a.ID] != nil || e.past.knows(a.ID) {
		return
	}
	r := &response{Action: *a}
	switch {
	case e.o.Now().Sub(a.Requested) > e.o.MaxAge:
		e.end(r, schemas.ActionRefused, codeStale, fmt.Sprintf("nobody acted on it for more than %s", e.o.MaxAge), nil)
	case len(e.open) >= maxOpen:
		e.end(r, schemas.ActionRefused, codeOverloaded, fmt.Sprintf("%d actions are under way", len(e.open)), nil)
	default:
		e.consider(r)
	}
}

// consider decides what becomes of r, which is a request.
func (e *executor) consider(r *response) {
	if other := e.same(r); other != "" {
		e.end(r, schemas.ActionRefused, codeMerged, "the same is done to the same target by action "+other, nil)
		return
	}
	e.keep(r)
	needsThing := r.Kind == schemas.KindQuarantine || r.Kind == schemas.KindRotate
	if r.CertificateID != "" && !r.resolved && !e.o.DryRun && (needsThing && r.Thing == "" || len(e.s.allow) > 0) {
		e.call(r, func(ctx context.Context) (err error) {
			r.things, err = e.api.things(ctx, r.CertificateID)
			return err
		}, func(err error) {
			if err != nil {
				e.fail(r, err)
				return
			}
			r.resolved = true
			e.admit(r, needsThing)
		})
		return
	}
	e.admit(r, needsThing)
}

// same returns the action that does the same to the same target.
func (e *executor) same(r *response) string {
	if id := e.targets[kindTarget(&r.Action)]; id != "" && id != r.ID {
		return id
	}
	return e.past.same(&r.Action, e.o.Now())
}

// admit holds r, of which all is known that will be, against the allow-list, and
// asks for approval.
func (e *executor) admit(r *response, needsThing bool) {
	if e.protected(r) {
		return
	}
	if needsThing && r.Thing == "" && !e.o.DryRun {
		switch {
		case len(r.things) == 1:
			r.Thing = r.things[0]
		case r.ClientID != "" && slices.Contains(r.things, r.ClientID):
			r.Thing = r.ClientID
		default:
			e.end(r, schemas.ActionRefused, codeNoThing, fmt.Sprintf("the certificate is attached to %d things", len(r.things)), nil)
			return
		}
	}
	if e.o.Approval.Required && !e.o.DryRun {
		r.State, r.Deadline = schemas.ActionPending, e.o.Now().Add(e.o.Approval.Expires).UTC()
		e.record(&r.Action) // without it in the topic it cannot be approved, and expires
		return
	}
	e.execute(r)
}

// protected ends r if the allow-list says so.
func (e *executor) protected(r *response) bool {
	entry, ok := e.s.allowed(&r.Action, r.things)
	if ok {
		e.end(r, schemas.ActionRefused, codeAllowList, fmt.Sprintf("%q of the allow-list protects it", entry), nil)
	}
	return ok
}

// approved goes on with what a person approved.
func (e *executor) approved(a *schemas.Action) {
	r := e.open[a.ID]
	if r == nil || r.State != schemas.ActionPending || r.busy {
		return
	}
	if e.o.Now().After(r.Deadline) {
		return // the next tick says so
	}
	r.State, r.Approver, r.Deadline = a.State, a.Approver, time.Time{}
	e.execute(r)
}

// rejected ends what a person does not want.
func (e *executor) rejected(a *schemas.Action) {
	if r := e.open[a.ID]; r != nil && r.State == schemas.ActionPending {
		e.past.add(a)
		e.forget(r)
	}
}

// execute counts r and does it.
func (e *executor) execute(r *response) {
	e.breaker.SetFleet(e.fleet.size())
	err := e.breaker.Allow(unit(&r.Action))
	var no *blastradius.Refused
	if errors.As(err, &no) {
		if no.Opened {
			e.opened(no)
		}
		e.end(r, schemas.ActionRefused, codeBreaker, no.Error(), nil)
		return
	}
	if e.o.DryRun {
		e.end(r, schemas.ActionPlanned, "", "dry run: nothing was called; "+r.Reason, nil)
		return
	}
	r.State = schemas.ActionStarted
	if r.Kind == schemas.KindRotate {
		r.JobID = e.o.Rotation.JobIDPrefix + r.ID
	}
	if !e.record(&r.Action) {
		return // it is in the topic as it was, and the next executor finds it there
	}
	e.perform(r)
}

// perform makes the calls of r, which has been started.
func (e *executor) perform(r *response) {
	done := func(changed func() string) func(error) {
		return func(err error) {
			if err != nil {
				e.fail(r, err)
				return
			}
			e.end(r, schemas.ActionDone, "", changed(), nil)
		}
	}
	if r.parked = e.blocked(r); r.parked {
		return // forget or the next tick goes on
	}
	was := false
	switch r.Kind {
	case schemas.KindDisconnect:
		e.call(r, func(ctx context.Context) (err error) {
			was, err = e.api.disconnect(ctx, r.ClientID)
			return err
		}, done(func() string { return either(was, "the connection was closed", "the client was not connected") }))
	case schemas.KindDeactivate, schemas.KindRevoke:
		to := types.CertificateStatusInactive
		if r.Kind == schemas.KindRevoke {
			to = types.CertificateStatusRevoked
		}
		e.call(r, func(ctx context.Context) (err error) {
			was, err = e.api.setStatus(ctx, r.CertificateID, to)
			return err
		}, done(func() string {
			return either(was, "the certificate is "+string(to), "the certificate was "+string(to)+" or REVOKED already")
		}))
	case schemas.KindQuarantine:
		e.call(r, func(ctx context.Context) error { return e.api.quarantine(ctx, r.Thing) },
			done(func() string { return "the thing is in the group " + e.o.QuarantineGroup }))
	case schemas.KindRotate:
		e.call(r, func(ctx context.Context) error { return e.api.createJob(ctx, &r.Action) }, func(err error) {
			if err != nil {
				e.fail(r, err)
				return
			}
			r.State, r.Deadline = schemas.ActionWaiting, e.o.Now().Add(e.o.Rotation.Timeout).UTC()
			r.Reason = "the job is there; the old certificate is revoked when a new one has been seen"
			if e.record(&r.Action) {
				e.fleet.watch(&r.Action)
			}
		})
	default:
		e.end(r, schemas.ActionFailed, codeAWSRefused, "this version knows no action of the kind "+r.Kind, nil)
	}
}

// blocked reports whether r is a disconnection whose certificate is being taken
// away: before that is done the device would connect again.
func (e *executor) blocked(r *response) bool {
	if r.Kind != schemas.KindDisconnect || r.CertificateID == "" {
		return false
	}
	for _, kind := range []string{schemas.KindRevoke, schemas.KindDeactivate} {
		other := e.open[e.targets[kindTarget(&schemas.Action{Kind: kind, CertificateID: r.CertificateID})]]
		if other != nil && other.State != schemas.ActionPending {
			return true
		}
	}
	return false
}

func either(cond bool, yes, no string) string {
	if cond {
		return yes
	}
	return no
}

// opened tells everybody that the breaker has opened.
func (e *executor) opened(why *blastradius.Refused) {
	e.log.Error("the breaker opened: no more responses until it is resumed", zap.Int("devices", why.Used), zap.Int("limit", why.Limit),
		zap.Int("fleet", why.Fleet), zap.String("try", "tocsin actions list; tocsin actions resume "+e.o.Name))
	// The event first: after a crash in between the breaker opens again, and tells
	// again. The other way round nobody would be told.
	if err := e.alert(e.hard, why); err != nil {
		e.log.Error("the event about it could not be published", zap.Error(err))
	}
	e.record(actionlog.Breaker(e.o.Name, schemas.ActionOpened, why.Error(), "", e.o.Now()))
}

// resumed closes the breaker for a person.
func (e *executor) resumed(a *schemas.Action) {
	e.breaker.Resume()
	e.log.Warn("the breaker was resumed", zap.String("by", a.Approver))
}

// tick does what time brings.
func (e *executor) tick() {
	now := e.o.Now()
	for _, r := range e.open {
		e.look(r)
		if r.parked {
			e.perform(r)
		}
		switch {
		case r.busy || r.Deadline.IsZero() || now.Before(r.Deadline):
		case r.State == schemas.ActionPending:
			e.end(r, schemas.ActionExpired, "", "nobody approved it in time", nil)
		case r.State == schemas.ActionWaiting && r.NewCertificateID == "":
			e.end(r, schemas.ActionFailed, codeTimeout, "no new certificate was seen in time; the old one was not revoked", nil)
		}
	}
	e.past.prune(now)
	e.breaker.SetFleet(e.fleet.size())
	e.o.Metrics.state(e.o.Name, len(e.open), e.breaker.Status())
}
