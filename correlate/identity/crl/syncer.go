package crl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/internal/documents"
)

// Suffixes are those of the files and objects that are taken for lists in a
// directory or under a prefix.
var Suffixes = []string{".crl", ".pem", ".der"}

// Syncer keeps up with the lists of one place.
type Syncer struct {
	Place   documents.Place
	Issuers Issuers
	// Held says whether what a list holds is still where it was taken to. If not,
	// the list is read again though it did not change. May be nil.
	Held func(*State) bool
	// Now is the clock. Default time.Now.
	Now     func() time.Time
	Metrics *Metrics
}

// Sync reads what has changed since states, which are those that earlier updates
// of this place brought. Each update must be dealt with before the next is asked
// for: then a crash at any point costs only a second reading.
//
// Sync ends early when ctx does, without a Problem for that.
func (s *Syncer) Sync(ctx context.Context, states []State) iter.Seq[Update] {
	return func(yield func(Update) bool) {
		r := &round{
			Syncer: s, ctx: ctx, now: time.Now(),
			states: make(map[Key]*State, len(states)), told: make(map[Key]bool),
			read: make(map[string]*State), lost: make(map[string]bool),
		}
		if s.Now != nil {
			r.now = s.Now()
		}
		for i := range states {
			r.remember(&states[i])
		}
		r.run(yield)
	}
}

// round is one synchronisation.
type round struct {
	*Syncer
	ctx    context.Context
	now    time.Time
	states map[Key]*State
	// read has, by location, the state that was stored when all lists of the
	// document had been taken in; lost the locations that must be read again
	// whatever their version.
	read map[string]*State
	lost map[string]bool
	told map[Key]bool
}

func (r *round) remember(state *State) {
	r.states[state.Key] = state
	if r.Held != nil && !r.Held(state) {
		r.lost[state.Location] = true
	}
	if last := r.read[state.Location]; state.Version != "" && (last == nil || last.Read.Before(state.Read)) {
		r.read[state.Location] = state
	}
}

// version returns that of the document which need not be read again.
func (r *round) version(location string) string {
	if state := r.read[location]; state != nil && !r.lost[location] {
		return state.Version
	}
	return ""
}

func (r *round) run(yield func(Update) bool) {
	for ref, err := range r.Place.List(r.ctx) {
		if r.ctx.Err() != nil {
			return
		}
		if err != nil {
			if !r.tell(yield, Update{Problem: r.problem(r.Place.String(), err)}) {
				return
			}
			break
		}
		if !r.document(ref, yield) || r.ctx.Err() != nil {
			return
		}
	}
	// What did not change, or was not there, grows old nevertheless.
	for _, key := range r.sortedKeys() {
		state := r.states[key]
		if r.told[key] || !state.Stale(r.now) {
			continue
		}
		if !r.tell(yield, Update{Problem: r.stale(state)}) {
			return
		}
	}
}

func (r *round) sortedKeys() []Key {
	return slices.SortedFunc(maps.Keys(r.states), func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Location, b.Location), cmp.Compare(a.IssuerKeyID, b.IssuerKeyID), cmp.Compare(a.Scope, b.Scope))
	})
}

// document reads the lists of one document. It returns false when yield did.
func (r *round) document(ref documents.Ref, yield func(Update) bool) bool {
	known := r.version(ref.Location)
	if known != "" && known == ref.Version {
		r.Metrics.unchanged()
		return true
	}
	start := time.Now()
	doc, err := r.Place.Open(r.ctx, ref.Location, known)
	if errors.Is(err, documents.ErrUnchanged) {
		r.Metrics.unchanged()
		return true
	}
	if err != nil {
		return r.tell(yield, Update{Problem: r.problem(ref.Location, err)})
	}
	defer doc.Close()
	lists := NewReader(doc, math.MaxInt64) // the place has the limit
	whole := true                          // every list so far was taken in
	// The last update carries the version, so that a document counts as read when
	// all of it was: each waits until it is known whether another follows.
	var waiting *Update
	for {
		u, err := lists.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if waiting != nil {
			if !r.give(yield, *waiting) {
				return false
			}
			waiting = nil
		}
		if err != nil {
			return r.tell(yield, Update{Problem: r.problem(ref.Location, err)})
		}
		list, err := r.verify(u)
		if err != nil {
			whole = false
			problem := r.problem(ref.Location, err)
			problem.Issuer = u.Header.Issuer.String()
			if !r.tell(yield, Update{Problem: problem}) {
				return false
			}
			continue
		}
		update := r.compare(ref.Location, list)
		if update.State.IssuerKeyID == "" {
			whole = false
			if !r.tell(yield, update) {
				return false
			}
			continue
		}
		waiting = &update
	}
	r.Metrics.done(time.Since(start))
	if waiting == nil {
		return true
	}
	if whole {
		waiting.State.Version = doc.Version
	}
	return r.give(yield, *waiting)
}

// verify finds the issuer of a list.
func (r *round) verify(u *Unverified) (*List, error) {
	err := error(&Error{
		Reason: ReasonUnknownIssuer,
		Err:    fmt.Errorf("no certificate of CA %q with key %x is known; give it with the list's source", u.Header.Issuer, u.Header.AuthorityKeyId),
	})
	for _, issuer := range r.Issuers.Issuers(u.Header.RawIssuer) {
		if !u.namesIssuer(issuer) {
			continue
		}
		var list *List
		if list, err = u.Verify(issuer); err == nil {
			return list, nil
		}
	}
	return nil, err
}

// compare holds a list against the one before it.
func (r *round) compare(location string, list *List) Update {
	h := list.Header
	state := State{
		Key:    Key{IssuerKeyID: list.IssuerKeyID(), Location: location, Scope: list.Scope},
		Issuer: h.Issuer.String(), ThisUpdate: h.ThisUpdate, NextUpdate: h.NextUpdate,
		SHA256: list.SHA256, Entries: list.Entries, Read: r.now,
	}
	if h.Number != nil {
		state.Number = h.Number.String()
	}
	update := Update{State: state, List: list}
	if list.Stale(r.now) {
		update.Problem = r.stale(&state)
	}
	last := r.states[state.Key]
	switch {
	case last == nil:
	case last.SHA256 == list.SHA256:
		if r.Held == nil || r.Held(last) {
			update.List = nil
		}
	case !last.precedes(h.Number, h.ThisUpdate):
		p := &Problem{
			Reason: ReasonRolledBack, Source: location, Issuer: state.Issuer, IssuerKeyID: state.IssuerKeyID,
			Number: state.Number, Previous: last.Number, NextUpdate: state.NextUpdate,
		}
		if p.Number == p.Previous || p.Number == "" || p.Previous == "" {
			p.Number, p.Previous = state.ThisUpdate.Format(time.RFC3339), last.ThisUpdate.Format(time.RFC3339)
		}
		p.Error = fmt.Sprintf("older than the list before it: %s after %s", p.Number, p.Previous)
		return Update{Problem: p}
	}
	return update
}

// give yields an update of a list that is good, if it says anything.
func (r *round) give(yield func(Update) bool, u Update) bool {
	last := r.states[u.State.Key]
	if u.List == nil && u.Problem == nil && last != nil && last.Version == u.State.Version {
		return true
	}
	if u.List != nil {
		r.Metrics.list(u.List)
	}
	// What follows in the same document is held against this one.
	state := u.State
	r.states[state.Key] = &state
	r.told[state.Key] = true
	return r.tell(yield, u)
}

func (r *round) tell(yield func(Update) bool, u Update) bool {
	if r.ctx.Err() != nil {
		return false // a stop is no problem of the place
	}
	if u.Problem != nil {
		r.Metrics.problem(u.Problem.Reason)
	}
	return yield(u)
}

func (r *round) stale(state *State) *Problem {
	return &Problem{
		Reason: ReasonStale, Source: state.Location, Issuer: state.Issuer, IssuerKeyID: state.IssuerKeyID,
		Number: state.Number, NextUpdate: state.NextUpdate,
		Error: "the next list was due " + state.NextUpdate.UTC().Format(time.RFC3339),
	}
}

func (r *round) problem(source string, err error) *Problem {
	reason := reasonOf(err, ReasonUnreachable)
	if errors.Is(err, documents.ErrTooLarge) {
		reason = ReasonTooLarge
	}
	return &Problem{Reason: reason, Source: source, Error: err.Error()}
}
