package firehose

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

const (
	// maxRecords is Firehose's own limit of records in one request.
	maxRecords = 10_000
	// maxRequestID is far above the 36 characters of a GUID.
	maxRequestID = 256
	// maxDepth bounds the nesting of values that are skipped.
	maxDepth = 32
)

// body is a decoded request body. The records alias the buffer it was decoded
// from.
type body struct {
	requestID string
	records   [][]byte
}

// decodeBody decodes
//
//	{"requestId":"...","timestamp":1578090901599,"records":[{"data":"<base64>"}]}
//
// in place: the base64 of each record is overwritten by the bytes it stands
// for. A request may be 64 MiB, and a general JSON decoder would hold it three
// times over. After an error b is as it was.
func decodeBody(b []byte) (*body, error) {
	out, err := scanBody(b)
	if err != nil {
		return nil, err
	}
	for i, text := range out.records {
		// In place is safe: Decode reads a group of characters before it writes
		// the bytes it stands for, which are fewer and start no later.
		n, err := base64.StdEncoding.Decode(text, text)
		if err != nil {
			restore(text, text[:n-n%3])
			for _, data := range out.records[:i] {
				restore(data[:cap(data)], data)
			}
			return nil, fmt.Errorf("record %d: data is not base64: %w", i, err)
		}
		out.records[i] = text[:n]
	}
	return out, nil
}

// restore writes the base64 of data, which is the beginning of text's memory,
// to where it was decoded from.
func restore(text, data []byte) { copy(text, base64.StdEncoding.EncodeToString(data)) }

// scanBody is decodeBody without the base64: the records are still text, each
// with the capacity that it has in b.
func scanBody(b []byte) (*body, error) {
	s := scanner{b: b}
	out := &body{}
	seen := false
	err := s.object(func(key []byte) error {
		switch string(key) {
		case "requestId":
			id, err := s.text()
			if err != nil {
				return err
			}
			if len(id) == 0 || len(id) > maxRequestID {
				return s.fail("requestId has %d characters, want 1 to %d", len(id), maxRequestID)
			}
			out.requestID = string(id)
			return nil
		case "records":
			if seen {
				return s.fail("records is there twice")
			}
			seen = true
			return s.array(func() error {
				if len(out.records) == maxRecords {
					return s.fail("more than %d records", maxRecords)
				}
				data, err := s.record()
				out.records = append(out.records, data)
				return err
			})
		default:
			// The timestamp among others: nothing depends on it.
			return s.skip(0)
		}
	})
	if err != nil {
		return nil, err
	}
	s.space()
	switch {
	case s.pos != len(b):
		return nil, s.fail("something follows the JSON object")
	case out.requestID == "":
		return nil, errors.New("requestId is missing")
	case !seen:
		return nil, errors.New("records is missing")
	}
	return out, nil
}

// scanner reads JSON from b at pos.
type scanner struct {
	b   []byte
	pos int
}

func (s *scanner) fail(format string, args ...any) error {
	return fmt.Errorf("body at byte %d: %s", s.pos, fmt.Sprintf(format, args...))
}

func (s *scanner) space() {
	for s.pos < len(s.b) {
		switch s.b[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return
		}
	}
}

// token skips space and reports whether c is next, which it then consumes.
func (s *scanner) token(c byte) bool {
	s.space()
	if s.pos < len(s.b) && s.b[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

// object calls member with each key; member must consume the value, which
// starts at pos. The key is valid until then.
func (s *scanner) object(member func(key []byte) error) error {
	if !s.token('{') {
		return s.fail("want {")
	}
	if s.token('}') {
		return nil
	}
	for {
		s.space()
		key, err := s.text()
		if err != nil {
			return err
		}
		if !s.token(':') {
			return s.fail("want :")
		}
		s.space()
		if err := member(key); err != nil {
			return err
		}
		if s.token('}') {
			return nil
		}
		if !s.token(',') {
			return s.fail("want , or }")
		}
	}
}

// array calls element at the start of each value; element must consume it.
func (s *scanner) array(element func() error) error {
	if !s.token('[') {
		return s.fail("want [")
	}
	if s.token(']') {
		return nil
	}
	for {
		s.space()
		if err := element(); err != nil {
			return err
		}
		if s.token(']') {
			return nil
		}
		if !s.token(',') {
			return s.fail("want , or ]")
		}
	}
}

// record reads one element of records and returns its data, still base64. A
// record without data, or with none in it, is valid.
func (s *scanner) record() (data []byte, err error) {
	err = s.object(func(key []byte) error {
		if string(key) != "data" {
			return s.skip(0)
		}
		if data != nil {
			return s.fail("data is there twice")
		}
		text, err := s.text()
		data = text[:len(text):len(text)]
		return err
	})
	return data, err
}

// quoted consumes a string and returns it with its quotes.
func (s *scanner) quoted() (raw []byte, escaped bool, err error) {
	if s.pos >= len(s.b) || s.b[s.pos] != '"' {
		return nil, false, s.fail("want a string")
	}
	for i := s.pos + 1; ; {
		end := bytes.IndexByte(s.b[i:], '"')
		if end < 0 {
			return nil, false, s.fail("string does not end")
		}
		// A backslash before the quote may escape it, or the next backslash.
		slash := bytes.IndexByte(s.b[i:i+end], '\\')
		if slash < 0 {
			raw = s.b[s.pos : i+end+1]
			s.pos = i + end + 1
			return raw, escaped, nil
		}
		escaped = true
		i += slash + 2
		if i > len(s.b) {
			return nil, false, s.fail("string does not end")
		}
	}
}

// text consumes a string and returns what it says. It aliases b unless
// characters were escaped.
func (s *scanner) text() ([]byte, error) {
	at := s.pos
	raw, escaped, err := s.quoted()
	if err != nil {
		return nil, err
	}
	if !escaped {
		return raw[1 : len(raw)-1], nil
	}
	// Firehose escapes nothing in the fields that are read here, but "\/" in
	// base64 is legal JSON and some encoders write it.
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		s.pos = at
		return nil, s.fail("bad string: %v", err)
	}
	return []byte(text), nil
}

// skip consumes any value.
func (s *scanner) skip(depth int) error {
	if depth > maxDepth {
		return s.fail("nested more than %d deep", maxDepth)
	}
	if s.pos >= len(s.b) {
		return s.fail("want a value")
	}
	switch s.b[s.pos] {
	case '{':
		return s.object(func([]byte) error { return s.skip(depth + 1) })
	case '[':
		return s.array(func() error { return s.skip(depth + 1) })
	case '"':
		_, _, err := s.quoted()
		return err
	}
	start := s.pos
	for s.pos < len(s.b) && strings.IndexByte(" \t\r\n,:]}\"[{", s.b[s.pos]) < 0 {
		s.pos++
	}
	if !json.Valid(s.b[start:s.pos]) {
		s.pos = start
		return s.fail("not a JSON value")
	}
	return nil
}
