package revocation

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/correlate/identity/crl"
	"github.com/tocsin-io/tocsin/internal/documents"
	"github.com/tocsin-io/tocsin/schemas"
)

// Lists are the revocation lists of all places. It is a Source.
type Lists struct {
	Places []documents.Place
	// Exporter writes what was verified for other servers; nil for none.
	Exporter *crl.Exporter
	Metrics  *crl.Metrics
	Logger   *zap.Logger
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Name is "crl".
func (l *Lists) Name() string { return "crl" }

// listStates are the states of the lists, by place.
type listStates map[string][]crl.State

// Sync reads all places.
func (l *Lists) Sync(ctx context.Context, state json.RawMessage, t Target) error {
	var before listStates
	if len(state) > 0 {
		if err := json.Unmarshal(state, &before); err != nil {
			l.Logger.Warn("what is remembered of the revocation lists cannot be read; all are read again", zap.Error(err))
		}
	}
	// Places that are not configured any more are forgotten.
	run := &listRun{Lists: l, t: t, states: make(map[string]map[crl.Key]crl.State), saved: time.Now()}
	for _, place := range l.Places {
		known := make(map[crl.Key]crl.State)
		for _, s := range before[place.String()] {
			known[s.Key] = s
		}
		run.states[place.String()] = known
	}
	for _, place := range l.Places {
		if err := run.place(ctx, place); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	// Before the state is saved: what could not be exported must be tried again.
	run.export()
	return t.Save(ctx, run.snapshot())
}

// listRun is one synchronisation.
type listRun struct {
	*Lists
	t      Target
	states map[string]map[crl.Key]crl.State // by place
	saved  time.Time
}

// maxRemembered bounds the lists of which something is remembered: all of it is
// one record in Kafka, and a list takes about 200 bytes of that.
const maxRemembered = 4000

// snapshot returns the states as they are remembered. Lists beyond maxRemembered
// are read each time, and may go back.
func (r *listRun) snapshot() listStates {
	out := make(listStates, len(r.states))
	left, forgotten := maxRemembered, 0
	for _, place := range slices.Sorted(maps.Keys(r.states)) {
		known := r.states[place]
		// In a fixed order, so that what did not change reads the same.
		out[place] = slices.SortedFunc(maps.Values(known), func(a, b crl.State) int {
			return cmp.Or(cmp.Compare(a.Location, b.Location), cmp.Compare(a.IssuerKeyID, b.IssuerKeyID), cmp.Compare(a.Scope, b.Scope))
		})
		if n := len(out[place]); n > left {
			out[place] = out[place][:left]
			forgotten += n - left
		}
		left -= len(out[place])
	}
	r.Metrics.Forgotten(forgotten)
	return out
}

func (r *listRun) place(ctx context.Context, place documents.Place) error {
	s := &crl.Syncer{Place: place, Issuers: r.t, Now: r.Now, Metrics: r.Metrics}
	if r.Exporter != nil {
		s.Held = r.Exporter.Held
	}
	name := place.String()
	known := r.states[name]
	for u := range s.Sync(ctx, slices.Collect(maps.Values(known))) {
		if u.Problem != nil {
			r.t.Problem(u.Problem)
		}
		if u.List != nil {
			if err := r.take(ctx, &u); err != nil {
				return err
			}
		}
		if u.State.IssuerKeyID == "" {
			continue
		}
		known[u.State.Key] = u.State
		if time.Since(r.saved) < saveInterval {
			continue
		}
		if err := r.t.Save(ctx, r.snapshot()); err != nil {
			return err
		}
		r.saved = time.Now()
	}
	return ctx.Err()
}

// take hands on the entries of a list.
func (r *listRun) take(ctx context.Context, u *crl.Update) error {
	issuer := u.List.IssuerKeyID()
	for e := range u.List.Revoked() {
		err := r.t.Revoke(ctx, &Revocation{
			IssuerKeyID: issuer, Serial: e.SerialHex(),
			Revocation: schemas.Revocation{Time: e.Time, Reason: e.Reason.String(), Source: u.State.Location},
		})
		if err != nil {
			return err
		}
	}
	r.Logger.Info("revocation list", zap.String("source", u.State.Location), zap.String("issuer", u.State.Issuer),
		zap.String("number", u.State.Number), zap.Int("entries", u.State.Entries), zap.Time("next_update", u.State.NextUpdate))
	if r.Exporter != nil {
		if err := r.Exporter.Add(&u.State, u.List); err != nil {
			// The registry has the list; the exporter asks for it again next time.
			r.Logger.Error("a revocation list could not be exported", zap.Error(err))
		}
	}
	return nil
}

func (r *listRun) export() {
	if r.Exporter == nil {
		return
	}
	var all []crl.State
	for _, known := range r.states {
		all = slices.AppendSeq(all, maps.Values(known))
	}
	changed, err := r.Exporter.Write(all)
	if err != nil {
		r.Logger.Error("the revocation lists could not be exported", zap.String("file", r.Exporter.Path), zap.Error(err))
	}
	if changed {
		r.Logger.Info("revocation lists exported", zap.String("file", r.Exporter.Path), zap.Int("lists", len(all)))
	}
}
