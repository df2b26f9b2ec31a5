package rules

import (
	"unicode"
	"unicode/utf8"
)

// Strings are compared in a folded form: two strings are equal without regard
// to case, by Unicode's simple folding, iff their folded forms are the same
// bytes. The folded form of ASCII is lower case, so that it can be compared
// with text that was not folded, byte by byte through lower.

// lower maps A-Z to a-z and every other byte to itself.
var lower = func() (t [256]byte) {
	for i := range t {
		t[i] = byte(i)
		if 'A' <= i && i <= 'Z' {
			t[i] += 'a' - 'A'
		}
	}
	return t
}()

// foldRune returns the representative of r's folding orbit: its smallest
// member, or the lower-case letter where that is ASCII. (The orbit of k holds
// U+212A, the Kelvin sign.)
func foldRune(r rune) rune {
	if r < utf8.RuneSelf {
		return rune(lower[byte(r)])
	}
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		least = min(least, f)
	}
	if least < utf8.RuneSelf {
		return rune(lower[byte(least)])
	}
	return least
}

// appendFold appends the folded form of s. Bytes that are not UTF-8 stay as
// they are.
func appendFold[T string | []byte](dst []byte, s T) []byte {
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			dst = append(dst, lower[s[i]])
			i++
			continue
		}
		r, n := decodeRune(s[i:])
		if r == utf8.RuneError && n == 1 {
			dst = append(dst, s[i])
		} else {
			dst = utf8.AppendRune(dst, foldRune(r))
		}
		i += n
	}
	return dst
}

func decodeRune[T string | []byte](s T) (rune, int) {
	var buf [utf8.UTFMax]byte
	n := copy(buf[:], s)
	return utf8.DecodeRune(buf[:n])
}

func foldString(s string) string { return string(appendFold(nil, s)) }

func isASCII(b []byte) bool {
	for len(b) >= 8 {
		if word(b)&0x8080808080808080 != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// equalFold reports whether text, ASCII in any case or folded, is the folded
// literal.
func equalFold[T string | []byte](text []byte, literal T) bool {
	if len(text) != len(literal) {
		return false
	}
	i := 0
	for ; i+8 <= len(text); i += 8 {
		if lowerWord(word(text[i:])) != word(literal[i:]) {
			return false
		}
	}
	for ; i < len(text); i++ {
		if lower[text[i]] != literal[i] {
			return false
		}
	}
	return true
}

// word returns the first eight bytes of s.
func word[T string | []byte](s T) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// lowerWord is lower for eight bytes at once. The top bit of a byte plus 0x3f is
// set from A on, that of a byte plus 0x25 from behind Z on; bytes that are not
// ASCII are left out.
func lowerWord(w uint64) uint64 {
	const ones = 0x0101010101010101
	ascii := w & (0x7f * ones)
	upper := (ascii + 0x3f*ones) &^ (ascii + 0x25*ones) &^ w & (0x80 * ones)
	return w | upper>>2
}
