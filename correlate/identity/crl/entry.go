package crl

import (
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/tocsin-io/tocsin/schemas"
)

// Entry is one revoked certificate.
type Entry struct {
	// Serial is the serial number in big-endian order without leading zeros;
	// empty for zero. It aliases the list's memory.
	Serial []byte
	Time   time.Time
	Reason RevocationReason
}

// SerialHex returns the serial number as schemas.NormalizeSerial does.
func (e *Entry) SerialHex() string { return schemas.SerialHex(e.Serial) }

// RevocationReason is a reasonCode of RFC 5280, section 5.3.1.
type RevocationReason uint8

const (
	unspecified   RevocationReason = 0
	removeFromCRL RevocationReason = 8
)

var revocationReasons = [...]string{
	"unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded", "cessationOfOperation",
	"certificateHold", "", "removeFromCRL", "privilegeWithdrawn", "aACompromise",
}

// String returns RFC 5280's name.
func (r RevocationReason) String() string {
	if int(r) < len(revocationReasons) && revocationReasons[r] != "" {
		return revocationReasons[r]
	}
	return revocationReasons[unspecified]
}

// The contents of the extensions' object identifiers, 2.5.29.*.
var (
	oidReasonCode        = []byte{0x55, 0x1d, 21}
	oidInvalidityDate    = []byte{0x55, 0x1d, 24}
	oidCertificateIssuer = []byte{0x55, 0x1d, 29}
)

// maxSerialBytes bounds a serial number; RFC 5280 allows 20.
const maxSerialBytes = 64

// parseEntry cuts the first entry off s. Without ok the entry is one that
// revokes nothing here: see Unverified.Skipped.
func parseEntry(s *cryptobyte.String) (e Entry, ok bool, err error) {
	var entry, serial cryptobyte.String
	if !s.ReadASN1(&entry, asn1.SEQUENCE) || !entry.ReadASN1(&serial, asn1.INTEGER) || len(serial) == 0 {
		return e, false, malformed("revoked certificate without a serial number")
	}
	if e.Time, err = readTime(&entry); err != nil {
		return e, false, err
	}
	// No certificate that can be parsed has a negative number.
	ok = serial[0] < 0x80 && len(serial) <= maxSerialBytes
	for len(serial) > 0 && serial[0] == 0 {
		serial = serial[1:]
	}
	e.Serial = serial
	if entry.Empty() {
		return e, ok, nil
	}
	var extensions cryptobyte.String
	if !entry.ReadASN1(&extensions, asn1.SEQUENCE) || !entry.Empty() {
		return e, false, malformed("serial %s: malformed entry", e.SerialHex())
	}
	for !extensions.Empty() {
		id, critical, value, err := readExtension(&extensions)
		if err != nil {
			return e, false, err
		}
		switch {
		case string(id) == string(oidReasonCode):
			var code cryptobyte.String
			if !value.ReadASN1(&code, asn1.ENUM) || len(code) != 1 {
				return e, false, malformed("serial %s: malformed reasonCode", e.SerialHex())
			}
			e.Reason = RevocationReason(code[0])
		case string(id) == string(oidInvalidityDate):
		case string(id) == string(oidCertificateIssuer):
			return e, false, unsupported("serial %s is of another issuer's certificate: indirect CRLs are not supported", e.SerialHex())
		case critical:
			return e, false, unsupported("serial %s has critical extension %s", e.SerialHex(), oidString(id))
		}
	}
	return e, ok && e.Reason != removeFromCRL, nil
}

// readExtension cuts the first extension off s.
func readExtension(s *cryptobyte.String) (id []byte, critical bool, value cryptobyte.String, err error) {
	var extension, oid, flag cryptobyte.String
	var hasFlag bool
	if !s.ReadASN1(&extension, asn1.SEQUENCE) || !extension.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) ||
		!extension.ReadOptionalASN1(&flag, &hasFlag, asn1.BOOLEAN) ||
		!extension.ReadASN1(&value, asn1.OCTET_STRING) || !extension.Empty() || hasFlag && len(flag) != 1 {
		return nil, false, nil, malformed("malformed extension")
	}
	return oid, hasFlag && flag[0] != 0, value, nil
}

// readTime cuts a Time off s: UTCTime or GeneralizedTime, both in seconds and UTC
// as RFC 5280 has them. cryptobyte's own allocates, a million times.
func readTime(s *cryptobyte.String) (time.Time, error) {
	var text cryptobyte.String
	var tag asn1.Tag
	if !s.ReadAnyASN1(&text, &tag) {
		return time.Time{}, malformed("missing time")
	}
	bad := func() (time.Time, error) { return time.Time{}, malformed("%q is no time of RFC 5280", clip(text)) }
	var year int
	rest := []byte(text)
	switch {
	case tag == asn1.UTCTime && len(rest) == 13:
		year = decimal(rest[:2])
		if year >= 50 {
			year += 1900
		} else if year >= 0 {
			year += 2000
		}
		rest = rest[2:]
	case tag == asn1.GeneralizedTime && len(rest) == 15:
		hi, lo := decimal(rest[:2]), decimal(rest[2:4])
		year = hi*100 + lo
		if hi < 0 || lo < 0 {
			year = -1
		}
		rest = rest[4:]
	default:
		return bad()
	}
	month, day, hour, minute, second := decimal(rest[:2]), decimal(rest[2:4]), decimal(rest[4:6]), decimal(rest[6:8]), decimal(rest[8:10])
	if year < 0 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 || rest[10] != 'Z' {
		return bad()
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	if t.Day() != day {
		return bad() // 30 February
	}
	return t, nil
}

// decimal returns the number that two digits are, -1 if they are none.
func decimal(b []byte) int {
	hi, lo := b[0]-'0', b[1]-'0'
	if hi > 9 || lo > 9 {
		return -1
	}
	return int(hi)*10 + int(lo)
}

func clip(b []byte) []byte { return b[:min(len(b), 40)] }
