package tlsconfig

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMutualTLS needs all of it: the server is under an authority that the
// system does not know, has another name than its address, and wants to know the
// client.
func TestMutualTLS(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, certFile, keyFile)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := Roots(certFile)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()

	all := Client{CAFile: certFile, CertFile: certFile, KeyFile: keyFile, ServerName: "server.test"}
	tests := map[string]struct {
		change func(*Client)
		err    string // part of the error, "" for none
	}{
		"all":                    {func(*Client) {}, ""},
		"system's authorities":   {func(c *Client) { c.CAFile = "" }, "unknown authority"},
		"name":                   {func(c *Client) { c.ServerName = "" }, "127.0.0.1"},
		"no client certificate":  {func(c *Client) { c.CertFile, c.KeyFile = "", "" }, "certificate required"},
		"nothing is verified":    {func(c *Client) { c.CAFile, c.ServerName, c.InsecureSkipVerify = "", "", true }, ""},
		"skipping is not asking": {func(c *Client) { c.CertFile, c.KeyFile, c.InsecureSkipVerify = "", "", true }, "certificate required"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := all
			test.change(&c)
			cfg, err := c.Config()
			if err != nil {
				t.Fatal(err)
			}
			transport := &http.Transport{TLSClientConfig: cfg}
			defer transport.CloseIdleConnections()
			res, err := (&http.Client{Transport: transport}).Get(server.URL)
			if err == nil {
				res.Body.Close()
			}
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want one with %q", err, test.err)
			}
		})
	}
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for name, test := range map[string]struct {
		client Client
		err    string
	}{
		"no CA file":      {Client{CAFile: missing}, missing},
		"CA without PEM":  {Client{CAFile: "client_test.go"}, "client_test.go holds no PEM certificate"},
		"no certificate":  {Client{CertFile: missing, KeyFile: missing}, missing},
		"key alone":       {Client{KeyFile: missing}, "client certificate"},
		"text as its key": {Client{CertFile: "client_test.go", KeyFile: "client_test.go"}, "client certificate"},
	} {
		if _, err := test.client.Config(); err == nil || !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: error %v, want one with %q", name, err, test.err)
		}
	}
}

// writeCertificate writes a certificate that is its own authority, good for both
// ends.
func writeCertificate(t *testing.T, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{"server.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der},
		keyFile:  {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
