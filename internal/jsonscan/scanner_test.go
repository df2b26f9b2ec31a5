package jsonscan

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const line = `{"timestamp":"2026-11-20 10:00:00.101","logLevel":"INFO","traceId":"11111111-2222-3333-4444-555555555555","accountId":"111122223333","status":"Success","eventType":"Publish-In","protocol":"MQTT","topicName":"fleet/pump-0001/telemetry","clientId":"pump-0001","principalId":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","sourceIp":"198.51.100.7","sourcePort":40112}`

var texts = []string{
	``, ` `, `{}`, `[]`, `{ }`, `[ ]`, `{"a":1}`, `{"a":1,}`, `{,}`, `[1,]`, `[,1]`, `[1 2]`, `{"a" 1}`, `{"a":}`, `{a:1}`, `{1:1}`,
	`{"a":{"b":[1,2,{"c":null}]},"d":[[],{}]}`, `[[[]],{"x":[{}]}]`, `[}`, `{]`, `{"a":]`, `[{]}`, `{"a":[}]`,
	`0`, `-0`, `01`, `-`, `1.`, `.1`, `1.5`, `1e5`, `1E+5`, `1e`, `1e-`, `-1.25e-10`, `+1`, `0x1`, `1a`,
	`true`, `tru`, `truex`, `false`, `null`, `nul`, `nil`, `NaN`,
	`""`, `"a"`, `"`, `"a`, `"\"`, `"\\"`, `"\n\t\b\f\r\/\""`, `"\x"`, `"\u12"`, `"\u123g"`, `"\u00e9"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ud83dx"`,
	`"\ude00\ud83d"`, `"\ud83d\u0041"`, `"\ud83d\n"`, "\"a\nb\"", "\"\x1f\"", "\"\x00\"", "\"\x7f\"", "\"\xff\xfe\"", "\"\xc3\"", "\"\xe2\x82\\u0041\"", "\"\xed\xa0\x80\"",
	`"abcdefgh"`, `"abcdefghi"`, `"abcdefg\"hijklmnop\\qrstuvwxyz0123456789"`, `"abcdefg`, `"abcdefgh\`, `"\u`, `"\u00`,
	"\xef\xbb\xbf{}", "{}\x00", "{}{}", " {} ", "\t[1]\r\n", "\v1", line, line[:100], line + ",",
	`{"a":1,"a":2}`, `{"\u0061":1}`,
}

func FuzzScanner(f *testing.F) {
	for _, text := range texts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		checkAgainstStdlib(t, data)
	})
}

func TestScannerAgreesWithEncodingJSON(t *testing.T) {
	for _, text := range texts {
		checkAgainstStdlib(t, []byte(text))
		// Every cut of a text is one more text; none may be read beyond its end.
		for i := range text {
			checkAgainstStdlib(t, []byte(text)[:i:i])
		}
	}
}

// valid reports whether data is one JSON value with nothing but white space
// around it.
func valid(data []byte) bool {
	var s Scanner
	s.Reset(data)
	s.Value()
	return s.End()
}

func checkAgainstStdlib(t *testing.T, data []byte) {
	t.Helper()
	checkIndexed(t, data)
	ok := valid(data)
	if want := json.Valid(data); ok != want && !tooDeep(data) {
		t.Fatalf("valid(%q) = %v, encoding/json says %v", data, ok, want)
	}
	got, walked := build(data)
	if walked != ok {
		t.Fatalf("%q: walking it says %v, skipping it says %v", data, walked, ok)
	}
	if !ok {
		return
	}
	var want any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&want); err != nil {
		t.Fatalf("%q: %v", data, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%q (-encoding/json +jsonscan):\n%s", data, diff)
	}
}

// A text scanned with the index that unescaping it made is what it is without.
func checkIndexed(t *testing.T, text []byte) {
	t.Helper()
	quoted := quote(text)
	var outer, plain, indexed Scanner
	var ix Index
	outer.Reset(quoted)
	got, ok := outer.AppendIndexed([]byte("left over"), &ix)
	if !ok || !bytes.Equal(got, text) || !outer.End() {
		t.Fatalf("%q: unescaped to %q, %v", quoted, got, outer.Err())
	}
	plain.Reset(got)
	indexed.ResetIndexed(got, &ix)
	want, have := buildValue(&plain), buildValue(&indexed)
	if plain.End() != indexed.End() || plain.err != indexed.err {
		t.Fatalf("%q: %v, with the index %v", text, plain.Err(), indexed.Err())
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Fatalf("%q (-plain +indexed):\n%s", text, diff)
	}
}

// quote makes a JSON string of any bytes.
func quote(text []byte) []byte {
	quoted := []byte{'"'}
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			quoted = append(quoted, '\\', c)
		case c == '\n':
			quoted = append(quoted, `\n`...)
		case c < 0x20:
			quoted = fmt.Appendf(quoted, `\u%04x`, c)
		default:
			quoted = append(quoted, c)
		}
	}
	return append(quoted, '"')
}

func tooDeep(data []byte) bool {
	var s Scanner
	s.Reset(data)
	s.Value()
	var e *Error
	return errors.As(s.Err(), &e) && e.TooDeep()
}

// build walks data with the stepping calls and makes of it what encoding/json
// does.
func build(data []byte) (any, bool) {
	var s Scanner
	s.Reset(data)
	v := buildValue(&s)
	return v, s.End()
}

func buildValue(s *Scanner) any {
	switch s.Kind() {
	case Object:
		s.Enter()
		m := map[string]any{}
		for key, ok := s.Member(); ok; key, ok = s.Member() {
			m[string(Unescape(nil, key.Raw))] = buildValue(s)
		}
		return m
	case Array:
		s.Enter()
		a := []any{}
		for s.Element() {
			a = append(a, buildValue(s))
		}
		return a
	case String:
		// Both ways to a string, which must agree.
		twin := *s
		appended, ok := twin.AppendString([]byte("x"))
		v := s.Value()
		if ok != (v.Kind == String) || ok && (twin.pos != s.pos || string(AppendValid(nil, appended)) != "x"+string(Unescape(nil, v.Raw))) {
			panic("AppendString and Value disagree")
		}
		if !v.Escaped && bytes.ContainsRune(v.Raw, '\\') {
			panic("Escaped not set")
		}
		return string(Unescape(nil, v.Raw))
	}
	v := s.Value()
	switch v.Kind {
	case True, False:
		return v.Kind == True
	case Number:
		return json.Number(v.Raw)
	}
	return nil
}

func TestErrors(t *testing.T) {
	tests := []struct {
		text string
		want Error
	}{
		{`{"a":1`, Error{6, errEnd}},
		{`{"a`, Error{3, errEnd}},
		{`"\u00`, Error{5, errEnd}},
		{`"\`, Error{2, errEnd}},
		{`[tru`, Error{4, errEnd}},
		{`[1 2]`, Error{3, errComma}},
		{`{"a" 1}`, Error{5, errColon}},
		{`{1:2}`, Error{1, errKey}},
		{`"\x"`, Error{1, errEscape}},
		{`"\u00zz"`, Error{1, errEscape}},
		{"\"ab\n\"", Error{3, errControl}},
		{`[1.x]`, Error{3, errNumber}},
		{`[nulL]`, Error{4, errLiteral}},
		{`[?]`, Error{1, errByte}},
		{`1 2`, Error{2, errTrailing}},
		{strings.Repeat("[", MaxDepth+1), Error{MaxDepth, errDepth}},
		{strings.Repeat(`{"a":`, MaxDepth+1), Error{MaxDepth * 5, errDepth}},
	}
	for _, test := range tests {
		var s Scanner
		s.Reset([]byte(test.text))
		s.Value()
		s.End()
		var got *Error
		if !errors.As(s.Err(), &got) {
			t.Errorf("%.40q: no error", test.text)
			continue
		}
		if *got != test.want {
			t.Errorf("%.40q: got %v, want %v", test.text, got, &test.want)
		}
		if v, ok := (&s).Member(); ok || v.Raw != nil || s.Element() || s.Kind() != Invalid || s.Enter() != Invalid || s.Value().Kind != Invalid {
			t.Errorf("%.40q: yields something after the error", test.text)
		}
	}
	deep := strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth)
	if !valid([]byte(deep)) {
		t.Errorf("%d levels are not accepted", MaxDepth)
	}
}

// Whatever the order of the calls, nothing panics and the scanner never goes
// back.
func FuzzCalls(f *testing.F) {
	f.Add([]byte(line), []byte{0, 1, 3, 1, 3})
	f.Add([]byte(`[[1],{"a":[]}]`), []byte{0, 2, 0, 2, 4, 1, 1, 2, 2, 2, 5, 6})
	f.Fuzz(func(t *testing.T, data, calls []byte) {
		var s Scanner
		s.Reset(data)
		for _, call := range calls {
			before := s.Pos()
			switch call % 7 {
			case 0:
				s.Enter()
			case 1:
				s.Member()
			case 2:
				s.Element()
			case 3:
				s.Value()
			case 4:
				s.AppendString(nil)
			case 5:
				s.End()
			case 6:
				s.Kind()
			}
			if s.Pos() < before && s.Err() == nil || s.Pos() > len(data) {
				t.Fatalf("%q: call %d took the scanner from %d to %d", data, call%7, before, s.Pos())
			}
		}
	})
}

func TestSpecial(t *testing.T) {
	for at := range 8 {
		for c := range 256 {
			for _, other := range []byte{'a', ' ', '!', '#', 0x7f, 0x80, 0xff} {
				word := bytes.Repeat([]byte{other}, 8)
				word[at] = byte(c)
				first := bits.TrailingZeros64(special(binary.LittleEndian.Uint64(word))) >> 3
				want := 8
				if c < 0x20 || c == '"' || c == '\\' {
					want = at
				}
				if first != want {
					t.Fatalf("special(%q) finds byte %d, want %d", word, first, want)
				}
			}
		}
	}
}

func TestMisuse(t *testing.T) {
	steps := map[string]func(*Scanner) bool{
		"Member without Enter":       func(s *Scanner) bool { _, ok := s.Member(); return ok },
		"Element without Enter":      func(s *Scanner) bool { return s.Element() && s.Value().Kind != Invalid },
		"AppendString of no string":  func(s *Scanner) bool { _, ok := s.AppendString(nil); return ok },
		"AppendIndexed of no string": func(s *Scanner) bool { _, ok := s.AppendIndexed(nil, new(Index)); return ok },
		"Enter of no container":      func(s *Scanner) bool { s.Kind(); return s.Enter() != Invalid },
	}
	for name, step := range steps {
		for _, text := range []string{"}", "]", "1", ""} {
			var s Scanner
			s.Reset([]byte(text))
			if step(&s) && text != "1" {
				t.Errorf("%s on %q yields something", name, text)
			}
		}
	}
	var s Scanner
	s.Reset([]byte(`]`))
	s.Value()
	var e *Error
	if !s.Failed() || !errors.As(s.Err(), &e) || e.Truncated() || e.TooDeep() || e.Error() != "json: unexpected byte at byte 0" {
		t.Errorf("error %v", s.Err())
	}
	s.Reset([]byte(`[`))
	s.Value()
	if !errors.As(s.Err(), &e) || !e.Truncated() {
		t.Errorf("error %v is not of an early end", s.Err())
	}
	if Object.String() != "object" || Kind(99).String() != "invalid" {
		t.Error("wrong names of kinds")
	}
}

func TestLookup(t *testing.T) {
	const doc = `{"a":{"b":{"c":"x\ny"}},"n":1,"n":2,"s":"t"}`
	tests := []struct {
		path []string
		want string
		kind Kind
	}{
		{[]string{"a", "b", "c"}, `x\ny`, String},
		{[]string{"a", "b"}, `{"c":"x\ny"}`, Object},
		{[]string{"n"}, `2`, Number},
		{[]string{"s", "t"}, ``, Invalid},
		{[]string{"z"}, ``, Invalid},
		{nil, doc, Object},
	}
	for _, test := range tests {
		v, ok := Lookup([]byte(doc), test.path...)
		if string(v.Raw) != test.want || v.Kind != test.kind || ok != (test.kind != Invalid) {
			t.Errorf("Lookup(%v) = %q, %v, %v", test.path, v.Raw, v.Kind, ok)
		}
	}
	if _, ok := Lookup([]byte(doc[:30]), "a", "b"); ok {
		t.Error("Lookup found something in a cut object")
	}
}

func TestNoAllocation(t *testing.T) {
	data := []byte(line)
	quoted, _ := json.Marshal(line)
	var s Scanner
	buf := make([]byte, 0, 1024)
	n := testing.AllocsPerRun(100, func() {
		s.Reset(data)
		s.Enter()
		for _, ok := s.Member(); ok; _, ok = s.Member() {
			s.Value()
		}
		s.Reset(quoted)
		buf, _ = s.AppendString(buf[:0])
	})
	if n != 0 || string(buf) != line {
		t.Errorf("%v allocations, unescaped to %q", n, buf)
	}
}

func BenchmarkMembers(b *testing.B) {
	data := []byte(line)
	b.SetBytes(int64(len(data)))
	var s Scanner
	for b.Loop() {
		s.Reset(data)
		s.Enter()
		for _, ok := s.Member(); ok; _, ok = s.Member() {
			s.Value()
		}
	}
}

func BenchmarkIndexed(b *testing.B) {
	quoted := quote([]byte(line))
	b.SetBytes(int64(len(line)))
	var outer, s Scanner
	var ix Index
	var buf []byte
	for b.Loop() {
		outer.Reset(quoted)
		buf, _ = outer.AppendIndexed(buf, &ix)
		s.ResetIndexed(buf, &ix)
		s.Enter()
		for _, ok := s.Member(); ok; _, ok = s.Member() {
			s.Value()
		}
	}
}

func BenchmarkAppendString(b *testing.B) {
	quoted, _ := json.Marshal(line)
	b.SetBytes(int64(len(quoted)))
	var s Scanner
	buf := make([]byte, 0, 1024)
	for b.Loop() {
		s.Reset(quoted)
		buf, _ = s.AppendString(buf[:0])
	}
}
