package awsiot

import (
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

func TestRotation(t *testing.T) {
	r := newRig(t)
	r.register(1)
	o := r.options()
	o.Bindings[0].Actions = []string{schemas.KindRotate}
	s := r.start(o)
	r.detect(finding(1))
	waiting := r.await(schemas.ActionWaiting, 1)[0]
	job := "CreateJob arn:aws:iot:eu-west-1:123456789012:thing/pump-1"
	wantCalls(t, r.aws, job)
	if waiting.JobID != "tocsin-rotate-"+waiting.ID || waiting.Thing != "pump-1" {
		t.Errorf("got %+v", waiting)
	}
	now := time.Now()
	seen := func(n int, at time.Time) {
		r.identity(schemas.KeyObserved+cert(n)+"/0", schemas.Observation{CertificateID: cert(n), ClientIDs: []string{"pump-1"}, LastSeen: at})
	}
	r.aws.set(func() {
		// Another device's certificate that claims the client ID; one that was there
		// before; one that is not active.
		r.aws.certs[cert(2)] = &fakeCert{status: "ACTIVE", created: now, things: []string{"pump-2"}}
		r.aws.certs[cert(3)] = &fakeCert{status: "ACTIVE", created: now.Add(-time.Hour), things: []string{"pump-1"}}
		r.aws.certs[cert(4)] = &fakeCert{status: "INACTIVE", created: now, things: []string{"pump-1"}}
		r.aws.certs[cert(5)] = &fakeCert{status: "ACTIVE", created: now, things: []string{"pump-1"}}
	})
	seen(1, now) // the old one, as long as it is used
	looks := func() int {
		n := 0
		r.aws.set(func() { n = r.aws.tries })
		return n
	}
	for n := 2; n <= 4; n++ {
		before := looks()
		seen(n, now)
		for deadline := time.Now().Add(10 * time.Second); looks() == before; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("certificate %d is not looked at", n)
			}
		}
	}
	seen(5, now.Add(-time.Hour)) // before the job
	s.stop()
	wantCalls(t, r.aws, job)
	if r.aws.certs[cert(1)].status != "ACTIVE" {
		t.Fatal("the old certificate was revoked")
	}

	// While nobody runs, the device connects with its new certificate.
	seen(5, now)
	r.start(o)
	done := r.await(schemas.ActionDone, 1)[0]
	wantCalls(t, r.aws, job, "UpdateCertificate 1 REVOKED")
	if done.NewCertificateID != cert(5) || done.CertificateID != cert(1) {
		t.Errorf("got %+v", done)
	}
}

func TestRotationThatDoesNotFinish(t *testing.T) {
	r := newRig(t)
	r.register(1)
	o := r.options()
	o.Bindings[0].Actions, o.Rotation.Timeout = []string{schemas.KindRotate}, time.Second
	r.start(o)
	r.detect(finding(1))
	if got := r.await(schemas.ActionFailed, 1)[0]; got.Code != codeTimeout || !strings.Contains(got.Reason, "not revoked") {
		t.Errorf("got %+v", got)
	}
	r.aws.set(func() {
		r.aws.certs[cert(5)] = &fakeCert{status: "ACTIVE", created: time.Now(), things: []string{"pump-1"}}
	})
	r.identity(schemas.KeyCertificate+cert(5), schemas.Certificate{ID: cert(5), Status: schemas.CertActive, Things: []string{"pump-1"}, LastSeen: time.Now()})
	r.detect(finding(2)) // comes after it
	r.await(schemas.ActionFailed, 2)
	if r.aws.certs[cert(1)].status != "ACTIVE" {
		t.Error("the old certificate was revoked")
	}
}

// Whom the allow-list names by the time that it is read is not touched any more,
// whatever was begun.
func TestAllowListOfTheNextStart(t *testing.T) {
	r := newRig(t)
	r.register(1)
	o := r.options()
	o.Bindings[0].Actions = []string{schemas.KindRotate}
	s := r.start(o)
	r.detect(finding(1))
	r.await(schemas.ActionWaiting, 1)
	s.stop()
	r.aws.set(func() {
		r.aws.certs[cert(5)] = &fakeCert{status: "ACTIVE", created: time.Now(), things: []string{"pump-1"}}
	})
	r.identity(schemas.KeyCertificate+cert(5), schemas.Certificate{ID: cert(5), Status: schemas.CertActive, Things: []string{"pump-1"}, LastSeen: time.Now()})
	o.AllowList = []string{"pump-*"}
	r.start(o)
	if got := r.await(schemas.ActionRefused, 1)[0]; got.Code != codeAllowList {
		t.Errorf("got %+v", got)
	}
	wantCalls(t, r.aws, "CreateJob arn:aws:iot:eu-west-1:123456789012:thing/pump-1")
}
