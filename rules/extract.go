package rules

import (
	"bytes"

	"github.com/tocsin-io/tocsin/internal/jsonscan"
	"github.com/tocsin-io/tocsin/schemas"
)

// maxValues bounds the values of one event that are looked at. With more (arrays
// of tens of thousands of elements) the event counts as truncated.
const maxValues = 1 << 16

// extract fills the slots of all fields that the view's rules read, in one pass
// over the message.
func (m *Matcher) extract(v *view, ev *schemas.Event) {
	for _, e := range v.envelope {
		text, arena, number := e.field.value(ev, m.arena)
		m.arena = arena
		if len(text) == 0 {
			continue
		}
		kind := valString
		if number {
			kind = valNumber
		}
		m.record(e.slot, kind, text)
	}
	m.message = ev.Message
	if v.trie != nil {
		m.scanner.Reset(ev.Message)
		m.walk(v.trie, 0)
	}
	if v.keywords >= 0 {
		m.extractKeywords(v)
	}
}

// extractKeywords: keywords see the text of the message. If it is JSON, its
// escapes are replaced by what they stand for, so that C:\Windows is found in
// "C:\\Windows"; if it only begins like JSON, they also see it as it is.
func (m *Matcher) extractKeywords(v *view) {
	if v.absent != nil && !v.absent.may(m.message) {
		return
	}
	text := bytes.TrimLeft(m.message, " \t\r\n")
	if len(text) == 0 || text[0] != '{' && text[0] != '[' && text[0] != '"' || bytes.IndexByte(text, '\\') < 0 {
		m.record(v.keywords, valString, m.message)
		return
	}
	if v.trie == nil {
		m.scanner.Reset(m.message)
		m.scanner.Value()
	}
	if m.scanner.Failed() {
		m.record(v.keywords, valString, m.message)
	}
	at := len(m.arena)
	m.arena = jsonscan.Unescape(m.arena, m.message)
	m.record(v.keywords, valString, m.arena[at:len(m.arena):len(m.arena)])
}

// walk takes the next value of the message, whose path is that of the node.
// The recursion is bounded by the scanner's.
func (m *Matcher) walk(t *fieldTrie, id int32) {
	n := &t.nodes[id]
	s := &m.scanner
	switch s.Kind() {
	case jsonscan.Array:
		s.Enter()
		empty := true
		for s.Element() {
			empty = false
			m.walk(t, id)
		}
		if empty && n.slot >= 0 && !s.Failed() {
			m.record(n.slot, valEmptyArray, nil)
		}
		return
	case jsonscan.Object:
		if n.keys != nil {
			m.walkObject(t, n)
			return
		}
	}
	if n.slot < 0 {
		s.Value()
		return
	}
	val := s.Value()
	switch val.Kind {
	case jsonscan.String:
		text := val.Raw
		if val.Escaped {
			at := len(m.arena)
			m.arena = jsonscan.Unescape(m.arena, text)
			text = m.arena[at:len(m.arena):len(m.arena)]
		}
		m.record(n.slot, valString, text)
	case jsonscan.Number:
		m.record(n.slot, valNumber, val.Raw)
	case jsonscan.True, jsonscan.False:
		m.record(n.slot, valBool, val.Raw)
	case jsonscan.Null:
		m.record(n.slot, valNull, nil)
	case jsonscan.Object:
		m.record(n.slot, valObject, val.Raw)
	}
}

func (m *Matcher) walkObject(t *fieldTrie, n *trieNode) {
	s := &m.scanner
	start := s.Pos()
	s.Enter()
	for {
		key, ok := s.Member()
		if !ok {
			break
		}
		name := key.Raw
		if key.Escaped {
			at := len(m.arena)
			m.arena = jsonscan.Unescape(m.arena, name)
			name = m.arena[at:]
		}
		if child := t.child(n, name); child != 0 {
			m.walk(t, child)
		} else {
			s.Value()
		}
	}
	if n.slot >= 0 && !s.Failed() {
		m.record(n.slot, valObject, m.message[start:s.Pos()])
	}
}

// record adds a value to a slot.
func (m *Matcher) record(at int32, kind valueKind, text []byte) {
	if len(m.values) >= maxValues {
		m.full = true
		return
	}
	i := int32(len(m.values))
	m.values = append(m.values, value{text: text, next: -1, kind: kind})
	s := &m.slots[at]
	if s.epoch != m.epoch {
		*s = slot{m.epoch, i, i}
		m.touched = append(m.touched, at)
		return
	}
	m.values[s.last].next = i
	s.last = i
}

// fold returns the text for comparisons without regard to case: ASCII as it is,
// anything else folded.
func (m *Matcher) fold(v *value) []byte {
	if v.folded == nil {
		v.folded = v.text
		if !isASCII(v.text) {
			at := len(m.arena)
			m.arena = appendFold(m.arena, v.text)
			v.folded = m.arena[at:len(m.arena):len(m.arena)]
		}
	}
	return v.folded
}
