package behavior

import (
	"encoding/hex"
	"slices"

	"github.com/tocsin-io/tocsin/schemas"
)

// certificate is what the events of the partition say of one.
type certificate struct {
	hash     [32]byte
	clients  []string // newest last, at most schemas.MaxObserved
	things   []string
	ip       string
	lastSeen int64
	savedAt  int64 // by the clock, Unix milliseconds
	changed  bool  // a name that its record does not have
	queued   bool
}

func (c *certificate) id() string { return hex.EncodeToString(c.hash[:]) }

func (c *certificate) record() *schemas.Observation {
	return &schemas.Observation{
		CertificateID: c.id(), ClientIDs: c.clients, Things: c.things, SourceIP: c.ip, LastSeen: timeOf(c.lastSeen),
	}
}

// observeName makes name the newest, and reports whether it was not there. The
// newest name is what it is nearly always.
func observeName(names *[]string, name []byte) bool {
	list := *names
	if len(name) == 0 || len(list) > 0 && list[len(list)-1] == string(name) {
		return false
	}
	if i := slices.IndexFunc(list, func(s string) bool { return s == string(name) }); i >= 0 {
		s := list[i]
		copy(list[i:], list[i+1:])
		list[len(list)-1] = s
		return false
	}
	if len(list) == schemas.MaxObserved {
		copy(list, list[1:])
		list = list[:len(list)-1]
	}
	*names = append(list, string(name))
	return true
}

// certificateTable is the certificates of a partition. They keep their numbers
// while they are in it.
type certificateTable struct {
	max     int
	numbers map[[32]byte]uint32
	all     []certificate
	hand    int
	evicted func()
}

func newCertificateTable(limit int, evicted func()) *certificateTable {
	return &certificateTable{max: limit, numbers: make(map[[32]byte]uint32), evicted: evicted}
}

func (t *certificateTable) at(n uint32) *certificate { return &t.all[n] }

// certificateHash decodes a certificate ID: 64 lower-case hex digits.
func certificateHash(id []byte) (hash [32]byte, ok bool) {
	if len(id) != 2*len(hash) {
		return hash, false
	}
	_, err := hex.Decode(hash[:], id)
	return hash, err == nil
}

// is reports whether the hash is that of the ID. It costs less than decoding it.
func is(hash *[32]byte, id []byte) bool {
	if len(id) != 2*len(hash) {
		return false
	}
	const digits = "0123456789abcdef"
	for i, b := range hash {
		if id[2*i] != digits[b>>4] || id[2*i+1] != digits[b&15] {
			return false
		}
	}
	return true
}

// number returns the number of a certificate, making room for it if need be. near is
// where it probably is.
func (t *certificateTable) number(hash [32]byte, near uint32) uint32 {
	if int(near) < len(t.all) && t.all[near].hash == hash {
		return near
	}
	if n, ok := t.numbers[hash]; ok {
		return n
	}
	var n uint32
	if len(t.all) < t.max {
		n = uint32(len(t.all))
		t.all = append(t.all, certificate{})
	} else {
		n = t.victim()
		delete(t.numbers, t.all[n].hash)
		t.evicted()
	}
	t.all[n] = certificate{hash: hash}
	t.numbers[hash] = n
	return n
}

// victim returns the certificate seen longest ago of a few: what is lost with it is
// only that its record will be written once more.
func (t *certificateTable) victim() uint32 {
	oldest := -1
	for range 16 {
		t.hand = (t.hand + 1) % len(t.all)
		if oldest < 0 || t.all[t.hand].lastSeen < t.all[oldest].lastSeen {
			oldest = t.hand
		}
	}
	return uint32(oldest)
}
