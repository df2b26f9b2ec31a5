package certificate

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
)

func TestParse(t *testing.T) {
	ca := testkit.NewCA(t, "Fleet CA")
	cert := ca.Issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "pump-1", Organization: []string{"Acme, Inc."}}}, nil)
	got, err := ParsePEM("noise before\n" + testkit.PEM(cert, ca.Cert))
	if err != nil {
		t.Fatal(err)
	}
	want := &Certificate{
		ID: testkit.CertificateID(cert), Serial: cert.SerialNumber.Text(16),
		Issuer: "CN=Fleet CA,O=Tocsin tests", Subject: `CN=pump-1,O=Acme\, Inc.`,
		IssuerKeyID: hex.EncodeToString(ca.Cert.SubjectKeyId), SubjectKeyID: got.SubjectKeyID,
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter,
		Key: schemas.KeyInfo{Type: "ECDSA", Bits: 256, SHA256: got.Key.SHA256}, Raw: cert.Raw,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	root, err := Parse(ca.Cert.Raw)
	if err != nil {
		t.Fatal(err)
	}
	if !root.IsCA || root.SubjectKeyID != got.IssuerKeyID {
		t.Errorf("the CA: IsCA %v, key ID %s; its certificate names %s", root.IsCA, root.SubjectKeyID, got.IssuerKeyID)
	}
}

func TestParseMalformed(t *testing.T) {
	ca := testkit.NewCA(t, "CA")
	good := testkit.PEM(ca.Cert)
	for name, doc := range map[string]string{
		"empty":        "",
		"no PEM":       "certificatePem",
		"wrong type":   strings.ReplaceAll(good, "CERTIFICATE", "PUBLIC KEY"),
		"truncated":    good[:len(good)/2],
		"wrong base64": strings.Replace(good, "MII", "!!!", 1),
		"not DER":      "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n",
		"huge":         strings.Repeat(" ", 16*MaxSize+1),
	} {
		if _, err := ParsePEM(doc); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Parse(append(ca.Cert.Raw[:len(ca.Cert.Raw):len(ca.Cert.Raw)], 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a byte after the certificate: %v", err)
	}
}

// modulus returns a modulus of 2048 bits in which nothing weak is known: the
// product of two random primes would take the test seconds.
func modulus(t *testing.T) *big.Int {
	t.Helper()
	for {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 2047))
		if err != nil {
			t.Fatal(err)
		}
		n.SetBit(n, 2047, 1).SetBit(n, 0, 1)
		if new(big.Int).GCD(nil, nil, n, smallPrimes()).IsInt64() && new(big.Int).GCD(nil, nil, n, smallPrimes()).Int64() == 1 && !isROCA(n) {
			return n
		}
	}
}

func TestWeakRSA(t *testing.T) {
	e := big.NewInt(65537)
	n := modulus(t)
	short := new(big.Int).Rsh(n, 1024)
	// A ROCA modulus is a power of 65537 modulo M; what is added keeps it so.
	m := big.NewInt(1)
	for _, p := range rocaPrimes {
		m.Mul(m, new(big.Int).SetUint64(p))
	}
	m.Mul(m, big.NewInt(2)) // odd stays odd
	roca := new(big.Int).Exp(e, big.NewInt(1234567), m)
	for {
		k, err := rand.Int(rand.Reader, new(big.Int).Rsh(n, uint(m.BitLen())))
		if err != nil {
			t.Fatal(err)
		}
		c := new(big.Int).Add(roca, k.Mul(k, m))
		c.Add(c, new(big.Int).Lsh(m, uint(2048-m.BitLen())))
		if new(big.Int).GCD(nil, nil, c, smallPrimes()).Cmp(big.NewInt(1)) == 0 && c.BitLen() >= 2048 {
			roca = c
			break
		}
	}
	// Two numbers next to each other, and no small factor.
	close := new(big.Int)
	for p := new(big.Int).Sqrt(n); ; p.Add(p, big.NewInt(2)) {
		p.SetBit(p, 0, 1)
		close.Mul(p, new(big.Int).Add(p, big.NewInt(12)))
		if new(big.Int).GCD(nil, nil, close, smallPrimes()).Cmp(big.NewInt(1)) == 0 && close.BitLen() >= 2048 && !isROCA(close) {
			break
		}
	}
	for name, test := range map[string]struct {
		n, e *big.Int
		want string
	}{
		"nothing known": {n, e, ""},
		"short":         {short, e, WeakRSAShort},
		"exponent 1":    {n, big.NewInt(1), WeakRSAExponent},
		"even exponent": {n, big.NewInt(65536), WeakRSAExponent},
		"exponent 3":    {n, big.NewInt(3), ""},
		"even modulus":  {new(big.Int).Add(n, big.NewInt(1)), e, WeakRSASmallFactor},
		"ROCA":          {roca, e, WeakRSAROCA},
		"close primes":  {close, e, WeakRSAClosePrimes},
	} {
		if got := weakRSA(test.n, test.e); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestROCAIsRare(t *testing.T) {
	for range 20_000 {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 512))
		if err != nil {
			t.Fatal(err)
		}
		if isROCA(n) {
			t.Fatalf("%x looks like a ROCA modulus", n)
		}
	}
}

func TestKeys(t *testing.T) {
	ca := testkit.NewCA(t, "CA")
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		key  any
		want schemas.KeyInfo
	}{
		"RSA":     {small.Public(), schemas.KeyInfo{Type: "RSA", Bits: 2048}},
		"Ed25519": {ed, schemas.KeyInfo{Type: "Ed25519", Bits: 256}},
		"P-224":   {p224.Public(), schemas.KeyInfo{Type: "ECDSA", Bits: 224, Weak: WeakCurve}},
	} {
		c, err := Parse(ca.Issue(t, &x509.Certificate{}, test.key).Raw)
		if err != nil {
			t.Fatal(err)
		}
		c.Key.SHA256 = ""
		if c.Key != test.want {
			t.Errorf("%s: %+v", name, c.Key)
		}
	}
}

// TestForeignCurve has a certificate that crypto/x509 refuses.
func TestForeignCurve(t *testing.T) {
	ca := testkit.NewCA(t, "CA")
	cert := ca.Issue(t, &x509.Certificate{}, nil)
	p256, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
	if err != nil {
		t.Fatal(err)
	}
	secp256k1, err := asn1.Marshal(asn1.ObjectIdentifier{1, 3, 132, 0, 10})
	if err != nil {
		t.Fatal(err)
	}
	// The identifiers differ in length: cut a P-256 one of the same length short
	// by a private OID.
	private := append([]byte{6, 8}, secp256k1[2:]...)
	for len(private) < len(p256) {
		private = append(private, 1)
	}
	der := []byte(strings.ReplaceAll(string(cert.Raw), string(p256), string(private)))
	if _, err := x509.ParseCertificate(der); err == nil {
		t.Fatal("crypto/x509 takes the curve: the test shows nothing")
	}
	c, err := Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	if c.Key.Type != "ECDSA" || c.Key.Weak != WeakCurve || c.Serial != cert.SerialNumber.Text(16) {
		t.Errorf("%+v, serial %s", c.Key, c.Serial)
	}
}

// FuzzParse compares with crypto/x509: what it takes, this package takes, with
// the same result.
func FuzzParse(f *testing.F) {
	ca := testkit.NewCA(f, "CA")
	f.Add(ca.Cert.Raw)
	f.Add(ca.Issue(f, &x509.Certificate{Subject: pkix.Name{CommonName: "pump"}}, nil).Raw)
	weak, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ca.Issue(f, &x509.Certificate{NotAfter: time.Date(2060, 1, 1, 0, 0, 0, 0, time.UTC)}, weak.Public()).Raw)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, der []byte) {
		got, err := Parse(der)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("not ErrMalformed: %v", err)
			}
			if _, err := x509.ParseCertificate(der); err == nil && len(der) <= MaxSize {
				t.Fatal("crypto/x509 takes it")
			}
			return
		}
		want, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		if got.Serial != want.SerialNumber.Text(16) || !got.NotAfter.Equal(want.NotAfter) || !got.NotBefore.Equal(want.NotBefore) {
			t.Errorf("serial %s, validity %v to %v; crypto/x509: %s, %v to %v",
				got.Serial, got.NotBefore, got.NotAfter, want.SerialNumber.Text(16), want.NotBefore, want.NotAfter)
		}
		if key, ok := want.PublicKey.(*rsa.PublicKey); ok && got.Key.Bits != key.N.BitLen() {
			t.Errorf("RSA %d bits, want %d", got.Key.Bits, key.N.BitLen())
		}
	})
}
