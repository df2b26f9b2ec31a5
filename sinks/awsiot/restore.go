package awsiot

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/actionlog"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/tail"
	"github.com/tocsin-io/tocsin/schemas"
)

// restore reads what was done before and what the fleet is, goes on with the
// actions under way, and follows both topics from there.
func (e *executor) restore(followers *sync.WaitGroup) error {
	actions, err := tail.Open(e.soft, e.o.Kafka, schemas.TopicActions, e.log)
	if err != nil {
		return err
	}
	identities, err := tail.Open(e.soft, e.o.Kafka, schemas.TopicIdentities, e.log)
	if err != nil {
		return err
	}
	j := journal{name: e.o.Name, dryRun: e.o.DryRun, now: e.o.Now(), keep: e.past.keep, newest: make(map[string]*schemas.Action), touched: make(map[string]time.Time)}
	if err := actions.Load(e.soft, func(rec *kafka.FetchedRecord) error { j.take(rec); return nil }); err != nil {
		return err
	}
	for _, a := range j.newest {
		e.past.add(a)
		if a.State == schemas.ActionWaiting {
			e.fleet.watch(a)
		}
	}
	type news struct {
		rotation string
		sighting
	}
	var mu sync.Mutex
	var found []news
	err = identities.Load(e.soft, func(rec *kafka.FetchedRecord) error {
		rotations, s := e.fleet.take(rec)
		for _, id := range rotations {
			mu.Lock()
			found = append(found, news{id, s})
			mu.Unlock()
		}
		return nil
	})
	if err != nil {
		return err
	}
	j.restoreBreaker(e)
	e.breaker.SetFleet(e.fleet.size())
	// The disconnections last, which wait for what takes a certificate away.
	for _, disconnect := range []bool{false, true} {
		for _, a := range j.newest {
			if (a.Kind == schemas.KindDisconnect) == disconnect {
				e.resume(a)
			}
		}
	}
	for _, n := range found {
		e.sighted(n.rotation, n.sighting)
	}
	e.log.Info("responses", zap.Bool("dry_run", e.o.DryRun), zap.Int("under_way", len(e.open)), zap.Int("fleet", e.fleet.size()),
		zap.Stringer("breaker", e.breaker.Status().State))
	followers.Go(func() { actions.Follow(e.soft, e.step) })
	followers.Go(func() { identities.Follow(e.soft, e.identity) })
	return nil
}

// step takes in what others appended to tocsin.actions. Our own steps come back,
// too, and are none of these.
func (e *executor) step(rec *kafka.FetchedRecord) {
	a, err := actionlog.Parse(rec.Value)
	if err != nil || a.Sink != e.o.Name {
		return
	}
	var f func(*schemas.Action)
	switch a.State {
	case schemas.ActionRequested:
		f = e.requested
	case schemas.ActionApproved:
		f = e.approved
	case schemas.ActionRejected:
		f = e.rejected
	case schemas.ActionResumed:
		f = e.resumed
	default:
		return
	}
	e.fromTopic(func() { f(a) })
}

// identity takes in what is new of certificates.
func (e *executor) identity(rec *kafka.FetchedRecord) {
	rotations, s := e.fleet.take(rec)
	for _, id := range rotations {
		e.fromTopic(func() { e.sighted(id, s) })
	}
}

// fromTopic is do for what is in a topic: nothing of it is begun after the stop.
func (e *executor) fromTopic(f func()) {
	select {
	case e.events <- f:
	case <-e.soft.Done():
	}
}

// resume goes on with an action that another executor had under way, or that
// nobody has looked at yet.
func (e *executor) resume(a *schemas.Action) {
	if a.Final() {
		return
	}
	if a.State == schemas.ActionRequested {
		e.requested(a)
		return
	}
	r := &response{Action: *a}
	e.keep(r)
	if e.protected(r) {
		return // since the restart
	}
	switch {
	case r.State == schemas.ActionApproved && e.o.Now().Sub(a.Time) > e.o.MaxAge:
		e.end(r, schemas.ActionExpired, "", fmt.Sprintf("it was approved, but nobody acted on it for more than %s", e.o.MaxAge), nil)
	case r.State == schemas.ActionApproved:
		e.execute(r)
	case e.o.DryRun && (r.State == schemas.ActionStarted || r.NewCertificateID != ""):
		e.end(r, schemas.ActionFailed, codeDryRun, "it was under way when the sink was set to dry run; whether its call was made is not known", nil)
	case r.State == schemas.ActionStarted:
		e.perform(r)
	case r.State == schemas.ActionWaiting && r.NewCertificateID != "":
		e.retire(r)
	}
}

// journal is what is kept of tocsin.actions while it is read.
type journal struct {
	name   string
	dryRun bool
	now    time.Time
	keep   time.Duration

	mu      sync.Mutex
	newest  map[string]*schemas.Action // by ID: the last step
	touched map[string]time.Time       // by unit: when it was last counted
	breaker *schemas.Action            // the last that happened to it
}

func (j *journal) take(rec *kafka.FetchedRecord) {
	a, err := actionlog.Parse(rec.Value)
	if err != nil || a.Sink != j.name {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if a.Kind == schemas.KindBreaker {
		// Its records are in one partition, and so in their order. That it would have
		// opened stops nothing when it is no dry run any more.
		if a.State != schemas.ActionOpened || a.DryRun == j.dryRun {
			j.breaker = a
		}
		return
	}
	if a.DryRun == j.dryRun && (a.State == schemas.ActionStarted || a.State == schemas.ActionPlanned) {
		if u := unit(a); j.now.Sub(a.Time) < time.Hour && a.Time.After(j.touched[u]) {
			j.touched[strings.Clone(u)] = a.Time
		}
	}
	if a.Final() && j.now.Sub(a.Time) > j.keep {
		delete(j.newest, a.ID)
		return
	}
	// A request that is repeated after a restart says nothing new.
	if old := j.newest[a.ID]; old == nil || a.State != schemas.ActionRequested {
		j.newest[a.ID] = a
	}
}

// restoreBreaker brings the breaker to where it was.
func (j *journal) restoreBreaker(e *executor) {
	var since time.Time
	if j.breaker != nil && j.breaker.State == schemas.ActionResumed {
		since = j.breaker.Time // what was before does not count any more
	}
	for u, t := range j.touched {
		if t.After(since) {
			e.breaker.Restore(u, t)
		}
	}
	if j.breaker != nil && j.breaker.State == schemas.ActionOpened {
		e.breaker.RestoreOpen(j.breaker.Time)
	}
}
