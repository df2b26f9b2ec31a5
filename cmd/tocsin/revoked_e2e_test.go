package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"iter"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/correlate/identity/crl"
	"github.com/tocsin-io/tocsin/correlate/identity/enforce"
	"github.com/tocsin-io/tocsin/internal/actionlog"
	"github.com/tocsin-io/tocsin/internal/documents"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks"
	"github.com/tocsin-io/tocsin/sinks/awsiot"
)

// revokedRegistry is what a registry would know after it has read a list: of the
// certificates registered with AWS IoT, those whose serial numbers are in it.
type revokedRegistry struct {
	mu    sync.Mutex
	certs map[string]schemas.Certificate // by issuer's key and serial number
}

func (r *revokedRegistry) RevokedActive(int) (some []schemas.Certificate, all int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.certs {
		if c.Revoked != nil {
			some = append(some, c)
		}
	}
	return some, len(some)
}

func (r *revokedRegistry) take(updates iter.Seq[crl.Update]) error {
	for u := range updates {
		if u.Problem != nil {
			return fmt.Errorf("%+v", u.Problem)
		}
		for e := range u.List.Revoked() {
			r.mu.Lock()
			key := u.State.IssuerKeyID + "/" + e.SerialHex()
			if c, ok := r.certs[key]; ok {
				c.Revoked = &schemas.Revocation{Time: e.Time, Reason: e.Reason.String(), Source: u.State.Location}
				r.certs[key] = c
			}
			r.mu.Unlock()
		}
	}
	return nil
}

type oneIssuer struct{ ca *x509.Certificate }

func (o oneIssuer) Issuers([]byte) []*x509.Certificate { return []*x509.Certificate{o.ca} }

// A CA revokes a certificate that AWS IoT goes on to take: dry run says what would
// be done, and then it is revoked there, and no other one.
func TestRevokedByItsCARevokedInAWSIoT(t *testing.T) {
	cluster := testkit.KafkaFake(t, kfake.SeedTopics(2, schemas.TopicDetections, schemas.TopicActions, schemas.TopicIdentities,
		schemas.TopicEvents, schemas.TopicDeadLetter))
	client, err := kafka.Dial(kafka.Config{Brokers: cluster.ListenAddrs()}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	producer, err := kafka.NewProducer(client, kafka.ProducerOptions{Linger: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		producer.Close(ctx)
		client.Close()
	})
	endpoint := testkit.StartMoto(t)
	cfg := aws.Config{Region: "eu-west-1", RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")}
	api := iot.NewFromConfig(cfg, func(o *iot.Options) { o.BaseEndpoint = &endpoint })
	connections, err := awsiot.NewConnections(&cfg, endpoint)
	if err != nil {
		t.Fatal(err)
	}
	ca := testkit.NewCA(t, "fleet CA")
	registry := &revokedRegistry{certs: make(map[string]schemas.Certificate)}
	var ids []string
	var serials []*big.Int
	for range 3 {
		cert := ca.Issue(t, &x509.Certificate{}, nil)
		out, err := api.RegisterCertificateWithoutCA(t.Context(), &iot.RegisterCertificateWithoutCAInput{
			CertificatePem: aws.String(testkit.PEM(cert)), Status: types.CertificateStatusActive,
		})
		if err != nil {
			t.Fatal(err)
		}
		ids, serials = append(ids, *out.CertificateId), append(serials, cert.SerialNumber)
		registry.certs[crl.KeyID(ca.Cert)+"/"+cert.SerialNumber.Text(16)] = schemas.Certificate{ID: *out.CertificateId, Status: schemas.CertActive}
	}
	expect := func(want ...types.CertificateStatus) {
		t.Helper()
		for i, id := range ids {
			out, err := api.DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: &id})
			if err != nil {
				t.Fatal(err)
			}
			if got := out.CertificateDescription.Status; got != want[i] {
				t.Errorf("certificate %d is %s, want %s", i, got, want[i])
			}
		}
	}

	// The CA's list comes into the folder, and from there into the registry.
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: serials[1], RevocationTime: time.Now().Add(-time.Minute), ReasonCode: 1}},
	}, ca.Cert, ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "fleet.crl"), list, 0o600); err != nil {
		t.Fatal(err)
	}
	syncer := &crl.Syncer{
		Place:   &documents.Files{Path: dir, Suffixes: crl.Suffixes, Limit: 1 << 20},
		Issuers: oneIssuer{ca.Cert}, Metrics: crl.NewMetrics(nil),
	}
	if err := registry.take(syncer.Sync(t.Context(), nil)); err != nil {
		t.Fatal(err)
	}

	metrics := prometheus.NewRegistry()
	respond := func(dryRun bool, final string) {
		t.Helper()
		name := fmt.Sprint("respond-", final)
		shared := sinks.NewMetrics(metrics)
		sink, err := awsiot.New(t.Context(), awsiot.Options{
			Name: name, Account: "123456789012", Region: "eu-west-1", Control: api, Connections: connections, DryRun: dryRun,
			Kafka: client, Producer: producer, Metrics: awsiot.NewMetrics(metrics),
			Status:   sinks.NewStatus(name, shared, zap.NewNop()),
			Bindings: []awsiot.Binding{{Rules: []string{"level=critical"}, Actions: []string{schemas.KindRevoke}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		runner := sinks.NewRunner(sink, sinks.Options{
			Name: name, Topic: schemas.TopicDetections, GroupID: name, Client: client, DeadLetters: sinks.NewDeadLetters(producer, 2), Registerer: metrics,
		})
		enforcer := enforce.New(enforce.Options{Sink: name, Log: actionlog.New(producer, 2), Interval: time.Hour})
		ctx, cancel := context.WithCancel(t.Context())
		var parts sync.WaitGroup
		for _, run := range []func(context.Context) error{runner.Run, func(ctx context.Context) error { return enforcer.Run(ctx, registry) }} {
			parts.Go(func() {
				if err := run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		defer parts.Wait()
		defer cancel()
		eventually(t, final, func() error {
			var states []string
			for p := range 2 {
				err := client.ReadAll(t.Context(), schemas.TopicActions, p, func(rec *kafka.FetchedRecord) error {
					var a schemas.Action
					if err := json.NewDecoder(bytes.NewReader(rec.Value)).Decode(&a); err != nil {
						return err
					}
					if a.Sink == name {
						states = append(states, a.State)
						if a.CertificateID != ids[1] || a.Rule != enforce.RuleTitle {
							return fmt.Errorf("action %+v", a)
						}
					}
					return nil
				})
				if err != nil {
					return err
				}
			}
			if len(states) == 0 || states[len(states)-1] != final {
				return fmt.Errorf("steps %q", states)
			}
			return nil
		})
	}
	respond(true, schemas.ActionPlanned)
	expect(types.CertificateStatusActive, types.CertificateStatusActive, types.CertificateStatusActive)
	respond(false, schemas.ActionDone)
	expect(types.CertificateStatusActive, types.CertificateStatusRevoked, types.CertificateStatusActive)
}
