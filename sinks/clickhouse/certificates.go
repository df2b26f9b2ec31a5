package clickhouse

import (
	"encoding/json"
	"hash"
	"strconv"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks"
)

// certificateTable makes rows of table certificates from the certificate records
// of tocsin.identities. The other kinds of records there make none.
type certificateTable struct {
	cols []column

	id, serial, issuer, issuerKeyID, caID, subject *values[string]
	keyType, keySHA256, keyWeakness                *values[string]
	status, statusReason                           *values[string]
	revocationReason, revocationSource, sourceIP   *values[string]
	notBefore, notAfter, statusSince, revokedTime  *values[int64]
	lastSeen, created, updated                     *values[int64]
	keyBits                                        *values[uint32]
	revoked, claim                                 *values[bool]
	things, clientIDs                              *values[[]string]
	version                                        *values[uint64]
	deleted                                        *values[uint8]
}

func newCertificateTable() *certificateTable {
	t := &certificateTable{
		id:               stringColumn("certificate_id"),
		serial:           stringColumn("serial"),
		issuer:           stringColumn("issuer"),
		issuerKeyID:      stringColumn("issuer_key_id"),
		caID:             stringColumn("ca_certificate_id"),
		subject:          stringColumn("subject"),
		notBefore:        timeColumn("not_before"),
		notAfter:         timeColumn("not_after"),
		keyType:          stringColumn("key_type"),
		keyBits:          uint32Column("key_bits"),
		keySHA256:        stringColumn("key_sha256"),
		keyWeakness:      stringColumn("key_weakness"),
		status:           stringColumn("status"),
		statusReason:     stringColumn("status_reason"),
		statusSince:      timeColumn("status_since"),
		revoked:          boolColumn("revoked"),
		revokedTime:      timeColumn("revoked_time"),
		revocationReason: stringColumn("revocation_reason"),
		revocationSource: stringColumn("revocation_source"),
		claim:            boolColumn("claim"),
		things:           stringsColumn("things"),
		clientIDs:        stringsColumn("client_ids"),
		sourceIP:         stringColumn("source_ip"),
		lastSeen:         timeColumn("last_seen"),
		created:          timeColumn("created"),
		updated:          timeColumn("updated"),
		version:          uint64Column("version"),
		deleted:          uint8Column("deleted"),
	}
	t.cols = []column{
		t.id, t.serial, t.issuer, t.issuerKeyID, t.caID, t.subject, t.notBefore, t.notAfter,
		t.keyType, t.keyBits, t.keySHA256, t.keyWeakness, t.status, t.statusReason, t.statusSince,
		t.revoked, t.revokedTime, t.revocationReason, t.revocationSource, t.claim, t.things, t.clientIDs,
		t.sourceIP, t.lastSeen, t.created, t.updated, t.version, t.deleted,
	}
	return t
}

func (t *certificateTable) name() string      { return "certificates" }
func (t *certificateTable) columns() []column { return t.cols }
func (t *certificateTable) crowded() bool     { return false }
func (t *certificateTable) reset()            {}

func (t *certificateTable) identity(h hash.Hash, from int) {
	for i := from; i < t.id.len(); i++ {
		h.Write([]byte(t.id.v[i]))
		h.Write(strconv.AppendUint(nil, t.version.v[i], 16))
		h.Write([]byte{t.deleted.v[i]})
	}
}

func (t *certificateTable) decode(rec *sinks.Record) error {
	id, ok := strings.CutPrefix(text(rec.Key), schemas.KeyCertificate)
	if !ok {
		return nil
	}
	c := schemas.Certificate{}
	if len(rec.Value) > 0 {
		if err := json.Unmarshal(rec.Value, &c); err != nil {
			return malformed("%s: not a certificate: %w", rec.Key, err)
		}
		if c.ID != id {
			return malformed("%s: the record is of certificate %q", rec.Key, c.ID)
		}
	}
	t.id.add(strings.Clone(id)) // the key's memory is not the block's
	t.serial.add(c.Serial)
	t.issuer.add(c.Issuer)
	t.issuerKeyID.add(c.IssuerKeyID)
	t.caID.add(c.CAID)
	t.subject.add(c.Subject)
	t.notBefore.add(millis(c.NotBefore))
	t.notAfter.add(millis(c.NotAfter))
	t.keyType.add(c.Key.Type)
	t.keyBits.add(uint32(max(c.Key.Bits, 0)))
	t.keySHA256.add(c.Key.SHA256)
	t.keyWeakness.add(c.Key.Weak)
	t.status.add(c.Status.String())
	t.statusReason.add(c.StatusReason)
	t.statusSince.add(millis(c.StatusSince))
	revocation := schemas.Revocation{}
	if c.Revoked != nil {
		revocation = *c.Revoked
	}
	t.revoked.add(c.Revoked != nil)
	t.revokedTime.add(millis(revocation.Time))
	t.revocationReason.add(revocation.Reason)
	t.revocationSource.add(revocation.Source)
	t.claim.add(c.Claim)
	t.things.add(orEmpty(c.Things))
	t.clientIDs.add(orEmpty(c.ClientIDs))
	t.sourceIP.add(c.SourceIP)
	t.lastSeen.add(millis(c.LastSeen))
	t.created.add(millis(c.Created))
	t.updated.add(millis(c.Updated))
	// The record's time, not its offset: in a topic that was deleted and created
	// again offsets start anew, and old rows would win for ever.
	t.version.add(uint64(max(rec.Time.UnixMilli(), 0)))
	gone := uint8(0)
	if len(rec.Value) == 0 {
		gone = 1
	}
	t.deleted.add(gone)
	return nil
}

// millis is what a time column holds; 0 is a time that is not known.
func millis(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return clampTime(at.UnixMilli())
}
