// Package tlsconfig makes TLS configurations of files.
package tlsconfig

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// Client says how a client protects its connections. The files are PEM.
type Client struct {
	// Enabled turns TLS on, for protocols whose URL does not say it.
	Enabled bool
	// CAFile replaces the system's root certificates.
	CAFile string
	// CertFile and KeyFile are the client certificate for mutual TLS; both or
	// neither.
	CertFile, KeyFile string
	// ServerName overrides the name that the server's certificate is checked
	// against (default: the host dialled).
	ServerName string
	// InsecureSkipVerify accepts any server certificate. For experiments only.
	InsecureSkipVerify bool
}

// Config reads the files and returns the configuration, whether TLS is enabled
// or not.
func (c Client) Config() (*tls.Config, error) {
	cfg := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         c.ServerName,
		InsecureSkipVerify: c.InsecureSkipVerify, // the operator asked for it by name
	}
	if c.CAFile != "" {
		roots, err := Roots(c.CAFile)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = roots
	}
	if c.CertFile != "" || c.KeyFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}

// Roots reads root certificates.
func Roots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("CA file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CA file %s holds no PEM certificate", file)
	}
	return pool, nil
}
