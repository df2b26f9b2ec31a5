package enforce

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/tocsin-io/tocsin/schemas"
)

var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// registry is a list of certificates.
type registry struct {
	mu    sync.Mutex
	certs []schemas.Certificate
}

func (r *registry) RevokedActive(limit int) ([]schemas.Certificate, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]schemas.Certificate(nil), r.certs[:min(limit, len(r.certs))]...), len(r.certs)
}

func (r *registry) revoke(id, reason string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.certs = append(r.certs, schemas.Certificate{
		ID: id, Status: schemas.CertActive, Revoked: &schemas.Revocation{Time: at, Reason: reason, Source: "s3://b/ca.crl"},
	})
}

// journal keeps what is asked for.
type journal struct {
	mu    sync.Mutex
	steps []schemas.Action
	fail  error
	added chan struct{}
}

func (j *journal) Append(_ context.Context, a *schemas.Action) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fail != nil {
		return j.fail
	}
	j.steps = append(j.steps, *a)
	if j.added != nil {
		j.added <- struct{}{}
	}
	return nil
}

func (j *journal) take() (ids []string) {
	for _, a := range j.steps {
		ids = append(ids, a.CertificateID)
	}
	j.steps = nil
	return ids
}

func newEnforcer(now *time.Time, o Options) (*Enforcer, *journal) {
	j := &journal{}
	o.Log, o.Now = j, func() time.Time { return *now }
	return New(o), j
}

// value returns what a counter or a gauge has come to.
func value(t testing.TB, m prometheus.Metric) float64 {
	t.Helper()
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.GetCounter().GetValue() + out.GetGauge().GetValue()
}

func round(t testing.TB, e *Enforcer, r Registry) {
	t.Helper()
	if err := e.round(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func TestRequest(t *testing.T) {
	now := start
	e, j := newEnforcer(&now, Options{Sink: "prod"})
	r := &registry{}
	r.revoke("c1", "keyCompromise", start.Add(-time.Hour))
	r.certs[0].ClientIDs, r.certs[0].Things = []string{"pump"}, []string{"thing"}
	round(t, e, r)
	if len(j.steps) != 1 {
		t.Fatalf("%d requests", len(j.steps))
	}
	got := j.steps[0]
	want := schemas.Action{
		ID: got.ID, Time: now, Requested: now, Sink: "prod", Kind: schemas.KindRevoke, State: schemas.ActionRequested, Rule: RuleTitle,
		Reason: "its CA revoked the certificate on 2026-11-23T11:00:00Z (keyCompromise): s3://b/ca.crl",
		Device: "pump", ClientID: "pump", Thing: "thing", CertificateID: "c1",
	}
	if diff := cmp.Diff(want, got); diff != "" || len(got.ID) != 32 {
		t.Error(diff, got.ID)
	}
}

func TestAsksOnceUntilItIsTimeToTryAgain(t *testing.T) {
	now := start
	e, j := newEnforcer(&now, Options{Sink: "prod", RetryAfter: 6 * time.Hour})
	r := &registry{}
	r.revoke("c1", "", start.Add(-time.Hour))
	round(t, e, r)
	first := j.steps[0].ID
	round(t, e, r)
	now = start.Add(4 * time.Hour)
	round(t, e, r)
	if got := j.take(); len(got) != 1 {
		t.Errorf("asked for %q", got)
	}
	// A restart knows nothing of it; the ID says that it is the same.
	again, k := newEnforcer(&now, Options{Sink: "prod", RetryAfter: 6 * time.Hour})
	round(t, again, r)
	if k.steps[0].ID != first {
		t.Error("another ID after a restart")
	}
	now = start.Add(5 * time.Hour) // six since the revocation
	round(t, e, r)
	if len(j.steps) != 1 || j.steps[0].ID == first {
		t.Errorf("steps %v", j.steps)
	}
	// It was revoked at the broker, made active again by somebody, and is asked for.
	j.take()
	was := r.certs
	r.certs = nil
	round(t, e, r)
	r.certs = was
	round(t, e, r)
	if got := j.take(); len(got) != 1 {
		t.Errorf("asked for %q", got)
	}
}

func TestUrgentOnesFirstAndOnlySoMany(t *testing.T) {
	now := start
	metrics := prometheus.NewRegistry()
	e, j := newEnforcer(&now, Options{Sink: "prod", MaxRequests: 3, Registerer: metrics})
	r := &registry{}
	r.revoke("late", "superseded", start.Add(-time.Minute))
	r.revoke("early", "superseded", start.Add(-time.Hour))
	r.revoke("stolen", "keyCompromise", start.Add(-time.Second))
	r.revoke("b", "", start.Add(-time.Minute*30))
	r.revoke("a", "", start.Add(-time.Minute*30))
	round(t, e, r)
	if diff := cmp.Diff([]string{"stolen", "early", "a"}, j.take()); diff != "" {
		t.Error(diff)
	}
	if got := value(t, e.waiting); got != 2 {
		t.Errorf("%v wait, want 2", got)
	}
	round(t, e, r)
	if diff := cmp.Diff([]string{"b", "late"}, j.take()); diff != "" {
		t.Error(diff)
	}
	round(t, e, r)
	if got := j.take(); got != nil {
		t.Errorf("asked again for %q", got)
	}
	if value(t, e.waiting) != 0 || value(t, e.request) != 5 || value(t, e.active) != 5 {
		t.Error("metrics", value(t, e.waiting), value(t, e.request), value(t, e.active))
	}
}

func TestReportOnly(t *testing.T) {
	now := start
	e, j := newEnforcer(&now, Options{})
	r := &registry{}
	r.revoke("c", "keyCompromise", start)
	round(t, e, r)
	if len(j.steps) != 0 || value(t, e.active) != 1 {
		t.Errorf("%d requests, %v active", len(j.steps), value(t, e.active))
	}
}

func TestAppendFails(t *testing.T) {
	now := start
	e, j := newEnforcer(&now, Options{Sink: "prod"})
	r := &registry{}
	r.revoke("c1", "", start.Add(-time.Hour))
	r.revoke("c2", "", start.Add(-time.Minute))
	j.fail = errors.New("no broker")
	if err := e.round(t.Context(), r); !errors.Is(err, j.fail) {
		t.Errorf("%v", err)
	}
	j.fail = nil
	round(t, e, r)
	if got := j.take(); len(got) != 2 {
		t.Errorf("asked for %q", got)
	}
}

func TestRunBeginsAtOnceAndWhenPoked(t *testing.T) {
	now := start
	e, j := newEnforcer(&now, Options{Sink: "prod", Interval: time.Hour})
	j.added = make(chan struct{})
	r := &registry{}
	r.revoke("c0", "", start)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx, r) }()
	for n := range 5 {
		select {
		case <-j.added:
		case <-time.After(20 * time.Second):
			t.Fatalf("request %d did not come", n)
		}
		r.revoke(fmt.Sprint("c", n+1), "", start.Add(time.Duration(n)*time.Second))
		e.Poke()
		e.Poke()
	}
	cancel()
	for {
		select {
		case <-j.added: // the last one
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			return
		case <-time.After(20 * time.Second):
			t.Fatal("it does not end")
		}
	}
}
