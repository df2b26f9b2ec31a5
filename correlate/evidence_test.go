package correlate

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/schemas"
)

// TestEvidenceComesBack: whatever a certificate ID looks like, packed or not.
func TestEvidenceComesBack(t *testing.T) {
	id := strings.Repeat("0f9a", 16)
	for _, certificate := range []string{"", "a", "cert-1", id, id[1:], strings.ToUpper(id), id[:62] + "g0", id + id + id + id, "0123456789abcdef"} {
		ev := &schemas.Event{
			Source: []byte("iot"), Type: []byte("Connect"), Device: []byte("pump"), ClientID: []byte("client"),
			CertificateID: []byte(certificate), SourceIP: []byte("198.51.100.7"), Outcome: schemas.OutcomeFailure,
		}
		want := schemas.EvidenceData{
			Source: "iot", EventType: "Connect", Device: "pump", ClientID: "client",
			CertificateID: certificate, SourceIP: "198.51.100.7", Outcome: "failure",
		}
		blob := appendEvidence(nil, ev)
		if diff := cmp.Diff(want, decodeEvidence(blob)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", certificate, diff)
		}
		if _, ok := decodePlace(blob); ok {
			t.Errorf("%q is taken for a place", certificate)
		}
	}
	place := eventPlace{partition: 65535, offset: 1 << 50, index: 1 << 31}
	blob := appendPlace(nil, place)
	if got, ok := decodePlace(blob); !ok || got != place {
		t.Errorf("%+v came back as %+v, %v", place, got, ok)
	}
	if diff := cmp.Diff(schemas.EvidenceData{}, decodeEvidence(blob)); diff != "" {
		t.Errorf("a place says something of its event: %s", diff)
	}
	for _, bad := range [][]byte{nil, {0}, {5}, AppendTuple(nil, []byte{1}), AppendTuple(nil, []byte("a"), []byte("b"))} {
		if _, ok := decodePlace(bad); ok {
			t.Errorf("%x is a place", bad)
		}
	}
}
