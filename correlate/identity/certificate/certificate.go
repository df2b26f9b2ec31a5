// Package certificate reads what the registry keeps of an X.509 certificate,
// also of one that crypto/x509 refuses (unknown curves, odd extensions): a
// fleet's certificates are as they are, and the broker has accepted them.
// Nothing is verified here.
package certificate

import (
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// MaxSize bounds a certificate, in bytes of PEM or DER. AWS IoT takes 64 KiB.
const MaxSize = 64 << 10

// ErrMalformed is in the chain of every error about bytes that are no
// certificate.
var ErrMalformed = errors.New("malformed certificate")

// Certificate is what the registry keeps of a certificate.
type Certificate struct {
	ID           string // AWS IoT's: SHA-256 of the DER form in lower-case hex (aws-formats 6.3)
	Serial       string // as schemas.NormalizeSerial
	Issuer       string // RFC 2253 name
	IssuerKeyID  string // authority key identifier in lower-case hex, "" without
	Subject      string // RFC 2253 name
	SubjectKeyID string // subject key identifier in lower-case hex; without, the SHA-1 that RFC 5280 4.2.1.2 (1) names
	NotBefore    time.Time
	NotAfter     time.Time
	Key          schemas.KeyInfo
	IsCA         bool
	Raw          []byte // DER; aliases what it was parsed from
}

// ParsePEM reads the first certificate of a PEM document; what else is in it,
// such as the chain that follows, is passed over.
func ParsePEM(doc string) (*Certificate, error) {
	if len(doc) > 16*MaxSize {
		return nil, fmt.Errorf("%w: %d bytes of PEM; want at most %d", ErrMalformed, len(doc), 16*MaxSize)
	}
	for rest := []byte(doc); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, fmt.Errorf("%w: no CERTIFICATE in the PEM", ErrMalformed)
		}
		if block.Type == "CERTIFICATE" || block.Type == "X509 CERTIFICATE" {
			return Parse(block.Bytes)
		}
	}
}

// The structures of RFC 5280, 4.1.
type signed struct {
	TBS       tbs
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

type tbs struct {
	Version         int `asn1:"optional,explicit,default:0,tag:0"`
	Serial          *big.Int
	Algorithm       pkix.AlgorithmIdentifier
	Issuer          asn1.RawValue
	Validity        struct{ NotBefore, NotAfter time.Time }
	Subject         asn1.RawValue
	Key             publicKey
	IssuerUniqueID  asn1.BitString   `asn1:"optional,tag:1"`
	SubjectUniqueID asn1.BitString   `asn1:"optional,tag:2"`
	Extensions      []pkix.Extension `asn1:"omitempty,optional,explicit,tag:3"`
}

type publicKey struct {
	Raw       asn1.RawContent
	Algorithm pkix.AlgorithmIdentifier
	Key       asn1.BitString
}

var (
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidAuthorityKeyID   = asn1.ObjectIdentifier{2, 5, 29, 35}
)

// Parse reads a certificate in DER. An extension that does not parse is taken
// for absent.
func Parse(der []byte) (*Certificate, error) {
	if len(der) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes; want at most %d", ErrMalformed, len(der), MaxSize)
	}
	var s signed
	rest, err := asn1.Unmarshal(der, &s)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes follow it", ErrMalformed, len(rest))
	}
	t := &s.TBS
	issuer, err := name(t.Issuer.FullBytes)
	if err != nil {
		return nil, fmt.Errorf("%w: issuer: %w", ErrMalformed, err)
	}
	subject, err := name(t.Subject.FullBytes)
	if err != nil {
		return nil, fmt.Errorf("%w: subject: %w", ErrMalformed, err)
	}
	id := sha256.Sum256(der)
	c := &Certificate{
		ID:        hex.EncodeToString(id[:]),
		Serial:    serial(t.Serial),
		Issuer:    issuer,
		Subject:   subject,
		NotBefore: t.Validity.NotBefore.UTC(),
		NotAfter:  t.Validity.NotAfter.UTC(),
		Key:       inspectKey(&t.Key),
		Raw:       der,
	}
	for _, e := range t.Extensions {
		c.extension(e)
	}
	if c.SubjectKeyID == "" {
		c.SubjectKeyID = keyHash(t.Key.Key.RightAlign())
	}
	return c, nil
}

func (c *Certificate) extension(e pkix.Extension) {
	switch {
	case e.Id.Equal(oidSubjectKeyID):
		var id []byte
		if rest, err := asn1.Unmarshal(e.Value, &id); err == nil && len(rest) == 0 {
			c.SubjectKeyID = hex.EncodeToString(id)
		}
	case e.Id.Equal(oidAuthorityKeyID):
		var id struct {
			ID []byte `asn1:"optional,tag:0"`
		}
		if _, err := asn1.Unmarshal(e.Value, &id); err == nil {
			c.IssuerKeyID = hex.EncodeToString(id.ID)
		}
	case e.Id.Equal(oidBasicConstraints):
		var basic struct {
			IsCA bool `asn1:"optional"`
			Path int  `asn1:"optional,default:-1"`
		}
		if _, err := asn1.Unmarshal(e.Value, &basic); err == nil {
			c.IsCA = basic.IsCA
		}
	}
}

// serial writes a serial number as the other sources do. A negative one, which
// RFC 5280 forbids and some CAs have made, keeps its sign apart from its digits.
func serial(n *big.Int) string {
	if n.Sign() < 0 {
		return "-" + schemas.SerialHex(n.Bytes())
	}
	return schemas.SerialHex(n.Bytes())
}

func name(der []byte) (string, error) {
	var rdn pkix.RDNSequence
	if _, err := asn1.Unmarshal(der, &rdn); err != nil {
		return "", err
	}
	// What is shown and stored as text must be text.
	return strings.ToValidUTF8(rdn.String(), "\uFFFD"), nil
}
