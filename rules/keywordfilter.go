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

// may reports whether message, JSON or not, may hold one of the keywords.
func (f *keywordFilter) may(message []byte) bool {
	if !isASCII(message) || bytes.Contains(message, []byte(`\u`)) {
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
