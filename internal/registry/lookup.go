package registry

import (
	"hash/maphash"
	"math/bits"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/schemas"
)

// link enters a record into the indexes by its keys, and unlink takes it out. The
// caller holds both locks.
func (t *Table) link(r ref) {
	if hash, ok := t.serialKey(r); ok {
		t.serials.put(hash, r)
	}
	if t.names == nil {
		return
	}
	name := commonName(subjectOf(&t.texts, t.slab.get(r)))
	if name == "" {
		return
	}
	hash, namesakes := maphash.String(t.seed, name), 0
	t.names.find(hash, func(other ref) bool {
		if commonName(subjectOf(&t.texts, t.slab.get(other))) == name {
			namesakes++
		}
		return namesakes >= maxNamesakes
	})
	if namesakes < maxNamesakes {
		t.names.put(hash, r)
	} else if len(t.crowds) < maxCrowds {
		t.crowds[name] = struct{}{}
	}
}

func (t *Table) unlink(r ref) {
	if hash, ok := t.serialKey(r); ok {
		t.serials.remove(hash, r, t.serialHash)
	}
	if t.names != nil {
		t.names.remove(t.nameHash(r), r, t.nameHash)
	}
}

// serialKey returns the hash of what a record's certificate is known by to its CA,
// if that is known.
func (t *Table) serialKey(r ref) (uint64, bool) {
	issuerKeyID, serial := serialOf(&t.texts, t.slab.get(r))
	if len(serial) == 0 {
		return 0, false
	}
	return t.hashSerial(issuerKeyID, serial), true
}

func (t *Table) serialHash(r ref) uint64 {
	hash, _ := t.serialKey(r)
	return hash
}

func (t *Table) hashSerial(issuerKeyID string, serial []byte) uint64 {
	return bits.RotateLeft64(maphash.String(t.seed, issuerKeyID), 32) ^ maphash.Bytes(t.seed, serial)
}

func (t *Table) nameHash(r ref) uint64 {
	return maphash.String(t.seed, commonName(subjectOf(&t.texts, t.slab.get(r))))
}

// know remembers an issuer.
func (t *Table) know(keyID, name string) {
	i := issuer{keyID, name}
	if _, ok := t.known[i]; ok || len(t.issuers) >= maxIssuers {
		return
	}
	i = issuer{strings.Clone(keyID), strings.Clone(name)}
	t.known[i] = struct{}{}
	t.issuers = append(t.issuers, i)
}

// BySerial returns the ID of the certificate that the CA with a key identifier (in
// lower-case hex, "" for certificates that name none) gave a serial number to, in
// any spelling that schemas.NormalizeSerial takes.
func (t *Table) BySerial(issuerKeyID, serial string) (id string, ok bool) {
	normal, err := schemas.NormalizeSerial(serial)
	if err != nil {
		return "", false
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	r := t.bySerial(issuerKeyID, normal)
	if r == 0 {
		return "", false
	}
	return decode(&t.texts, t.slab.get(r)).ID, true
}

// bySerial finds a record by a serial number in its normal form.
func (t *Table) bySerial(issuerKeyID, serial string) (found ref) {
	var b [64]byte
	n, ok := unhex(b[:], serial)
	if !ok {
		return 0
	}
	t.serials.find(t.hashSerial(issuerKeyID, b[:n]), func(r ref) bool {
		key, have := serialOf(&t.texts, t.slab.get(r))
		if key == issuerKeyID && string(have) == string(b[:n]) {
			found = r
		}
		return found != 0
	})
	return found
}

// Issued returns the certificates with a serial number, which may be spelt as
// schemas.NormalizeSerial takes it, of an issuer: its key identifier (hex, colons
// allowed) or its RFC 2253 name. Without an issuer it returns those of all.
func (t *Table) Issued(issuer, serial string) []schemas.Certificate {
	normal, err := schemas.NormalizeSerial(serial)
	if err != nil {
		return nil
	}
	keyID := strings.ToLower(strings.ReplaceAll(issuer, ":", ""))
	t.mu.RLock()
	defer t.mu.RUnlock()
	var found []schemas.Certificate
	var tried []string
	for _, i := range t.issuers {
		if issuer != "" && i.keyID != keyID && i.name != issuer || slices.Contains(tried, i.keyID) {
			continue
		}
		tried = append(tried, i.keyID)
		if r := t.bySerial(i.keyID, normal); r != 0 {
			// Issuers without a key identifier share the empty one.
			if c := decode(&t.texts, t.slab.get(r)); issuer == "" || i.keyID != "" || c.Issuer == issuer {
				found = append(found, c)
			}
		}
	}
	return found
}

// Named returns the certificates whose subject has a common name. all is false when
// there are more than it returns, or may be.
func (t *Table) Named(name string) (found []schemas.Certificate, all bool) {
	if t.names == nil || name == "" {
		return nil, true
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	t.names.find(maphash.String(t.seed, name), func(r ref) bool {
		if c := decode(&t.texts, t.slab.get(r)); commonName(c.Subject) == name {
			found = append(found, c)
		}
		return false
	})
	_, crowded := t.crowds[name]
	return found, !crowded && (len(t.crowds) < maxCrowds || len(found) < maxNamesakes)
}

// commonName returns the common name in a subject, which OpenSSL, Java and Go write
// in different orders: the first CN of an RFC 2253 or RFC 4514 name. "" if there is
// none.
func commonName(subject string) string {
	for rest := subject; rest != ""; {
		end := attributeEnd(rest)
		key, value, ok := strings.Cut(rest[:end], "=")
		if ok && strings.EqualFold(strings.TrimSpace(key), "CN") {
			return unescapeName(strings.TrimSpace(value))
		}
		rest = rest[min(end+1, len(rest)):]
	}
	return ""
}

// CommonName returns the common name in a subject as a TLS server writes it, "" if
// there is none.
func CommonName(subject string) string { return commonName(subject) }

// attributeEnd returns where the first attribute of a name ends.
func attributeEnd(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case ',', '+', ';':
			return i
		}
	}
	return len(s)
}

// unescapeName takes back the escapes of RFC 4514: a backslash before a special
// character, or before two hex digits.
func unescapeName(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		var octet [1]byte
		if n, ok := hexOctet(octet[:], s[i+1:]); ok {
			b.WriteByte(octet[0])
			i += n
			continue
		}
		i++
		b.WriteByte(s[i])
	}
	return b.String()
}

func hexOctet(dst []byte, s string) (n int, ok bool) {
	if len(s) < 2 {
		return 0, false
	}
	digits := strings.ToLower(s[:2])
	for i := range len(digits) {
		c := digits[i]
		switch {
		case '0' <= c && c <= '9':
			dst[0] = dst[0]<<4 | (c - '0')
		case 'a' <= c && c <= 'f':
			dst[0] = dst[0]<<4 | (c - 'a' + 10)
		default:
			return 0, false
		}
	}
	return 2, true
}
