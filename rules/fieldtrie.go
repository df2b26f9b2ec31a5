package rules

import "strings"

// fieldTrie finds the fields that rules name while a message is walked once. A
// node stands for a path; its keys are those under which the walk goes on. A
// dot in a field's name may be a step into an object or part of a key, so
// a.b.c is reached by the keys a, b, c as well as by a.b, c.
type fieldTrie struct {
	nodes []trieNode
}

type trieNode struct {
	slot int32 // of the field that the path is, or -1
	mask uint32
	keys []trieKey // open addressing, nil if the walk ends here
}

type trieKey struct {
	name  string // "" where the place is free
	child int32
}

// newFieldTrie builds the trie of names, whose index is their slot.
func newFieldTrie(names []string, slots []int32) *fieldTrie {
	type building struct {
		slot     int32
		children map[string]int32
		order    []string
	}
	nodes := []building{{slot: -1, children: map[string]int32{}}}
	byPath := map[string]int32{}
	at := func(path string) int32 {
		id, ok := byPath[path]
		if !ok {
			id = int32(len(nodes))
			byPath[path] = id
			nodes = append(nodes, building{slot: -1, children: map[string]int32{}})
		}
		return id
	}
	edge := func(from int32, key string, to int32) {
		if _, ok := nodes[from].children[key]; !ok {
			nodes[from].children[key] = to
			nodes[from].order = append(nodes[from].order, key)
		}
	}
	for i, name := range names {
		segments := strings.Split(name, ".")
		for from := range segments {
			parent := int32(0)
			if from > 0 {
				parent = at(strings.Join(segments[:from], "."))
			}
			for to := from + 1; to <= len(segments); to++ {
				edge(parent, strings.Join(segments[from:to], "."), at(strings.Join(segments[:to], ".")))
			}
		}
		nodes[at(name)].slot = slots[i]
	}
	t := &fieldTrie{nodes: make([]trieNode, len(nodes))}
	for i, b := range nodes {
		n := &t.nodes[i]
		n.slot = b.slot
		if len(b.order) == 0 {
			continue
		}
		size := 4
		for size < 4*len(b.order) {
			size *= 2
		}
		n.mask = uint32(size - 1)
		n.keys = make([]trieKey, size)
		for _, key := range b.order {
			h := keyHash([]byte(key)) & n.mask
			for n.keys[h].child != 0 {
				h = (h + 1) & n.mask
			}
			n.keys[h] = trieKey{key, b.children[key]}
		}
	}
	return t
}

// child returns the node that key leads to, 0 if there is none: the root is
// nobody's child.
func (t *fieldTrie) child(n *trieNode, key []byte) int32 {
	if n.keys == nil {
		return 0
	}
	for h := keyHash(key) & n.mask; ; h = (h + 1) & n.mask {
		k := &n.keys[h]
		if k.child == 0 || k.name == string(key) {
			return k.child
		}
	}
}

// keyHash looks at the length and three bytes: enough to tell the keys of a log
// apart, and a wrong guess costs one comparison.
func keyHash(key []byte) uint32 {
	n := len(key)
	if n == 0 {
		return 0
	}
	h := uint32(n)*0x9e3779b1 ^ uint32(key[0])*0x85ebca6b ^ uint32(key[n-1])*0xc2b2ae35 ^ uint32(key[n/2])*0x27d4eb2f
	return h ^ h>>15
}
