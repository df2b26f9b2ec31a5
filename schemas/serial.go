package schemas

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// maxSerial bounds a serial number, in hex digits. RFC 5280 allows 40; some CAs
// go beyond it.
const maxSerial = 128

// NormalizeSerial returns a certificate's serial number as everything here
// writes it: lower-case hex without leading zeros, "0" for zero. It takes every
// spelling that is in use: upper case, colons or spaces between the bytes, bytes
// without their leading zero between colons, a 0x prefix, leading zeros.
func NormalizeSerial(s string) (string, error) {
	digits := strings.TrimSpace(s)
	if len(digits) > 1 && digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X') {
		digits = digits[2:]
	}
	var out []byte
	for part := range strings.FieldsFuncSeq(digits, func(r rune) bool { return r == ':' || r == ' ' }) {
		if len(part)%2 == 1 && len(part) < len(digits) {
			out = append(out, '0') // one byte of several, printed without padding
		}
		out = append(out, strings.ToLower(part)...)
		if len(out) > maxSerial {
			return "", fmt.Errorf("a serial number of more than %d hex digits", maxSerial)
		}
	}
	if len(out) == 0 {
		return "", fmt.Errorf("%q is no serial number: want hex digits", s)
	}
	for _, c := range out {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", fmt.Errorf("%q is no serial number: want hex digits", clip(s, 80))
		}
	}
	return trimZeros(string(out)), nil
}

// SerialHex returns the serial number that b is in big-endian order, as
// NormalizeSerial does.
func SerialHex(b []byte) string { return trimZeros(hex.EncodeToString(b)) }

func trimZeros(s string) string {
	if s = strings.TrimLeft(s, "0"); s == "" {
		return "0"
	}
	return s
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n] + "..."
	}
	return s
}
