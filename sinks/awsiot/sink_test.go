package awsiot

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tocsin-io/tocsin/internal/actionlog"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

func wantCalls(t *testing.T, f *fakeAWS, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, f.made(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("calls, -want +got:\n%s", diff)
	}
}

func TestEachAction(t *testing.T) {
	for _, test := range []struct {
		kind string
		want []string
	}{
		{schemas.KindRevoke, []string{"UpdateCertificate 1 REVOKED"}},
		{schemas.KindDeactivate, []string{"UpdateCertificate 1 INACTIVE"}},
		{schemas.KindDisconnect, []string{"DeleteConnection pump-1 true"}},
		{schemas.KindQuarantine, []string{"AddThingToThingGroup pump-1 quarantine"}},
	} {
		t.Run(test.kind, func(t *testing.T) {
			r := newRig(t)
			r.register(1)
			o := r.options()
			o.PreventWill = true
			o.Bindings[0].Actions = []string{test.kind}
			r.start(o)
			r.detect(finding(1))
			done := r.await(schemas.ActionDone, 1)[0]
			wantCalls(t, r.aws, test.want...)
			if done.Reason == "" || done.Rule != "Shared certificate" || done.DetectionID != "detection-1" || done.CertificateID != cert(1) || done.DryRun {
				t.Errorf("got %+v", done)
			}
			var states []string
			for _, a := range r.steps() {
				states = append(states, a.State)
			}
			if want := []string{"requested", "started", "done"}; !cmp.Equal(states, want) {
				t.Errorf("steps %v", states)
			}
		})
	}
}

func TestDryRunCallsNothing(t *testing.T) {
	r := newRig(t)
	o := r.options()
	o.DryRun, o.Control, o.Connections = true, nil, nil
	o.Approval.Required = true
	o.Bindings[0].Actions = Kinds
	r.start(o)
	r.detect(finding(1))
	for _, a := range r.await(schemas.ActionPlanned, len(Kinds)) {
		if !a.DryRun || !strings.Contains(a.Reason, "dry run") {
			t.Errorf("got %+v", a)
		}
	}
	if r.aws.tries != 0 {
		t.Errorf("%d calls", r.aws.tries)
	}
}

func TestBreaker(t *testing.T) {
	r := newRig(t)
	r.register(20)
	s := r.start(r.options())
	var findings []*schemas.Finding
	for i := range 12 {
		findings = append(findings, finding(i+1))
	}
	r.detect(findings...)
	done := r.await(schemas.ActionDone, 5)
	refused := r.await(schemas.ActionRefused, 7)
	if len(done) != 5 || len(refused) != 7 || len(r.aws.made()) != 5 {
		t.Errorf("%d done, %d refused, calls %v", len(done), len(refused), r.aws.made())
	}
	for _, a := range refused {
		if a.Code != codeBreaker || a.Reason == "" {
			t.Errorf("got %+v", a)
		}
	}
	if opened := r.await(schemas.ActionOpened, 1); len(opened) != 1 {
		t.Errorf("it opened %d times", len(opened))
	}
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "tocsin actions resume prod") {
		t.Errorf("readiness says %v", err)
	}
	if got := r.breakerEvents(); len(got) != 1 || !strings.Contains(got[0], `"limit":5`) {
		t.Errorf("events %v", got)
	}

	// A restart does not close it, and does not forget what was done.
	s.stop()
	s = r.start(r.options())
	r.detect(finding(13))
	r.await(schemas.ActionRefused, 8)

	if err := r.log.Append(t.Context(), actionlog.Breaker("prod", schemas.ActionResumed, "looked at", "alice", time.Now())); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); s.Err() != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(s.Err())
		}
	}
	r.detect(finding(14))
	r.await(schemas.ActionDone, 6)
	if got := r.breakerEvents(); len(got) != 1 {
		t.Errorf("events %v", got)
	}
}

// breakerEvents returns the messages of the events that the breaker published.
func (r *rig) breakerEvents() (messages []string) {
	for p := range partitions {
		err := r.client.ReadAll(r.t.Context(), schemas.TopicEvents, p, func(rec *kafka.FetchedRecord) error {
			var batch schemas.BatchReader
			var ev schemas.Event
			batch.Reset(rec.Value)
			for batch.Next(&ev) {
				if string(ev.Type) == EventBreakerOpened && string(ev.Source) == schemas.SourceRegistry {
					messages = append(messages, string(ev.Message))
				}
			}
			return batch.Err()
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	return messages
}

func TestShareOfTheFleetThatIsKnown(t *testing.T) {
	r := newRig(t)
	r.register(20)
	for i := range 700 {
		r.identity(schemas.KeyCertificate+cert(i), schemas.Certificate{ID: cert(i), Status: schemas.CertActive})
	}
	for i := range 100 { // of them, 100 are not active any more
		r.identity(schemas.KeyCertificate+cert(i), schemas.Certificate{ID: cert(i), Status: schemas.CertRevoked})
	}
	r.start(r.options())
	var findings []*schemas.Finding
	for i := range 10 {
		findings = append(findings, finding(i+1))
	}
	r.detect(findings...)
	r.await(schemas.ActionRefused, 4)
	r.await(schemas.ActionDone, 6)
	if n := len(r.aws.made()); n != 6 { // 1 % of 600
		t.Errorf("%d calls", n)
	}
}

func TestApproval(t *testing.T) {
	r := newRig(t)
	r.register(4)
	o := r.options()
	o.Approval.Required, o.Approval.Expires = true, 3*time.Second
	s := r.start(o)
	r.detect(finding(1), finding(2), finding(3))
	pending := r.await(schemas.ActionPending, 3)
	if len(r.aws.made()) != 0 {
		t.Fatalf("calls %v", r.aws.made())
	}
	s.stop() // what waits, waits on after a restart
	answer := func(n int, state string) {
		i := slices.IndexFunc(pending, func(a schemas.Action) bool { return a.CertificateID == cert(n) })
		a := pending[i]
		a.State, a.Approver, a.Time = state, "alice", time.Now()
		if err := r.log.Append(t.Context(), &a); err != nil {
			t.Fatal(err)
		}
	}
	answer(1, schemas.ActionApproved)
	r.start(o)
	done := r.await(schemas.ActionDone, 1)[0]
	answer(2, schemas.ActionRejected)
	expired := r.await(schemas.ActionExpired, 1)
	if done.CertificateID != cert(1) || done.Approver != "alice" {
		t.Errorf("got %+v", done)
	}
	if len(expired) != 1 || expired[0].CertificateID != cert(3) {
		t.Errorf("got %+v", expired)
	}
	answer(3, schemas.ActionApproved) // too late
	o.Approval.Required = false
	r.detect(finding(4))
	r.await(schemas.ActionPending, 4)
	wantCalls(t, r.aws, "UpdateCertificate 1 REVOKED")
}

func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*schemas.Finding, *Options)
		code   string
	}{
		{"only an address", func(f *schemas.Finding, _ *Options) {
			f.Unmapped.Group = map[string]string{"tocsin.source_ip": "198.51.100.7"}
			f.Unmapped.EvidenceComplete = false // the certificate of what is shown need not be that of the rest
		}, codeAddressOnly},
		{"nothing", func(f *schemas.Finding, _ *Options) { f.Unmapped.Group, f.Evidences = nil, nil }, codeNoIdentity},
		{"a claimed client ID", func(f *schemas.Finding, o *Options) {
			f.Unmapped.Group = map[string]string{"tocsin.device": "pump-1"}
			f.Evidences[0].Data.CertificateID, f.Evidences[0].Data.Outcome = "", "failure"
			o.Bindings[0].Actions = []string{schemas.KindDisconnect}
		}, codeUnauthenticated},
		{"no certificate", func(f *schemas.Finding, _ *Options) {
			f.Unmapped.Group = map[string]string{"tocsin.device": "pump-1"}
			f.Evidences[0].Data.CertificateID = ""
		}, codeNoCertificate},
		{"another account", func(f *schemas.Finding, _ *Options) {
			f.Cloud = &schemas.FindingCloud{Account: &schemas.FindingAccount{UID: "210987654321"}}
		}, codeOtherAccount},
		{"old", func(f *schemas.Finding, _ *Options) { f.Time -= 25 * 3600 * 1000 }, codeStale},
		{"allowed certificate", func(_ *schemas.Finding, o *Options) { o.AllowList = []string{"certificate:*0001"} }, codeAllowList},
		{"allowed client", func(_ *schemas.Finding, o *Options) { o.AllowList = []string{"client:PUMP-*"} }, codeAllowList},
		// The detection does not name the thing: AWS is asked which it is.
		{"allowed thing", func(f *schemas.Finding, o *Options) {
			f.Device, f.Evidences[0].Data.ClientID = nil, "other"
			o.AllowList = []string{"thing:pump-1"}
		}, codeAllowList},
		{"several things", func(f *schemas.Finding, o *Options) {
			f.Unmapped.Group["tocsin.certificate_id"] = cert(2)
			f.Evidences[0].Data.CertificateID = cert(2)
			o.Bindings[0].Actions = []string{schemas.KindQuarantine}
		}, codeNoThing},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			r.register(1)
			r.aws.certs[cert(2)] = &fakeCert{status: "ACTIVE", things: []string{"a", "b"}}
			o, f := r.options(), finding(1)
			test.change(f, &o)
			r.start(o)
			r.detect(f)
			if got := r.await(schemas.ActionRefused, 1)[0]; got.Code != test.code || got.Reason == "" {
				t.Errorf("got %+v, want %s", got, test.code)
			}
			wantCalls(t, r.aws)
		})
	}
}

func TestDuplicates(t *testing.T) {
	r := newRig(t)
	r.register(2)
	o := r.options()
	s := r.start(o)
	same, update, other := finding(1), finding(1), finding(1)
	update.ActivityID, update.Unmapped.Revision = schemas.ActivityUpdate, 2
	other.FindingInfo.UID = "detection-other"
	r.detect(same)
	r.await(schemas.ActionDone, 1)
	r.detect(same, update, other)
	merged := r.await(schemas.ActionRefused, 1)
	if merged[0].Code != codeMerged || !strings.Contains(merged[0].Reason, r.await(schemas.ActionDone, 1)[0].ID) {
		t.Errorf("got %+v", merged[0])
	}
	s.stop()

	// After a restart the group reads nothing twice, but a correlator may repeat.
	r.start(o)
	r.detect(same, other, finding(2))
	r.await(schemas.ActionDone, 2)
	wantCalls(t, r.aws, "UpdateCertificate 1 REVOKED", "UpdateCertificate 2 REVOKED")

	closed := finding(2)
	closed.FindingInfo.UID, closed.ActivityID = "detection-closed", schemas.ActivityClose
	r.detect(closed)
	r.detect(&schemas.Finding{ClassUID: 1}) // a dead letter; the stream goes on
	again := finding(2)
	again.FindingInfo.UID = "detection-again"
	r.detect(again)
	r.await(schemas.ActionRefused, 2)
	if slices.ContainsFunc(r.steps(), func(a schemas.Action) bool { return a.DetectionID == "detection-closed" }) {
		t.Error("an episode that ended asks for something")
	}
}

func TestThrottledAndBroken(t *testing.T) {
	r := newRig(t)
	r.register(1)
	r.aws.fail = []answer{{429, "ThrottlingException"}, {500, "InternalFailureException"}, {503, "ServiceUnavailableException"}}
	o := r.options()
	o.Backoff.First = time.Millisecond
	r.start(o)
	r.detect(finding(1))
	r.await(schemas.ActionDone, 1)
	wantCalls(t, r.aws, "UpdateCertificate 1 REVOKED")
}

func TestRefusedByAWS(t *testing.T) {
	for _, test := range []struct {
		name string
		fail []answer
		code string
	}{
		{"gone", nil, codeTargetGone},
		{"not permitted", []answer{{403, "AccessDeniedException"}}, codeNotAllowed},
		{"in the wrong state", []answer{{406, "CertificateStateException"}}, codeAWSRefused},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			r.aws.fail = test.fail
			r.start(r.options())
			r.detect(finding(1))
			got := r.await(schemas.ActionFailed, 1)[0]
			if got.Code != test.code || got.Error == "" || got.Reason == "" {
				t.Errorf("got %+v", got)
			}
			// The stream is not dead, and what failed may be tried for another detection.
			r.aws.set(func() { r.register(1) })
			again := finding(1)
			again.FindingInfo.UID = "detection-again"
			r.detect(again)
			r.await(schemas.ActionDone, 1)
		})
	}
}

func TestDisconnect(t *testing.T) {
	r := newRig(t)
	r.aws.online["a/b c"] = true
	o := r.options()
	o.Bindings[0].Actions = []string{schemas.KindDisconnect}
	r.start(o)
	f := finding(1) // one certificate, two clients, and one that is somebody else's
	f.Evidences[0].Data.ClientID = "a/b c"
	for _, e := range []schemas.EvidenceData{
		{ClientID: "offline", CertificateID: cert(1)}, {ClientID: "else", CertificateID: cert(2)}, {ClientID: "claimed", Outcome: "failure"},
	} {
		f.Evidences = append(f.Evidences, schemas.Evidence{Data: e})
	}
	r.detect(f)
	reasons := map[string]string{}
	for _, a := range r.await(schemas.ActionDone, 2) {
		reasons[a.ClientID] = a.Reason
	}
	if want := map[string]string{"a/b c": "the connection was closed", "offline": "the client was not connected"}; !cmp.Equal(reasons, want) {
		t.Errorf("got %v", reasons)
	}
	wantCalls(t, r.aws, "DeleteConnection a/b c false")
}

// A device whose connection is closed before its certificate is taken away is back
// at once.
func TestTheCertificateGoesFirst(t *testing.T) {
	r := newRig(t)
	r.register(1)
	r.aws.fail = []answer{{503, "ServiceUnavailableException"}, {503, "ServiceUnavailableException"}}
	o := r.options()
	o.Backoff.First = 10 * time.Millisecond
	o.Bindings[0].Actions = []string{schemas.KindDisconnect, schemas.KindDeactivate}
	r.start(o)
	r.detect(finding(1))
	r.await(schemas.ActionDone, 2)
	wantCalls(t, r.aws, "UpdateCertificate 1 INACTIVE", "DeleteConnection pump-1 false")
}

func TestARevokedCertificateIsNotMadeInactive(t *testing.T) {
	r := newRig(t)
	r.register(1)
	r.aws.certs[cert(1)].status = "REVOKED"
	o := r.options()
	o.Bindings[0].Actions = []string{schemas.KindDeactivate}
	r.start(o)
	r.detect(finding(1))
	r.await(schemas.ActionDone, 1)
	wantCalls(t, r.aws)
}

// A process that is stopped, or dies, in the middle of a call: the next one makes
// the call again and records the end, once.
func TestRestartInTheMiddle(t *testing.T) {
	r := newRig(t)
	r.register(1)
	o := r.options()
	o.Backoff.First, o.Backoff.Max = time.Hour, time.Hour // the second attempt is the next process's
	for range 1000 {
		r.aws.fail = append(r.aws.fail, answer{503, "ServiceUnavailableException"})
	}
	s := r.start(o)
	r.detect(finding(1))
	r.await(schemas.ActionStarted, 1)
	for deadline := time.Now().Add(10 * time.Second); s.Err() == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the sink does not say that AWS is away")
		}
	}
	s.stop()
	if got := r.steps(); len(got) != 2 {
		t.Fatalf("got:\n%s", show(got))
	}
	r.aws.set(func() { r.aws.fail = nil })
	r.start(r.options())
	r.await(schemas.ActionDone, 1)
	wantCalls(t, r.aws, "UpdateCertificate 1 REVOKED")
	if got := r.steps(); len(got) != 3 {
		t.Errorf("got:\n%s", show(got))
	}
}

// A call that has begun when the process is told to stop ends, and is recorded.
func TestStopWaitsForACall(t *testing.T) {
	r := newRig(t)
	r.register(1)
	r.aws.hold = make(chan struct{})
	s := r.start(r.options())
	r.detect(finding(1))
	<-r.aws.held // DescribeCertificate
	stopped := make(chan struct{})
	go func() { s.stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Fatal("it did not wait")
	case <-time.After(100 * time.Millisecond):
	}
	r.aws.set(func() { close(r.aws.hold); r.aws.hold = nil })
	<-stopped
	// What had not begun, UpdateCertificate, is the next process's.
	wantCalls(t, r.aws)
	r.start(r.options())
	r.await(schemas.ActionDone, 1)
	wantCalls(t, r.aws, "UpdateCertificate 1 REVOKED")
}

// A breaker that opened in a dry run is closed when it is none any more, and the
// other way round: what was not done does not count.
func TestDryRunEnds(t *testing.T) {
	r := newRig(t)
	r.register(20)
	o := r.options()
	o.DryRun = true
	s := r.start(o)
	for i := range 6 {
		r.detect(finding(i + 1))
	}
	r.await(schemas.ActionPlanned, 5)
	r.await(schemas.ActionOpened, 1)
	s.stop()
	o.DryRun = false
	r.start(o)
	for i := 6; i < 12; i++ {
		r.detect(finding(i + 1))
	}
	r.await(schemas.ActionDone, 5)
	r.await(schemas.ActionOpened, 2)
	if n := len(r.aws.made()); n != 5 {
		t.Errorf("%d calls", n)
	}
}

func TestOptions(t *testing.T) {
	good := func() Options {
		return Options{
			Account: account, Region: "eu-west-1",
			Bindings: []Binding{{Rules: []string{"level>=high"}, Actions: []string{schemas.KindRevoke}}},
		}
	}
	o := good()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		change func(*Options)
		want   string
	}{
		{func(o *Options) { o.Account = "1" }, "account"},
		{func(o *Options) { o.Region = "moon" }, "region"},
		{func(o *Options) { o.Bindings = nil }, "bindings"},
		{func(o *Options) { o.Bindings[0].Rules = []string{"level>=huge"} }, "bindings[0].rules[0]"},
		{func(o *Options) { o.Bindings[0].Actions = []string{"explode"} }, "bindings[0].actions[0]"},
		{func(o *Options) { o.Bindings[0].Actions = []string{schemas.KindQuarantine} }, "quarantine_group"},
		{func(o *Options) { o.Bindings[0].Actions = []string{schemas.KindRotate} }, "rotation"},
		{func(o *Options) { o.AllowList = []string{"thing:"} }, "allow_list[0]"},
		{func(o *Options) { o.Rates = map[string]float64{"DeleteEverything": 1} }, "rates"},
		{func(o *Options) { o.Limits.MaxShare = 101 }, "max_share_per_hour"},
	} {
		o := good()
		test.change(&o)
		if err := o.Validate(); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
	o = good()
	o.Account, o.Region = "", ""
	var all interface{ Unwrap() []error }
	if err := o.Validate(); !errors.As(err, &all) || len(all.Unwrap()) != 2 {
		t.Errorf("got %v", fmt.Sprint(err))
	}
}
