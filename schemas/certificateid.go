package schemas

import "strings"

// NormalizeCertificateID returns a certificate ID as everything here writes it:
// 64 lower-case hex digits. AWS IoT's API also accepts upper case and a 0x
// prefix. It reports false for anything else.
func NormalizeCertificateID(s string) (string, bool) {
	if len(s) == 66 && (s[:2] == "0x" || s[:2] == "0X") {
		s = s[2:]
	}
	if len(s) != 64 {
		return "", false
	}
	for i := range len(s) {
		c := s[i] | 0x20 // lower case; digits stay
		if (s[i] < '0' || s[i] > '9') && (c < 'a' || c > 'f') {
			return "", false
		}
	}
	return strings.ToLower(s), true
}
