package rules

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
	"unsafe"
)

// canonicalNumber returns the text that all spellings of a number share: 1.0,
// 1e0 and 1 are 1. Integers are kept as they are, whatever their size.
func canonicalNumber(dst, text []byte) []byte {
	if !oddNumber(text) {
		return append(dst, text...)
	}
	f, err := strconv.ParseFloat(viewString(text), 64)
	if err != nil {
		return append(dst, text...)
	}
	return appendNumber(dst, f)
}

func appendNumber(dst []byte, f float64) []byte {
	if f == 0 {
		f = 0 // -0
	}
	if math.Abs(f) < 1e21 {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}

// oddNumber reports whether the JSON number may have another spelling.
func oddNumber(text []byte) bool {
	return bytes.ContainsAny(text, ".eE") || len(text) == 2 && text[0] == '-' && text[1] == '0'
}

// parseNumber reads text as a finite decimal number. Hexadecimal, underscores,
// Inf and NaN, which strconv reads, are not numbers in logs.
func parseNumber(text []byte) (float64, bool) {
	if len(text) == 0 || len(text) > 64 {
		return 0, false
	}
	for _, c := range text {
		if (c < '0' || c > '9') && c != '.' && c != '-' && c != '+' && c != 'e' && c != 'E' {
			return 0, false
		}
	}
	f, err := strconv.ParseFloat(viewString(text), 64)
	return f, err == nil
}

// viewString is b as a string without a copy; b must not change while it is in
// use.
func viewString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func appendFloat(b []byte, f float64) []byte {
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(f))
}
