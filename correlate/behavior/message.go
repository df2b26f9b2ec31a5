package behavior

import (
	"strconv"
	"unicode/utf8"
)

// message builds a flat JSON object and reuses its memory.
type message struct{ buf []byte }

func (m *message) begin() { m.buf = append(m.buf[:0], '{') }

func (m *message) end() []byte {
	m.buf = append(m.buf, '}')
	return m.buf
}

func (m *message) name(parts ...string) {
	if len(m.buf) > 1 {
		m.buf = append(m.buf, ',')
	}
	m.buf = append(m.buf, '"')
	for _, p := range parts {
		m.buf = append(m.buf, p...)
	}
	m.buf = append(m.buf, '"', ':')
}

// text adds a string unless it is empty.
func (m *message) text(name, value string) {
	if value != "" {
		m.name(name)
		m.buf = appendString(m.buf, value)
	}
}

func (m *message) int(name string, value int64) {
	m.name(name)
	m.buf = strconv.AppendInt(m.buf, value, 10)
}

// decimal adds a number with two decimals; its name may come in parts.
func (m *message) decimal(value float64, name ...string) {
	m.name(name...)
	m.buf = strconv.AppendFloat(m.buf, value, 'f', 2, 64)
}

func (m *message) bool(name string, value bool) {
	m.name(name)
	m.buf = strconv.AppendBool(m.buf, value)
}

// appendString appends a JSON string.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			dst = utf8.AppendRune(dst, r) // U+FFFD for what is no UTF-8
			i += n
			continue
		}
		i++
	}
	return append(dst, '"')
}
