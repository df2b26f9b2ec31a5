package rules

import (
	"encoding/base64"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// base64Offsets returns the three texts one of which is in the Base64 of
// anything that contains s, depending on the position of s modulo 3. Characters
// that also depend on what is around s are cut off.
func base64Offsets(s string) [3]string {
	var out [3]string
	start := [3]int{0, 2, 3}
	end := [3]int{0, 3, 2}
	for i := range out {
		padded := append(make([]byte, i, i+len(s)), s...)
		enc := base64.StdEncoding.EncodeToString(padded)
		cut := len(enc) - end[len(padded)%3]
		if start[i] < cut {
			out[i] = enc[start[i]:cut]
		}
	}
	return out
}

// encodeUTF16 returns the UTF-16 code units of s as bytes.
func encodeUTF16(s string, bigEndian bool) string {
	out := make([]byte, 0, 2*len(s))
	for _, u := range utf16.Encode([]rune(s)) {
		if bigEndian {
			out = append(out, byte(u>>8), byte(u))
		} else {
			out = append(out, byte(u), byte(u>>8))
		}
	}
	return string(out)
}

// expandDashes replaces each dash of an option in s (a - or / not after a word
// character and before one, pySigma's \B[-/]\b) by a partDash.
func expandDashes(s string) []part {
	var out []part
	from := 0
	prev := rune(-1)
	for i, r := range s {
		if r == '-' || r == '/' {
			next, _ := utf8.DecodeRuneInString(s[i+1:])
			if !isWord(prev) && i+1 < len(s) && isWord(next) {
				if from < i {
					out = append(out, part{partText, s[from:i]})
				}
				out = append(out, part{kind: partDash})
				from = i + 1
			}
		}
		prev = r
	}
	if from < len(s) {
		out = append(out, part{partText, s[from:]})
	}
	return out
}

func isWord(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r) }
