package registry

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// reader reads what an encoder wrote. Records come from nowhere else: what does
// not fit is a bug and panics.
type reader struct {
	texts *dictionary
	b     []byte
	name  string
	named bool
}

// recordID is the ID of a record.
func recordID(record []byte) *[idLen]byte { return (*[idLen]byte)(record) }

// decode returns a record as a certificate, which shares no memory with it.
func decode(texts *dictionary, record []byte) schemas.Certificate {
	r := reader{texts: texts, b: record[idLen:]}
	c := schemas.Certificate{ID: hex.EncodeToString(record[:idLen]), Status: schemas.CertificateStatus(r.byte())}
	flags := r.uvarint()
	has := func(flag uint64) bool { return flags&flag != 0 }
	when := r.dates(flags)
	c.NotBefore, c.NotAfter, c.StatusSince = when.notBefore, when.notAfter, when.since
	if has(hasIssuer) {
		c.Issuer, c.IssuerKeyID, c.CAID = r.tuple()
	}
	switch {
	case has(hasRawSerial):
		c.Serial = r.text()
	case has(hasSerial):
		c.Serial = schemas.SerialHex(r.sized())
	}
	c.Things, c.ClientIDs = r.names(), r.names()
	c.Subject = r.text()
	if has(hasKey) {
		var bits string
		c.Key.Type, bits, c.Key.Weak = r.tuple()
		c.Key.Bits, _ = strconv.Atoi(bits) // encode made it
		if has(hasRawKeySum) {
			c.Key.SHA256 = r.text()
		} else {
			c.Key.SHA256 = hex.EncodeToString(r.sized())
		}
	}
	c.StatusReason = r.text()
	if has(hasCreated) {
		c.Created = r.time(time.Time{})
	}
	if has(hasLastSeen) {
		c.LastSeen = r.time(c.Created)
	}
	if has(hasUpdated) {
		c.Updated = r.time(c.LastSeen)
	}
	switch {
	case has(hasRawSourceIP):
		c.SourceIP = r.text()
	case has(hasSourceIP):
		if ip, ok := netip.AddrFromSlice(r.sized()); ok {
			c.SourceIP = ip.String()
		}
	}
	if has(hasRevoked) {
		c.Revoked = &schemas.Revocation{Time: when.revoked, Reason: r.text(), Source: r.text()}
	}
	c.Claim = has(isClaim)
	return c
}

// serialOf returns what a record's certificate is known by to its CA, without the
// rest of it: the issuer's key identifier and the serial number's bytes, none if
// there is no number in normal form.
func serialOf(texts *dictionary, record []byte) (issuerKeyID string, serial []byte) {
	r := reader{texts: texts, b: record[idLen+1:]}
	flags := r.uvarint()
	r.dates(flags)
	if flags&hasIssuer != 0 {
		_, issuerKeyID, _ = r.tuple()
	}
	if flags&(hasSerial|hasRawSerial) == hasSerial {
		serial = r.sized()
	}
	return issuerKeyID, serial
}

// subjectOf returns a record's subject without the rest of it.
func subjectOf(texts *dictionary, record []byte) string {
	r := reader{texts: texts, b: record[idLen+1:]}
	flags := r.uvarint()
	r.dates(flags)
	if flags&hasIssuer != 0 {
		r.tuple()
	}
	switch {
	case flags&hasRawSerial != 0:
		r.text()
	case flags&hasSerial != 0:
		r.sized()
	}
	r.names()
	r.names()
	return r.text()
}

func (r *reader) byte() byte {
	b := r.b[0]
	r.b = r.b[1:]
	return b
}

func (r *reader) uvarint() uint64 {
	n, size := binary.Uvarint(r.b)
	r.b = r.b[size:]
	return n
}

func (r *reader) take(n uint64) []byte {
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

// sized returns bytes that have their number before them.
func (r *reader) sized() []byte { return r.take(uint64(r.byte())) }

func (r *reader) time(base time.Time) time.Time {
	d, size := binary.Varint(r.b)
	r.b = r.b[size:]
	if d&1 == 0 {
		d = d / 2 * 1000
	} else {
		d >>= 1
	}
	return time.UnixMilli(millis(base) + d).UTC()
}

func (r *reader) text() string {
	switch n := r.uvarint(); n {
	case 0:
		text, ok := r.texts.text(r.uvarint())
		if !ok {
			panic("BUG: registry: a record names a text that is not in the dictionary")
		}
		return strings.Replace(text, hole, r.name, 1)
	case 1:
		return r.name
	default:
		return string(r.take(n - 2))
	}
}

func (r *reader) tuple() (a, b, c string) {
	// Not by text: there may be a hole in it that is none.
	var s string
	if n := r.uvarint(); n == 0 {
		s, _ = r.texts.text(r.uvarint())
	} else {
		s = string(r.take(n - 2))
	}
	first, size := binary.Uvarint([]byte(s))
	a, s = s[size:size+int(first)], s[size+int(first):]
	second, size := binary.Uvarint([]byte(s))
	return a, s[size : size+int(second)], s[size+int(second):]
}

func (r *reader) names() []string {
	n := r.uvarint()
	if n == 0 {
		return nil
	}
	names := make([]string, n)
	for i := range names {
		names[i] = r.text()
		if !r.named {
			r.name, r.named = names[i], true
		}
	}
	return names
}

// validityOf returns what a stamp needs of a record, without allocating.
func validityOf(record []byte) validity {
	r := reader{b: record[idLen:]}
	v := validity{status: schemas.CertificateStatus(r.byte())}
	flags := r.uvarint()
	v.dates = r.dates(flags)
	v.hasRevoked = flags&hasRevoked != 0
	return v
}

// dates are the times of a record that say how it stood at some moment; zero where
// there is none.
type dates struct{ notBefore, notAfter, since, revoked time.Time }

func (r *reader) dates(flags uint64) (d dates) {
	if flags&hasNotBefore != 0 {
		d.notBefore = r.time(time.Time{})
	}
	if flags&hasNotAfter != 0 {
		d.notAfter = r.time(d.notBefore)
	}
	if flags&hasSince != 0 {
		d.since = r.time(d.notBefore)
	}
	if flags&hasRevoked != 0 {
		if d.revoked = r.time(time.Time{}); d.revoked.UnixMilli() == 0 {
			d.revoked = time.Time{} // it has no flag of its own
		}
	}
	return d
}
