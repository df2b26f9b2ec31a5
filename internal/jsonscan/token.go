package jsonscan

import (
	"encoding/binary"
	"math/bits"
)

// scanString returns where the string ends whose content begins at i: the offset
// of the closing quote, -1 after an error.
func (s *Scanner) scanString(i int) (end int, escaped bool) {
	if len(s.quotes) >= 2 && int(s.quotes[0]) == i-1 {
		end = int(s.quotes[1])
		s.quotes = s.quotes[2:]
		return end, false
	}
	data := s.data
	for {
		for i+8 <= len(data) {
			m := special(binary.LittleEndian.Uint64(data[i:]))
			if m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		for i < len(data) && class[data[i]]&inString == 0 {
			i++
		}
		if i >= len(data) {
			s.pos = len(data)
			s.fail(errEnd)
			return -1, false
		}
		switch data[i] {
		case '"':
			return i, escaped
		case '\\':
			escaped = true
			n := escapeLen(data[i:])
			if n == 0 {
				s.pos = i
				s.failEscape()
				return -1, false
			}
			i += n
		default:
			s.pos = i
			s.fail(errControl)
			return -1, false
		}
	}
}

// failEscape tells a bad escape from one that the end of the input cuts off.
func (s *Scanner) failEscape() {
	if escapeCut(s.data[s.pos:]) {
		s.pos = len(s.data)
	}
	s.fail(errEscape)
}

func (s *Scanner) scanScalar(kind Kind) {
	var literal string
	switch kind {
	case True:
		literal = "true"
	case False:
		literal = "false"
	case Null:
		literal = "null"
	default:
		s.scanNumber()
		return
	}
	for i := range len(literal) {
		if s.pos >= len(s.data) || s.data[s.pos] != literal[i] {
			s.fail(errLiteral)
			return
		}
		s.pos++
	}
}

func (s *Scanner) scanNumber() {
	if s.data[s.pos] == '-' {
		s.pos++
	}
	if s.pos < len(s.data) && s.data[s.pos] == '0' {
		s.pos++
	} else if !s.digits() {
		return
	}
	if s.pos < len(s.data) && s.data[s.pos] == '.' {
		s.pos++
		if !s.digits() {
			return
		}
	}
	if s.pos < len(s.data) && s.data[s.pos]|0x20 == 'e' {
		s.pos++
		if s.pos < len(s.data) && (s.data[s.pos] == '+' || s.data[s.pos] == '-') {
			s.pos++
		}
		s.digits()
	}
}

func (s *Scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.data) && s.data[s.pos]-'0' <= 9 {
		s.pos++
	}
	if s.pos == start {
		s.fail(errNumber)
	}
	return s.pos > start
}

// special returns a word with the top bit set in the first byte of w that is a
// quote, a backslash or a control character; bytes after the first may be
// marked wrongly, because of borrows.
//
// Flipping bit 1 swaps the quote (0x22) with the blank (0x20) and keeps control
// characters among themselves: then one comparison, less than 0x21, finds both.
func special(w uint64) uint64 {
	const (
		low  = 0x0101010101010101
		high = 0x8080808080808080
	)
	quoteOrControl := (w ^ low*2) - low*0x21
	backslash := (w ^ low*'\\') - low
	return (quoteOrControl | backslash) &^ w & high
}

// kindOf maps the first byte of a value to its kind.
var kindOf = func() (t [256]Kind) {
	t['n'], t['f'], t['t'], t['"'], t['{'], t['['], t['-'] = Null, False, True, String, Object, Array, Number
	for c := '0'; c <= '9'; c++ {
		t[c] = Number
	}
	return t
}()

// Classes of bytes.
const (
	inString uint8 = 1 << iota // ends a run of plain string bytes
	hexDigit
)

var class = func() (t [256]uint8) {
	for c := range 0x20 {
		t[c] |= inString
	}
	t['"'] |= inString
	t['\\'] |= inString
	for _, c := range "0123456789abcdefABCDEF" {
		t[c] |= hexDigit
	}
	return t
}()
