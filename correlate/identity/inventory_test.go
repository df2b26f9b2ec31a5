package identity

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/tocsin-io/tocsin/correlate/identity/inventory"
	"github.com/tocsin-io/tocsin/correlate/identity/inventory/fakeiot"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
)

var moto testkit.SharedMoto

func TestMain(m *testing.M) {
	code := m.Run()
	moto.Stop()
	os.Exit(code)
}

// fast is far above what is allowed of AWS, so that tests do not wait.
func fast() map[string]float64 {
	quotas := inventory.Quotas()
	for op := range quotas {
		quotas[op] = 10_000
	}
	return quotas
}

func inventoryOf(t *testing.T, api inventory.API) *inventory.Inventory {
	t.Helper()
	return inventory.New(inventory.Options{Client: api, Quotas: fast(), Logger: zaptest.NewLogger(t)})
}

// TestInventoryOfMoto reads what the API of AWS IoT, as moto has it, was given. moto
// has no ListCACertificates: that part fails, and the rest must not.
func TestInventoryOfMoto(t *testing.T) {
	r := newRig(t)
	endpoint := moto.Endpoint(t)
	api := iot.New(iot.Options{
		Region: "eu-west-1", BaseEndpoint: &endpoint, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("testing", "testing", ""),
	})
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ca := testkit.NewCA(t, "Fleet CA")
	_, err := api.RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{
		CaCertificate: aws.String(testkit.PEM(ca.Cert)), SetAsActive: true, CertificateMode: types.CertificateModeSniOnly,
	})
	check(err)
	const n = 30
	ids := make([]string, n)
	for i := range ids {
		cert := ca.Issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: fmt.Sprint("pump-", i)}}, nil)
		out, err := api.RegisterCertificate(ctx, &iot.RegisterCertificateInput{
			CertificatePem: aws.String(testkit.PEM(cert)), CaCertificatePem: aws.String(testkit.PEM(ca.Cert)), Status: types.CertificateStatusActive,
		})
		check(err)
		if ids[i] = *out.CertificateId; ids[i] != testkit.CertificateID(cert) {
			t.Fatalf("moto's ID %s is not AWS's %s", ids[i], testkit.CertificateID(cert))
		}
	}
	_, err = api.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("thing-3")})
	check(err)
	arn := "arn:aws:iot:eu-west-1:123456789012:cert/" + ids[3]
	_, err = api.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: aws.String("thing-3"), Principal: &arn})
	check(err)
	in := r.start(Options{Inventory: inventoryOf(t, api), Region: "eu-west-1"})
	eventually(t, "the inventory", func() string {
		got := r.certificates()
		for i, id := range ids {
			c := got[id]
			if c.Status != schemas.CertActive || c.Subject != fmt.Sprint("CN=pump-", i) || c.Issuer != "CN=Fleet CA,O=Tocsin tests" || c.NotAfter.Before(time.Now().AddDate(0, 11, 0)) {
				return fmt.Sprintf("certificate %d: %+v", i, c)
			}
		}
		if !cmp.Equal(got[ids[3]].Things, []string{"thing-3"}) {
			return fmt.Sprintf("%+v", got[ids[3]])
		}
		return ""
	})
	// A change that no event tells of.
	_, err = api.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: &ids[5], NewStatus: types.CertificateStatusRevoked})
	check(err)
	if !in.SyncNow() {
		t.Fatal("the only instance is not active")
	}
	eventually(t, "the change", func() string { return cmp.Diff(schemas.CertRevoked, r.certificates()[ids[5]].Status) })
	eventually(t, "its event", func() string { return cmp.Diff(1, len(r.events(eventStatusChanged))) })
	if ev := r.events(eventStatusChanged)[0]; ev.message["to"] != "REVOKED" || string(ev.Account) != "123456789012" {
		t.Errorf("%v", ev.message)
	}
	// What the logs show and AWS does not have is unknown.
	stranger := someID("stranger")
	r.observe(schemas.Observation{CertificateID: stranger, ClientIDs: []string{"x"}, LastSeen: time.Now()})
	eventually(t, "the stranger", func() string { return cmp.Diff(schemas.CertUnknown, r.certificates()[stranger].Status) })
}

func TestDisagreements(t *testing.T) {
	r := newRig(t)
	ca := testkit.NewCA(t, "Fleet CA")
	api := fakeiot.New(250)
	now := time.Now().UTC().Truncate(time.Second)
	put := func(name, pem string, status types.CertificateStatus, modified time.Time) string {
		id := someID(name)
		api.Put(fakeiot.Certificate{ID: id, PEM: pem, Status: status, Created: now.AddDate(-1, 0, 0), Modified: modified})
		return id
	}
	cert := ca.Issue(t, &x509.Certificate{}, nil)
	good := testkit.CertificateID(cert)
	api.Put(fakeiot.Certificate{ID: good, PEM: testkit.PEM(cert), Status: types.CertificateStatusActive, Created: now.AddDate(-1, 0, 0), Modified: now.AddDate(-1, 0, 0)})
	unreadable := put("unreadable", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", types.CertificateStatusActive, now.AddDate(-1, 0, 0))
	misnamed := put("misnamed", testkit.PEM(ca.Cert), types.CertificateStatusActive, now.AddDate(-1, 0, 0))
	// CloudTrail has told of a revocation that AWS IoT knows nothing of.
	r.change(schemas.StatusChange{CertificateID: good, Status: schemas.CertRevoked, Time: now.Add(-time.Hour), Source: "cloudtrail", EventType: "UpdateCertificate"})
	r.start(Options{Inventory: inventoryOf(t, api)})
	eventually(t, "AWS is right in the end", func() string { return cmp.Diff(schemas.CertActive, r.certificates()[good].Status) })
	eventually(t, "the disagreements", func() string { return cmp.Diff(2, len(r.events(eventDisagreement))) })
	for _, ev := range r.events(eventDisagreement) {
		switch string(ev.CertificateID) {
		case good:
			if ev.message["registry"] != "REVOKED" || ev.message["aws"] != "ACTIVE" {
				t.Errorf("%v", ev.message)
			}
		case misnamed:
			if ev.message["aws"] != testkit.CertificateID(ca.Cert) {
				t.Errorf("%v", ev.message)
			}
		default:
			t.Errorf("about %s: %v", ev.CertificateID, ev.message)
		}
	}
	eventually(t, "the one that does not parse", func() string { return cmp.Diff(1, len(r.events(eventUnreadable))) })
	if c := r.certificates()[unreadable]; c.Status != schemas.CertActive || !c.NotAfter.IsZero() {
		t.Errorf("%+v", c)
	}
}

// TestInventorySurvivesTakeOver drops instances in the middle of a first inventory.
func TestInventorySurvivesTakeOver(t *testing.T) {
	r := newRig(t)
	ca := testkit.NewCA(t, "Fleet CA")
	api := fakeiot.New(50)
	const n = 3000
	key := ca.Cert.PublicKey // one for all: making keys is slow
	for range n {
		cert := ca.Issue(t, &x509.Certificate{}, key)
		api.Put(fakeiot.Certificate{ID: testkit.CertificateID(cert), PEM: testkit.PEM(cert), Status: types.CertificateStatusActive, Created: time.Now()})
	}
	slow := inventory.Quotas()
	for op := range slow {
		slow[op] = 1000
	}
	start := func() *instance {
		return r.start(Options{Inventory: inventory.New(inventory.Options{Client: api, Quotas: slow, Share: 1, Logger: zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel))})})
	}
	described := func() (count int) {
		for _, c := range r.certificates() {
			if !c.NotAfter.IsZero() {
				count++
			}
		}
		return count
	}
	for _, until := range []int{n / 4, n / 2} {
		in := start()
		eventually(t, "part of the inventory", func() string {
			if got := described(); got < until {
				return fmt.Sprint(got, " described")
			}
			return ""
		})
		in.kill()
	}
	start()
	eventually(t, "all of it", func() string { return cmp.Diff(n, described()) })
	if got := api.Calls("DescribeCertificate"); got > n+2*(maxPending+1000) || got < n {
		t.Errorf("%d certificates were described for %d", got, n)
	} else {
		t.Logf("%d calls for %d certificates", got, n)
	}
}
