package registry

import (
	"encoding/binary"
	"errors"
)

const (
	unit       = 8         // bytes; blocks are multiples of it
	chunkSize  = 256 << 10 // how much is moved at a time when space is reclaimed
	chunkUnits = chunkSize / unit
	maxBlock   = 32 << 10
	// maxRef bounds refs, which share a word of the index with other things: 8 GiB.
	maxRef = 1<<refBits - 1
	// A chunk is emptied while the dead bytes are more than one in wasteShare of all,
	// and more than minWaste.
	wasteShare = 8
	minWaste   = 4 * chunkSize

	// Before a block's content: its size in units.
	blockHeader = 2
)

// ErrFull is returned when no more records can be held.
var ErrFull = errors.New("registry: 8 GiB of certificates are held already")

// ref is where a block begins, in units, counted from 1. 0 is no block.
type ref uint32

// slab keeps blocks of bytes in large chunks. A block that is freed is dead space
// until its chunk is emptied: what still lives in it is appended elsewhere.
type slab struct {
	chunks [][]byte
	dead   []uint32 // by chunk: bytes of freed blocks
	free   []uint32 // chunks that were emptied
	head   uint32   // the chunk that blocks are appended to
	used   uint32   // bytes of it

	live, deadBytes int64
}

func newSlab() slab {
	var s slab
	s.addChunk()
	return s
}

func (s *slab) addChunk() {
	s.chunks = append(s.chunks, make([]byte, chunkSize))
	s.dead = append(s.dead, 0)
	s.head, s.used = uint32(len(s.chunks)-1), 0
}

// blockSize is what content of n bytes takes.
func blockSize(n int) int { return (n + blockHeader + unit - 1) / unit * unit }

// add stores content, of at most maxBlock bytes with its header.
func (s *slab) add(content []byte) (ref, error) {
	size := blockSize(len(content))
	if int(s.used)+size > chunkSize {
		if len(s.free) == 0 && (len(s.chunks)+1)*chunkUnits > maxRef {
			return 0, ErrFull
		}
		// The rest of the chunk stays empty: dead space that emptying it gives back.
		s.dead[s.head] += chunkSize - s.used
		s.deadBytes += int64(chunkSize - s.used)
		if n := len(s.free); n > 0 {
			s.head, s.used = s.free[n-1], 0
			s.free = s.free[:n-1]
		} else {
			s.addChunk()
		}
	}
	r := ref(s.head*chunkUnits + s.used/unit + 1)
	b := s.chunks[s.head][s.used : int(s.used)+size]
	binary.LittleEndian.PutUint16(b, uint16(size/unit))
	copy(b[blockHeader:], content)
	s.used += uint32(size)
	s.live += int64(size)
	return r, nil
}

// get returns a block's content, with the padding behind it.
func (s *slab) get(r ref) []byte {
	b := s.chunks[(r-1)/chunkUnits][(r-1)%chunkUnits*unit:]
	return b[blockHeader : int(binary.LittleEndian.Uint16(b))*unit]
}

// set overwrites a block, if the content takes just as much space.
func (s *slab) set(r ref, content []byte) bool {
	b := s.get(r)
	if blockSize(len(content)) != len(b)+blockHeader {
		return false
	}
	clear(b[copy(b, content):])
	return true
}

func (s *slab) remove(r ref) {
	size := len(s.get(r)) + blockHeader
	s.dead[(r-1)/chunkUnits] += uint32(size)
	s.deadBytes += int64(size)
	s.live -= int64(size)
}

// wasteful returns the chunk with the most dead space, if there is too much of it
// in all.
func (s *slab) wasteful() (chunk uint32, ok bool) {
	if s.deadBytes <= minWaste || s.deadBytes <= s.size()/wasteShare {
		return 0, false
	}
	most := uint32(0)
	for i, d := range s.dead {
		// A chunk that is free already has no dead bytes.
		if d > most && uint32(i) != s.head {
			chunk, most = uint32(i), d
		}
	}
	return chunk, most > 0
}

// blocks calls fn for every block of a chunk that is not the head, dead or alive.
func (s *slab) blocks(chunk uint32, fn func(ref, []byte)) {
	for at := uint32(0); at+unit <= chunkSize; {
		size := uint32(binary.LittleEndian.Uint16(s.chunks[chunk][at:])) * unit
		if size == 0 {
			return // the rest was never used
		}
		r := ref(chunk*chunkUnits + at/unit + 1)
		fn(r, s.get(r))
		at += size
	}
}

// release gives a chunk back in which nothing lives any more.
func (s *slab) release(chunk uint32) {
	s.deadBytes -= int64(s.dead[chunk])
	s.dead[chunk] = 0
	clear(s.chunks[chunk])
	s.free = append(s.free, chunk)
}

// size is what the chunks in use take.
func (s *slab) size() int64 { return int64(len(s.chunks)-len(s.free)) * chunkSize }
