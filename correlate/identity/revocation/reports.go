package revocation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/correlate/identity/crl"
	"github.com/tocsin-io/tocsin/correlate/identity/pcareport"
	"github.com/tocsin-io/tocsin/internal/documents"
	"github.com/tocsin-io/tocsin/schemas"
)

// Reports are the audit reports of AWS Private CA in all places. It is a Source.
type Reports struct {
	Places []documents.Place
	// KeyID returns the key identifier of a CA by its ARN, which is what reports
	// name it by.
	KeyID  func(ctx context.Context, caARN string) (string, error)
	Logger *zap.Logger
}

// Name is "audit-reports".
func (r *Reports) Name() string { return "audit-reports" }

// reportStates are the states of the CAs' reports, by place.
type reportStates map[string][]pcareport.State

// Sync reads the newest report of each CA in all places.
func (r *Reports) Sync(ctx context.Context, state json.RawMessage, t Target) error {
	var before reportStates
	if len(state) > 0 {
		if err := json.Unmarshal(state, &before); err != nil {
			r.Logger.Warn("what is remembered of the audit reports cannot be read; the newest are read again", zap.Error(err))
		}
	}
	states := make(reportStates)
	for _, place := range r.Places {
		states[place.String()] = before[place.String()]
	}
	for _, place := range r.Places {
		name := place.String()
		s := &pcareport.Syncer{Place: place}
		for report, err := range s.Sync(ctx, states[name]) {
			if err == nil {
				err = r.report(ctx, report, t)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if target, ok := errors.AsType[*targetError](err); ok {
				return target.err
			}
			if err != nil {
				source := report.State.Location
				if source == "" {
					source = name
				}
				t.Problem(&crl.Problem{Reason: reportReason(err), Source: source, Error: err.Error()})
				continue
			}
			states[name] = replaceReport(states[name], report.State)
			if err := t.Save(ctx, states); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// targetError is what the target said; all else is of the report.
type targetError struct{ err error }

func (e *targetError) Error() string { return e.err.Error() }

// report hands on what one report says. Entries that cannot be read are counted
// and told of; the others count.
func (r *Reports) report(ctx context.Context, report *pcareport.Report, t Target) error {
	began := time.Now()
	entries, revoked, bad := 0, 0, 0
	var firstBad error
	for e, err := range report.Entries() {
		if _, ok := errors.AsType[*pcareport.BadEntry](err); ok {
			if bad++; firstBad == nil {
				firstBad = err
			}
			continue
		}
		if err != nil {
			return &malformed{err}
		}
		entries++
		if !e.Revoked() {
			continue
		}
		issuer := e.IssuerKeyID
		if issuer == "" {
			if issuer, err = r.KeyID(ctx, e.CAARN); err != nil {
				return err
			}
		}
		revoked++
		err = t.Revoke(ctx, &Revocation{
			IssuerKeyID: issuer, Serial: e.Serial,
			Revocation: schemas.Revocation{Time: e.RevokedAt, Reason: e.Reason, Source: report.State.Location},
		})
		if err != nil {
			return &targetError{err}
		}
	}
	r.Logger.Info("audit report", zap.String("source", report.State.Location), zap.Int("certificates", entries),
		zap.Int("revoked", revoked), zap.Int("unreadable", bad), zap.Duration("took", time.Since(began)))
	if bad > 0 {
		t.Problem(&crl.Problem{
			Reason: crl.ReasonMalformed, Source: report.State.Location,
			Error: fmt.Sprintf("%d entries cannot be read, the first: %v", bad, firstBad),
		})
	}
	return nil
}

// malformed is what is wrong with a report, apart from the way to it.
type malformed struct{ err error }

func (m *malformed) Error() string { return m.err.Error() }
func (m *malformed) Unwrap() error { return m.err }

func reportReason(err error) crl.Reason {
	switch {
	case errors.Is(err, documents.ErrTooLarge):
		return crl.ReasonTooLarge
	case errors.As(err, new(*malformed)):
		return crl.ReasonMalformed
	}
	return crl.ReasonUnreachable
}

func replaceReport(states []pcareport.State, s pcareport.State) []pcareport.State {
	out := make([]pcareport.State, 0, len(states)+1)
	for _, other := range states {
		if other.Folder != s.Folder {
			out = append(out, other)
		}
	}
	return append(out, s)
}
