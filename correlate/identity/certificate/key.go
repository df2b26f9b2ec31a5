package certificate

import (
	"crypto/ecdh"
	"crypto/sha1" //nolint:gosec // RFC 5280 names it; it identifies and protects nothing
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"math/big"

	"github.com/tocsin-io/tocsin/schemas"
)

// The values of KeyInfo.Weak.
const (
	WeakRSAShort       = "rsa_short"        // a modulus of less than 2048 bits
	WeakRSAExponent    = "rsa_exponent"     // 1, or even
	WeakRSAROCA        = "rsa_roca"         // made by the Infineon library of CVE-2017-15361
	WeakRSASmallFactor = "rsa_small_factor" // the modulus has a factor below 1000
	WeakRSAClosePrimes = "rsa_close_primes" // Fermat's method factors the modulus (CVE-2022-26320)
	WeakCurve          = "curve"            // neither P-256, P-384 nor P-521
	WeakPoint          = "point"            // not on its curve
	WeakDSA            = "dsa"              // NIST withdrew it in FIPS 186-5
	WeakMalformed      = "malformed"        // the key does not parse
)

var (
	oidRSA     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidRSAPSS  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidDSA     = asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1}
	oidECDSA   = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}
	oidEd448   = asn1.ObjectIdentifier{1, 3, 101, 113}
)

// curves by their object identifier (RFC 5480, RFC 5639, SEC 2). Those without
// check are weak or unusual.
var curves = []struct {
	oid   asn1.ObjectIdentifier
	bits  int
	check ecdh.Curve
}{
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}, 256, ecdh.P256()},
	{asn1.ObjectIdentifier{1, 3, 132, 0, 34}, 384, ecdh.P384()},
	{asn1.ObjectIdentifier{1, 3, 132, 0, 35}, 521, ecdh.P521()},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 1}, 192, nil},     // P-192
	{asn1.ObjectIdentifier{1, 3, 132, 0, 33}, 224, nil},              // P-224
	{asn1.ObjectIdentifier{1, 3, 132, 0, 10}, 256, nil},              // secp256k1
	{asn1.ObjectIdentifier{1, 3, 36, 3, 3, 2, 8, 1, 1, 7}, 256, nil}, // brainpoolP256r1
	{asn1.ObjectIdentifier{1, 3, 36, 3, 3, 2, 8, 1, 1, 11}, 384, nil},
	{asn1.ObjectIdentifier{1, 3, 36, 3, 3, 2, 8, 1, 1, 13}, 512, nil},
}

// keyHash is the key identifier of RFC 5280 4.2.1.2 (1).
func keyHash(key []byte) string {
	sum := sha1.Sum(key) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:])
}

func inspectKey(k *publicKey) schemas.KeyInfo {
	sum := sha256.Sum256(k.Raw)
	info := schemas.KeyInfo{SHA256: hex.EncodeToString(sum[:])}
	key := k.Key.RightAlign()
	switch oid := k.Algorithm.Algorithm; {
	case oid.Equal(oidRSA), oid.Equal(oidRSAPSS):
		info.Type = "RSA"
		var rsa struct{ N, E *big.Int }
		if rest, err := asn1.Unmarshal(key, &rsa); err != nil || len(rest) > 0 || rsa.N.Sign() <= 0 || rsa.E.Sign() <= 0 {
			info.Weak = WeakMalformed
			return info
		}
		info.Bits = rsa.N.BitLen()
		info.Weak = weakRSA(rsa.N, rsa.E)
	case oid.Equal(oidECDSA):
		info.Type = "ECDSA"
		info.Bits, info.Weak = inspectCurve(k.Algorithm.Parameters.FullBytes, key)
	case oid.Equal(oidDSA):
		info.Type, info.Weak = "DSA", WeakDSA
		var params struct{ P, Q, G *big.Int }
		if _, err := asn1.Unmarshal(k.Algorithm.Parameters.FullBytes, &params); err == nil {
			info.Bits = params.P.BitLen()
		}
	case oid.Equal(oidEd25519):
		info.Type, info.Bits = "Ed25519", 256
		if len(key) != 32 {
			info.Weak = WeakMalformed
		}
	case oid.Equal(oidEd448):
		info.Type, info.Bits = "Ed448", 456
	default:
		info.Type = oid.String()
	}
	return info
}

func inspectCurve(params, key []byte) (bits int, weak string) {
	var oid asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(params, &oid); err != nil {
		return 0, WeakCurve // explicit parameters: whoever chose them may know a way in
	}
	for _, c := range curves {
		if !c.oid.Equal(oid) {
			continue
		}
		if c.check == nil {
			return c.bits, WeakCurve
		}
		if len(key) > 0 && key[0] != 4 {
			return c.bits, "" // compressed: rare, and crypto/ecdh does not take it
		}
		if _, err := c.check.NewPublicKey(key); err != nil {
			return c.bits, WeakPoint
		}
		return c.bits, ""
	}
	return 0, WeakCurve
}
