package rules

import (
	"bytes"
	"encoding/binary"
)

// keywordFilter tells the messages that may hold a keyword from the others
// without resolving their escapes. Rules with keywords are few, but their log
// sources are wide, so that nearly every message would have to be scanned as a
// whole.
//
// Of each keyword it knows a run of characters that JSON writes as they are
// (unless as \u....). As every run has at least n+3 of them, it is enough to look
// at four bytes at every n-th position.
type keywordFilter struct {
	runs   gramTable
	stride int
}

const maxStride = 8

// newKeywordFilter returns nil if texts have no such runs.
func newKeywordFilter(texts []acText) *keywordFilter {
	runs := make([]string, len(texts))
	stride := maxStride
	for i, t := range texts {
		runs[i] = longestRun(t.text)
		stride = min(stride, len(runs[i])-3)
	}
	if stride < 1 || len(texts) == 0 {
		return nil
	}
	buckets := map[uint32][]gramText{}
	for _, run := range runs {
		for at := range stride {
			if !add(buckets, gramOf(run[at:], 4), at, acText{text: run, op: litContains}) {
				return nil
			}
		}
	}
	return &keywordFilter{newGramTable(4, buckets), stride}
}

// longestRun returns the longest part of a folded text whose characters are the
// same in a JSON string; of at most maxGramText bytes.
func longestRun(text string) string {
	best := ""
	start := 0
	for i := 0; i <= len(text); i++ {
		if i < len(text) && text[i] >= ' ' && text[i] < 0x7f && text[i] != '"' && text[i] != '\\' && text[i] != '/' {
			continue
		}
		if i-start > len(best) {
			best = text[start:i]
		}
		start = i + 1
	}
	return best[:min(len(best), maxGramText)]
}

// plainASCII reports whether text is ASCII and has no \u. Where it is in doubt,
// it says no.
func plainASCII(text []byte) bool {
	const ones = 0x0101010101010101
	for ; len(text) > 16; text = text[16:] {
		a, b := word(text), word(text[8:])
		// A byte of x and y is zero where text has \u. What the subtractions borrow
		// can only say so too often.
		x := (a ^ '\\'*ones) | (word(text[1:]) ^ 'u'*ones)
		y := (b ^ '\\'*ones) | (word(text[9:]) ^ 'u'*ones)
		if (a|b|(x-ones)&^x|(y-ones)&^y)&(0x80*ones) != 0 {
			return false
		}
	}
	return isASCII(text) && !bytes.Contains(text, []byte(`\u`))
}

// may reports whether message, JSON or not, may hold one of the keywords.
func (f *keywordFilter) may(message []byte) bool {
	if !plainASCII(message) {
		return true
	}
	for i := 0; i+4 <= len(message); i += f.stride {
		gram := binary.LittleEndian.Uint32(message[i:]) | caseless&0xffffffff
		if !f.runs.may(gram) {
			continue
		}
		for _, e := range f.runs.bucket(gram) {
			if f.runs.holds(&e, message, i) {
				return true
			}
		}
	}
	return false
}
