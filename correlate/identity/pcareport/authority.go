package pcareport

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/acmpca"
)

// API is what is used of the AWS Private CA client; *acmpca.Client is one.
type API interface {
	GetCertificateAuthorityCertificate(context.Context, *acmpca.GetCertificateAuthorityCertificateInput, ...func(*acmpca.Options)) (*acmpca.GetCertificateAuthorityCertificateOutput, error)
}

// NewClient returns a client with the credentials of AWS's default chain. Region
// and endpoint may be empty: then they are the chain's.
func NewClient(ctx context.Context, region, endpoint string, more ...func(*acmpca.Options)) (*acmpca.Client, error) {
	var opts []func(*awsconfig.LoadOptions) error
	if region != "" {
		opts = append(opts, awsconfig.WithRegion(region))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("AWS Private CA: AWS configuration: %w", err)
	}
	if endpoint != "" {
		more = append(more, func(o *acmpca.Options) { o.BaseEndpoint = aws.String(endpoint) })
	}
	return acmpca.NewFromConfig(cfg, more...), nil
}

// Authorities tells the certificates of CAs by their ARNs, which is what reports
// name them by. It asks for each once, or a few times when several goroutines want it
// at once.
type Authorities struct {
	api API

	mu    sync.Mutex
	certs map[string]*x509.Certificate
}

// NewAuthorities returns Authorities that ask api.
func NewAuthorities(api API) *Authorities {
	return &Authorities{api: api, certs: make(map[string]*x509.Certificate)}
}

// maxAuthorities bounds what is kept; AWS allows 200 CAs in an account.
const maxAuthorities = 10_000

// Certificate returns the certificate of a CA.
func (a *Authorities) Certificate(ctx context.Context, arn string) (*x509.Certificate, error) {
	a.mu.Lock()
	cert, ok := a.certs[arn]
	a.mu.Unlock()
	if ok {
		return cert, nil
	}
	out, err := a.api.GetCertificateAuthorityCertificate(ctx, &acmpca.GetCertificateAuthorityCertificateInput{CertificateAuthorityArn: &arn})
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", arn, err)
	}
	block, _ := pem.Decode([]byte(aws.ToString(out.Certificate)))
	if block == nil {
		err = errors.New("not PEM")
	}
	if err == nil {
		cert, err = x509.ParseCertificate(block.Bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", arn, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.certs) < maxAuthorities {
		a.certs[arn] = cert
	}
	return cert, nil
}
