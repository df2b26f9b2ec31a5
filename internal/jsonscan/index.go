package jsonscan

// Index is where the quotes are in a JSON text that was itself a JSON string.
// Whoever unescapes such a string meets each of its quotes, as \", and need not
// look for them again when the text is scanned in turn. (simdjson finds them in a
// first pass of its own: Langdale and Lemire, "Parsing Gigabytes of JSON per
// Second".)
//
// That works as long as there is no other escape: then the text has neither a
// backslash nor a control character, and its quotes are the ends of its strings.
// Otherwise, or if the text is longer than 1 MiB, the index is of no use and is
// not used. The zero value is ready.
type Index struct {
	quotes  []uint32
	useless bool
}

// maxIndexed bounds the texts that are indexed, in bytes, and so the index.
const maxIndexed = 1 << 20

// add notes that the byte c, which was escaped, is at offset n of the text.
func (ix *Index) add(c byte, n int) {
	if c != '"' || n >= maxIndexed {
		ix.useless = true
		return
	}
	ix.quotes = append(ix.quotes, uint32(n))
}

// AppendIndexed is AppendString(dst[:0]), and makes ix the index of what it
// returns.
func (s *Scanner) AppendIndexed(dst []byte, ix *Index) ([]byte, bool) {
	ix.quotes, ix.useless = ix.quotes[:0], false
	dst = dst[:0]
	if s.err.What != "" || s.peek() != '"' {
		return dst, false
	}
	return s.appendString(dst, ix)
}

// ResetIndexed is Reset to a text with its index, which must be that of data and
// must not change while data is scanned.
func (s *Scanner) ResetIndexed(data []byte, ix *Index) {
	s.Reset(data)
	if !ix.useless {
		s.quotes = ix.quotes
	}
}
