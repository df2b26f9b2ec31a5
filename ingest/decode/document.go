package decode

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/tocsin-io/tocsin/internal/jsonscan"
)

// payload decodes bytes of unknown kind.
func (d *Decoder) payload(data []byte, o origin, depth int) {
	switch {
	case depth >= maxLevels-2:
		// A document needs a level, and each of its records one more.
		d.reject(Rejection{Reason: ReasonTooDeep, Err: fmt.Errorf("more than %d envelopes around one another", maxLevels-3), Raw: data})
	case isGzip(data):
		d.gunzip(data, o, depth)
	default:
		d.document(data, o, depth)
	}
}

// maxBroken is how many values of one document may be broken before the rest is
// given up: what is so broken is something else, and each attempt costs a scan
// that may go far.
const maxBroken = 100

// document decodes text: JSON values one after the other, with or without line
// feeds between them, and lines that are not JSON.
func (d *Decoder) document(data []byte, o origin, depth int) {
	d.levels[depth].broken = 0
	pos := 0
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		pos = 3
	}
	empty := true
	for {
		for pos < len(data) && isSpace(data[pos]) {
			pos++
		}
		if pos == len(data) {
			break
		}
		empty = false
		switch {
		case looksLikeObject(data[pos:]):
			pos = d.objectAt(data, pos, o, depth)
		case looksLikeArray(data[pos:]):
			pos = d.arrayAt(data, pos, &o, depth)
		default:
			pos = d.lineAt(data, pos, o, depth)
		}
		o.seq++
	}
	if empty {
		d.stats.Empty++
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// looksLikeObject tells JSON that is broken further on from a line of text that
// merely begins with a brace.
func looksLikeObject(b []byte) bool {
	if b[0] != '{' {
		return false
	}
	b = skipSpace(b[1:])
	return len(b) == 0 || b[0] == '"' || b[0] == '}'
}

// looksLikeArray finds arrays of objects, which are many records; any other
// array is a record of its own, and "[INFO]" is a line of text.
func looksLikeArray(b []byte) bool {
	if b[0] != '[' {
		return false
	}
	b = skipSpace(b[1:])
	return len(b) > 0 && looksLikeObject(b)
}

func skipSpace(b []byte) []byte {
	for i, c := range b {
		if !isSpace(c) {
			return b[i:]
		}
	}
	return nil
}

// objectAt decodes the object at data[pos] and returns where to go on.
func (d *Decoder) objectAt(data []byte, pos int, o origin, depth int) int {
	s := &d.levels[depth].scan
	s.Reset(data[pos:])
	if bad := d.object(s, data[pos:], o, depth); bad >= 0 {
		return d.broken(data, pos, pos+bad, depth)
	}
	return pos + s.Pos()
}

// arrayAt decodes the array at data[pos], each element by itself.
func (d *Decoder) arrayAt(data []byte, pos int, o *origin, depth int) int {
	// The elements are decoded on the level above, which has its own scanner.
	s := &d.levels[depth].scan
	text := data[pos:]
	s.Reset(text)
	s.Enter()
	done := 0
	for s.Element() {
		kind := s.Kind()
		done = s.Pos()
		v := s.Value()
		if s.Failed() {
			break
		}
		if kind == jsonscan.Object {
			d.element(v.Raw, *o, depth+1)
		} else {
			d.generic(text[done:s.Pos()], *o)
		}
		o.seq++
		done = s.Pos()
	}
	if s.Failed() {
		return d.broken(data, pos, pos+done, depth)
	}
	return pos + s.Pos()
}

// element decodes one whole object that stood in an array.
func (d *Decoder) element(raw []byte, o origin, depth int) {
	s := &d.levels[depth].scan
	s.Reset(raw)
	d.object(s, raw, o, depth)
}

// broken rejects the part of a document from offset bad on, up to a line that
// begins another object, and returns the offset of that. The scanner of the level
// tells what is wrong with the value that began at start.
func (d *Decoder) broken(data []byte, start, bad, depth int) int {
	l := &d.levels[depth]
	l.broken++
	err := l.scan.Err()
	reason := ReasonNotJSON
	var syntax *jsonscan.Error
	if errors.As(err, &syntax) && syntax.TooDeep() {
		reason = ReasonTooDeep
	}
	next := len(data)
	// From bad, not from where the scanner stopped: a string that lacks its closing
	// quote may have swallowed the lines after it.
	if i := bytes.Index(data[min(bad+1, len(data)):], []byte("\n{")); i >= 0 && l.broken < maxBroken {
		next = bad + 1 + i + 1
	}
	if bad > start {
		err = fmt.Errorf("%w of the value at byte %d, of which all before byte %d was decoded", err, start, bad)
	} else {
		err = fmt.Errorf("%w of the value at byte %d", err, start)
	}
	d.reject(Rejection{Reason: reason, Err: err, Raw: data[bad:next], Offset: bad})
	return next
}

// lineAt decodes the line of text at data[pos].
func (d *Decoder) lineAt(data []byte, pos int, o origin, depth int) int {
	line := data[pos:]
	if i := bytes.IndexByte(line, '\n'); i >= 0 {
		line = line[:i]
	}
	next := pos + len(line)
	if isBinary(line) {
		// Line feeds in what is not text mean nothing.
		d.reject(Rejection{Reason: ReasonBinary, Err: fmt.Errorf("not gzip, JSON or text from byte %d on", pos), Raw: data[pos:], Offset: pos})
		return len(data)
	}
	d.generic(bytes.TrimRight(line, " \t\r"), o)
	return next
}

// isBinary tells text, some of which may be in an old encoding, from what is not
// text: a NUL, or more than three tenths of it control characters and bytes that
// are not UTF-8 (of random bytes it would be half).
func isBinary(b []byte) bool {
	odd := 0
	for i := 0; i < len(b); {
		c := b[i]
		switch {
		case c == 0:
			return true
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n == 1 {
				odd++
			}
			i += n
			continue
		case c < ' ' && c != '\t' && c != '\r' && c != '\n' && c != 0x1b || c == 0x7f:
			odd++
		}
		i++
	}
	return 10*odd > 3*len(b)
}

// object scans the object that s, of data, is at, and decodes it as the document
// or envelope it is. It returns -1, or the offset in data from which on nothing
// was decoded, because s found an error.
func (d *Decoder) object(s *jsonscan.Scanner, data []byte, o origin, depth int) (bad int) {
	l := &d.levels[depth]
	rec := &l.rec
	rec.reset()
	start := s.Pos()
	streamed := false // decoded on the way
	s.Enter()
	for f, ok := member(s); ok; f, ok = member(s) {
		if f == fLogEvents && s.Kind() == jsonscan.Array &&
			rec.has(fMessageType) && rec.has(fOwner) && rec.has(fLogGroup) {
			// A CloudWatch payload of which all that matters is known. Its log events are
			// nearly all of it: decoding them on the way saves a scan over them.
			streamed = true
			if bad := d.logEvents(s, data, rec, o, depth); bad >= 0 {
				return bad
			}
			continue
		}
		v := s.Value()
		if f != noField && v.Kind != jsonscan.Invalid {
			rec.set(f, v)
		}
	}
	if s.Failed() {
		if streamed {
			return s.Pos()
		}
		return start
	}
	if streamed {
		return -1
	}
	rec.raw = data[start:s.Pos()]
	d.envelope(rec, o, depth)
	return -1
}
