package identity

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// revokedSet remembers what CAs revoked, so that a certificate that is seen only
// later is known to be revoked at once. A serial number takes about 40 bytes: it
// is kept as the beginning of its hash. The set is stored in chunks, by the first
// byte of the hash, so that one more revocation does not write all of them again.
type revokedSet struct {
	chunks  map[chunkID]revokedChunk
	sources []string // by index; "" is the first
	dirty   map[chunkID]struct{}
	n, max  int
}

type chunkID struct {
	issuerKeyID string
	first       byte
}

// key is that of the chunk's record in tocsin.identities.
func (id chunkID) key() string {
	return fmt.Sprintf("%s%s/revoked-%02x", schemas.KeyCRL, id.issuerKeyID, id.first)
}

type revokedChunk map[serialHash]revokedEntry

// serialHash is the beginning of the SHA-256 of a serial number's text.
type serialHash [16]byte

type revokedEntry struct {
	time   uint32 // Unix seconds
	source uint16 // index
	reason uint8  // index of revocationReasons
}

// revocationReasons are RFC 5280's. What is not among them is kept as the first.
var revocationReasons = [...]string{
	"unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded", "cessationOfOperation",
	"certificateHold", "privilegeWithdrawn", "aACompromise",
}

// maxRevokedSources bounds the names of lists; revocations of further ones have
// none.
const maxRevokedSources = 10_000

func newRevokedSet(limit int) *revokedSet {
	return &revokedSet{chunks: make(map[chunkID]revokedChunk), sources: []string{""}, dirty: make(map[chunkID]struct{}), max: limit}
}

func hashSerial(issuerKeyID, serial string) (chunkID, serialHash) {
	sum := sha256.Sum256([]byte(serial))
	return chunkID{issuerKeyID, sum[0]}, serialHash(sum[:16])
}

// add remembers a revocation. It reports whether that is new, or earlier than
// what was known; full says that it could not be kept.
func (s *revokedSet) add(issuerKeyID, serial string, r *schemas.Revocation) (news, full bool) {
	id, hash := hashSerial(issuerKeyID, serial)
	chunk := s.chunks[id]
	at := uint32(min(max(r.Time.Unix(), 0), math.MaxUint32))
	known, ok := chunk[hash]
	switch {
	case ok && at >= known.time:
		return false, false
	case !ok && s.n >= s.max:
		return true, true
	case chunk == nil:
		chunk = make(revokedChunk)
		s.chunks[id] = chunk
	}
	if !ok {
		s.n++
	}
	chunk[hash] = revokedEntry{time: at, source: s.source(r.Source), reason: uint8(max(0, slices.Index(revocationReasons[:], r.Reason)))}
	s.dirty[id] = struct{}{}
	return true, false
}

// source returns the index of a list's name. Lists are few, and the last ones
// are those being read.
func (s *revokedSet) source(name string) uint16 {
	for i := len(s.sources) - 1; i >= 0; i-- {
		if s.sources[i] == name {
			return uint16(i)
		}
	}
	if len(s.sources) == maxRevokedSources {
		return 0
	}
	s.sources = append(s.sources, name)
	return uint16(len(s.sources) - 1)
}

// get returns the revocation of a certificate, nil if there is none.
func (s *revokedSet) get(issuerKeyID, serial string) *schemas.Revocation {
	id, hash := hashSerial(issuerKeyID, serial)
	e, ok := s.chunks[id][hash]
	if !ok {
		return nil
	}
	return &schemas.Revocation{
		Time: time.Unix(int64(e.time), 0).UTC(), Reason: revocationReasons[e.reason], Source: s.sources[e.source],
	}
}

// chunkRecord is the value of a chunk's record.
type chunkRecord struct {
	IssuerKeyID string   `json:"issuer_key_id"`
	Sources     []string `json:"sources"`
	// Entries are chunkEntrySize bytes each: the beginning of the serial number's
	// SHA-256, the time in Unix seconds (big endian), the index of the reason and
	// that of the source.
	Entries []byte `json:"entries"`
}

const chunkEntrySize = len(serialHash{}) + 6

// encode returns the value of a chunk's record.
func (s *revokedSet) encode(id chunkID) ([]byte, error) {
	chunk := s.chunks[id]
	r := chunkRecord{IssuerKeyID: id.issuerKeyID, Sources: []string{""}, Entries: make([]byte, 0, len(chunk)*chunkEntrySize)}
	local := map[uint16]byte{0: 0}
	for hash, e := range chunk {
		source, ok := local[e.source]
		if !ok && len(r.Sources) < 256 {
			source = byte(len(r.Sources))
			local[e.source] = source
			r.Sources = append(r.Sources, s.sources[e.source])
		}
		r.Entries = append(r.Entries, hash[:]...)
		r.Entries = binary.BigEndian.AppendUint32(r.Entries, e.time)
		r.Entries = append(r.Entries, e.reason, source)
	}
	return json.Marshal(r)
}

// restore takes the value of a chunk's record over.
func (s *revokedSet) restore(value []byte) error {
	var r chunkRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return err
	}
	if r.IssuerKeyID == "" || len(r.Entries)%chunkEntrySize != 0 {
		return fmt.Errorf("chunk of %d bytes of issuer %q", len(r.Entries), r.IssuerKeyID)
	}
	for b := r.Entries; len(b) > 0; b = b[chunkEntrySize:] {
		var e revokedEntry
		hash := serialHash(b[:16])
		e.time = binary.BigEndian.Uint32(b[16:])
		if e.reason = b[20]; int(e.reason) >= len(revocationReasons) {
			e.reason = 0
		}
		if i := int(b[21]); i < len(r.Sources) {
			e.source = s.source(r.Sources[i])
		}
		id := chunkID{r.IssuerKeyID, hash[0]}
		chunk := s.chunks[id]
		if chunk == nil {
			chunk = make(revokedChunk)
			s.chunks[id] = chunk
		}
		if _, ok := chunk[hash]; !ok {
			if s.n >= s.max {
				continue
			}
			s.n++
		}
		chunk[hash] = e
	}
	return nil
}
