package crl

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// DefaultLimit bounds a list. One of the million entries that AWS Private CA
// allows has 50 MB at most.
const DefaultLimit = 128 << 20

// Unverified is a well-formed list that anybody may have made.
type Unverified struct {
	// Header is the list without its entries, as crypto/x509 reads it. Raw,
	// RawTBSRevocationList and Signature are not those of the list.
	Header *x509.RevocationList
	// Entries is how many certificates it revokes; Skipped how many entries
	// revoke nothing here: removeFromCRL, and serial numbers that no certificate
	// can have.
	Entries, Skipped int
	// Scope is the distribution point in a partitioned list, which holds only
	// the certificates that refer to it; else empty.
	Scope string
	// SHA256 is of the DER form, in lower-case hex.
	SHA256 string

	der       []byte
	tbs       []byte
	signature []byte
	entries   cryptobyte.String
}

// List is a list whose signature was verified.
type List struct {
	*Unverified
	// Issuer is the certificate that it was verified with.
	Issuer *x509.Certificate
}

// Reader reads lists, DER or PEM. PEM text may hold several.
type Reader struct {
	from  *failing
	r     *bufio.Reader
	limit int64
	begun bool
	der   bool
}

// failing remembers what went wrong below, to tell a list that ends too early
// from a connection that does.
type failing struct {
	r   io.Reader
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && err != io.EOF { // an EOF that is wrapped is not the end
		f.err = err
	}
	return n, err
}

// NewReader returns a Reader of lists that have at most limit bytes of DER each;
// 0 is DefaultLimit.
func NewReader(r io.Reader, limit int64) *Reader {
	if limit <= 0 {
		limit = DefaultLimit
	}
	from := &failing{r: r}
	return &Reader{from: from, r: bufio.NewReaderSize(from, maxLine), limit: limit}
}

// Next returns the next list, io.EOF after the last. Any other error ends the
// reading: an *Error, or the error of the underlying reader.
func (r *Reader) Next() (*Unverified, error) {
	u, err := r.next()
	switch {
	case err == nil:
		return u, nil
	case r.from.err != nil:
		return nil, r.from.err
	case errors.Is(err, errEnd):
		return nil, io.EOF
	case errorIs[*Error](err):
		return nil, err
	}
	return nil, malformed("%w", err)
}

// errEnd is apart from io.EOF, which is also that of a list cut short.
var errEnd = errors.New("no more lists")

func (r *Reader) next() (*Unverified, error) {
	first := !r.begun
	if first {
		r.begun, r.der = true, isDER(r.r)
	}
	if r.der {
		if !first {
			return nil, errEnd
		}
		return readOnly(r.r, r.limit)
	}
	body, err := nextPEM(r.r)
	if errors.Is(err, io.EOF) {
		if first {
			return nil, malformed("neither DER nor PEM of a CRL (BEGIN X509 CRL)")
		}
		return nil, errEnd
	}
	if err != nil {
		return nil, err
	}
	return readOnly(body, r.limit)
}

// readOnly reads a list after which r must end.
func readOnly(r io.Reader, limit int64) (*Unverified, error) {
	der, err := readElement(r, limit)
	if err != nil {
		return nil, err
	}
	if n, err := io.ReadFull(r, make([]byte, 1)); n > 0 {
		return nil, malformed("there is more behind the list")
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return parse(der)
}

// Read returns the first list of r.
func Read(r io.Reader, limit int64) (*Unverified, error) {
	u, err := NewReader(r, limit).Next()
	if errors.Is(err, io.EOF) {
		return nil, malformed("empty")
	}
	return u, err
}

// parse reads a list in DER. It keeps der.
func parse(der []byte) (*Unverified, error) {
	var outer, tbs, algorithm, body, issuer, revoked, extensions cryptobyte.String
	var signature asn1.BitString
	input := cryptobyte.String(der)
	if !input.ReadASN1(&outer, tags.SEQUENCE) || !input.Empty() ||
		!outer.ReadASN1Element(&tbs, tags.SEQUENCE) ||
		!outer.ReadASN1Element(&algorithm, tags.SEQUENCE) ||
		!outer.ReadASN1BitString(&signature) || !outer.Empty() {
		return nil, malformed("not a CertificateList")
	}
	var version, inner, thisUpdate, nextUpdate cryptobyte.String
	whole := tbs
	if !tbs.ReadASN1(&body, tags.SEQUENCE) {
		return nil, malformed("not a CertificateList")
	}
	if body.PeekASN1Tag(tags.SEQUENCE) {
		return nil, unsupported("a version 1 CRL; only version 2 says which came first")
	}
	if !body.ReadASN1Element(&version, tags.INTEGER) || !body.ReadASN1Element(&inner, tags.SEQUENCE) ||
		!body.ReadASN1Element(&issuer, tags.SEQUENCE) || !readTimeElement(&body, &thisUpdate) {
		return nil, malformed("malformed TBSCertList")
	}
	if body.PeekASN1Tag(tags.UTCTime) || body.PeekASN1Tag(tags.GeneralizedTime) {
		if !readTimeElement(&body, &nextUpdate) {
			return nil, malformed("malformed nextUpdate")
		}
	}
	if body.PeekASN1Tag(tags.SEQUENCE) && !body.ReadASN1(&revoked, tags.SEQUENCE) {
		return nil, malformed("malformed revokedCertificates")
	}
	if !body.Empty() && (!body.ReadASN1Element(&extensions, tags.Tag(0).Constructed().ContextSpecific()) || !body.Empty()) {
		return nil, malformed("malformed crlExtensions")
	}

	// The parts around the entries are small, and crypto/x509 knows them: it gets
	// a list without entries.
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, part := range []cryptobyte.String{version, inner, issuer, thisUpdate, nextUpdate, extensions} {
				b.AddBytes(part)
			}
		})
		b.AddBytes(algorithm)
		b.AddASN1BitString(signature.Bytes)
	})
	small, err := b.Bytes()
	if err != nil {
		return nil, malformed("%w", err)
	}
	header, err := x509.ParseRevocationList(small)
	if err != nil {
		return nil, malformed("%w", err)
	}
	u := &Unverified{Header: header, der: der, tbs: whole, signature: signature.RightAlign(), entries: revoked}
	if u.Scope, err = checkExtensions(header); err != nil {
		return nil, err
	}
	if header.SignatureAlgorithm == x509.UnknownSignatureAlgorithm {
		return nil, unsupported("unknown signature algorithm")
	}
	for rest := revoked; !rest.Empty(); {
		_, ok, err := parseEntry(&rest)
		if err != nil {
			return nil, err
		}
		if ok {
			u.Entries++
		} else {
			u.Skipped++
		}
	}
	sum := sha256.Sum256(der)
	u.SHA256 = hex.EncodeToString(sum[:])
	return u, nil
}

func readTimeElement(s, out *cryptobyte.String) bool {
	var tag tags.Tag
	return s.ReadAnyASN1Element(out, &tag) && (tag == tags.UTCTime || tag == tags.GeneralizedTime)
}

// Verify returns the list that issuer signed. The issuer must be a CA whose name
// and key are those that the list names.
func (u *Unverified) Verify(issuer *x509.Certificate) (*List, error) {
	if !u.namesIssuer(issuer) {
		return nil, &Error{Reason: ReasonUnknownIssuer, Err: fmt.Errorf("issued by %q, not by %q", u.Header.Issuer, issuer.Subject)}
	}
	bad := func(format string, args ...any) error {
		return &Error{Reason: ReasonSignature, Err: fmt.Errorf(format, args...)}
	}
	if issuer.Version == 3 && !issuer.BasicConstraintsValid || issuer.BasicConstraintsValid && !issuer.IsCA {
		return nil, bad("%q is no CA", issuer.Subject)
	}
	if issuer.KeyUsage != 0 && issuer.KeyUsage&x509.KeyUsageCRLSign == 0 {
		return nil, bad("the certificate of %q is not for signing CRLs", issuer.Subject)
	}
	switch u.Header.SignatureAlgorithm {
	case x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1:
		// CheckSignature would take it, and collisions can be had.
		return nil, unsupported("signed with %s, which can be forged", u.Header.SignatureAlgorithm)
	}
	err := issuer.CheckSignature(u.Header.SignatureAlgorithm, u.tbs, u.signature)
	switch {
	case errors.Is(err, x509.ErrUnsupportedAlgorithm) || errorIs[x509.InsecureAlgorithmError](err):
		return nil, unsupported("signed with %s: %w", u.Header.SignatureAlgorithm, err)
	case err != nil:
		return nil, bad("not signed by %q: %w", issuer.Subject, err)
	}
	return &List{Unverified: u, Issuer: issuer}, nil
}

func errorIs[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// namesIssuer reports whether the list says that it is of this issuer.
func (u *Unverified) namesIssuer(c *x509.Certificate) bool {
	aki := u.Header.AuthorityKeyId
	return bytes.Equal(u.Header.RawIssuer, c.RawSubject) &&
		(len(aki) == 0 || len(c.SubjectKeyId) == 0 || bytes.Equal(aki, c.SubjectKeyId))
}

// Revoked yields the entries, without those that were skipped.
func (l *List) Revoked() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for rest := l.entries; !rest.Empty(); {
			e, ok, err := parseEntry(&rest)
			if err != nil {
				return // not after parse, which has seen them all
			}
			if ok && !yield(e) {
				return
			}
		}
	}
}

// IssuerKeyID returns the issuer's subject key identifier, or the SHA-1 of its
// public key where the certificate has none, in lower-case hex.
func (l *List) IssuerKeyID() string { return KeyID(l.Issuer) }

// DER returns the list as it was signed. It must not be changed.
func (l *List) DER() []byte { return l.der }

// Stale reports whether the issuer should have published a newer list before t.
func (u *Unverified) Stale(t time.Time) bool {
	return !u.Header.NextUpdate.IsZero() && t.After(u.Header.NextUpdate)
}
