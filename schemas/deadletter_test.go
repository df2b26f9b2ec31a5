package schemas

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDeadLetterIsCut(t *testing.T) {
	raw := make([]byte, MaxDeadLetterRaw+5)
	// The bound falls into the middle of a character.
	d := NewDeadLetter("firehose", "here", "gzip", errors.New("x"+strings.Repeat("\u00e4", MaxDeadLetterError)), raw)
	if len(d.Raw) != MaxDeadLetterRaw || !d.Truncated || d.RawSize != len(raw) {
		t.Errorf("%d bytes, truncated %v, size %d", len(d.Raw), d.Truncated, d.RawSize)
	}
	if len(d.Error) != MaxDeadLetterError-1 || !utf8.ValidString(d.Error) {
		t.Errorf("error of %d bytes, valid %v", len(d.Error), utf8.ValidString(d.Error))
	}
	for before := len(d.Raw); d.Shorten(); before = len(d.Raw) {
		if len(d.Raw) >= before {
			t.Fatalf("%d bytes after %d", len(d.Raw), before)
		}
	}
	if len(d.Raw) == 0 || len(d.Raw) > leastRaw || d.RawSize != len(raw) {
		t.Errorf("%d bytes are left, size %d", len(d.Raw), d.RawSize)
	}

	d = NewDeadLetter("firehose", "here", "gzip", nil, raw[:5])
	if len(d.Raw) != 5 || d.Truncated || d.RawSize != 5 || d.Shorten() || d.Truncated {
		t.Errorf("a short one: %d bytes of %d, truncated %v", len(d.Raw), d.RawSize, d.Truncated)
	}
}
