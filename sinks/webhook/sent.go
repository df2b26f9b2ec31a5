package webhook

// rememberedIDs is how many message IDs a partition remembers, and how many
// records before the committed offset are read back at its start. A replay that
// goes back further than so many detections sends them again.
const rememberedIDs = 5_000

// sentIDs is a set of message IDs that forgets the oldest when it is full.
type sentIDs struct {
	limit int
	set   map[string]struct{}
	ring  []string
	next  int
}

func newSentIDs(limit int) *sentIDs {
	return &sentIDs{limit: limit, set: make(map[string]struct{})}
}

// add reports whether id is new, and remembers it.
func (s *sentIDs) add(id string) bool {
	if _, ok := s.set[id]; ok {
		return false
	}
	s.set[id] = struct{}{}
	if len(s.ring) < s.limit {
		s.ring = append(s.ring, id)
		return true
	}
	delete(s.set, s.ring[s.next])
	s.ring[s.next] = id
	s.next = (s.next + 1) % s.limit
	return true
}
