package identity

import (
	"bytes"
	"net/netip"
	"unsafe"
)

// CertificateIDLen is the length of a certificate ID: SHA-256 in hex.
const CertificateIDLen = 64

// CertificateID returns s as a certificate ID in its normal form (64 lower-case
// hex digits), nil if it is none. AWS's API also takes upper case and a leading
// 0x. The result is s itself if that is in normal form, else it is appended to
// *arena.
func CertificateID(arena *[]byte, s []byte) []byte {
	if len(s) == CertificateIDLen+2 && s[0] == '0' && s[1]|0x20 == 'x' {
		s = s[2:]
	}
	if len(s) != CertificateIDLen {
		return nil
	}
	// Most IDs are in normal form: no branch per digit for those.
	var classes uint8
	for _, c := range s {
		classes |= hexClass[c]
	}
	switch {
	case classes&notHex != 0:
		return nil
	case classes&upperHex == 0:
		return s
	}
	start := len(*arena)
	for _, c := range s {
		if hexClass[c] == upperHex {
			c |= 0x20
		}
		*arena = append(*arena, c)
	}
	return (*arena)[start:len(*arena):len(*arena)]
}

// Principal is who made a request.
type Principal struct {
	// CertificateID is set for a device that connected with a certificate, and for
	// a role session that the IoT credentials provider named after one.
	CertificateID []byte
	// RoleSession is the session name of an assumed role.
	RoleSession []byte
}

// ParsePrincipal reads a principal ID as IoT Core logs, lifecycle events,
// CloudTrail and GuardDuty write it: a certificate ID, `AROA...:<session name>`,
// or anything else, which yields nothing (an IAM user's `AIDA...`, "N/A").
//
// That the credentials provider's session name is the certificate ID is seen in
// the field, not documented; a session name of any other form is taken to be
// somebody else's.
func ParsePrincipal(arena *[]byte, id []byte) Principal {
	if cert := CertificateID(arena, id); cert != nil {
		return Principal{CertificateID: cert}
	}
	unique, session, ok := bytes.Cut(id, []byte{':'})
	if !ok || len(session) == 0 || !bytes.HasPrefix(unique, []byte("AROA")) {
		return Principal{}
	}
	return Principal{CertificateID: CertificateID(arena, session), RoleSession: session}
}

// ParseSessionARN reads `arn:aws:sts::<account>:assumed-role/<role>/<session>`;
// other ARNs yield nothing.
func ParseSessionARN(arena *[]byte, arn []byte) Principal {
	_, rest, ok := bytes.Cut(arn, []byte(":assumed-role/"))
	if !ok {
		return Principal{}
	}
	// The role's name has no slash (its path is not part of this ARN); a session
	// name cannot have one.
	_, session, ok := bytes.Cut(rest, []byte{'/'})
	if !ok || len(session) == 0 {
		return Principal{}
	}
	return Principal{CertificateID: CertificateID(arena, session), RoleSession: session}
}

// CertificateOfARN returns the ID in `arn:aws:iot:<region>:<account>:cert/<id>`,
// nil if arn is of something else.
func CertificateOfARN(arena *[]byte, arn []byte) []byte {
	_, id, ok := bytes.Cut(arn, []byte(":cert/"))
	if !ok || !bytes.HasPrefix(arn, []byte("arn:")) {
		return nil
	}
	return CertificateID(arena, id)
}

// ThingOfARN returns the name in `arn:aws:iot:<region>:<account>:thing/<name>`,
// nil if arn is of something else.
func ThingOfARN(arn []byte) []byte {
	_, name, ok := bytes.Cut(arn, []byte(":thing/"))
	if !ok || len(name) == 0 || !bytes.HasPrefix(arn, []byte("arn:")) {
		return nil
	}
	return name
}

// ThingOfTopic returns the thing that a reserved topic `$aws/things/<thing>/...`
// is about, nil for other topics. Who published to it is another matter.
func ThingOfTopic(topic []byte) []byte {
	const prefix = "$aws/things/"
	if len(topic) <= len(prefix) || string(topic[:len(prefix)]) != prefix {
		return nil
	}
	name, _, ok := bytes.Cut(topic[len(prefix):], []byte{'/'})
	if !ok || len(name) == 0 {
		return nil
	}
	return name
}

// IsIP reports whether s is an IPv4 or IPv6 address. (CloudTrail's
// sourceIPAddress may also be the name of an AWS service.)
func IsIP(s []byte) bool {
	if len(s) < 2 || len(s) > 45 {
		return false
	}
	for _, c := range s {
		if hexClass[c] == notHex && c != '.' && c != ':' {
			return false // without the cost of an error
		}
	}
	// The string does not outlive the call: the error that would keep it is dropped.
	_, err := netip.ParseAddr(unsafe.String(unsafe.SliceData(s), len(s)))
	return err == nil
}

// Classes of bytes, of which a set is a sum.
const (
	notHex uint8 = 1 << iota
	upperHex
)

var hexClass = func() (t [256]uint8) {
	for c := range t {
		t[c] = notHex
	}
	for _, c := range "0123456789abcdef" {
		t[c] = 0
	}
	for _, c := range "ABCDEF" {
		t[c] = upperHex
	}
	return t
}()
