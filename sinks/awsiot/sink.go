package awsiot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/actionlog"
	"github.com/tocsin-io/tocsin/internal/blastradius"
	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks"
)

// rememberedIDs is how many actions a partition remembers to have asked for. An
// older one is asked for again with the next update of its detection, which the
// executor passes over.
const rememberedIDs = 10_000

// actor is the partition whose owner acts.
const actor = 0

// Sink responds to detections in one account and region. It is a sinks.Sink.
type Sink struct {
	opts     Options
	bindings []binding
	allow    []pattern
	log      *actionlog.Log
	breaker  atomic.Pointer[blastradius.Breaker] // of the executor, nil while another process acts
}

type binding struct {
	rules   []Expression
	actions []string
}

// New checks the options and returns a sink.
func New(ctx context.Context, o Options) (*Sink, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("sink %s: %w", o.Name, err)
	}
	if !o.DryRun && (o.Control == nil || o.Connections == nil) {
		return nil, errors.New("sink " + o.Name + ": no client of AWS IoT")
	}
	o = o.withDefaults()
	partitions, err := o.Kafka.Partitions(ctx, schemas.TopicActions)
	if err != nil {
		return nil, err
	}
	s := &Sink{opts: o, log: actionlog.New(o.Producer, partitions)}
	for _, b := range o.Bindings {
		compiled := binding{actions: b.Actions}
		for _, r := range b.Rules {
			e, err := ParseExpression(r)
			if err != nil {
				return nil, err
			}
			compiled.rules = append(compiled.rules, e)
		}
		s.bindings = append(s.bindings, compiled)
	}
	for _, text := range o.AllowList {
		p, err := parsePattern(text)
		if err != nil {
			return nil, err
		}
		s.allow = append(s.allow, p)
	}
	return s, nil
}

// Run waits: what is done, the partitions do.
func (s *Sink) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Err returns why the sink does not do what it is there for: AWS cannot be
// reached, or the breaker is open. It is the sink's readiness check.
func (s *Sink) Err() error {
	err := s.opts.Status.Err()
	if b := s.breaker.Load(); b != nil {
		if st := b.Status(); st.State == blastradius.Open {
			err = errors.Join(err, fmt.Errorf("the breaker is open since %s: %d of at most %d devices within an hour; look, then: tocsin actions resume %s",
				st.Since.UTC().Format(time.RFC3339), st.Used, st.Limit, s.opts.Name))
		}
	}
	return err
}

// Open begins with a partition; with the first, it begins to act.
func (s *Sink) Open(_ context.Context, _ string, number int, _ int64) (sinks.Partition, error) {
	p := &partition{sink: s, asked: make(map[string]struct{})}
	if number == actor {
		p.executor = startExecutor(s)
	}
	return p, nil
}

// partition writes what the detections of one partition ask for. It is a
// sinks.Partition.
type partition struct {
	sink     *Sink
	executor *executor // of the actor's partition
	asked    map[string]struct{}
	order    []string // of asked, oldest first from next on
	next     int
}

// Write returns when all that the detection asks for is in tocsin.actions.
func (p *partition) Write(ctx context.Context, rec *sinks.Record) error {
	f, err := parse(rec.Value)
	if err != nil {
		return &sinks.Rejected{Reason: sinks.ReasonMalformed, Err: err}
	}
	requests := p.sink.requests(f)
	for i := range requests {
		a := &requests[i]
		if _, ok := p.asked[a.ID]; ok {
			continue
		}
		if err := p.sink.log.Append(ctx, a); err != nil {
			return err
		}
		p.sink.opts.Metrics.step(a)
		p.remember(a.ID)
	}
	return nil
}

func (p *partition) remember(id string) {
	p.asked[id] = struct{}{}
	if len(p.order) < rememberedIDs {
		p.order = append(p.order, id)
		return
	}
	delete(p.asked, p.order[p.next])
	p.order[p.next] = id
	p.next = (p.next + 1) % rememberedIDs
}

// Stored reports that everything written has arrived: Write waits for it.
func (p *partition) Stored() (int64, bool) { return 0, true }

// Close stops acting when the partition is the actor's.
func (p *partition) Close(ctx context.Context) error {
	if p.executor == nil {
		return nil
	}
	return p.executor.stop(ctx)
}

// requests returns what the bindings ask for, for a detection.
func (s *Sink) requests(f *schemas.Finding) []schemas.Action {
	if f.ActivityID != schemas.ActivityCreate && f.ActivityID != schemas.ActivityUpdate {
		return nil // an episode that ended, or never was
	}
	var wanted []string
	for _, b := range s.bindings {
		if b.matches(f) {
			wanted = append(wanted, b.actions...)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	subject := subjectOf(f)
	var all []schemas.Action
	for _, kind := range Kinds {
		if !slices.Contains(wanted, kind) {
			continue
		}
		for _, a := range subject.requests(kind) {
			s.complete(&a, f)
			all = append(all, a)
		}
	}
	return all
}

func (b *binding) matches(f *schemas.Finding) bool {
	for _, r := range b.rules {
		if r.Match(f) {
			return true
		}
	}
	return false
}

// complete fills in what all actions for a detection have in common.
func (s *Sink) complete(a *schemas.Action, f *schemas.Finding) {
	a.Sink, a.DryRun, a.Time = s.opts.Name, s.opts.DryRun, s.opts.Now()
	a.DetectionID, a.Rule, a.RuleID = f.FindingInfo.UID, f.FindingInfo.Title, f.FindingInfo.Analytic.UID
	a.Requested = time.UnixMilli(f.Time).UTC()
	if f.Device != nil {
		a.Device = f.Device.UID
	}
	a.ID = actionlog.ID(a.Sink, a.DetectionID, a.Kind, target(a))
	if a.State == schemas.ActionRefused {
		return
	}
	refuse := func(code, reason string) { a.State, a.Code, a.Reason = schemas.ActionRefused, code, reason }
	switch {
	case f.Cloud != nil && f.Cloud.Region != "" && f.Cloud.Region != s.opts.Region,
		f.Cloud != nil && f.Cloud.Account != nil && f.Cloud.Account.UID != "" && f.Cloud.Account.UID != s.opts.Account:
		refuse(codeOtherAccount, fmt.Sprintf("the detection is of another account or region than %s in %s", s.opts.Account, s.opts.Region))
	case s.opts.Now().Sub(a.Requested) > s.opts.MaxAge:
		refuse(codeStale, fmt.Sprintf("the detection is of %s, more than %s ago", a.Requested.Format(time.RFC3339), s.opts.MaxAge))
	default:
		a.Reason = f.Message
	}
}

// logger returns the sink's log with what identifies an action.
func (s *Sink) logger(a *schemas.Action) *zap.Logger {
	return s.opts.Logger.With(zap.String("sink", s.opts.Name), zap.String("action", a.ID), zap.String("kind", a.Kind),
		zap.String("target", actionlog.Target(a)), zap.String("rule", a.Rule))
}
