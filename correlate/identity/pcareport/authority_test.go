package pcareport

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/acmpca"
	"github.com/aws/aws-sdk-go-v2/service/acmpca/types"

	"github.com/tocsin-io/tocsin/internal/testkit"
)

// counting counts the calls.
type counting struct {
	API
	calls int
}

func (c *counting) GetCertificateAuthorityCertificate(ctx context.Context, in *acmpca.GetCertificateAuthorityCertificateInput, o ...func(*acmpca.Options)) (*acmpca.GetCertificateAuthorityCertificateOutput, error) {
	c.calls++
	return c.API.GetCertificateAuthorityCertificate(ctx, in, o...)
}

func TestAuthorities(t *testing.T) {
	client, err := NewClient(t.Context(), "eu-west-1", testkit.StartMoto(t), func(o *acmpca.Options) {
		o.Credentials, o.RetryMaxAttempts = credentials.NewStaticCredentialsProvider("a", "b", ""), 1
	})
	if err != nil {
		t.Fatal(err)
	}
	made, err := client.CreateCertificateAuthority(t.Context(), &acmpca.CreateCertificateAuthorityInput{
		CertificateAuthorityType: types.CertificateAuthorityTypeRoot,
		CertificateAuthorityConfiguration: &types.CertificateAuthorityConfiguration{
			KeyAlgorithm: types.KeyAlgorithmRsa2048, SigningAlgorithm: types.SigningAlgorithmSha256withrsa,
			Subject: &types.ASN1Subject{CommonName: aws.String("fleet CA")},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	csr, err := client.GetCertificateAuthorityCsr(t.Context(), &acmpca.GetCertificateAuthorityCsrInput{CertificateAuthorityArn: made.CertificateAuthorityArn})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(*csr.Csr))
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	// Only AWS has the key; a root of the test signs in its place.
	root := testkit.NewCA(t, "root")
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(5), Subject: request.Subject, NotBefore: time.Now(), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true,
	}, root.Cert, request.PublicKey, root.Key)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.ImportCertificateAuthorityCertificate(t.Context(), &acmpca.ImportCertificateAuthorityCertificateInput{
		CertificateAuthorityArn: made.CertificateAuthorityArn,
		Certificate:             pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		CertificateChain:        []byte(testkit.PEM(root.Cert)),
	})
	if err != nil {
		t.Fatal(err)
	}
	api := &counting{API: client}
	a := NewAuthorities(api)
	for range 3 {
		cert, err := a.Certificate(t.Context(), *made.CertificateAuthorityArn)
		if err != nil || cert.Subject.CommonName != "fleet CA" {
			t.Fatalf("%v, %v", cert, err)
		}
	}
	if api.calls != 1 {
		t.Errorf("asked %d times", api.calls)
	}
	missing := strings.Replace(*made.CertificateAuthorityArn, "certificate-authority/", "certificate-authority/0", 1)
	if _, err := a.Certificate(t.Context(), missing); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("a CA that is not there: %v", err)
	}
}

func TestMain(m *testing.M) {
	// Nothing of the machine's own AWS configuration.
	os.Setenv("AWS_CONFIG_FILE", os.DevNull)
	os.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	os.Exit(m.Run())
}
