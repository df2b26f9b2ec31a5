package rules

import (
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/internal/jsonscan"
	"github.com/tocsin-io/tocsin/schemas"
)

// maxSeen bounds the values of one field that an explanation shows, maxSeenText
// the bytes of one.
const (
	maxSeen     = 20
	maxSeenText = 512
)

// seenValues returns the values of a field in an event as JSON, for people to
// read; nil where it is absent. As for the matcher, the path goes through
// arrays and through keys that have dots.
func seenValues(ev *schemas.Event, field string) []string {
	if isEnvelopeField(field) {
		text, _, number := envelopeField(slices.Index(envelopeFields, field)).value(ev, nil)
		switch {
		case len(text) == 0:
			return nil
		case number:
			return []string{string(text)}
		}
		return []string{string(appendJSONString(nil, cutText(string(text))))}
	}
	return appendSeen(nil, ev.Message, field)
}

// appendSeen appends what path leads to from a value. The recursion goes no
// deeper than the scanner does.
func appendSeen(out []string, raw []byte, path string) []string {
	if len(out) >= maxSeen {
		return out
	}
	var s jsonscan.Scanner
	s.Reset(raw)
	switch s.Kind() {
	case jsonscan.Array:
		s.Enter()
		empty := true
		for s.Element() {
			empty = false
			if v := s.Value(); !s.Failed() {
				out = appendSeen(out, jsonText(v), path)
			}
		}
		if empty && path == "" && !s.Failed() {
			out = append(out, "[]")
		}
		return out
	case jsonscan.Object:
		if path == "" {
			break
		}
		s.Enter()
		for key, ok := s.Member(); ok; key, ok = s.Member() {
			name := string(key.Raw)
			if key.Escaped {
				name = string(jsonscan.Unescape(nil, key.Raw))
			}
			v := s.Value()
			if s.Failed() {
				break
			}
			if rest, ok := strings.CutPrefix(path, name); ok && (rest == "" || rest[0] == '.') {
				out = appendSeen(out, jsonText(v), strings.TrimPrefix(rest, "."))
			}
		}
		return out
	}
	if path != "" {
		return out
	}
	if v := s.Value(); !s.Failed() {
		out = append(out, cutText(string(jsonText(v))))
	}
	return out
}

// jsonText returns a value as it stands in JSON: a string with its quotes.
func jsonText(v jsonscan.Value) []byte {
	if v.Kind != jsonscan.String {
		return v.Raw
	}
	return append(append([]byte{'"'}, v.Raw...), '"')
}

func cutText(s string) string {
	if len(s) <= maxSeenText {
		return s
	}
	return strings.ToValidUTF8(s[:maxSeenText], "") + "..."
}
