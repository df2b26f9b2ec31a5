package jsonscan

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// Unescape appends to dst what the string content raw (Value.Raw) stands for,
// always as valid UTF-8: lone surrogates and every byte that is not UTF-8 become
// U+FFFD, as in encoding/json. Raw that no Scanner yielded is taken as far as it
// goes.
func Unescape(dst, raw []byte) []byte {
	start := len(dst)
	dst, _, _ = appendUnescaped(dst, raw, 0, false, nil)
	return fixUTF8(dst, start)
}

// AppendValid appends b to dst, with U+FFFD for every byte that is not UTF-8.
func AppendValid(dst, b []byte) []byte {
	start := len(dst)
	return fixUTF8(append(dst, b...), start)
}

func fixUTF8(dst []byte, start int) []byte {
	if utf8.Valid(dst[start:]) {
		return dst
	}
	bad := slices.Clone(dst[start:])
	dst = dst[:start]
	for len(bad) > 0 {
		r, n := utf8.DecodeRune(bad)
		dst = utf8.AppendRune(dst, r)
		bad = bad[n:]
	}
	return dst
}

// appendUnescaped appends the string content of data from i to dst, up to the
// closing quote if quoted is set, else to the end, and returns the offset it
// stopped at: the quote, the end, or where what is wrong, if what is not empty.
// Unless ix is nil it notes there the quotes among what it appends.
func appendUnescaped(dst, data []byte, i int, quoted bool, ix *Index) (out []byte, end int, what string) {
	n := len(dst)
	out = dst[:cap(dst)]
	for {
		for i+8 <= len(data) {
			if len(out)-n < 8 {
				out = grow(out, n)
			}
			// Eight bytes are copied before it is known how many of them are plain; the
			// next copy overwrites the rest.
			w := binary.LittleEndian.Uint64(data[i:])
			binary.LittleEndian.PutUint64(out[n:], w)
			if m := special(w); m != 0 {
				k := bits.TrailingZeros64(m) >> 3
				i += k
				n += k
				if data[i] != '\\' || i+1 >= len(data) || data[i+1] == 'u' || unescaped[data[i+1]] == 0 {
					break
				}
				// JSON in a string is full of these. out has room: k < 8.
				out[n] = unescaped[data[i+1]]
				if ix != nil {
					ix.add(out[n], n)
				}
				i += 2
				n++
				continue
			}
			i += 8
			n += 8
		}
		if len(out)-n < 16 {
			out = grow(out, n)
		}
		for i < len(data) && class[data[i]]&inString == 0 {
			// Fewer than eight are left, or this ends at once.
			out[n] = data[i]
			i++
			n++
			if len(out)-n < 16 {
				out = grow(out, n)
			}
		}
		if i >= len(data) {
			if quoted {
				return out[:n], i, errEnd
			}
			return out[:n], i, ""
		}
		switch c := data[i]; {
		case c == '\\':
			if i+1 < len(data) && data[i+1] != 'u' {
				plain := unescaped[data[i+1]]
				if plain == 0 {
					return out[:n], i, errEscape
				}
				out[n] = plain
				if ix != nil {
					ix.add(plain, n)
				}
				n++
				i += 2
				continue
			}
			size := escapeLen(data[i:])
			if size == 0 {
				if quoted && escapeCut(data[i:]) {
					return out[:n], len(data), errEnd
				}
				return out[:n], i, errEscape
			}
			if ix != nil {
				ix.useless = true
			}
			r := rune(hex4(data[i+2:]))
			i += size
			if utf16.IsSurrogate(r) {
				// A pair is one rune; the half of one is U+FFFD and what follows it stands
				// for itself.
				r2 := rune(-1)
				if i+6 <= len(data) && data[i] == '\\' && data[i+1] == 'u' && escapeLen(data[i:]) == 6 {
					r2 = rune(hex4(data[i+2:]))
				}
				if r = utf16.DecodeRune(r, r2); r != utf8.RuneError {
					i += 6
				}
			}
			n += utf8.EncodeRune(out[n:n+utf8.UTFMax], r)
		case c == '"' && quoted:
			return out[:n], i, ""
		case c == '"':
			out[n] = c
			n++
			i++
		default:
			return out[:n], i, errControl
		}
	}
}

// grow returns out with the n bytes in use and room for more, all of it in
// length.
func grow(out []byte, n int) []byte {
	out = slices.Grow(out[:n], max(64, n))
	return out[:cap(out)]
}

// unescaped maps the byte after a backslash to what the two stand for.
var unescaped = [256]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// escapeLen returns how long the escape at the front of b is, 0 if it is none.
func escapeLen(b []byte) int {
	switch {
	case len(b) < 2:
		return 0
	case unescaped[b[1]] != 0:
		return 2
	case b[1] == 'u' && len(b) >= 6 &&
		class[b[2]]&class[b[3]]&class[b[4]]&class[b[5]]&hexDigit != 0:
		return 6
	}
	return 0
}

// escapeCut reports whether b, which begins with a backslash and is no escape,
// could have become one had it gone on.
func escapeCut(b []byte) bool {
	if len(b) >= 6 || len(b) >= 2 && b[1] != 'u' {
		return false
	}
	for _, c := range b[min(len(b), 2):] {
		if class[c]&hexDigit == 0 {
			return false
		}
	}
	return true
}

func hex4(b []byte) (v uint16) {
	for _, c := range b[:4] {
		if c > '9' {
			c = c&^0x20 - 'A' + '0' + 10
		}
		v = v<<4 | uint16(c-'0')
	}
	return v
}
