package crl

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/internal/testkit"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// template is a list of a few entries.
func template(number int64, serials ...int64) *x509.RevocationList {
	l := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: start, NextUpdate: start.Add(7 * 24 * time.Hour)}
	for i, s := range serials {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: big.NewInt(s), RevocationTime: start.Add(-time.Duration(i) * time.Hour), ReasonCode: i % 6,
		})
	}
	return l
}

func signList(t testing.TB, ca *testkit.CA, l *x509.RevocationList) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, l, ca.Cert, ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func toPEM(ders ...[]byte) []byte {
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
	}
	return out
}

// caWith returns a CA with a key, whose certificate is changed before it is signed.
func caWith(t testing.TB, name string, key crypto.Signer, change func(*x509.Certificate)) *testkit.CA {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, NotBefore: start, NotAfter: start.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return &testkit.CA{Cert: c, Key: key}
}

func reasonIn(err error) Reason { return reasonOf(err, "") }

func read(t testing.TB, b []byte) *Unverified {
	t.Helper()
	u, err := Read(bytes.NewReader(b), 0)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// describe returns what a list says, comparable.
func describe(l *List) []string {
	var out []string
	for e := range l.Revoked() {
		out = append(out, e.SerialHex()+" "+e.Time.Format(time.RFC3339)+" "+e.Reason.String())
	}
	return out
}

func TestReadsWhatX509Reads(t *testing.T) {
	ca := testkit.NewCA(t, "one")
	big160, _ := new(big.Int).SetString("fedcba9876543210fedcba9876543210fedcba98", 16)
	l := template(1519676905984, 1, 127, 128, 255, 256, 65535, 0)
	l.RevokedCertificateEntries = append(l.RevokedCertificateEntries,
		x509.RevocationListEntry{SerialNumber: big160, RevocationTime: time.Date(2051, 2, 28, 23, 59, 59, 0, time.UTC), ReasonCode: 9},
		x509.RevocationListEntry{
			SerialNumber: big.NewInt(77), RevocationTime: start, ReasonCode: 6,
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 24}, Value: []byte("invalidity date")}},
		})
	der := signList(t, ca, l)
	want, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	for name, form := range map[string][]byte{
		"DER": der, "PEM": toPEM(der),
		"PEM with text and CRLF":  append([]byte("0 = Certificate Revocation List\r\n\r\n"), bytes.ReplaceAll(toPEM(der), []byte("\n"), []byte("\r\n"))...),
		"PEM after another block": append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw}), toPEM(der)...),
		"PEM in one line":         oneLine(der),
	} {
		t.Run(name, func(t *testing.T) {
			u, err := Read(iotest.OneByteReader(bytes.NewReader(form)), 0)
			if err != nil {
				t.Fatal(err)
			}
			list, err := u.Verify(ca.Cert)
			if err != nil {
				t.Fatal(err)
			}
			var got, exp []string
			got = describe(list)
			for _, e := range want.RevokedCertificateEntries {
				exp = append(exp, e.SerialNumber.Text(16)+" "+e.RevocationTime.Format(time.RFC3339)+" "+RevocationReason(e.ReasonCode).String())
			}
			if diff := cmp.Diff(exp, got); diff != "" {
				t.Error(diff)
			}
			if u.Entries != len(exp) || u.Skipped != 0 || u.Header.Number.Cmp(l.Number) != 0 || !u.Header.ThisUpdate.Equal(l.ThisUpdate) || !u.Header.NextUpdate.Equal(l.NextUpdate) {
				t.Errorf("header %+v", u)
			}
			if !bytes.Equal(list.DER(), der) || list.IssuerKeyID() != KeyID(ca.Cert) {
				t.Error("not the list that was signed")
			}
		})
	}
}

// oneLine returns PEM whose base64 is not broken into lines.
func oneLine(der []byte) []byte {
	return fmt.Appendf(nil, "-----BEGIN X509 CRL-----\n%s\n-----END X509 CRL-----", base64.StdEncoding.EncodeToString(der))
}

func TestSignatureAlgorithms(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		algorithm x509.SignatureAlgorithm
		key       crypto.Signer
	}{
		{x509.SHA256WithRSA, rsaKey},
		{x509.SHA512WithRSA, rsaKey},
		{x509.SHA256WithRSAPSS, rsaKey},
		{x509.SHA384WithRSAPSS, rsaKey},
		{x509.ECDSAWithSHA256, p384},
		{x509.ECDSAWithSHA384, p384},
		{x509.PureEd25519, ed},
	} {
		t.Run(tc.algorithm.String(), func(t *testing.T) {
			ca := caWith(t, "ca", tc.key, nil)
			l := template(1, 1, 2, 3)
			l.SignatureAlgorithm = tc.algorithm
			der := signList(t, ca, l)
			if _, err := read(t, der).Verify(ca.Cert); err != nil {
				t.Error(err)
			}
			// Any bit of what was signed, and of the signature.
			for _, at := range []int{len(der) - 1, len(der) - 20, bytes.Index(der, []byte{0x02, 0x01, 0x02}) + 2} {
				bad := bytes.Clone(der)
				bad[at] ^= 1
				if _, err := read(t, bad).Verify(ca.Cert); reasonIn(err) != ReasonSignature {
					t.Errorf("byte %d changed: %v", at, err)
				}
			}
		})
	}
	t.Run("SHA-1", func(t *testing.T) {
		ca := caWith(t, "ca", p384, nil)
		u := read(t, signList(t, ca, template(1, 1)))
		u.Header.SignatureAlgorithm = x509.ECDSAWithSHA1 // x509 does not make such lists any more
		if _, err := u.Verify(ca.Cert); reasonIn(err) != ReasonUnsupported {
			t.Error(err)
		}
	})
}

func TestVerifyRefuses(t *testing.T) {
	ca := testkit.NewCA(t, "one")
	u := read(t, signList(t, ca, template(1, 1)))
	sameName := testkit.NewCA(t, "one")
	nokey := func(c *x509.Certificate) { c.SubjectKeyId = nil }
	for _, tc := range []struct {
		name   string
		issuer *x509.Certificate
		want   Reason
	}{
		{"other name", testkit.NewCA(t, "two").Cert, ReasonUnknownIssuer},
		{"same name, other key", sameName.Cert, ReasonUnknownIssuer},
		{"same name, other key, no key identifier", change(sameName.Cert, nokey), ReasonSignature},
		{"no CA", change(ca.Cert, func(c *x509.Certificate) { c.IsCA = false }), ReasonSignature},
		{"no basic constraints", change(ca.Cert, func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = false, false }), ReasonSignature},
		{"not for CRLs", change(ca.Cert, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }), ReasonSignature},
	} {
		if _, err := u.Verify(tc.issuer); reasonIn(err) != tc.want {
			t.Errorf("%s: %v (%s), want %s", tc.name, err, reasonIn(err), tc.want)
		}
	}
	if _, err := u.Verify(ca.Cert); err != nil {
		t.Error(err)
	}
}

func change(c *x509.Certificate, f func(*x509.Certificate)) *x509.Certificate {
	d := *c
	f(&d)
	return &d
}

// idp returns an issuingDistributionPoint extension.
func idp(content ...byte) pkix.Extension {
	return pkix.Extension{Id: oidIssuingDistributionPoint, Critical: true, Value: append([]byte{0x30, byte(len(content))}, content...)}
}

func partition(uri string) pkix.Extension {
	name := append([]byte{0x86, byte(len(uri))}, uri...)
	name = append([]byte{0xa0, byte(len(name))}, name...)
	return idp(append([]byte{0xa0, byte(len(name))}, name...)...)
}

func TestExtensions(t *testing.T) {
	ca := testkit.NewCA(t, "one")
	for _, tc := range []struct {
		name  string
		ext   pkix.Extension
		entry bool
		scope string
		want  Reason
	}{
		{"partition", partition("http://crl.example.com/crl/1b2c.crl"), false, "http://crl.example.com/crl/1b2c.crl", ""},
		{"user certificates only", idp(0x81, 1, 0xff), false, "", ""},
		{"some reasons only", idp(0x83, 2, 1, 0x40), false, "", ""},
		{"indirect", idp(0x84, 1, 0xff), false, "", ReasonUnsupported},
		{"indirect, not", idp(0x84, 1, 0), false, "", ""},
		{"attribute certificates", idp(0x85, 1, 0xff), false, "", ReasonUnsupported},
		{"field of the future", idp(0x86, 1, 0xff), false, "", ReasonUnsupported},
		{"distribution point cut off", idp(0xa0, 9, 0xa0), false, "", ReasonMalformed},
		{"delta", pkix.Extension{Id: oidDeltaCRLIndicator, Critical: true, Value: []byte{2, 1, 1}}, false, "", ReasonUnsupported},
		{"unknown, critical", pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}, false, "", ReasonUnsupported},
		{"unknown, not critical", pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}}, false, "", ""},
		{"entry: unknown, critical", pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}, true, "", ReasonUnsupported},
		{"entry: unknown, not critical", pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}}, true, "", ""},
		{"entry: of another issuer", pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}, true, "", ReasonUnsupported},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := template(1, 5)
			if tc.entry {
				l.RevokedCertificateEntries[0].ExtraExtensions = []pkix.Extension{tc.ext}
			} else {
				l.ExtraExtensions = []pkix.Extension{tc.ext}
			}
			u, err := Read(bytes.NewReader(signList(t, ca, l)), 0)
			if reasonIn(err) != tc.want || (err != nil) != (tc.want != "") {
				t.Fatalf("%v (%s), want %q", err, reasonIn(err), tc.want)
			}
			if err == nil && u.Scope != tc.scope {
				t.Errorf("scope %q, want %q", u.Scope, tc.scope)
			}
		})
	}
}

func TestEntriesThatRevokeNothing(t *testing.T) {
	ca := testkit.NewCA(t, "one")
	l := template(1, 1, 2, 3)
	l.RevokedCertificateEntries[1].ReasonCode = 8 // removeFromCRL
	l.RevokedCertificateEntries[2].SerialNumber = new(big.Int).Lsh(big.NewInt(1), 8*70)
	der := signList(t, ca, l)
	// x509 makes no negative serial numbers.
	der = bytes.Replace(der, []byte{0x02, 0x01, 0x01, 0x17}, []byte{0x02, 0x01, 0x81, 0x17}, 1)
	u := read(t, der)
	if u.Entries != 0 || u.Skipped != 3 {
		t.Errorf("%d entries, %d skipped; want 0, 3", u.Entries, u.Skipped)
	}
}

func TestBadInput(t *testing.T) {
	ca := testkit.NewCA(t, "one")
	der := signList(t, ca, template(1, 1, 2, 3))
	reason := bytes.Replace(signList(t, ca, template(1, 1, 2)), []byte{0x55, 0x1d, 0x15, 0x04, 0x03, 0x0a}, []byte{0x55, 0x1d, 0x15, 0x04, 0x03, 0x02}, 1)
	v1 := bytes.Replace(der, []byte{0x02, 0x01, 0x01, 0x30}, []byte{0x02, 0x01, 0x00, 0x30}, 1)
	for _, tc := range []struct {
		name  string
		in    []byte
		limit int64
		want  Reason
	}{
		{"empty", nil, 0, ReasonMalformed},
		{"text", []byte("404 not found\n"), 0, ReasonMalformed},
		{"a certificate", ca.Cert.Raw, 0, ReasonMalformed},
		{"a certificate in PEM", []byte(testkit.PEM(ca.Cert)), 0, ReasonMalformed},
		{"something behind it", append(bytes.Clone(der), 0), 0, ReasonMalformed},
		{"something behind it, in PEM", toPEM(append(bytes.Clone(der), 0)), 0, ReasonMalformed},
		{"too large", der, int64(len(der)) - 1, ReasonTooLarge},
		{"just not too large", der, int64(len(der)), ""},
		{"too large in PEM", toPEM(der), int64(len(der)) - 1, ReasonTooLarge},
		{"claims 4 GiB", []byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x30}, 0, ReasonTooLarge},
		{"indefinite length", []byte{0x30, 0x80, 0x30, 0x80, 0, 0, 0, 0}, 0, ReasonMalformed},
		{"reason code that is none", reason, 0, ReasonMalformed},
		{"version 1", v1, 0, ReasonMalformed},
		{"PEM without an end", toPEM(der)[:len(toPEM(der))-30], 0, ReasonMalformed},
		{"PEM of no base64", []byte("-----BEGIN X509 CRL-----\n!!!!\n-----END X509 CRL-----\n"), 0, ReasonMalformed},
		{"PEM within PEM", []byte("-----BEGIN X509 CRL-----\nMIIB\n-----BEGIN X509 CRL-----\n"), 0, ReasonMalformed},
	} {
		_, err := Read(bytes.NewReader(tc.in), tc.limit)
		if reasonIn(err) != tc.want || (err != nil) != (tc.want != "") {
			t.Errorf("%s: %v (%s), want %q", tc.name, err, reasonIn(err), tc.want)
		}
	}
	for n := range len(der) {
		if _, err := Read(bytes.NewReader(der[:n]), 0); reasonIn(err) != ReasonMalformed {
			t.Fatalf("cut off after %d of %d bytes: %v", n, len(der), err)
		}
	}
	text := toPEM(der)
	for n := range len(text) - len("-----END X509 CRL-----\n") {
		if _, err := Read(bytes.NewReader(text[:n]), 0); reasonIn(err) != ReasonMalformed {
			t.Fatalf("PEM cut off after %d of %d bytes: %v", n, len(text), err)
		}
	}
}

func TestErrorsOfTheReaderAreNotTheLists(t *testing.T) {
	der := signList(t, testkit.NewCA(t, "one"), template(1, 1, 2, 3))
	lost := errors.New("connection reset")
	for _, form := range [][]byte{der, toPEM(der)} {
		_, err := Read(io.MultiReader(bytes.NewReader(form[:len(form)/2]), iotest.ErrReader(lost)), 0)
		if !errors.Is(err, lost) || reasonIn(err) != "" {
			t.Errorf("%v (%s)", err, reasonIn(err))
		}
	}
}

func TestSeveralListsInOnePEM(t *testing.T) {
	one, two := testkit.NewCA(t, "one"), testkit.NewCA(t, "two")
	r := NewReader(bytes.NewReader(toPEM(signList(t, one, template(1, 1)), signList(t, two, template(2, 2)))), 0)
	for _, want := range []int64{1, 2} {
		u, err := r.Next()
		if err != nil || u.Header.Number.Int64() != want {
			t.Fatalf("list %d: %v", want, err)
		}
	}
	if _, err := r.Next(); err != io.EOF { //nolint:errorlint // io.EOF itself is promised
		t.Errorf("after the last: %v", err)
	}
}

func TestIssuerWithoutKeyIdentifier(t *testing.T) {
	// 160 bits of SHA-1 over the key, as RFC 5280 and crypto/x509 make them.
	ca := testkit.NewCA(t, "one")
	bare := change(ca.Cert, func(c *x509.Certificate) { c.SubjectKeyId = nil })
	if got := KeyID(bare); len(got) != 40 || got == KeyID(ca.Cert) && len(ca.Cert.SubjectKeyId) != 20 {
		t.Errorf("key ID %q", got)
	}
}

func FuzzRead(f *testing.F) {
	ca := testkit.NewCA(f, "one")
	der := signList(f, ca, template(1, 1, 2, 300))
	f.Add(der)
	f.Add(toPEM(der, der))
	l := template(2, 9)
	l.ExtraExtensions = []pkix.Extension{partition("http://a/b.crl")}
	f.Add(signList(f, ca, l))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b), 1<<20)
		for {
			u, err := r.Next()
			if err == io.EOF { //nolint:errorlint // io.EOF itself is promised
				return
			}
			if err != nil {
				if reasonIn(err) == "" {
					t.Fatalf("no reason: %v", err)
				}
				return
			}
			n := 0
			list := &List{Unverified: u, Issuer: ca.Cert}
			for e := range list.Revoked() {
				n++
				if len(e.Serial) > maxSerialBytes || e.Reason == removeFromCRL {
					t.Fatalf("entry %+v", e)
				}
			}
			if n != u.Entries {
				t.Fatalf("%d entries, %d announced", n, u.Entries)
			}
			// What crypto/x509 refuses must not be taken for something else by us,
			// and the other way round for lists that both can read.
			want, err := x509.ParseRevocationList(u.der)
			if err != nil {
				return // it is stricter about times and extensions of entries
			}
			if len(want.RevokedCertificateEntries) != u.Entries+u.Skipped {
				t.Fatalf("%d entries, crypto/x509 reads %d", u.Entries+u.Skipped, len(want.RevokedCertificateEntries))
			}
		}
	})
}
