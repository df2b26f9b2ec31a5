package awsiot

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/tocsin-io/tocsin/internal/actionlog"
	"github.com/tocsin-io/tocsin/schemas"
)

// Several processes of one sink touch no more of the fleet than one, also while
// the one that acts changes.
func TestSeveralMembers(t *testing.T) {
	r := newRig(t)
	r.register(30)
	a, b := r.start(r.options()), r.start(r.options())
	acting := func() (n int) {
		for _, s := range []*running{a, b} {
			if s.breaker.Load() != nil {
				n++
			}
		}
		return n
	}
	for i := range 3 {
		r.detect(finding(i + 1))
	}
	r.await(schemas.ActionDone, 3)
	if n := acting(); n != 1 {
		t.Errorf("%d processes act", n)
	}
	// Whoever acts leaves.
	if a.breaker.Load() != nil {
		a.stop()
	} else {
		b.stop()
	}
	for i := 3; i < 12; i++ {
		r.detect(finding(i + 1))
	}
	r.await(schemas.ActionDone, 5)
	r.await(schemas.ActionRefused, 7)
	if n := len(r.aws.made()); n != 5 {
		t.Errorf("%d calls", n)
	}
	if n := len(r.await(schemas.ActionOpened, 1)); n != 1 {
		t.Errorf("the breaker opened %d times", n)
	}
}

// A process that dies in the middle of a call leaves a started action, which the
// next one finishes. The call is made twice, and changes nothing the second time.
func TestDiesInTheMiddle(t *testing.T) {
	r := newRig(t)
	r.register(1)
	o := r.options()
	o.Bindings[0].Actions = []string{schemas.KindDisconnect}
	sink, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	r.aws.hold = make(chan struct{})
	e := startExecutor(sink)
	request := sink.requests(finding(1))[0]
	if err := r.log.Append(t.Context(), &request); err != nil {
		t.Fatal(err)
	}
	<-r.aws.held
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.stop(gone); err == nil {
		t.Error("a stop in the middle of a call says nothing")
	}
	r.aws.set(func() { close(r.aws.hold); r.aws.hold = nil })
	<-e.ended
	next := startExecutor(sink)
	r.await(schemas.ActionDone, 1)
	if err := next.stop(t.Context()); err != nil {
		t.Error(err)
	}
	if made := r.aws.made(); len(made) > 2 || made[0] != "DeleteConnection pump-1 false" {
		t.Errorf("calls %v", made)
	}
	var states []string
	for _, a := range r.steps() {
		states = append(states, a.State)
	}
	if len(states) != 3 || states[1] != schemas.ActionStarted {
		t.Errorf("steps %v", states)
	}
}

// What somebody else asks for, the registry for a certificate that its CA revoked,
// is held against the same limits.
func TestRequestsOfOthers(t *testing.T) {
	r := newRig(t)
	r.register(2)
	o := r.options()
	o.AllowList = []string{"thing:pump-2"}
	r.start(o)
	for n := 1; n <= 2; n++ {
		a := schemas.Action{
			ID: actionlog.ID("prod", "crl", schemas.KindRevoke, "cert:"+cert(n)), Time: time.Now(), Requested: time.Now(),
			Sink: "prod", Kind: schemas.KindRevoke, State: schemas.ActionRequested, CertificateID: cert(n), Rule: "Revoked by its CA",
		}
		other := a
		other.Sink, other.ID = "elsewhere", "other"+a.ID
		for _, step := range []*schemas.Action{&a, &other} {
			if err := r.log.Append(t.Context(), step); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.await(schemas.ActionDone, 1)
	if got := r.await(schemas.ActionRefused, 1)[0]; got.Code != codeAllowList || got.CertificateID != cert(2) {
		t.Errorf("got %+v", got)
	}
	wantCalls(t, r.aws, "UpdateCertificate 1 REVOKED")
}

func TestEndpoints(t *testing.T) {
	creds := credentials.NewStaticCredentialsProvider("AKIATEST", "secret", "")
	for region, want := range map[string]string{
		"eu-west-1": "https://data-ats.iot.eu-west-1.amazonaws.com", "cn-north-1": "https://data-ats.iot.cn-north-1.amazonaws.com.cn",
	} {
		c, err := NewConnections(&aws.Config{Region: region, Credentials: creds}, "")
		if err != nil || c.endpoint != want {
			t.Errorf("%s: %v, %v", region, c, err)
		}
	}
	for _, bad := range []string{"data-ats.iot.eu-west-1.amazonaws.com", "https://host/path", "://"} {
		if _, err := NewConnections(&aws.Config{Region: "eu-west-1", Credentials: creds}, bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	for region, want := range map[string]string{
		"eu-west-1": "arn:aws:iot:eu-west-1:" + account + ":thing/x", "us-gov-west-1": "arn:aws-us-gov:iot:us-gov-west-1:" + account + ":thing/x",
		"cn-north-1": "arn:aws-cn:iot:cn-north-1:" + account + ":thing/x",
	} {
		if got := newCaller(&Options{Region: region, Account: account}).arn("thing/x"); got != want {
			t.Errorf("got %s", got)
		}
	}
}
