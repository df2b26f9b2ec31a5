package awsiot

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
)

var moto testkit.SharedMoto

func TestMain(m *testing.M) {
	code := m.Run()
	moto.Stop()
	os.Exit(code)
}

// device registers a certificate of a thing with AWS IoT and returns its ID.
func device(t *testing.T, api *iot.Client, thing string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: thing},
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
	}, &x509.Certificate{Subject: pkix.Name{CommonName: "CA"}}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	out, err := api.RegisterCertificateWithoutCA(ctx, &iot.RegisterCertificateWithoutCAInput{
		CertificatePem: aws.String(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))), Status: types.CertificateStatusActive,
	})
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(der); *out.CertificateId != hex.EncodeToString(sum[:]) {
		t.Fatalf("certificate ID %s", *out.CertificateId)
	}
	var exists *types.ResourceAlreadyExistsException
	if _, err := api.CreateThing(ctx, &iot.CreateThingInput{ThingName: &thing}); err != nil && !errors.As(err, &exists) {
		t.Fatal(err)
	}
	_, err = api.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: &thing, Principal: out.CertificateArn})
	if err != nil {
		t.Fatal(err)
	}
	return *out.CertificateId
}

func about(certificate, client string) *schemas.Finding {
	f := finding(1)
	f.FindingInfo.UID = "detection-" + client
	f.Device.UID = client
	f.Unmapped.Group = map[string]string{"tocsin.certificate_id": certificate}
	f.Evidences[0].Data.CertificateID, f.Evidences[0].Data.ClientID = certificate, client
	return f
}

// The whole of it against moto's AWS IoT: a device's certificate is replaced by a
// job, and another device is quarantined and deactivated.
func TestAgainstMoto(t *testing.T) {
	r := newRig(t)
	api, connections := clientsOf(t, moto.Endpoint(t))
	rotated, bad := device(t, api, "valve-1"), device(t, api, "valve-2")
	group := fmt.Sprint("quarantine-", time.Now().UnixNano()) // moto outlives the test
	if _, err := api.CreateThingGroup(t.Context(), &iot.CreateThingGroupInput{ThingGroupName: &group}); err != nil {
		t.Fatal(err)
	}
	o := r.options()
	o.Control, o.Connections, o.QuarantineGroup = api, connections, group
	o.Bindings = []Binding{
		{Rules: []string{"level=medium"}, Actions: []string{schemas.KindRotate}},
		{Rules: []string{"level>=high"}, Actions: []string{schemas.KindQuarantine, schemas.KindDeactivate}},
	}
	s := r.start(o)
	old := about(rotated, "valve-1")
	old.Unmapped.RuleLevel = "medium"
	r.detect(old, about(bad, "valve-2"))
	r.await(schemas.ActionDone, 2)
	waiting := r.await(schemas.ActionWaiting, 1)[0]

	status := func(id string) types.CertificateStatus {
		out, err := api.DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: &id})
		if err != nil {
			t.Fatal(err)
		}
		return out.CertificateDescription.Status
	}
	if got := status(bad); got != types.CertificateStatusInactive {
		t.Errorf("the bad certificate is %s", got)
	}
	members, err := api.ListThingsInThingGroup(t.Context(), &iot.ListThingsInThingGroupInput{ThingGroupName: &group})
	if err != nil || len(members.Things) != 1 || members.Things[0] != "valve-2" {
		t.Errorf("quarantine: %v, %v", members, err)
	}
	job, err := api.DescribeJob(t.Context(), &iot.DescribeJobInput{JobId: &waiting.JobID})
	if err != nil || len(job.Job.Targets) != 1 {
		t.Errorf("job: %v, %v", job, err)
	}
	if got := status(rotated); got != types.CertificateStatusActive {
		t.Errorf("the old certificate is %s before the new one was seen", got)
	}
	s.stop()

	renewed := device(t, api, "valve-1")
	r.identity(schemas.KeyCertificate+renewed, schemas.Certificate{
		ID: renewed, Status: schemas.CertActive, Things: []string{"valve-1"}, ClientIDs: []string{"valve-1"}, LastSeen: time.Now(),
	})
	r.start(o)
	r.await(schemas.ActionDone, 3)
	if got := status(rotated); got != types.CertificateStatusRevoked {
		t.Errorf("the old certificate is %s", got)
	}
	if got := status(renewed); got != types.CertificateStatusActive {
		t.Errorf("the new certificate is %s", got)
	}
}

// A call that is repeated after a crash is answered as the first was.
func TestCallsAreIdempotent(t *testing.T) {
	r := newRig(t)
	api, connections := clientsOf(t, moto.Endpoint(t))
	id := device(t, api, "valve-9")
	group := fmt.Sprint("quarantine-", time.Now().UnixNano())
	if _, err := api.CreateThingGroup(t.Context(), &iot.CreateThingGroupInput{ThingGroupName: &group}); err != nil {
		t.Fatal(err)
	}
	o := r.options().withDefaults()
	o.Control, o.Connections, o.QuarantineGroup = api, connections, group
	c := newCaller(&o)
	for range 2 {
		if err := c.quarantine(t.Context(), "valve-9"); err != nil {
			t.Error(err)
		}
		if err := c.createJob(t.Context(), &schemas.Action{ID: "x", JobID: "tocsin-rotate-x", Thing: "valve-9"}); err != nil {
			t.Error(err)
		}
		if _, err := c.setStatus(t.Context(), id, types.CertificateStatusRevoked); err != nil {
			t.Error(err)
		}
	}
}
