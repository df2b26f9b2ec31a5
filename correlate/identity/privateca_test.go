package identity

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/correlate/behavior"
	"github.com/tocsin-io/tocsin/correlate/identity/crl"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
)

// caARN returns the ARN of a CA.
func caARN(name string) string {
	return "arn:aws:acm-pca:eu-west-1:111122223333:certificate-authority/" + name
}

func metric(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.GetCounter().GetValue() + out.GetGauge().GetValue()
}

// startBehavior runs the workers that turn events into facts.
func (r *rig) startBehavior() {
	r.t.Helper()
	client, producer := r.connect()
	s := behavior.New(behavior.Options{Client: client, Producer: producer, Logger: zap.NewNop(), Group: kafka.GroupOptions{
		SessionTimeout: 6 * time.Second, HeartbeatInterval: 100 * time.Millisecond, RebalanceTimeout: 3 * time.Second, JoinBackoff: 50 * time.Millisecond,
		MaxWait: 50 * time.Millisecond,
	}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			r.t.Errorf("behavior: %v", err)
		}
	}()
	r.t.Cleanup(func() {
		cancel()
		<-done
	})
}

// trail appends a CloudTrail event to tocsin.events, as the ingester does.
func (r *rig) trail(eventType, message string) {
	r.t.Helper()
	now := time.Now().UnixMilli()
	ev := schemas.Event{
		ID: schemas.NewEventID([]byte(message)), Time: now, IngestTime: now, Source: []byte(schemas.SourceCloudTrail), Type: []byte(eventType),
		Account: []byte("111122223333"), Device: []byte("account:111122223333"), Outcome: schemas.OutcomeSuccess, Message: []byte(message),
	}
	if strings.Contains(message, `"errorCode"`) {
		ev.Outcome = schemas.OutcomeFailure
	}
	var b schemas.BatchEncoder
	b.Append(&ev, "firehose/trail")
	err := r.producer.Produce(r.t.Context(), schemas.TopicEvents, schemas.Partition(ev.Device, rigPartitions), kafka.Record{Value: b.Bytes()})
	if err != nil {
		r.t.Fatal(err)
	}
}

// colons writes a serial number as CloudTrail does.
func colons(c *x509.Certificate) string {
	return strings.ReplaceAll(strings.ToUpper(fmt.Sprintf("% x", c.SerialNumber.Bytes())), " ", ":")
}

func issuance(arn string, ca *testkit.CA, c *x509.Certificate) string {
	return fmt.Sprintf(`{"eventVersion":"1.11","eventSource":"acm-pca.amazonaws.com","eventName":"IssueCertificateDetails","eventTime":"2026-03-01T11:00:00Z","eventType":"AwsServiceEvent",
		"serviceEventDetails":{"issuerAuthorityKeyIdentifier":"% X","subject":%q,"serialNumber":%q,"notAfter":"2027-03-01T11:00:00Z","status":"ISSUED"},
		"resources":[{"ARN":%q},{"ARN":%q}]}`, ca.Cert.SubjectKeyId, c.Subject.String(), colons(c), arn, arn+"/certificate/"+fmt.Sprintf("%x", c.SerialNumber))
}

func revocationEvent(arn string, c *x509.Certificate, more string) string {
	return fmt.Sprintf(`{"eventVersion":"1.11","eventSource":"acm-pca.amazonaws.com","eventName":"RevokeCertificate","eventTime":"2026-03-01T12:00:00Z",%s
		"requestParameters":{"certificateAuthorityArn":%q,"certificateSerial":%q,"revocationReason":"KEY_COMPROMISE"},"responseElements":null}`, more, arn, colons(c))
}

// TestPrivateCAEvents takes CloudTrail's events all the way to the records of the
// certificates.
func TestPrivateCAEvents(t *testing.T) {
	r := newRig(t)
	ca, arn := testkit.NewCA(t, "Fleet CA"), caARN("fleet")
	issue := func(name string) *x509.Certificate {
		return ca.Issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}}, nil)
	}
	known, later, refused, other := issue("known"), issue("later"), issue("refused"), issue("other")
	for _, c := range []*x509.Certificate{known, refused} {
		r.put(schemas.KeyImport+testkit.CertificateID(c), importOf(t, c))
	}
	r.startBehavior()
	in := r.start(Options{})
	r.trail("RevokeCertificate", `{"eventSource":"acm-pca.amazonaws.com","requestParameters":`)
	r.trail("RevokeCertificate", revocationEvent(arn, known, ""))
	r.trail("RevokeCertificate", revocationEvent(arn, refused, `"errorCode":"AccessDeniedException",`))
	eventually(t, "the revocation that waits for its CA", func() string { return cmp.Diff(1.0, metric(t, in.metrics.waiting)) })
	if c := r.certificates()[testkit.CertificateID(known)]; c.Revoked != nil {
		t.Errorf("revoked by %+v, whoever that is", c.Revoked)
	}
	// Of any certificate: it has both names of the CA.
	r.trail("IssueCertificateDetails", issuance(arn, ca, other))
	want := &schemas.Revocation{Time: epoch, Reason: "keyCompromise", Source: "CloudTrail " + arn}
	eventually(t, "the certificate that was known", func() string { return cmp.Diff(want, r.certificates()[testkit.CertificateID(known)].Revoked) })
	eventually(t, "its event", func() string { return cmp.Diff(1, len(r.events(eventRevokedActive))) })
	if m := r.events(eventRevokedActive)[0].message; m["reason"] != "keyCompromise" || m["source"] != want.Source || m["certificate_id"] != testkit.CertificateID(known) {
		t.Errorf("%v", m)
	}
	for range 2 {
		r.trail("RevokeCertificate", revocationEvent(arn, later, ""))
		r.trail("IssueCertificateDetails", issuance(arn, ca, later))
	}
	eventually(t, "the serial number that is remembered", func() string {
		in.mu.Lock()
		defer in.mu.Unlock()
		return cmp.Diff(want, in.revoked.get(crl.KeyID(ca.Cert), schemas.SerialHex(later.SerialNumber.Bytes())))
	})
	r.put(schemas.KeyImport+testkit.CertificateID(later), importOf(t, later))
	eventually(t, "the certificate that came later", func() string { return cmp.Diff(want, r.certificates()[testkit.CertificateID(later)].Revoked) })
	if c := r.certificates()[testkit.CertificateID(refused)]; c.Revoked != nil {
		t.Errorf("%+v", c)
	}
	eventually(t, "the facts that are not needed any more", func() string {
		return cmp.Diff(0, len(r.records(schemas.KeyIssued))+len(r.records(schemas.KeyRevoked)))
	})
}

// TestWaitingRevocationsOutliveAnInstance has AWS know the CA only when another
// instance is active, which does not see the fact.
func TestWaitingRevocationsOutliveAnInstance(t *testing.T) {
	r := newRig(t)
	ca, arn := testkit.NewCA(t, "Fleet CA"), caARN("fleet")
	c := ca.Issue(t, &x509.Certificate{}, nil)
	r.put(schemas.KeyImport+testkit.CertificateID(c), importOf(t, c))
	var calls atomic.Int64
	first := r.start(Options{PrivateCAKeyID: func(context.Context, string) (string, error) {
		calls.Add(1)
		return "", errors.New("throttled")
	}})
	eventually(t, "the import", func() string { return cmp.Diff(1, len(r.certificates())) })
	serial := schemas.SerialHex(c.SerialNumber.Bytes())
	key := schemas.KeyRevoked + arn + "/" + serial + "/0"
	r.put(key, schemas.IssuedCertificate{CAARN: arn, Serial: serial, RevokedAt: epoch, Reason: "superseded"})
	eventually(t, "what is kept", func() string {
		if calls.Load() == 0 {
			return "AWS was not asked"
		}
		if len(r.records(schemas.KeySync+syncPrivateCAs)) == 0 {
			return "nothing"
		}
		return ""
	})
	first.stop()
	if at, read := r.offsetOf(key); read <= at {
		t.Fatalf("the next instance reads the fact at %d again, from %d on: the test shows nothing", at, read)
	}
	second := r.start(Options{PrivateCAKeyID: func(_ context.Context, asked string) (string, error) {
		if asked != arn {
			return "", fmt.Errorf("%s is another CA", asked)
		}
		return crl.KeyID(ca.Cert), nil
	}})
	eventually(t, "the revocation", func() string {
		return cmp.Diff(&schemas.Revocation{Time: epoch, Reason: "superseded", Source: "CloudTrail " + arn}, r.certificates()[testkit.CertificateID(c)].Revoked)
	})
	eventually(t, "that nothing waits", func() string { return cmp.Diff(0.0, metric(t, second.metrics.waiting)) })
	eventually(t, "what is kept in the end", func() string {
		var s schemas.Sync
		if err := json.Unmarshal(r.records(schemas.KeySync + syncPrivateCAs)[""], &s); err != nil {
			return err.Error()
		}
		return cmp.Diff(fmt.Sprintf(`{%q:{"key_id":%q}}`, arn, crl.KeyID(ca.Cert)), string(s.State))
	})
}

// offsetOf returns the offset of a fact (not of its end), and up to which the checkpoint says that its
// partition has been read.
func (r *rig) offsetOf(key string) (at, read int64) {
	r.t.Helper()
	var sync schemas.Sync
	var state factsState
	err := errors.Join(json.Unmarshal(r.records(schemas.KeySync + syncFacts)[""], &sync), json.Unmarshal(sync.State, &state))
	at = -1
	for p := range rigPartitions {
		err = errors.Join(err, r.client.ReadAll(r.t.Context(), schemas.TopicIdentities, p, func(rec *kafka.FetchedRecord) error {
			if string(rec.Key) == key && rec.Value != nil {
				at, read = rec.Offset, state.Offsets[p]
			}
			return nil
		}))
	}
	if err != nil || at < 0 {
		r.t.Fatalf("%s is at %d: %v", key, at, err)
	}
	return at, read
}

// newTerm returns a term without Kafka, whose facts are put in by hand.
func newTerm(t *testing.T) *term {
	t.Helper()
	cas, err := restorePrivateCAs(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &term{Service: New(Options{Logger: zap.NewNop()}), privateCAs: cas, newPrivateCA: make(chan struct{}, 1), merged: make(map[string]string)}
}

func (t *term) issued(kind string, f schemas.IssuedCertificate) error {
	value, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return t.takeFact(kind, "", value)
}

// TestPrivateCAOrder merges the same facts in all kinds of orders, some of them twice.
func TestPrivateCAOrder(t *testing.T) {
	ca := testkit.NewCA(t, "Fleet CA")
	cert := ca.Issue(t, &x509.Certificate{}, nil)
	serial, arn := schemas.SerialHex(cert.SerialNumber.Bytes()), caARN("fleet")
	imported, err := json.Marshal(importOf(t, cert))
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(100) {
		term := newTerm(t)
		facts := []func() error{
			func() error {
				return term.issued(schemas.KeyIssued, schemas.IssuedCertificate{CAARN: arn, IssuerKeyID: crl.KeyID(ca.Cert), Serial: serial})
			},
			func() error {
				return term.issued(schemas.KeyRevoked, schemas.IssuedCertificate{CAARN: arn, Serial: serial, RevokedAt: epoch, Reason: "superseded"})
			},
			func() error { // a call that was repeated
				return term.issued(schemas.KeyRevoked, schemas.IssuedCertificate{CAARN: arn, Serial: serial, RevokedAt: at(1), Reason: "unspecified"})
			},
			func() error { return term.takeFact(schemas.KeyImport, "", imported) },
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		facts = append(facts, facts[rng.IntN(len(facts))])
		rng.Shuffle(len(facts), func(i, j int) { facts[i], facts[j] = facts[j], facts[i] })
		for _, fact := range facts {
			if err := fact(); err != nil {
				t.Fatal(err)
			}
		}
		c, _ := term.certs.Get(testkit.CertificateID(cert))
		want := &schemas.Revocation{Time: epoch, Reason: "superseded", Source: "CloudTrail " + arn}
		if diff := cmp.Diff(want, c.Revoked); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
		if term.privateCAs.waiting != 0 {
			t.Fatalf("seed %d: %d wait", seed, term.privateCAs.waiting)
		}
	}
}

func TestBadPrivateCAFacts(t *testing.T) {
	arn := caARN("fleet")
	for name, f := range map[string]struct{ kind, value string }{
		"no JSON":             {schemas.KeyRevoked, "nonsense"},
		"no CA":               {schemas.KeyRevoked, `{"serial":"1","revoked_at":"2026-03-01T12:00:00Z"}`},
		"no ARN":              {schemas.KeyRevoked, `{"ca_arn":"fleet","serial":"1","revoked_at":"2026-03-01T12:00:00Z"}`},
		"no serial number":    {schemas.KeyRevoked, `{"ca_arn":"` + arn + `","revoked_at":"2026-03-01T12:00:00Z"}`},
		"a bad serial number": {schemas.KeyRevoked, `{"ca_arn":"` + arn + `","serial":"*","revoked_at":"2026-03-01T12:00:00Z"}`},
		"no time":             {schemas.KeyRevoked, `{"ca_arn":"` + arn + `","serial":"1"}`},
		"a time to come":      {schemas.KeyRevoked, `{"ca_arn":"` + arn + `","serial":"1","revoked_at":"9999-12-31T23:59:59-07:00"}`},
		"a bad key ID":        {schemas.KeyIssued, `{"ca_arn":"` + arn + `","serial":"1","issuer_key_id":"../x"}`},
		"half a byte":         {schemas.KeyIssued, `{"ca_arn":"` + arn + `","serial":"1","issuer_key_id":"abc"}`},
	} {
		term := newTerm(t)
		if err := term.takeFact(f.kind, "", []byte(f.value)); err == nil {
			t.Errorf("%s is taken", name)
		}
		if len(term.privateCAs.cas) != 0 || term.revoked.n != 0 {
			t.Errorf("%s leaves something", name)
		}
	}
	// Neither a tombstone nor an issuance without a key identifier says anything.
	term := newTerm(t)
	for _, value := range []string{"", `{"ca_arn":"` + arn + `","serial":"1"}`} {
		if err := term.takeFact(schemas.KeyIssued, "", []byte(value)); err != nil || len(term.privateCAs.cas) != 0 {
			t.Errorf("%q: %v, %d CAs", value, err, len(term.privateCAs.cas))
		}
	}
	// An unknown reason is none.
	term = newTerm(t)
	if err := term.takeFact(schemas.KeyRevoked, "", []byte(`{"ca_arn":"`+arn+`","serial":"0A","revoked_at":"2026-03-01T12:00:00Z","reason":"because"}`)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]waitingRevocation{{Serial: "a", Time: epoch, Reason: "unspecified"}}, term.privateCAs.cas[arn].Waiting); diff != "" {
		t.Error(diff)
	}
}

func TestPrivateCABounds(t *testing.T) {
	term := newTerm(t)
	revoke := func(arn, serial string) {
		t.Helper()
		if err := term.issued(schemas.KeyRevoked, schemas.IssuedCertificate{CAARN: arn, Serial: serial, RevokedAt: epoch}); err != nil {
			t.Fatal(err)
		}
	}
	revoke(caARN("fleet"), "1")
	for i := range maxWaiting + 100 {
		revoke(caARN("busy"), fmt.Sprintf("%x", i))
	}
	p := term.privateCAs
	if p.waiting != maxWaiting || len(p.cas[caARN("fleet")].Waiting) != 1 || p.cas[caARN("busy")].Waiting[0].Serial != fmt.Sprintf("%x", 101) {
		t.Errorf("%d wait: %+v", p.waiting, p.cas)
	}
	if got := metric(t, term.metrics.refused.WithLabelValues("unresolved_revocation")); got != 101 {
		t.Errorf("%v are counted", got)
	}
	// CAs that nobody knows do not keep out those that are known.
	for i := range maxPrivateCAs {
		revoke(caARN(fmt.Sprint("unknown-", i)), "1")
	}
	for i := range maxPrivateCAs + 1 {
		if err := term.issued(schemas.KeyIssued, schemas.IssuedCertificate{CAARN: caARN(fmt.Sprint("known-", i)), Serial: "1", IssuerKeyID: "ab"}); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.cas) != maxPrivateCAs || p.waiting != 0 || len(p.unknown()) != 0 {
		t.Errorf("%d CAs, %d unknown, %d wait", len(p.cas), len(p.unknown()), p.waiting)
	}
	if got := metric(t, term.metrics.refused.WithLabelValues("private_ca")); got != 1 {
		t.Errorf("%v CAs are refused", got)
	}
	revoke(caARN("late"), "1")
	if got := metric(t, term.metrics.refused.WithLabelValues("unresolved_revocation")); got != float64(101+maxPrivateCAs+maxWaiting+1) {
		t.Errorf("%v are counted", got)
	}
	if metric(t, term.metrics.waiting) != 0 {
		t.Error("the gauge is not 0")
	}
}

// TestPrivateCAsAreStored stores the most that there can be.
func TestPrivateCAsAreStored(t *testing.T) {
	p, err := restorePrivateCAs(nil)
	if err != nil {
		t.Fatal(err)
	}
	arn := func(i int) string { return caARN(fmt.Sprintf("%0130d", i)) }
	for i := range maxWaiting {
		p.wait(arn(0), waitingRevocation{Serial: fmt.Sprintf("%0128x", i), Time: epoch, Reason: "cessationOfOperation"})
	}
	for i := range maxPrivateCAs - 1 {
		p.learn(arn(i+1), fmt.Sprintf("%0128x", i))
	}
	state, err := json.Marshal(p.cas)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", len(state))
	if len(state) > 900_000 {
		t.Errorf("%d bytes are too many for a record", len(state))
	}
	again, err := restorePrivateCAs(state)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p.cas, again.cas); diff != "" || again.waiting != p.waiting || again.changed {
		t.Errorf("%d wait, %d of before: %s", again.waiting, p.waiting, diff)
	}
	if _, err := restorePrivateCAs([]byte("[1]")); err == nil {
		t.Error("nonsense is taken")
	}
}

func FuzzPrivateCAFact(f *testing.F) {
	f.Add(true, []byte(`{"ca_arn":"`+caARN("fleet")+`","serial":"1A","issuer_key_id":"abcd"}`))
	f.Add(false, []byte(`{"ca_arn":"`+caARN("fleet")+`","serial":"1A","revoked_at":"2026-03-01T12:00:00Z","reason":"superseded"}`))
	f.Fuzz(func(t *testing.T, issued bool, value []byte) {
		kind := schemas.KeyRevoked
		if issued {
			kind = schemas.KeyIssued
		}
		term := newTerm(t)
		err := term.takeFact(kind, "", value)
		if err != nil && len(term.privateCAs.cas) != 0 {
			t.Errorf("%v, and yet something is kept", err)
		}
		state, err := json.Marshal(term.privateCAs.cas)
		if err != nil {
			t.Fatalf("what was taken cannot be stored: %v", err)
		}
		again, err := restorePrivateCAs(state)
		if err != nil || !cmp.Equal(again.cas, term.privateCAs.cas) {
			t.Errorf("%s is restored as %v, %v", state, again.cas, err)
		}
	})
}
