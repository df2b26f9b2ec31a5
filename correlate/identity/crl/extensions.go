package crl

import (
	"crypto/sha1" //nolint:gosec // a name, not a proof: RFC 5280, section 4.2.1.2, method 1
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidAuthorityKeyID           = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidCRLNumber                = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidDeltaCRLIndicator        = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIssuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
)

// checkExtensions refuses lists that say something other than "these
// certificates of this issuer are revoked". It returns the distribution point of
// a partitioned list.
func checkExtensions(header *x509.RevocationList) (scope string, err error) {
	for _, e := range header.Extensions {
		switch {
		case e.Id.Equal(oidDeltaCRLIndicator):
			return "", unsupported("a delta CRL; give the complete one")
		case e.Id.Equal(oidIssuingDistributionPoint):
			if scope, err = distributionPoint(e); err != nil {
				return "", err
			}
		case e.Id.Equal(oidAuthorityKeyID), e.Id.Equal(oidCRLNumber):
		case e.Critical:
			return "", unsupported("critical extension %s", e.Id)
		}
	}
	return scope, nil
}

// distributionPoint reads an IssuingDistributionPoint and returns the first URI
// of its name.
func distributionPoint(e pkix.Extension) (string, error) {
	bad := malformed("malformed issuingDistributionPoint")
	var idp cryptobyte.String
	input := cryptobyte.String(e.Value)
	if !input.ReadASN1(&idp, tags.SEQUENCE) || !input.Empty() {
		return "", bad
	}
	scope := ""
	for !idp.Empty() {
		var field cryptobyte.String
		var tag tags.Tag
		if !idp.ReadAnyASN1(&field, &tag) {
			return "", bad
		}
		set := len(field) == 1 && field[0] != 0
		switch tag {
		case tags.Tag(0).ContextSpecific().Constructed(): // distributionPoint
			var ok bool
			if scope, ok = firstURI(field); !ok {
				return "", bad
			}
		case tags.Tag(4).ContextSpecific(): // indirectCRL
			if set {
				return "", unsupported("an indirect CRL, with certificates of several issuers")
			}
		case tags.Tag(5).ContextSpecific(): // onlyContainsAttributeCerts
			if set {
				return "", unsupported("a CRL of attribute certificates")
			}
		case tags.Tag(1).ContextSpecific(), tags.Tag(2).ContextSpecific(), tags.Tag(3).ContextSpecific():
			// onlyContainsUserCerts, onlyContainsCACerts, onlySomeReasons: what such
			// a list leaves out is in another, and lists only add.
		default:
			return "", unsupported("field %d of issuingDistributionPoint", tag)
		}
	}
	return scope, nil
}

// firstURI returns the first URI of a DistributionPointName, "" if it has none.
func firstURI(name cryptobyte.String) (string, bool) {
	var names cryptobyte.String
	var has bool
	if !name.ReadOptionalASN1(&names, &has, tags.Tag(0).ContextSpecific().Constructed()) {
		return "", false
	}
	for has && !names.Empty() {
		var value cryptobyte.String
		var tag tags.Tag
		if !names.ReadAnyASN1(&value, &tag) {
			return "", false
		}
		if tag == tags.Tag(6).ContextSpecific() {
			return string(value), true
		}
	}
	return "", true
}

// oidString prints the content of an object identifier.
func oidString(content []byte) string {
	var b cryptobyte.Builder
	b.AddASN1(tags.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(content) })
	var oid asn1.ObjectIdentifier
	if der, err := b.Bytes(); err == nil {
		if _, err := asn1.Unmarshal(der, &oid); err == nil {
			return oid.String()
		}
	}
	return fmt.Sprintf("%x", content)
}

// KeyID names the key of a CA: its subject key identifier, or the SHA-1 of its
// public key where the certificate has none; in lower-case hex.
func KeyID(c *x509.Certificate) string {
	if len(c.SubjectKeyId) > 0 {
		return hex.EncodeToString(c.SubjectKeyId)
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &info); err != nil {
		return ""
	}
	sum := sha1.Sum(info.Key.Bytes)
	return hex.EncodeToString(sum[:])
}
