package correlate

// blobs keeps byte strings, each once, however many events refer to it: what a
// detection says of an event, and the values that value_count tells apart. Two
// IDs are equal exactly when their bytes are.
type blobs struct {
	byText map[string]uint32
	text   []string
	refs   []int32
	free   []uint32
	bytes  int64
}

// none is the ID of the empty blob; it is not counted.
const noBlob uint32 = 0

func newBlobs() *blobs {
	return &blobs{byText: make(map[string]uint32), text: make([]string, 1), refs: make([]int32, 1)}
}

// intern returns the ID of b and takes a reference to it.
func (s *blobs) intern(b []byte) uint32 {
	if len(b) == 0 {
		return noBlob
	}
	if id, ok := s.byText[string(b)]; ok {
		s.refs[id]++
		return id
	}
	var id uint32
	if n := len(s.free); n > 0 {
		id, s.free = s.free[n-1], s.free[:n-1]
	} else {
		id = uint32(len(s.text))
		s.text = append(s.text, "")
		s.refs = append(s.refs, 0)
	}
	text := string(b)
	s.text[id], s.refs[id] = text, 1
	s.byText[text] = id
	s.bytes += int64(len(text))
	return id
}

func (s *blobs) retain(id uint32) {
	if id != noBlob {
		s.refs[id]++
	}
}

func (s *blobs) release(id uint32) {
	if id == noBlob {
		return
	}
	s.refs[id]--
	if s.refs[id] > 0 {
		return
	}
	delete(s.byText, s.text[id])
	s.bytes -= int64(len(s.text[id]))
	s.text[id] = ""
	s.free = append(s.free, id)
}
