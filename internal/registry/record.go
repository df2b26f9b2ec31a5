package registry

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// A record is the 32 bytes of the ID, a set of flags, and what the flags say that
// there is, in the order in which encode writes it. Numbers are varints. A text is
//
//	0 number        a text of the dictionary
//	1               the record's name
//	n+2 bytes       itself
//
// where the name is that of the first thing, or else of the first client ID, which
// recurs in client IDs and in the subject. Times are kept in milliseconds, and as
// differences to one another.
const (
	hasSerial    = 1 << iota
	hasRawSerial // in no normal form
	hasNotBefore
	hasNotAfter
	hasKey
	hasRawKeySum // a sum that is not 64 hex digits
	hasSince
	hasRevoked
	isClaim
	hasSourceIP
	hasRawSourceIP
	hasLastSeen
	hasCreated
	hasUpdated
	hasIssuer
)

const idLen = 32

// ErrTooLarge is returned for a certificate whose record would be larger than
// 32 KiB.
var ErrTooLarge = errors.New("registry: a certificate of more than 32 KiB")

// hole stands for the record's name in a subject of the dictionary. It cannot be
// in a name of RFC 2253, which has it escaped.
const hole = "\x00"

// encoder writes records. It belongs to the writer.
type encoder struct {
	texts   *dictionary
	b       []byte
	scratch []byte
	name    string
	named   bool
}

// encode returns the record of c, in memory that is valid until the next call.
func (e *encoder) encode(id *[idLen]byte, c *schemas.Certificate) ([]byte, error) {
	e.name, e.named = "", false
	var serial [64]byte
	var keySum [32]byte
	serialLen, serialOK := unhex(serial[:], c.Serial)
	sumLen, _ := unhex(keySum[:], c.Key.SHA256)
	ip, err := netip.ParseAddr(c.SourceIP)
	ipOK := err == nil && ip.Zone() == "" && ip.String() == c.SourceIP

	flags := flagIf(c.Serial != "", hasSerial) | flagIf(c.Serial != "" && !serialOK, hasRawSerial) |
		flagIf(!c.NotBefore.IsZero(), hasNotBefore) | flagIf(!c.NotAfter.IsZero(), hasNotAfter) |
		flagIf(c.Key != schemas.KeyInfo{}, hasKey) | flagIf(c.Key.SHA256 != "" && sumLen != len(keySum), hasRawKeySum) |
		flagIf(!c.StatusSince.IsZero(), hasSince) | flagIf(c.Revoked != nil, hasRevoked) | flagIf(c.Claim, isClaim) |
		flagIf(c.SourceIP != "", hasSourceIP) | flagIf(c.SourceIP != "" && !ipOK, hasRawSourceIP) |
		flagIf(!c.LastSeen.IsZero(), hasLastSeen) | flagIf(!c.Created.IsZero(), hasCreated) | flagIf(!c.Updated.IsZero(), hasUpdated) |
		flagIf(c.Issuer != "" || c.IssuerKeyID != "" || c.CAID != "", hasIssuer)

	e.b = append(append(e.b[:0], id[:]...), byte(c.Status))
	e.uvarint(flags)
	if flags&hasNotBefore != 0 {
		e.time(c.NotBefore, time.Time{})
	}
	if flags&hasNotAfter != 0 {
		e.time(c.NotAfter, c.NotBefore)
	}
	if flags&hasSince != 0 {
		e.time(c.StatusSince, c.NotBefore)
	}
	if flags&hasRevoked != 0 {
		e.time(c.Revoked.Time, time.Time{})
	}
	if flags&hasIssuer != 0 {
		e.tuple(c.Issuer, c.IssuerKeyID, c.CAID)
	}
	switch {
	case flags&hasRawSerial != 0:
		e.text(c.Serial)
	case flags&hasSerial != 0:
		e.b = append(append(e.b, byte(serialLen)), serial[:serialLen]...)
	}
	e.names(c.Things)
	e.names(c.ClientIDs)
	e.subject(c.Subject)
	if flags&hasKey != 0 {
		e.tuple(c.Key.Type, strconv.Itoa(c.Key.Bits), c.Key.Weak)
		switch {
		case flags&hasRawKeySum != 0:
			e.text(c.Key.SHA256)
		default:
			e.b = append(append(e.b, byte(sumLen)), keySum[:sumLen]...)
		}
	}
	e.text(c.StatusReason)
	if flags&hasCreated != 0 {
		e.time(c.Created, time.Time{})
	}
	if flags&hasLastSeen != 0 {
		e.time(c.LastSeen, c.Created)
	}
	if flags&hasUpdated != 0 {
		e.time(c.Updated, c.LastSeen)
	}
	switch {
	case flags&hasRawSourceIP != 0:
		e.text(c.SourceIP)
	case flags&hasSourceIP != 0:
		s := ip.AsSlice()
		e.b = append(append(e.b, byte(len(s))), s...)
	}
	if flags&hasRevoked != 0 {
		e.text(c.Revoked.Reason)
		e.text(c.Revoked.Source)
	}
	if blockSize(len(e.b)) > maxBlock {
		return nil, fmt.Errorf("%w: %s", ErrTooLarge, c.ID)
	}
	return e.b, nil
}

func (e *encoder) uvarint(n uint64) { e.b = binary.AppendUvarint(e.b, n) }

// time writes the difference of t to base, in seconds if it is a whole number of
// them. A zero base is the Unix epoch.
func (e *encoder) time(t, base time.Time) {
	d := millis(t) - millis(base)
	if d%1000 == 0 {
		e.b = binary.AppendVarint(e.b, d/1000*2)
	} else {
		e.b = binary.AppendVarint(e.b, d*2+1)
	}
}

func (e *encoder) text(s string) {
	if s == "" || strings.Contains(s, hole) {
		e.uvarint(uint64(len(s)) + 2)
		e.b = append(e.b, s...)
		return
	}
	e.scratch = append(e.scratch[:0], s...)
	e.shared(e.scratch, false)
}

// shared writes a text, by its number in the dictionary if it has one there.
func (e *encoder) shared(s []byte, always bool) {
	if n := e.texts.number(s, always); n > 0 {
		e.b = append(e.b, 0)
		e.uvarint(uint64(n))
		return
	}
	e.uvarint(uint64(len(s)) + 2)
	e.b = append(e.b, s...)
}

// tuple writes three texts, of which there are few combinations, as one.
func (e *encoder) tuple(a, b, c string) {
	e.scratch = append(binary.AppendUvarint(e.scratch[:0], uint64(len(a))), a...)
	e.scratch = append(binary.AppendUvarint(e.scratch, uint64(len(b))), b...)
	e.shared(append(e.scratch, c...), true)
}

// names writes names that are the record's own: they are not looked for in the
// dictionary.
func (e *encoder) names(names []string) {
	e.uvarint(uint64(len(names)))
	for _, s := range names {
		if e.named && s == e.name {
			e.b = append(e.b, 1)
			continue
		}
		if !e.named {
			e.name, e.named = s, true
		}
		e.uvarint(uint64(len(s)) + 2)
		e.b = append(e.b, s...)
	}
}

// subject writes a subject, as what it shares with others around the record's
// name if it has that in it.
func (e *encoder) subject(s string) {
	if s == "" || strings.Contains(s, hole) {
		e.uvarint(uint64(len(s)) + 2)
		e.b = append(e.b, s...)
		return
	}
	if e.name != "" {
		if before, after, ok := strings.Cut(s, e.name); ok {
			e.scratch = append(append(append(e.scratch[:0], before...), hole...), after...)
			if n := e.texts.number(e.scratch, false); n > 0 {
				e.b = append(e.b, 0)
				e.uvarint(uint64(n))
				return
			}
			e.uvarint(uint64(len(s)) + 2)
			e.b = append(e.b, s...)
			return
		}
	}
	e.text(s)
}

func flagIf(set bool, flag uint64) uint64 {
	if set {
		return flag
	}
	return 0
}

// millis is t in milliseconds since the epoch, which a zero time counts as.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// unhex writes the bytes that s is in lower-case hex, without leading zeros if it
// has an odd number of digits, to dst. It reports whether hexOf gives back s.
func unhex(dst []byte, s string) (n int, ok bool) {
	n = (len(s) + 1) / 2
	if n > len(dst) {
		return 0, false
	}
	for i := range n {
		dst[i] = 0
	}
	for i := range len(s) {
		c := s[len(s)-1-i]
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		default:
			return 0, false
		}
		dst[n-1-i/2] |= c << (i % 2 * 4)
	}
	return n, schemas.SerialHex(dst[:n]) == s
}

// parseID reads a certificate ID: 64 lower-case hex digits.
func parseID(s string) (id [idLen]byte, ok bool) {
	if len(s) != hex.EncodedLen(idLen) || strings.ToLower(s) != s {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(s))
	return id, err == nil
}
