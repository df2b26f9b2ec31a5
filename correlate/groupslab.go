package correlate

// groupSlab keeps groups in chunks, under small numbers. A group stays where it
// is until it is released.
type groupSlab struct {
	chunks []*groupChunk
	// partial are the chunks that may have room, the others that have none.
	partial []uint32
	vacant  []uint32 // chunks that are nil
	spare   *groupChunk
}

const chunkGroups = 256

type groupChunk struct {
	groups [chunkGroups]group
	free   [chunkGroups]uint8
	// nfree of free are the numbers of unused groups.
	nfree  int
	listed bool // in partial
}

// at returns the group with this number, nil when it cannot be one. A group that
// was released has no rule.
func (s *groupSlab) at(index uint32) *group {
	c := s.chunks[index/chunkGroups]
	if c == nil {
		return nil
	}
	return &c.groups[index%chunkGroups]
}

// take returns an unused group, which is zero but for its number.
func (s *groupSlab) take() *group {
	for len(s.partial) > 0 {
		number := s.partial[len(s.partial)-1]
		if c := s.chunks[number]; c != nil && c.nfree > 0 {
			c.nfree--
			at := c.free[c.nfree]
			g := &c.groups[at]
			g.index = number*chunkGroups + uint32(at)
			return g
		}
		if c := s.chunks[number]; c != nil {
			c.listed = false
		}
		s.partial = s.partial[:len(s.partial)-1]
	}
	c := s.spare
	s.spare = nil
	if c == nil {
		c = new(groupChunk)
	}
	for i := range c.free {
		c.free[i] = uint8(chunkGroups - 1 - i)
	}
	c.nfree, c.listed = chunkGroups, true
	number := uint32(len(s.chunks))
	if n := len(s.vacant); n > 0 {
		number, s.vacant = s.vacant[n-1], s.vacant[:n-1]
		s.chunks[number] = c
	} else {
		s.chunks = append(s.chunks, c)
	}
	s.partial = append(s.partial, number)
	return s.take()
}

// release makes a group unused. A chunk without groups is given back, but for
// one, so that a group that comes and goes does not take and give one each time.
func (s *groupSlab) release(g *group) {
	number, at := g.index/chunkGroups, uint8(g.index%chunkGroups)
	*g = group{}
	c := s.chunks[number]
	c.free[c.nfree] = at
	c.nfree++
	switch {
	case c.nfree == chunkGroups && !c.listed || c.nfree == chunkGroups && len(s.partial) > 1:
		s.chunks[number] = nil
		s.vacant = append(s.vacant, number)
		if c.listed {
			s.unlist(number)
		}
		s.spare = c
	case !c.listed:
		c.listed = true
		s.partial = append(s.partial, number)
	}
}

func (s *groupSlab) unlist(number uint32) {
	for i, n := range s.partial {
		if n == number {
			s.partial[i] = s.partial[len(s.partial)-1]
			s.partial = s.partial[:len(s.partial)-1]
			return
		}
	}
}

// each calls fn for all groups, until it returns false.
func (s *groupSlab) each(fn func(*group)) {
	for _, c := range s.chunks {
		if c == nil {
			continue
		}
		for i := range c.groups {
			if c.groups[i].rule != nil {
				fn(&c.groups[i])
			}
		}
	}
}
