package correlate

import (
	"encoding/hex"

	"github.com/tocsin-io/tocsin/schemas"
)

// maxEvidenceField bounds one field of an evidence, in bytes: a client ID may
// have 128, a topic 256.
const maxEvidenceField = 256

// appendEvidence encodes what a detection may say of an event: a tuple of
// source, event type, device key, client ID, certificate ID, source IP and
// outcome. The windows keep it as it is.
func appendEvidence(dst []byte, ev *schemas.Event) []byte {
	cut := func(b []byte) []byte { return b[:min(len(b), maxEvidenceField)] }
	var packed [1 + maxEvidenceField/2]byte
	return AppendTuple(dst,
		cut(ev.Source), cut(ev.Type), cut(ev.Device), cut(ev.ClientID),
		packHex(&packed, cut(ev.CertificateID)), cut(ev.SourceIP), []byte(ev.Outcome.String()))
}

// packHex returns text of lower-case hex digits, as AWS IoT's certificate IDs
// are, in half the bytes, in buf and behind a zero that tells it from other text.
// Nothing compresses them, and most of what goes through tocsin.matches would be
// these.
func packHex(buf *[1 + maxEvidenceField/2]byte, text []byte) []byte {
	if len(text) < 16 || len(text)%2 != 0 {
		return text
	}
	for _, c := range text {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return text
		}
	}
	packed := buf[:1+len(text)/2]
	packed[0] = 0
	// It holds nothing but hex digits.
	_, _ = hex.Decode(packed[1:], text)
	return packed
}

// unpackHex is packHex's inverse.
func unpackHex(b []byte) string {
	if len(b) > 8 && b[0] == 0 {
		return hex.EncodeToString(b[1:])
	}
	return string(b)
}

// decodeEvidence is appendEvidence's inverse. Bytes that are no evidence, as
// those of a later version may be, leave the fields empty.
func decodeEvidence(blob []byte) schemas.EvidenceData {
	fields, err := DecodeTuple(blob)
	if err != nil || len(fields) < 7 {
		return schemas.EvidenceData{}
	}
	return schemas.EvidenceData{
		Source:        string(fields[0]),
		EventType:     string(fields[1]),
		Device:        string(fields[2]),
		ClientID:      string(fields[3]),
		CertificateID: unpackHex(fields[4]),
		SourceIP:      string(fields[5]),
		Outcome:       string(fields[6]),
	}
}
