package correlate

import (
	"bytes"
	"hash/maphash"
)

// blobs keeps byte strings, each once, however many events refer to it: what a
// detection says of an event, and the values that value_count tells apart. Two
// IDs are equal exactly when their bytes are.
type blobs struct {
	seed  maphash.Seed
	table hashTable
	all   []blob // by ID; the first is the empty one
	free  []uint32
	bytes int64
}

// blob is one byte string. Its text is never written to: what was handed out
// stays right after the blob is gone.
type blob struct {
	text []byte
	hash uint32
	refs int32
}

// noBlob is the ID of the empty blob; it is not counted.
const noBlob uint32 = 0

func newBlobs() *blobs {
	return &blobs{seed: maphash.MakeSeed(), all: make([]blob, 1)}
}

// text returns the bytes of a blob, which must not be changed.
func (s *blobs) text(id uint32) []byte { return s.all[id].text }

// intern returns the ID of b and takes a reference to it. guess is the ID that it
// probably has: events come in several matches each, and devices repeat
// themselves.
func (s *blobs) intern(b []byte, guess uint32) uint32 {
	if len(b) == 0 {
		return noBlob
	}
	if guess != noBlob && int(guess) < len(s.all) && bytes.Equal(s.all[guess].text, b) {
		s.all[guess].refs++
		return guess
	}
	hash := uint32(maphash.Bytes(s.seed, b))
	id, ok := s.table.find(hash, func(id uint32) bool { return bytes.Equal(s.all[id].text, b) })
	if ok {
		s.all[id].refs++
		return id
	}
	if n := len(s.free); n > 0 {
		id, s.free = s.free[n-1], s.free[:n-1]
	} else {
		id = uint32(len(s.all))
		s.all = append(s.all, blob{})
	}
	s.all[id] = blob{text: bytes.Clone(b), hash: hash, refs: 1}
	s.table.add(hash, id)
	s.bytes += int64(len(b))
	return id
}

func (s *blobs) retain(id uint32) {
	if id != noBlob {
		s.all[id].refs++
	}
}

func (s *blobs) release(id uint32) {
	if id == noBlob {
		return
	}
	b := &s.all[id]
	if b.refs--; b.refs > 0 {
		return
	}
	s.table.remove(b.hash, id)
	s.bytes -= int64(len(b.text))
	*b = blob{}
	if s.table.n == 0 {
		s.all, s.free = s.all[:1], nil // what a flood took is given back
		if cap(s.all) > 1024 {
			s.all = make([]blob, 1)
		}
		return
	}
	s.free = append(s.free, id)
}
