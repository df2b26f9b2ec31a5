package correlate

import "github.com/tocsin-io/tocsin/schemas"

// maxEvidenceField bounds one field of an evidence, in bytes: a client ID may
// have 128, a topic 256.
const maxEvidenceField = 256

// appendEvidence encodes what a detection may say of an event: a tuple of
// source, event type, device key, client ID, certificate ID, source IP and
// outcome. The windows keep it as it is.
func appendEvidence(dst []byte, ev *schemas.Event) []byte {
	cut := func(b []byte) []byte { return b[:min(len(b), maxEvidenceField)] }
	return AppendTuple(dst,
		cut(ev.Source), cut(ev.Type), cut(ev.Device), cut(ev.ClientID),
		cut(ev.CertificateID), cut(ev.SourceIP), []byte(ev.Outcome.String()))
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
		CertificateID: string(fields[4]),
		SourceIP:      string(fields[5]),
		Outcome:       string(fields[6]),
	}
}
