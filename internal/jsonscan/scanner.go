// Package jsonscan reads JSON (RFC 8259) where it lies, without allocating.
//
// A Scanner walks one text from front to back. The caller says what he expects
// (Enter, Member, Element, Value, Skip) and gets spans of the input. It checks
// the whole grammar, so that what was read to the end is JSON; only the UTF-8
// of strings is left to those who unescape them. It never panics, whatever the
// bytes and whatever the order of the calls.
//
// The scan for the end of a string takes eight bytes at a time, as in "Hacker's
// Delight" 6-1 (find the first zero byte).
package jsonscan

import "fmt"

// MaxDepth is how deep containers may be nested: deeper input is an error, so
// that callers may recurse.
const MaxDepth = 1000

// Kind is the kind of a JSON value.
type Kind uint8

// The kinds. Invalid is what a Scanner yields after an error or at the end.
const (
	Invalid Kind = iota
	Null
	False
	True
	Number
	String
	Object
	Array
)

var kindNames = [...]string{"invalid", "null", "false", "true", "number", "string", "object", "array"}

// String returns JSON's own word for the kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Invalid]
}

// Value is a span of the input.
type Value struct {
	// Raw is what stands between the quotes of a string, and the whole text of any
	// other value. It aliases the input.
	Raw []byte
	// Kind of the value.
	Kind Kind
	// Escaped tells that Raw is of a string and holds a backslash: Unescape it.
	Escaped bool
}

// Error is a place where the input is not JSON.
type Error struct {
	Offset int    // in bytes
	What   string // from a fixed set
}

// What went wrong; the texts of Error.What.
const (
	errEnd       = "unexpected end"
	errByte      = "unexpected byte"
	errComma     = "expected ',' or the end of the container"
	errKey       = "expected a string as key"
	errColon     = "expected ':'"
	errContainer = "expected an object or array"
	errControl   = "control character in string"
	errEscape    = "bad escape in string"
	errNumber    = "bad number"
	errLiteral   = "bad literal"
	errDepth     = "nested too deep"
	errTrailing  = "bytes after the value"
	errString    = "expected a string"
)

// Error says what and where.
func (e *Error) Error() string { return fmt.Sprintf("json: %s at byte %d", e.What, e.Offset) }

// TooDeep tells that the input exceeds MaxDepth, and may be JSON.
func (e *Error) TooDeep() bool { return e.What == errDepth }

// Truncated tells that the input ended too early: so far it was JSON.
func (e *Error) Truncated() bool { return e.What == errEnd }

// Scanner walks one JSON text. The zero value is ready for Reset. After the
// first error every call yields nothing; Err says why.
type Scanner struct {
	data  []byte
	pos   int
	depth int
	// first is set from Enter until the container's first member or element was
	// begun. One bit serves all levels: leaving a container ends a value of the
	// one around it, which therefore is past its first.
	first bool
	err   Error
	stack [(MaxDepth + 63) / 64]uint64 // of Skip: bit set = object

	quotes []uint32 // of the Index, if there is one; pairs that begin and end strings
}

// Reset starts at the beginning of data, which must not change while spans of
// it are in use.
func (s *Scanner) Reset(data []byte) {
	s.data, s.pos, s.depth, s.first, s.err, s.quotes = data, 0, 0, false, Error{}, nil
}

// Pos is the offset of the next byte to be read.
func (s *Scanner) Pos() int { return s.pos }

// Err returns the *Error that stopped the scanner, nil if there was none.
func (s *Scanner) Err() error {
	if s.err.What == "" {
		return nil
	}
	e := s.err
	return &e
}

// Failed reports whether Err would return an error, without allocating one.
func (s *Scanner) Failed() bool { return s.err.What != "" }

// End reports whether only white space is left; if not, that is an error.
func (s *Scanner) End() bool {
	s.peek()
	if s.err.What == "" && s.pos < len(s.data) {
		s.fail(errTrailing)
	}
	return s.err.What == ""
}

// Kind returns the kind of the next value, by its first byte, and consumes only
// white space. It yields Invalid, without an error, where no value begins.
func (s *Scanner) Kind() Kind {
	if s.err.What != "" {
		return Invalid
	}
	return kindOf[s.peek()]
}

// Enter consumes the opening bracket of an object or array and returns which it
// was; anything else is an error. Member or Element must follow until they
// return false.
func (s *Scanner) Enter() Kind {
	if s.err.What != "" {
		return Invalid
	}
	kind := kindOf[s.peek()]
	switch {
	case kind != Object && kind != Array:
		return s.fail(errContainer)
	case s.depth >= MaxDepth:
		return s.fail(errDepth)
	}
	s.pos++
	s.depth++
	s.first = true
	return kind
}

// Member consumes the key of the entered object's next member; the value must be
// consumed before the next call. It consumes the closing bracket and returns
// false after the last member.
func (s *Scanner) Member() (key Value, ok bool) {
	if s.err.What != "" {
		return Value{}, false
	}
	c := s.peek()
	if c == '}' {
		s.leave()
		return Value{}, false
	}
	if !s.first {
		if c != ',' {
			s.fail(errComma)
			return Value{}, false
		}
		s.pos++
		c = s.peek()
	}
	s.first = false
	if c != '"' {
		s.fail(errKey)
		return Value{}, false
	}
	start := s.pos + 1
	end, escaped := s.scanString(start)
	if end < 0 {
		return Value{}, false
	}
	s.pos = end + 1
	if s.pos < len(s.data) && s.data[s.pos] == ':' {
		s.pos++
	} else if s.peek() == ':' {
		s.pos++
	} else {
		s.fail(errColon)
		return Value{}, false
	}
	return Value{Raw: s.data[start:end], Kind: String, Escaped: escaped}, true
}

// Element reports whether the entered array has another element, which must be
// consumed before the next call. It consumes the closing bracket and returns
// false after the last one.
func (s *Scanner) Element() bool {
	if s.err.What != "" {
		return false
	}
	c := s.peek()
	if c == ']' {
		s.leave()
		return false
	}
	if !s.first {
		if c != ',' {
			s.fail(errComma)
			return false
		}
		s.pos++
	}
	s.first = false
	return true
}

// Value consumes the next value, whatever it is.
func (s *Scanner) Value() Value {
	if s.err.What != "" {
		return Value{}
	}
	c := s.peek()
	start := s.pos
	if c == '"' {
		start++
		end, escaped := s.scanString(start)
		if end < 0 {
			return Value{}
		}
		s.pos = end + 1
		return Value{Raw: s.data[start:end], Kind: String, Escaped: escaped}
	}
	kind := kindOf[c]
	switch kind {
	case Object, Array:
		s.skipContainer()
	case Invalid, String:
		s.fail(errByte)
	default:
		s.scanScalar(kind)
	}
	if s.err.What != "" {
		return Value{}
	}
	return Value{Raw: s.data[start:s.pos], Kind: kind}
}

// AppendString consumes a string and appends its unescaped content to dst, in
// one pass. Unlike Unescape it keeps bytes that are not UTF-8 as they are. It
// returns dst unchanged, and false, if the next value is not a string or is
// broken; only the latter is an error.
func (s *Scanner) AppendString(dst []byte) ([]byte, bool) {
	if s.err.What != "" || s.peek() != '"' {
		return dst, false
	}
	return s.appendString(dst, nil)
}

func (s *Scanner) appendString(dst []byte, ix *Index) ([]byte, bool) {
	out, end, what := appendUnescaped(dst, s.data, s.pos+1, true, ix)
	if what != "" {
		s.pos = end
		s.fail(what)
		return dst, false
	}
	s.pos = end + 1
	return out, true
}

// peek skips white space and returns the next byte, 0 at the end.
func (s *Scanner) peek() byte {
	for i := s.pos; i < len(s.data); i++ {
		c := s.data[i]
		if c > ' ' {
			s.pos = i
			return c
		}
		if c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			s.pos = i
			return c
		}
	}
	s.pos = len(s.data)
	return 0
}

// leave consumes a closing bracket.
func (s *Scanner) leave() {
	if s.depth == 0 {
		// Member or Element without Enter.
		s.fail(errByte)
		return
	}
	s.pos++
	s.depth--
	s.first = false
}

// fail records the first error. At the end of the input whatever was expected is
// missing because of that.
func (s *Scanner) fail(what string) Kind {
	if s.pos >= len(s.data) && what != errDepth && what != errTrailing {
		what = errEnd
	}
	s.err = Error{Offset: s.pos, What: what}
	return Invalid
}

// skipContainer consumes the object or array that begins here. It keeps its own
// stack, so that hostile nesting costs no goroutine stack.
func (s *Scanner) skipContainer() {
	outer := s.depth
	object := s.data[s.pos] == '{'
	for {
		// Here an opening bracket is next.
		if s.depth >= MaxDepth {
			s.fail(errDepth)
			return
		}
		s.push(object)
		s.pos++
		s.first = true
	inner:
		for {
			if object {
				if _, ok := s.Member(); !ok {
					if s.err.What != "" || s.depth == outer {
						return
					}
					object = s.top()
					continue
				}
			} else if !s.Element() {
				if s.err.What != "" || s.depth == outer {
					return
				}
				object = s.top()
				continue
			}
			switch c := s.peek(); kindOf[c] {
			case String:
				end, _ := s.scanString(s.pos + 1)
				if end < 0 {
					return
				}
				s.pos = end + 1
			case Object, Array:
				object = c == '{'
				break inner
			case Invalid:
				s.fail(errByte)
				return
			default:
				s.scanScalar(kindOf[c])
				if s.err.What != "" {
					return
				}
			}
		}
	}
}

// push notes that the container at the current depth is an object or not.
func (s *Scanner) push(object bool) {
	word, bit := s.depth>>6, uint64(1)<<(s.depth&63)
	if object {
		s.stack[word] |= bit
	} else {
		s.stack[word] &^= bit
	}
	s.depth++
}

// top reports whether the innermost open container is an object.
func (s *Scanner) top() bool {
	d := s.depth - 1
	return s.stack[d>>6]&(1<<(d&63)) != 0
}
